"""The training loop: masked binary cross-entropy on labelled turns, resumable, on whatever accelerate finds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer

from listening_clf.checkpoint import Calibration, check_replaceable
from listening_clf.conversation import Conversation
from listening_clf.encoding import Encoder, pad
from listening_clf.errors import TrainingError
from listening_clf.finetune.base import load_base
from listening_clf.finetune.calibrate import fit_thresholds
from listening_clf.finetune.config import TrainConfig
from listening_clf.finetune.data import LENGTH_MULTIPLE, Example, batches, encoded, epoch_examples, labelled_turns
from listening_clf.finetune.export import export
from listening_clf.finetune.metrics import label_metrics, macro_f1
from listening_clf.finetune.run_state import RunState
from listening_clf.runtime import calibrated

logger = logging.getLogger(__name__)

_LOG_STEPS = 50


def train(
    config: TrainConfig,
    train_data: Sequence[Conversation],
    dev_data: Sequence[Conversation],
    output: str | Path,
    *,
    training_data: Sequence[dict[str, str]] = (),
    card: str = "",
    resume: bool = False,
) -> Path:
    """Fine-tune a model and write it, calibrated and exported, as a checkpoint folder.

    The weights kept are those of the epoch with the best macro F1 on dev.

    Args:
        config: the settings.
        train_data: labelled conversations to learn from.
        dev_data: labelled conversations to choose the epoch, calibration and thresholds on.
        output: the checkpoint folder; it appears when all is done. The run's own checkpoints lie beside it in
            `<output>.run` until then.
        training_data: `{"name", "licence"}` of the data sets in `train_data`, for the manifest.
        card: the model card, as Markdown.
        resume: go on from the last checkpoint of a run that was cut off, if there is one.

    Returns:
        The checkpoint folder.

    Raises:
        TrainingError: a base that cannot be loaded, unknown labels, no annotated turn, or a run to resume that had
            other settings.
        CheckpointError: something other than a checkpoint stands at `output`.
    """
    output = Path(output)
    check_replaceable(output)  # before hours are spent
    state = RunState(output.with_name(output.name + ".run"), config)
    if not resume:
        state.discard()
    set_seed(config.seed)
    accelerator = Accelerator(mixed_precision=_precision(config.mixed_precision))
    model, tokenizer = load_base(config)
    encoder = Encoder(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), config.encoding)
    dev = encoded(labelled_turns(dev_data, config.labels), encoder)
    if not any((example.targets == 1).any() for example in dev):
        raise TrainingError(
            "no turn of the dev data has a label: there is nothing to choose the epoch or thresholds by"
        )
    labelled_turns(train_data, config.labels)  # finds bad labels before any step is taken

    prepared, optimizer = accelerator.prepare(model, _optimizer(model, config))
    state.restore(accelerator)
    with _progress(accelerator) as progress:
        for epoch in range(state.epoch, config.epochs):
            examples = epoch_examples(train_data, encoder, config, epoch)
            steps = list(batches(examples, config.batch_size, (config.seed, epoch)))
            bar = progress.add_task(f"epoch {epoch + 1}/{config.epochs}", total=len(steps), note="")
            progress.update(bar, completed=state.step)
            for step in range(state.step, len(steps)):
                rate = _learning_rate(config, (epoch + (step + 0.5) / len(steps)) / config.epochs)
                loss = _step(prepared, optimizer, steps[step], rate, accelerator)
                progress.update(bar, advance=1, note=f"loss {loss:.3f} · learning rate {rate:.1e}")
                if step % _LOG_STEPS == 0:
                    logger.info("epoch %d, step %d of %d: loss %.3f", epoch + 1, step, len(steps), loss)
                state.step = step + 1
                if state.step % config.checkpoint_steps == 0:
                    state.save(accelerator)
            f1 = _dev_f1(model, dev, config, accelerator)
            logger.info("epoch %d: macro F1 on dev %.4f", epoch + 1, f1)
            progress.update(bar, note=f"macro F1 on dev {f1:.3f}")
            state.finish_epoch(accelerator, model, f1)

    if accelerator.is_main_process:
        model.load_state_dict(state.best_weights())
        export(model, tokenizer, config, dev_data, output, training_data=training_data, card=card)
        state.discard()
    accelerator.wait_for_everyone()
    return output


def masked_bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum of the binary cross-entropy over all targets that are known (not NaN). Both of shape (turns, labels)."""
    known = ~torch.isnan(targets)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits[known], targets[known], reduction="sum")


def _step(
    model: torch.nn.Module, optimizer: Any, batch: list[Example], learning_rate: float, accelerator: Accelerator
) -> float:
    """One update by this process's share of the batch, weighted so that the processes' mean is the batch's mean."""
    known = int(sum((~np.isnan(example.targets)).sum() for example in batch))
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    share = batch[accelerator.process_index :: accelerator.num_processes]
    weight = accelerator.num_processes / max(known, 1) if share else 0.0
    share = share or batch[:1]  # every process must take the step, if only for the others' sake
    model.train()
    with accelerator.autocast():
        logits = _logits(model, share, accelerator.device)
    targets = torch.from_numpy(np.stack([example.targets for example in share])).to(accelerator.device)
    loss = masked_bce(logits.float(), targets) * weight
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def _logits(model: Any, examples: Sequence[Example], device: torch.device) -> torch.Tensor:
    architecture = (model.module if hasattr(model, "module") else model).config
    arrays = pad([example.encoded for example in examples], architecture.pad_token_id or 0, LENGTH_MULTIPLE)
    if getattr(architecture, "type_vocab_size", 0) < 2:
        del arrays["token_type_ids"]
    logits: torch.Tensor = model(**{name: torch.from_numpy(array).to(device) for name, array in arrays.items()}).logits
    return logits


@torch.no_grad()
def _dev_f1(model: torch.nn.Module, dev: Sequence[Example], config: TrainConfig, accelerator: Accelerator) -> float:
    """Macro F1 on dev, each label at the threshold that is best for it."""
    model.eval()
    order = sorted(range(len(dev)), key=lambda i: len(dev[i].encoded.input_ids))
    logits = np.zeros((len(dev), len(config.labels)), dtype=np.float32)
    with accelerator.autocast():
        for start in range(0, len(order), config.batch_size):
            rows = order[start : start + config.batch_size]
            logits[rows] = _logits(model, [dev[row] for row in rows], accelerator.device).float().cpu().numpy()
    targets = np.stack([example.targets for example in dev])
    probabilities = calibrated(logits, [Calibration()] * len(config.labels))
    return macro_f1(label_metrics(probabilities, targets, fit_thresholds(probabilities, targets, config.labels)))


def _optimizer(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
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


def _precision(setting: str) -> str:
    if setting != "auto":
        return setting
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "no"


def _progress(accelerator: Accelerator) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not accelerator.is_main_process,
    )
