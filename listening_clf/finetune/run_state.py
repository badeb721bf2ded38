"""Where a training run stands, on disk: what a run that was killed resumes from."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from listening_clf.errors import TrainingError
from listening_clf.finetune.config import TrainConfig

logger = logging.getLogger(__name__)

_PROGRESS = "progress.json"
_BEST = "best.safetensors"
_PART = ".part"
"""What ends so is still being written, and is passed over when a run resumes."""


class RunState:
    """The position, weights, optimizer and random numbers of a run, and the best weights so far, in one folder."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self.folder = folder
        self._settings = json.loads(json.dumps(config.to_dict()))
        self.epoch = 0
        self.step = 0
        """Steps of this epoch that are done."""
        self.best_f1 = -1.0

    def save(self, accelerator: Accelerator) -> None:
        """Write a checkpoint of the run; the one before it goes when this one is complete."""
        complete = self.folder / f"at-{self.epoch:03d}-{self.step:06d}"
        part = complete.with_suffix(_PART)
        accelerator.save_state(str(part))
        accelerator.wait_for_everyone()  # each process writes its own random numbers
        if accelerator.is_main_process:
            progress = {
                "epoch": self.epoch,
                "step": self.step,
                "best_f1": self.best_f1,
                "settings": self._settings,
            }
            (part / _PROGRESS).write_text(json.dumps(progress), encoding="utf-8")
            part.rename(complete)
            for older in set(self.folder.glob("at-*")) - {complete}:
                shutil.rmtree(older)
        accelerator.wait_for_everyone()

    def restore(self, accelerator: Accelerator) -> None:
        """Take up the last complete checkpoint, if there is one.

        Raises:
            TrainingError: the run had other settings, so that going on would be neither run.
        """
        saved = sorted(path for path in self.folder.glob("at-*") if path.suffix != _PART)
        if saved:
            progress = json.loads((saved[-1] / _PROGRESS).read_text(encoding="utf-8"))
            for name, value in self._settings.items():
                if progress["settings"].get(name) != value:
                    raise TrainingError(
                        f"the run in {self.folder} had {name} = {progress['settings'].get(name)}, not {value}: resume "
                        "it with its own settings, or start anew"
                    )
            accelerator.load_state(str(saved[-1]))
            self.epoch, self.step, self.best_f1 = progress["epoch"], progress["step"], progress["best_f1"]
            logger.info("resuming in epoch %d, after step %d", self.epoch + 1, self.step)

    def finish_epoch(self, accelerator: Accelerator, model: torch.nn.Module, f1: float) -> None:
        """Keep the epoch's weights if they are the best so far, and go on to the next."""
        if f1 > self.best_f1:
            self.best_f1 = f1
            if accelerator.is_main_process:
                self.folder.mkdir(parents=True, exist_ok=True)
                part = self.folder / f"{_BEST}{_PART}"
                save_file(model.state_dict(), part)
                part.rename(self.folder / _BEST)
        self.epoch, self.step = self.epoch + 1, 0
        self.save(accelerator)

    def best_weights(self) -> dict[str, torch.Tensor]:
        """The weights of the best epoch."""
        return load_file(self.folder / _BEST)

    def discard(self) -> None:
        """Forget the run. What else may lie in the folder stays."""
        for checkpoint in self.folder.glob("at-*"):
            shutil.rmtree(checkpoint)
        for weights in self.folder.glob(f"{_BEST}*"):
            weights.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
