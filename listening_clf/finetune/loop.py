"""The training loop: masked binary cross-entropy on labelled turns, resumable, on whatever accelerate finds."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import is_tensorboard_available, set_seed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch.optim.swa_utils import AveragedModel

from listening_clf.checkpoint import MANIFEST, WEIGHTS, Calibration, check_replaceable
from listening_clf.conversation import Conversation
from listening_clf.errors import TrainingError
from listening_clf.finetune.base import keep_layers, load_base, set_dropout
from listening_clf.finetune.calibrate import fit_thresholds
from listening_clf.finetune.card import model_card
from listening_clf.finetune.config import TrainConfig
from listening_clf.finetune.data import Example, LabelledTurn, batches, draw, encoded, epoch_turns, labelled_turns
from listening_clf.finetune.distil import Teacher, without_annotations
from listening_clf.finetune.export import export
from listening_clf.finetune.forward import all_logits, batch_logits, precision
from listening_clf.finetune.metrics import LabelMetrics, label_metrics, macro_f1, macro_f1_error
from listening_clf.finetune.replay import Replay
from listening_clf.finetune.run_state import RunState
from listening_clf.finetune.start import Start
from listening_clf.runtime import calibrated

logger = logging.getLogger(__name__)

_LOG_STEPS = 50


def train(
    config: TrainConfig,
    train_data: Sequence[Conversation],
    dev_data: Sequence[Conversation],
    output: str | Path,
    *,
    unlabelled: Sequence[Conversation] = (),
    training_data: Sequence[dict[str, str]] = (),
    card: str | None = None,
    resume: bool = False,
    log_dir: str | Path | None = None,
) -> Path:
    """Fine-tune a model and write it, calibrated and exported, as a checkpoint folder.

    The weights kept are those of the last epoch (with `average_weights`, the mean up to there), unless an earlier one
    had a better macro F1 on dev by more than its standard error: on a few dozen dev turns, which epoch looks best is
    chance. Under `accelerate launch`, every process calls this with the same arguments; the first one writes, and
    returns later than the others.

    Args:
        config: the settings.
        train_data: labelled conversations to learn from.
        dev_data: labelled conversations to choose the epoch, calibration and thresholds on.
        output: the checkpoint folder; it appears when all is done. The run's own checkpoints lie beside it in
            `<output>.run` until then.
        unlabelled: conversations that nobody annotated, to learn from the config's teacher.
        training_data: `{"name", "licence"}` of the data sets in `train_data`, for the manifest.
        card: the model card, as Markdown. None: one is written from what is known of the run.
        resume: go on from the last checkpoint of a run that was cut off, if there is one.
        log_dir: a folder for TensorBoard's event files: loss, learning rate and macro F1 on dev.

    Returns:
        The checkpoint folder.

    Raises:
        TrainingError: a base that cannot be loaded, unknown labels, no annotated turn, an unfinished run that is not
            to be resumed, or one to be resumed that had other settings or other data, or a checkpoint of the run that
            cannot be written.
        CheckpointError: something other than a checkpoint stands at `output`.
    """
    output = Path(output)
    check_replaceable(output)  # before hours are spent
    if (output / MANIFEST).is_file():
        raise TrainingError(f"{output} is a complete model already: name another folder, or delete it first")
    if log_dir is not None and not is_tensorboard_available():
        raise TrainingError("log_dir needs TensorBoard: pip install tensorboard")
    accelerator = Accelerator(
        mixed_precision=precision(config.mixed_precision),
        log_with=None if log_dir is None else "tensorboard",
        project_dir=log_dir,
    )
    set_seed(config.seed, device_specific=True)  # each process drops out other parts of the model
    start = Start.of(config)
    labels = start.labels
    train_turns = labelled_turns(train_data, labels)  # finds bad labels before any step is taken
    dev_turns = labelled_turns(dev_data, labels)
    if not any((turn.targets == 1).any() for turn in dev_turns):
        raise TrainingError(
            "no turn of the dev data has a label: there is nothing to choose the epoch or thresholds by"
        )
    teacher = Teacher(config.teacher, labels, config.teacher_weight, accelerator) if config.teacher else None
    if unlabelled and not teacher:
        raise TrainingError(
            "conversations that nobody annotated teach nothing without a teacher: name one in the settings"
        )
    identity = {
        **config.to_dict(),
        "precision": accelerator.mixed_precision,
        "processes": accelerator.num_processes,
        "data": _digest(train_data, dev_data, unlabelled),
        "started from": start.manifest.files[WEIGHTS] if start.manifest else None,
        "taught by": teacher.fingerprint if teacher else None,
    }
    state = RunState(output.with_name(output.name + ".run"), identity)
    if not resume:
        state.check_new()

    model, tokenizer = load_base(start)
    encoder = start.encoder()
    dev = encoded(dev_turns, encoder)
    keep_layers(model, config.layers)
    set_dropout(model, config.dropout)
    replay = Replay(labels if start.manifest and config.replay else ())
    unannotated = [without_annotations(conversation, labels) for conversation in unlabelled]
    prepared, optimizer = accelerator.prepare(model, optimizer_for(model, config))
    mean = _mean_from(model, accelerator) if config.average_weights else None
    state.restore(accelerator)
    if teacher:
        state.recall_answers(teacher)
    accelerator.init_trackers("")
    with _Bar(accelerator, config) as bar:
        for epoch in range(state.epoch, config.epochs):
            shown = [
                *train_data,
                *replay.draw(round(config.replay * len(train_turns)), np.random.default_rng([config.seed, epoch])),
                *draw(
                    unannotated,
                    round(config.unlabelled * len(train_turns)),
                    np.random.default_rng([config.seed, epoch]),
                ),
            ]
            turns = epoch_turns(shown, labels, config, epoch)
            if teacher:
                turns = _taught(teacher, turns, state, bar, accelerator)
            examples = encoded(turns, encoder)
            steps = list(batches(examples, config.batch_size, (config.seed, epoch)))
            bar.start(epoch, state.step, len(steps))
            for step in range(state.step, len(steps)):
                rate = _learning_rate(config, (epoch + (step + 0.5) / len(steps)) / config.epochs)
                loss = training_step(prepared, optimizer, steps[step], rate, accelerator)
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"the loss is {loss} in epoch {epoch + 1}, step {step}: lower learning_rate "
                        f"({config.learning_rate}), or set mixed_precision to no"
                    )
                bar.step(loss, rate)
                accelerator.log({"loss": loss, "learning rate": rate}, step=state.all_steps)
                if step % _LOG_STEPS == 0:
                    logger.info("epoch %d, step %d of %d: loss %.3f", epoch + 1, step, len(steps), loss)
                state.step, state.all_steps = step + 1, state.all_steps + 1
                if state.step % config.checkpoint_steps == 0:
                    state.save(accelerator)
            if mean:
                mean.update_parameters(model)
            reached = mean.module if mean else model
            metrics = _dev_metrics(reached, dev, labels, config, accelerator)
            f1 = macro_f1(metrics)
            logger.info("epoch %d: macro F1 on dev %.4f, with thresholds fitted to this epoch", epoch + 1, f1)
            bar.dev(f1)
            accelerator.log({"macro F1 on dev": f1}, step=state.all_steps)
            state.finish_epoch(accelerator, reached, f1, macro_f1_error(metrics))

    is_main = accelerator.is_main_process
    accelerator.end_training()  # what follows takes long, and the other processes need not wait for it
    if is_main:
        model.load_state_dict(state.kept_weights())
        with state.writing(), _status("calibrating and exporting"):
            export(
                model,
                tokenizer,
                start,
                dev_turns,
                output,
                prior=start.manifest if config.replay else None,
                training_data=[*training_data, *replay.training_data, *(teacher.training_data if teacher else ())],
                describe=lambda manifest, metrics: (
                    model_card(manifest, metrics, output.name, start, config, train_turns) if card is None else card
                ),
            )
        state.discard()
    return output


def _mean_from(model: torch.nn.Module, accelerator: Accelerator) -> AveragedModel:
    """The mean of the weights as they are and as they will be, a part of the run's checkpoints."""
    mean = AveragedModel(model)
    mean.update_parameters(model)
    accelerator.register_for_checkpointing(mean)
    return mean


def _taught(
    teacher: Teacher, turns: Sequence[LabelledTurn], state: RunState, bar: _Bar, accelerator: Accelerator
) -> list[LabelledTurn]:
    for read, total in teacher.read(turns):
        bar.teacher(read, total)
        logger.info("the teacher has read %d of %d new turns", read, total)
        state.note_answers(accelerator, teacher)
    return teacher.teach(turns)


def masked_bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum of the binary cross-entropy over all targets that are known (not NaN). Both of shape (turns, labels)."""
    known = ~torch.isnan(targets)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits[known], targets[known], reduction="sum")


def training_step(
    model: torch.nn.Module, optimizer: Any, batch: list[Example], learning_rate: float, accelerator: Accelerator
) -> float:
    """One update by this process's share of the batch, weighted so that the processes' mean is the batch's mean.

    Returns:
        The mean loss of the whole batch.
    """
    known = int(sum((~np.isnan(example.targets)).sum() for example in batch))
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    share = batch[accelerator.process_index :: accelerator.num_processes]
    weight = accelerator.num_processes / max(known, 1) if share else 0.0
    share = share or batch[:1]  # every process must take the step, if only for the others' sake
    model.train()
    with accelerator.autocast():
        logits = batch_logits(model, [example.encoded for example in share], accelerator.device)
    targets = torch.from_numpy(np.stack([example.targets for example in share])).to(accelerator.device)
    loss = masked_bce(logits.float(), targets) * weight
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(accelerator.reduce(loss.detach(), reduction="mean"))


def _dev_metrics(
    model: torch.nn.Module,
    dev: Sequence[Example],
    labels: Sequence[str],
    config: TrainConfig,
    accelerator: Accelerator,
) -> dict[str, LabelMetrics]:
    """The metrics on dev, each label at the threshold that is best for it."""
    turns = [example.encoded for example in dev]
    logits = all_logits(model, turns, len(labels), config.batch_size, accelerator)
    targets = np.stack([example.targets for example in dev])
    probabilities = calibrated(logits, [Calibration()] * len(labels))
    return label_metrics(probabilities, targets, fit_thresholds(probabilities, targets, labels))


def optimizer_for(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; biases and layer norms are not decayed."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _learning_rate(config: TrainConfig, progress: float) -> float:
    """Linear warm-up, then linear decay, by the share of the run that is done."""
    if progress < config.warmup:
        return config.learning_rate * progress / config.warmup
    return config.learning_rate * (1 - progress) / (1 - config.warmup)


def _digest(*data: Sequence[Conversation]) -> str:
    """What a run knows its data by: all that is learned from, and not what conversations are called."""
    digest = hashlib.sha256()
    for conversations in data:
        for it in conversations:
            digest.update(json.dumps([*(turn.to_dict() for turn in it.turns), it.unlabelled]).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _status(what: str) -> AbstractContextManager[object]:
    console = Console(stderr=True)
    return console.status(what) if console.is_terminal else nullcontext()


class _Bar:
    """The progress bar of a run: where it is, its loss, learning rate, and macro F1 on dev so far."""

    def __init__(self, accelerator: Accelerator, config: TrainConfig) -> None:
        self._epochs = config.epochs
        self._task: TaskID | None = None
        self._teacher: TaskID | None = None
        self._f1 = ""
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (accelerator.is_main_process and console.is_terminal),
        )

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def teacher(self, read: int, total: int) -> None:
        """Tell how far the teacher is with the turns of an epoch."""
        if self._teacher is None:
            self._teacher = self._progress.add_task("the teacher reads", total=total, note="turns")
        self._progress.update(self._teacher, completed=read, total=total)

    def start(self, epoch: int, done: int, steps: int) -> None:
        """Begin an epoch, of which some steps may be done."""
        description = f"epoch {epoch + 1}/{self._epochs}"
        self._task = self._progress.add_task(description, total=steps, completed=done, note="")

    def step(self, loss: float, rate: float) -> None:
        """Tell of one more step."""
        assert self._task is not None
        self._progress.update(self._task, advance=1, note=f"loss {loss:.3f} · rate {rate:.1e}{self._f1}")

    def dev(self, f1: float) -> None:
        """Tell what the epoch reached."""
        assert self._task is not None
        self._f1 = f" · dev macro F1 {f1:.3f}"
        self._progress.update(self._task, note=self._f1.removeprefix(" · "))
