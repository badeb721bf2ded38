"""The checkpoint folder: what lies in it, how it is read, verified and written.

    config.json, model.safetensors, tokenizer.json, tokenizer_config.json   as transformers reads them
    onnx/model.onnx, onnx/model.onnx.data                                  what a CPU runs: graph, weights
    model_float.onnx                                                       what a GPU runs, by the weights above
    README.md                                                              the model card
    listening_clf.json                                                     the manifest: ours, see `Manifest`

Only JSON, safetensors and ONNX are ever loaded: nothing in the folder can run code.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from listening_clf.errors import CheckpointError
from listening_clf.operating_points import OperatingPoint, thresholds_at

FORMAT_VERSION = 1
"""Raised whenever an older version of this library could no longer read the folder."""

MANIFEST = "listening_clf.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
ONNX = "onnx/model.onnx"
ONNX_DATA = "onnx/model.onnx.data"
"""The graph's weights. Apart from it they are mapped into memory, not copied: a model starts sooner and takes less."""

WEIGHTS = "model.safetensors"
FLOAT_ONNX = "model_float.onnx"
"""Beside the weights, as ONNX lets a graph read no file above its own folder. Older checkpoints have none."""

CARD = "README.md"
"""The only file that may be altered: people complete it, on the hub too, and nothing of it is run."""

NEEDED_TO_PREDICT = (CONFIG, TOKENIZER, ONNX, ONNX_DATA)
NEEDED_ON_GPU = (FLOAT_ONNX, WEIGHTS)
"""Beside what predicting needs anywhere."""

NEEDED_TO_TRAIN = (CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS)


class Calibration(NamedTuple):
    """Platt scaling of one label: probability = sigmoid(scale * logit + bias) (Platt 1999)."""

    scale: float = 1.0
    bias: float = 0.0


@dataclass(frozen=True)
class Manifest:
    """What `listening_clf.json` says of the model beside it."""

    labels: tuple[str, ...]
    """The model's labels in the order of its logits."""
    thresholds: Mapping[str, float]
    """For each label, the calibrated probability from which on it is given."""
    calibration: Mapping[str, Calibration]
    encoding: Mapping[str, Any]
    """The fields of `encoding.EncodingSettings` that the model was trained with."""
    codebook_version: str | None
    """By which the codebook's labels among them are meant; None where none is the codebook's."""
    training_data: tuple[Mapping[str, str], ...] = ()
    """`{"name", "licence"}` of every data set that the model has seen labels of."""
    operating_points: Mapping[str, tuple[OperatingPoint, ...]] = field(default_factory=dict)
    """For each label, what other thresholds give on dev. Older checkpoints have none at all."""
    files: Mapping[str, str] = field(default_factory=dict)
    """sha256, in hexadecimal, of every other file of the folder by its path with forward slashes."""
    format_version: int = FORMAT_VERSION

    def with_min_precision(self, min_precision: float | Mapping[str, float]) -> Manifest:
        """The manifest with other thresholds: of those with at least that precision on dev, the ones of most recall.

        Args:
            min_precision: above 0, at most 1; for all labels, or for each of some: the others keep their threshold.

        Raises:
            ThresholdError: no precision, no label of the model, or none of its thresholds is known to have it.
        """
        thresholds = thresholds_at(min_precision, self.operating_points, self.labels)
        return replace(self, thresholds={**self.thresholds, **thresholds})

    def to_dict(self) -> dict[str, Any]:
        """The manifest as a JSON object."""
        points = {label: [point._asdict() for point in known] for label, known in self.operating_points.items()}
        return {
            "format_version": self.format_version,
            "labels": list(self.labels),
            "thresholds": dict(self.thresholds),
            "calibration": {label: calibration._asdict() for label, calibration in self.calibration.items()},
            "encoding": dict(self.encoding),
            "codebook_version": self.codebook_version,
            "training_data": [dict(entry) for entry in self.training_data],
            **({"operating_points": points} if points else {}),
            "files": dict(self.files),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Manifest:
        """Read what `to_dict` wrote.

        Raises:
            CheckpointError: a newer format version, or an entry that is missing or malformed.
        """
        version = data.get("format_version")
        if not isinstance(version, int) or version < 1:
            raise CheckpointError(f"{MANIFEST} has no valid format_version: {version!r}")
        if version > FORMAT_VERSION:
            raise CheckpointError(
                f"the checkpoint has format version {version}, this listening_clf reads up to {FORMAT_VERSION}: "
                "upgrade with `pip install -U listening-clf`"
            )
        try:
            labels = tuple(str(label) for label in data["labels"])
            points = data.get("operating_points")
            return cls(
                labels=labels,
                thresholds={label: _probability(data["thresholds"][label]) for label in labels},
                calibration={label: _calibration(**data["calibration"][label]) for label in labels},
                encoding=dict(data["encoding"]),
                codebook_version=None if data["codebook_version"] is None else str(data["codebook_version"]),
                training_data=tuple(
                    {"name": str(entry["name"]), "licence": str(entry["licence"])} for entry in data["training_data"]
                ),
                operating_points={} if points is None else {label: _points(points[label]) for label in labels},
                files={_inside(path): str(digest) for path, digest in data["files"].items()},
                format_version=version,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{MANIFEST} is malformed: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder that has its `needed` files."""

    folder: Path
    manifest: Manifest
    config: Mapping[str, Any]
    """`config.json`, as transformers wrote it."""
    needed: tuple[str, ...] = NEEDED_TO_PREDICT
    """The files that whoever opened it makes use of."""

    @classmethod
    def open(cls, folder: str | Path, needed: tuple[str, ...] = NEEDED_TO_PREDICT) -> Checkpoint:
        """Read the folder, and verify its `needed` files.

        Raises:
            CheckpointError: what is missing, altered, malformed or too new.
        """
        checkpoint = cls.read(folder, needed)
        checkpoint.verify()
        return checkpoint

    @classmethod
    def read(cls, folder: str | Path, needed: tuple[str, ...] = NEEDED_TO_PREDICT) -> Checkpoint:
        """Read the manifest and the model's config. The other files are only looked for: `verify` them before use.

        Raises:
            CheckpointError: what is missing, malformed or too new.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        for path in needed:
            if not (folder / path).is_file():
                raise CheckpointError(f"the checkpoint {folder} has no {path}")
            if path not in manifest.files:
                raise CheckpointError(f"{MANIFEST} in {folder} has no sha256 of {path}, so it cannot be verified")
        for file in (folder / ONNX).parent.glob("*"):
            if (name := file.relative_to(folder).as_posix()) not in manifest.files:
                raise CheckpointError(
                    f"{MANIFEST} in {folder} does not list {name}, which a graph could read weights from: remove it"
                )
        config = _read_json(folder / CONFIG)
        if config.get("id2label") != {str(i): label for i, label in enumerate(manifest.labels)}:
            raise CheckpointError(f"{CONFIG} and {MANIFEST} in {folder} do not name the same labels in the same order")
        return cls(folder, manifest, config, needed)

    def has(self, *paths: str) -> bool:
        """Whether these files are there, and the manifest vouches for them."""
        return all(path in self.manifest.files and (self.folder / path).is_file() for path in paths)

    def verify(self, *paths: str) -> None:
        """Verify that these files, or all that are `needed`, have the sha256 of the manifest.

        Raises:
            CheckpointError: what is altered.
        """
        for path in paths or self.needed:
            _verify(self.folder, path, self.manifest.files[path])

    def verify_the_rest(self) -> None:
        """Verify the files that were not `needed`, as far as they are there. The card may be another.

        Raises:
            CheckpointError: what is altered.
        """
        for path, expected in self.manifest.files.items():
            if path not in (*self.needed, CARD) and (self.folder / path).is_file():
                _verify(self.folder, path, expected)

    def copy_to(self, folder: str | Path) -> None:
        """Write the checkpoint to `folder`, which appears there whole, in place of an older one, or not at all.

        Raises:
            CheckpointError: as of `copy_into`, or something other than a checkpoint stands at `folder`.
        """
        with new_folder(folder) as staging:
            self.copy_into(staging)

    def copy_into(self, folder: Path) -> None:
        """Copy the checkpoint's own files, and no others that may lie beside them, and verify the copies.

        The card may be another than the manifest says: the copy's manifest has it as it is.

        Raises:
            CheckpointError: a file is missing (a download for predicting has no weights for training) or was altered,
                or stands for one outside of the checkpoint.
        """
        files = dict(self.manifest.files)
        for path, expected in files.items():
            source, copy = self.folder / path, folder / path
            if not source.is_file():
                raise CheckpointError(
                    f"the checkpoint {self.folder} has no {path}, so its copy would not be whole; of a model on a hub, "
                    "`listening-clf hub pull` downloads all"
                )
            self._check_own(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            if path == CARD:
                files[path] = sha256(copy)
            else:
                _verify(folder, path, expected)
        _dump(folder, replace(self.manifest, files=files))

    def _check_own(self, path: Path) -> None:
        """Check that a link does not lead to a file of somebody else's, which would be given away with the copy."""
        own = self.folder.parent.parent if self.folder.parent.name == "snapshots" else self.folder  # the hub's cache
        if not path.resolve().is_relative_to(own.resolve()):
            raise CheckpointError(f"{path} is a link that leads out of the checkpoint, to {path.resolve()}")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Complete the manifest with the sha256 of every file in the folder, and write it there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    _dump(folder, replace(manifest, files={path.relative_to(folder).as_posix(): sha256(path) for path in paths}))


_POINT = re.compile(r'\{\s+("threshold": .+),\s+("precision": .+),\s+("recall": .+)\s+\}')
"""An operating point in indented JSON, where it would take five lines."""


def _dump(folder: Path, manifest: Manifest) -> None:
    text = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False)
    text = _POINT.sub(r"{\1, \2, \3}", text)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a staging folder that takes the place of `path` when all went well, and vanishes when not.

    A checkpoint that stands at `path` is replaced; it stays whole until its successor is complete.

    Raises:
        CheckpointError: something else stands at `path`.
    """
    path = Path(path).absolute()
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        staging = Path(scratch) / "new"
        staging.mkdir()
        yield staging
        if path.exists():
            path.rename(Path(scratch) / "old")
        staging.rename(path)


def check_replaceable(path: Path) -> None:
    """Check that a checkpoint may be written to `path`: that at most an older checkpoint stands there, and no more.

    Raises:
        CheckpointError: something else does; it would be lost.
    """
    if not path.exists():
        return
    own = {MANIFEST, *read_manifest(path).files} if (path / MANIFEST).is_file() else set()
    if not path.is_dir() or (not own and any(path.iterdir())):
        raise CheckpointError(f"{path} is there already and is no checkpoint: name another folder, or empty it first")
    found = (file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir())
    if foreign := next((file for file in found if file not in own), None):
        raise CheckpointError(f"{path} has {foreign}, which is none of its checkpoint's files: name another folder")


def sha256(path: Path) -> str:
    """The file's sha256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(folder: Path, path: str) -> str:
    """The sha256 of a checkpoint's file, in hexadecimal.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        return sha256(folder / path)
    except OSError as error:
        raise CheckpointError(f"{path} in {folder} cannot be read: {error.strerror or error}") from error


def _verify(folder: Path, path: str, expected: str) -> None:
    found = sha256_of(folder, path)
    if found != expected:
        raise CheckpointError(
            f"{path} in {folder} is not the file that was saved (sha256 {found[:12]}…, expected {expected[:12]}…): "
            "it was altered or cut short; get the checkpoint anew"
        )


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a checkpoint folder.

    Raises:
        CheckpointError: there is none, or it is malformed or too new.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}")
    if not (folder / MANIFEST).is_file():
        raise CheckpointError(f"{folder} is no listening_clf checkpoint: it has no {MANIFEST}")
    return Manifest.from_dict(_read_json(folder / MANIFEST))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not a {type(data).__name__}")
    return data


def _probability(value: Any) -> float:
    if not 0 <= value <= 1:  # false for NaN, too
        raise ValueError(f"{value} is no probability")
    return float(value)


def _calibration(scale: Any, bias: Any) -> Calibration:
    return Calibration(float(scale), float(bias))


def _points(points: list[dict[str, Any]]) -> tuple[OperatingPoint, ...]:
    return tuple(OperatingPoint(**{name: _probability(value) for name, value in point.items()}) for point in points)


def _inside(path: str) -> str:
    """The path, if it stays within the folder it is relative to."""
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path or ":" in path:
        raise CheckpointError(f"{MANIFEST} names the file {path!r}, which lies outside the checkpoint")
    return path
