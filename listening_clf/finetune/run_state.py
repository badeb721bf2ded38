"""Where a training run stands, on disk: what a run that was killed resumes from."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from listening_clf.errors import TrainingError
from listening_clf.finetune.distil import Teacher

logger = logging.getLogger(__name__)

_PROGRESS = "progress.json"
_KEPT = "kept.safetensors"
_ANSWERS = "answers.safetensors"
_POSITION = ("epoch", "step", "all_steps", "best_f1")
_PART = ".part"
"""What ends so is still being written, and is passed over when a run resumes."""


class RunState:
    """Position, weights, optimizer and random numbers of a run, the weights of the epoch to keep, and what a teacher
    answered, in one folder.

    Args:
        folder: the run's own; with several machines, one that all of them see.
        identity: what the run's result depends on, as a JSON object: a run is resumed only as it was.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self._identity = json.loads(json.dumps(identity))
        self.epoch = 0
        self.step = 0
        """Steps of this epoch that are done."""
        self.all_steps = 0
        """Steps that are done since the run began."""
        self.best_f1 = -1.0

    def check_new(self) -> None:
        """Check that no unfinished run lies in the folder.

        Raises:
            TrainingError: one does; to start anew would lose it.
        """
        if self._checkpoints():
            raise TrainingError(
                f"{self.folder} has an unfinished run: go on with --resume (resume=True), or delete that folder to "
                "start anew"
            )

    def save(self, accelerator: Accelerator) -> None:
        """Write a checkpoint of the run; the one before it goes when this one is complete.

        Raises:
            TrainingError: it cannot be written; the one before it is whole.
        """
        complete = self.folder / f"at-{self.epoch:03d}-{self.step:06d}"
        part = complete.with_suffix(_PART)
        with self.writing():
            accelerator.save_state(str(part))
        accelerator.wait_for_everyone()  # each process writes its own random numbers
        if accelerator.is_main_process:
            progress = {**{name: getattr(self, name) for name in _POSITION}, "run": self._identity}
            with self.writing():
                (part / _PROGRESS).write_text(json.dumps(progress), encoding="utf-8")
                part.rename(complete)
                for older in set(self.folder.glob("at-*")) - {complete}:
                    shutil.rmtree(older)
        accelerator.wait_for_everyone()

    def restore(self, accelerator: Accelerator) -> None:
        """Take up the last complete checkpoint, if there is one.

        Raises:
            TrainingError: the run had other settings or other data, so that going on would be neither run; or not all
                machines see its folder.
        """
        if saved := self._checkpoints():
            progress = json.loads((saved[-1] / _PROGRESS).read_text(encoding="utf-8"))
            for name, value in self._identity.items():
                if (found := progress["run"].get(name)) != value:
                    different = "other data" if name == "data" else f"{name} = {found}, not {value}"
                    raise TrainingError(
                        f"the run in {self.folder} had {different}: resume it as it was, or delete that folder to "
                        "start anew"
                    )
            accelerator.load_state(str(saved[-1]))
            for name in _POSITION:
                setattr(self, name, progress[name])
            logger.info("resuming in epoch %d, after step %d", self.epoch + 1, self.step)
        if len(set(gather_object([(self.epoch, self.step)]))) > 1:
            raise TrainingError(f"not all machines see the same {self.folder}: name an output folder that they share")

    def finish_epoch(self, accelerator: Accelerator, model: torch.nn.Module, f1: float, error: float) -> None:
        """Keep the epoch's weights, unless an earlier epoch was better beyond the standard error; go on to the next."""
        if f1 + error >= self.best_f1:
            self.best_f1 = max(self.best_f1, f1)
            if accelerator.is_main_process:
                part = self.folder / f"{_KEPT}{_PART}"
                with self.writing():
                    self.folder.mkdir(parents=True, exist_ok=True)
                    save_file(model.state_dict(), part)
                    part.replace(self.folder / _KEPT)
        self.epoch, self.step = self.epoch + 1, 0
        self.save(accelerator)

    def kept_weights(self) -> dict[str, torch.Tensor]:
        """The weights that were kept."""
        return load_file(self.folder / _KEPT)

    def note_answers(self, accelerator: Accelerator, teacher: Teacher) -> None:
        """Write down what the teacher has answered so far: to read takes it long, and a resumed run reads it again."""
        if accelerator.is_main_process:
            part = self.folder / f"{_ANSWERS}{_PART}"
            with self.writing():
                self.folder.mkdir(parents=True, exist_ok=True)
                teacher.note_answers(part)
                part.replace(self.folder / _ANSWERS)

    def recall_answers(self, teacher: Teacher) -> None:
        """Let the teacher take up what was written down, if anything was. All processes have to call it."""
        teacher.recall_answers(self.folder / _ANSWERS)

    def discard(self) -> None:
        """Forget the run. What else may lie in the folder stays."""
        for checkpoint in self.folder.glob("at-*"):
            shutil.rmtree(checkpoint)
        for file in (*self.folder.glob(f"{_KEPT}*"), *self.folder.glob(f"{_ANSWERS}*")):
            file.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _checkpoints(self) -> list[Path]:
        """The complete ones, the latest last."""
        return sorted(path for path in self.folder.glob("at-*") if path.suffix != _PART)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write something of the run: a failure says that it can be resumed.

        Raises:
            TrainingError: in place of what Python, torch and safetensors raise where the disk is full.
        """
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise TrainingError(
                f"the run cannot be written beside {self.folder} ({reason}): nothing that was there is lost; when that "
                "is mended, go on with --resume (resume=True)"
            ) from error
