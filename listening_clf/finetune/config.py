"""What a training run is told: `TrainConfig`, from Python or from a YAML file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from listening_clf.encoding import EncodingSettings
from listening_clf.errors import TrainingError
from listening_clf.hub import DEFAULT_MODEL
from listening_clf.transcripts.source import RESERVED


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one training run. The defaults suit some hundred to some ten thousand turns of one's own."""

    base: str = DEFAULT_MODEL
    """The model to start from: a bundled model's name, a folder, or a hub id as transformers takes it."""
    labels: tuple[str, ...] | None = None
    """None: the labels of the base if it is a listening_clf checkpoint, else the five of the codebook."""
    encoding: EncodingSettings | None = None
    """None: as the base reads if it is a listening_clf checkpoint, else the default."""
    layers: int | None = None
    """Keep so many of the base's layers, evenly spaced from first to last: a smaller, faster model. None: all."""
    teacher: str | None = None
    """A model whose probabilities are learned too (distillation): a bundled model's name, a folder, or a hub id."""
    teacher_weight: float = 0.5
    """How much the teacher counts where annotators say something too, and it does not contradict them: between 0 and
    1."""
    unlabelled: float = 1.0
    """With a teacher and conversations that nobody annotated: for each annotated turn of one's own, each epoch shows
    this many turns of them."""
    epochs: int = 4
    batch_size: int = 16
    """Agent turns a step, over all processes."""
    learning_rate: float = 3e-5
    """The peak, reached after `warmup`, then falling linearly to zero."""
    warmup: float = 0.1
    """The share of all steps in which the learning rate rises."""
    weight_decay: float = 0.01
    dropout: float | None = None
    """The share of hidden states that each training step leaves out. None: the base's. On a CPU, none is half as fast
    again."""
    average_weights: bool = False
    """Keep the mean of the weights that the run starts from and of those after each epoch, not the last ones (Wortsman
    et al. 2022, "Robust fine-tuning of zero-shot models"; Kaddour 2022, "Stop wasting my time!"). It suits a base that
    knows the labels already."""
    asr_copies: float = 0.5
    """The share of conversations that each epoch also shows as a speech recogniser would have written them."""
    timing_dropout: float = 0.5
    """The share of conversations with times that each epoch shows without them."""
    context_dropout: float = 0.1
    """The share of turns that each epoch shows without the turns before them."""
    replay: float = 1.0
    """Where the base is a listening_clf checkpoint: for each annotated turn of one's own, each epoch shows this many
    turns of the conversations that were written for this project, as far as there are so many, so that what the base
    knows is not forgotten. With 0, its calibration and thresholds are not held to either."""
    mixed_precision: str = "auto"
    """"bf16", "fp16", "no", or "auto": bf16 where the device computes in it."""
    checkpoint_steps: int = 200
    """Steps between two checkpoints of the run: what a kill can lose at most."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("layers", 1), ("epochs", 1), ("batch_size", 1), ("checkpoint_steps", 1), ("seed", 0)):
            value = getattr(self, name)
            if name == "layers" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise TrainingError(f"{name} must be a whole number, {least} or more, not {value!r}")
        for name in ("warmup", "asr_copies", "timing_dropout", "context_dropout", "teacher_weight"):
            if not 0 <= self._number(name) <= 1:
                raise TrainingError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        for name in ("weight_decay", "replay", "unlabelled"):
            if self._number(name) < 0:
                raise TrainingError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if self.dropout is not None and not 0 <= self._number("dropout") < 1:
            raise TrainingError(f"dropout must be at least 0 and below 1, not {self.dropout}")
        if not isinstance(self.average_weights, bool):
            raise TrainingError(f"average_weights must be true or false, not {self.average_weights!r}")
        if self._number("learning_rate") <= 0:
            raise TrainingError(f"learning_rate must be above 0, not {self.learning_rate}")
        if not isinstance(self.base, (str, Path)) or not str(self.base):
            raise TrainingError(f"base must be a model's name, folder or hub id, not {self.base!r}")
        object.__setattr__(self, "base", str(self.base))
        if self.labels is not None:
            object.__setattr__(self, "labels", _names(self.labels))
        if not isinstance(self.encoding, EncodingSettings | None):
            raise TrainingError(f"encoding must have context_tokens and max_length, not {self.encoding!r}")
        if self.mixed_precision not in ("auto", "bf16", "fp16", "no"):
            raise TrainingError(f'mixed_precision must be "auto", "bf16", "fp16" or "no", not {self.mixed_precision!r}')

    def _number(self, name: str) -> float:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise TrainingError(f"{name} must be a number, not {value!r}")
        return value

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainConfig:
        """Read the settings; what is left out keeps its default.

        Raises:
            TrainingError: a setting that there is not, or a value that it cannot have.
        """
        _check_known(data, cls)
        values = {name: _as_meant(name, value) for name, value in data.items()}
        try:
            if isinstance(encoding := values.get("encoding"), Mapping):
                _check_known(encoding, EncodingSettings, "encoding.")
                values["encoding"] = EncodingSettings(**encoding)
            return cls(**values)
        except TrainingError:
            raise
        except (TypeError, ValueError) as error:
            raise TrainingError(f"the settings cannot be read: {error}") from error

    @classmethod
    def from_yaml(cls, path: str | Path) -> TrainConfig:
        """Read the settings from a YAML file."""
        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise TrainingError(f"{path}: the settings cannot be read ({error.strerror})") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise TrainingError(f"{path}: this is no YAML in UTF-8 ({' '.join(str(error).split())})") from error
        if data is not None and not isinstance(data, dict):
            raise TrainingError(f"{path}: there must be settings, one `name: value` a line")
        try:
            return cls.from_dict(data or {})
        except TrainingError as error:
            raise TrainingError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        data = asdict(self)
        return data if self.labels is None else data | {"labels": list(self.labels)}


def _check_known(data: Mapping[str, Any], settings: type[Any], prefix: str = "") -> None:
    known = sorted(entry.name for entry in fields(settings))
    if unknown := sorted(set(data) - set(known)):
        raise TrainingError(f"there is no setting {prefix + str(unknown[0])!r}: expected one of {', '.join(known)}")


def _as_meant(name: str, value: Any) -> Any:
    """The value as YAML's writer meant it: YAML takes 3e-5 for a string, and no for false."""
    if name == "mixed_precision" and value is False:
        return "no"
    if name == "learning_rate" and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _names(labels: object) -> tuple[str, ...]:
    """The labels, as names that can each have a column of their own."""
    if not isinstance(labels, Sequence) or isinstance(labels, str) or not all(isinstance(it, str) for it in labels):
        raise TrainingError(f"labels must be a list of names, not {labels!r}")
    columns = [label.strip().casefold() for label in labels]
    if not columns or not all(columns) or len(set(columns)) != len(columns):
        raise TrainingError(f"labels must be a list of different names, whatever their case, not {list(labels)}")
    if reserved := RESERVED.intersection(columns):
        raise TrainingError(f"no label can be called {min(reserved)!r}: that is what data files call something else")
    return tuple(map(str, labels))
