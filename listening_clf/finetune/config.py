"""What a training run is told: `TrainConfig`, from Python or from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from listening_clf.encoding import EncodingSettings
from listening_clf.errors import TrainingError
from listening_clf.hub import DEFAULT_MODEL


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one training run. The defaults suit some hundred to some ten thousand turns of one's own."""

    base: str = DEFAULT_MODEL
    """The model to start from: a bundled model's name, a folder, or a hub id as transformers takes it."""
    labels: tuple[str, ...] | None = None
    """None: the labels of the base if it is a listening_clf checkpoint, else the five of the codebook."""
    encoding: EncodingSettings | None = None
    """None: as the base reads if it is a listening_clf checkpoint, else the default."""
    epochs: int = 4
    batch_size: int = 16
    """Agent turns a step, over all processes."""
    learning_rate: float = 3e-5
    """The peak, reached after `warmup`, then falling linearly to zero."""
    warmup: float = 0.1
    """The share of all steps in which the learning rate rises."""
    weight_decay: float = 0.01
    asr_copies: float = 0.5
    """The share of conversations that each epoch also shows as a speech recogniser would have written them."""
    timing_dropout: float = 0.5
    """The share of conversations with times that each epoch shows without them."""
    context_dropout: float = 0.1
    """The share of turns that each epoch shows without the turns before them."""
    replay: float = 1.0
    """Where the base is a listening_clf checkpoint: for each annotated turn of one's own, each epoch shows this many
    turns of the conversations that were written for this project, so that what the base knows is not forgotten."""
    mixed_precision: str = "auto"
    """"bf16", "fp16", "no", or "auto": bf16 where the device computes in it."""
    checkpoint_steps: int = 200
    """Steps between two checkpoints of the run: what a kill can lose at most."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "checkpoint_steps"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be 1 or more, not {getattr(self, name)}")
        for name in ("warmup", "asr_copies", "timing_dropout", "context_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise TrainingError(f"learning_rate must be above 0, not {self.learning_rate}")
        if self.replay < 0:
            raise TrainingError(f"replay must be 0 or more, not {self.replay}")
        if self.labels is not None and (not self.labels or len(set(self.labels)) != len(self.labels)):
            raise TrainingError(f"labels must be a list of different names, not {list(self.labels)}")
        if self.mixed_precision not in ("auto", "bf16", "fp16", "no"):
            raise TrainingError(f'mixed_precision must be "auto", "bf16", "fp16" or "no", not {self.mixed_precision!r}')

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainConfig:
        """Read the settings; what is left out keeps its default.

        Raises:
            TrainingError: a setting that there is not, or a value that it cannot have.
        """
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise TrainingError(f"there is no setting {unknown[0]!r}: expected one of {', '.join(sorted(known))}")
        values = dict(data)
        try:
            if values.get("encoding") is not None:
                values["encoding"] = EncodingSettings(**values["encoding"])
            if values.get("labels") is not None:
                values["labels"] = _names(values["labels"])
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise TrainingError(f"the settings cannot be read: {error}") from error

    @classmethod
    def from_yaml(cls, path: str | Path) -> TrainConfig:
        """Read the settings from a YAML file."""
        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise TrainingError(f"{path} cannot be read as YAML: {error}") from error
        if not isinstance(data, dict):
            raise TrainingError(f"{path} must hold settings, one `name: value` a line")
        return cls.from_dict(data)

    def to_dict(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        data = asdict(self)
        return data if self.labels is None else data | {"labels": list(self.labels)}


def _names(labels: object) -> tuple[str, ...]:
    if not isinstance(labels, Sequence) or isinstance(labels, str) or not all(isinstance(it, str) for it in labels):
        raise TrainingError(f"labels must be a list of names, not {labels!r}")
    return tuple(labels)
