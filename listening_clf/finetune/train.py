"""The training loop: masked binary cross-entropy on labelled turns, resumable, on whatever accelerate finds."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from listening_clf.checkpoint import Calibration
from listening_clf.conversation import Conversation
from listening_clf.encoding import Encoder, pad
from listening_clf.finetune.base import load_base
from listening_clf.finetune.calibrate import fit_thresholds
from listening_clf.finetune.config import TrainConfig
from listening_clf.finetune.data import Example, batches, epoch_examples, labelled_turns
from listening_clf.finetune.export import export
from listening_clf.finetune.metrics import label_metrics, macro_f1
from listening_clf.runtime import calibrated

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)


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
        TrainingError: a base that cannot be loaded, unknown labels, or no annotated turn.
    """
    output = Path(output)
    state = _RunState(output.with_name(output.name + ".run"))
    if not resume:
        state.discard()
    set_seed(config.seed)
    accelerator = Accelerator(mixed_precision=_precision(config.mixed_precision))
    model, tokenizer = load_base(config)
    encoder = Encoder(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), config.encoding)
    dev = _encoded(dev_data, encoder, config)
    labelled_turns(train_data, config.labels)  # finds bad labels before any step is taken

    model, optimizer = accelerator.prepare(model, _optimizer(model, config))
    state.restore(accelerator)
    with _progress(accelerator) as progress:
        for epoch in range(state.epoch, config.epochs):
            steps = list(
                batches(epoch_examples(train_data, encoder, config, epoch), config.batch_size, (config.seed, epoch))
            )
            task = progress.add_task(
                f"epoch {epoch + 1}/{config.epochs}", total=len(steps), loss="", completed=state.step
            )
            for step in range(state.step, len(steps)):
                learning_rate = _learning_rate(config, (epoch + step / len(steps)) / config.epochs)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate
                loss = _step(model, optimizer, steps[step], accelerator)
                progress.update(task, advance=1, loss=f"loss {loss:.3f} · lr {learning_rate:.1e}")
                if step % 50 == 0:
                    logger.info("epoch %d, step %d/%d: loss %.3f", epoch + 1, step, len(steps), loss)
                state.step = step + 1
                if state.step % config.checkpoint_steps == 0:
                    state.save(accelerator)
            f1 = _dev_f1(accelerator.unwrap_model(model), dev, config, accelerator)
            logger.info("epoch %d: macro F1 on dev %.4f", epoch + 1, f1)
            progress.update(task, loss=f"dev macro F1 {f1:.3f}")
            state.finish_epoch(accelerator, f1, accelerator.unwrap_model(model))

    best = accelerator.unwrap_model(model)
    best.load_state_dict(state.best_weights())
    if accelerator.is_main_process:
        export(best, tokenizer, config, dev_data, output, training_data=training_data, card=card)
        state.discard()
    accelerator.wait_for_everyone()
    return output


class _RunState:
    """Where a run stands, on disk: what a killed run resumes from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epoch = 0
        self.step = 0
        """Steps of this epoch that are done."""
        self.best_f1 = -1.0

    def save(self, accelerator: Accelerator) -> None:
        """Write a checkpoint of the run; the one before it goes when this one is complete."""
        name = f"at-{self.epoch:03d}-{self.step:06d}"
        accelerator.save_state(str(self.folder / f"{name}.part"))
        if accelerator.is_main_process:
            progress = {"epoch": self.epoch, "step": self.step, "best_f1": self.best_f1}
            (self.folder / f"{name}.part" / "progress.json").write_text(json.dumps(progress))
            (self.folder / f"{name}.part").rename(self.folder / name)
            for older in self.folder.glob("at-*"):
                if older.name != name:
                    shutil.rmtree(older)
        accelerator.wait_for_everyone()

    def restore(self, accelerator: Accelerator) -> None:
        """Take up the last complete checkpoint, if there is one."""
        saved = sorted(path for path in self.folder.glob("at-*") if path.suffix != ".part")
        if saved:
            accelerator.load_state(str(saved[-1]))
            progress = json.loads((saved[-1] / "progress.json").read_text())
            self.epoch, self.step, self.best_f1 = progress["epoch"], progress["step"], progress["best_f1"]
            logger.info("resuming after epoch %d, step %d", self.epoch, self.step)

    def finish_epoch(self, accelerator: Accelerator, f1: float, model: torch.nn.Module) -> None:
        """Keep the epoch's weights if they are the best so far, and go on to the next."""
        if f1 > self.best_f1:
            self.best_f1 = f1
            if accelerator.is_main_process:
                self.folder.mkdir(parents=True, exist_ok=True)
                save_file(model.state_dict(), self.folder / "best.safetensors.part")
                (self.folder / "best.safetensors.part").rename(self.folder / "best.safetensors")
        self.epoch, self.step = self.epoch + 1, 0
        self.save(accelerator)

    def best_weights(self) -> dict[str, torch.Tensor]:
        """The weights of the best epoch."""
        return load_file(self.folder / "best.safetensors")

    def discard(self) -> None:
        """Forget the run."""
        shutil.rmtree(self.folder, ignore_errors=True)


def masked_bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum of the binary cross-entropy over all targets that are known (not NaN). Both of shape (turns, labels)."""
    known = ~torch.isnan(targets)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits[known], targets[known], reduction="sum")


def _step(model: torch.nn.Module, optimizer: Any, batch: list[Example], accelerator: Accelerator) -> float:
    """One update by this process's share of the batch, weighted so that the processes' mean is the batch's mean."""
    known = int(sum((~np.isnan(example.targets)).sum() for example in batch))
    share = batch[accelerator.process_index :: accelerator.num_processes] or batch[:1]
    model.train()
    with accelerator.autocast():
        logits = _logits(model, share, accelerator.device)
    targets = torch.from_numpy(np.stack([example.targets for example in share])).to(accelerator.device)
    loss = masked_bce(logits.float(), targets) * accelerator.num_processes / max(known, 1)
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def _logits(model: Any, examples: Sequence[Example], device: torch.device) -> torch.Tensor:
    accelerated = model.module if hasattr(model, "module") else model
    arrays = pad([example.encoded for example in examples], accelerated.config.pad_token_id or 0)
    if getattr(accelerated.config, "type_vocab_size", 0) < 2:
        del arrays["token_type_ids"]
    return model(**{name: torch.from_numpy(array).to(device) for name, array in arrays.items()}).logits


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


def _encoded(conversations: Sequence[Conversation], encoder: Encoder, config: TrainConfig) -> list[Example]:
    turns = labelled_turns(conversations, config.labels)
    encoded = encoder.encode_many(turn.item for turn in turns)
    return [Example(one, turn.targets) for one, turn in zip(encoded, turns, strict=True)]


def _optimizer(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; biases and layer norms are not decayed."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


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
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not accelerator.is_main_process,
    )
