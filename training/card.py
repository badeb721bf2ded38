"""Put the model card into the bundled model's folder, and its sha256 into the manifest: `python -m training.card`."""

from __future__ import annotations

import shutil
from pathlib import Path

from listening_clf.checkpoint import CARD, Checkpoint, write_manifest
from listening_clf.hub import locate


def main() -> None:
    """Copy `model_card.md` over the card of the bundled model."""
    checkpoint = Checkpoint.open(locate())
    checkpoint.verify_the_rest()  # before anything is hashed anew
    shutil.copyfile(Path(__file__).parent.parent / "model_card.md", checkpoint.folder / CARD)
    write_manifest(checkpoint.folder, checkpoint.manifest)


if __name__ == "__main__":
    main()
