"""Make the bundled model `tiny` from `small`: `python -m training.tiny`, again with `--resume` if it was cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from listening_clf.finetune import TrainConfig
from training.data import load_unlabelled
from training.small import ROOT, make


def main(
    output: Annotated[Path, typer.Option(help="The checkpoint folder to write.")] = ROOT / "runs" / "tiny",
    config: Annotated[Path, typer.Option(help="The settings.")] = ROOT / "configs" / "tiny.yaml",
    resume: Annotated[bool, typer.Option(help="Go on from where a run was cut off.")] = False,
) -> None:
    """Distil `small` into fewer layers, on its own train split and on what nobody annotated of STAR and MultiWOZ."""
    make(TrainConfig.from_yaml(config), output, unlabelled=load_unlabelled(), resume=resume)


if __name__ == "__main__":
    typer.run(main)
