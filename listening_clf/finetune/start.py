"""Where a training run starts: the base, and the labels and the encoding that it brings. No weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

from tokenizers import Tokenizer

from listening_clf.checkpoint import CARD, CONFIG, MANIFEST, NEEDED_TO_TRAIN, TOKENIZER, Checkpoint, Manifest
from listening_clf.encoding import MARKS, Encoder, EncodingSettings
from listening_clf.errors import CheckpointError, TrainingError
from listening_clf.finetune.config import TrainConfig
from listening_clf.hub import find
from listening_clf.hub.remote import HubModel
from listening_clf.labels import Label
from listening_clf.runtime import encoding_settings

_PLAIN_ENCODER = ("*.json", "*.txt", "*.model", "*.safetensors")
"""Config, vocabulary of whatever tokenizer, weights that cannot run code; no ONNX, no pickle."""


@dataclass(frozen=True)
class Start:
    """What a run starts from, with everything settled that its config leaves to the base."""

    name: str
    """The base as the config names it."""
    source: str
    """The folder that transformers loads it from."""
    labels: tuple[str, ...]
    encoding: EncodingSettings
    manifest: Manifest | None
    """The base's own, where it is a listening_clf checkpoint."""

    @classmethod
    def of(cls, config: TrainConfig) -> Start:
        """Find the base of a run.

        Raises:
            CheckpointError: there is none, or it is a listening_clf checkpoint that lacks a file, was altered, or reads
                turns in another way than this version.
        """
        source = locate_base(config.base)
        labels: tuple[str, ...] = tuple(label.value for label in Label)
        encoding = EncodingSettings()
        manifest = None
        if (source / MANIFEST).is_file():
            checkpoint = open_for_transformers(source)
            manifest, labels, encoding = checkpoint.manifest, checkpoint.manifest.labels, encoding_settings(checkpoint)
        return cls(config.base, str(source), config.labels or labels, config.encoding or encoding, manifest)

    def encoder(self) -> Encoder:
        """What turns become for this base, before any weights are loaded.

        Raises:
            TrainingError: the base has no tokenizer that can be read.
        """
        try:
            if self.manifest:
                tokenizer = Tokenizer.from_file(str(Path(self.source) / TOKENIZER))
            else:  # as `load_base` does: some encoders have a tokenizer that is converted when it is loaded
                from transformers import AutoTokenizer

                own = AutoTokenizer.from_pretrained(self.source, trust_remote_code=False)
                tokenizer = Tokenizer.from_str(own.backend_tokenizer.to_str())
        except Exception as error:  # the libraries raise bare ones
            raise TrainingError(f"the tokenizer of the base model {self.name!r} cannot be read: {error}") from error
        tokenizer.add_special_tokens(list(MARKS))
        return Encoder(tokenizer, self.encoding)


def locate_base(name: str) -> Path:
    """The folder of a model to train from; where it lies on the hub, what training needs is downloaded first.

    Raises:
        CheckpointError: nothing is there by that name, or it cannot be had.
    """
    source = find(name)
    folder = source.fetch((*NEEDED_TO_TRAIN, CARD))
    if isinstance(source, HubModel) and not (folder / MANIFEST).is_file():
        folder = source.download(_PLAIN_ENCODER, ignore=["*/*"])
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{name} is no model: it has no {CONFIG}")
    return folder


def open_for_transformers(folder: Path) -> Checkpoint:
    """Open a checkpoint with its weights, all of it verified: transformers looks for files of its own accord.

    Raises:
        CheckpointError: what is missing, altered, malformed or too new.
    """
    checkpoint = Checkpoint.open(folder, NEEDED_TO_TRAIN)
    checkpoint.verify_the_rest()
    return checkpoint


def public_name(name: str) -> str:
    """What to call a model to others, whom the paths of this machine tell nothing."""
    try:
        source = find(name)
    except CheckpointError:  # a folder that has gone since the run began is no reason to lose the run
        return PurePath(name).name
    return name if isinstance(source, HubModel) else PurePath(name).name
