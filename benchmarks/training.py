"""Training throughput beside transformers.Trainer: `python -m benchmarks.training`.

The same encoder, the same turns once through in batches of as many turns, the same precision; what counts are tokens
of turns, not of padding. The rounds of all contestants alternate in one process, after one round each to warm up.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import torch
import typer
from accelerate import Accelerator
from torch.utils.data import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging as transformers_logging

from listening_clf.encoding import pad
from listening_clf.finetune import TrainConfig
from listening_clf.finetune.base import load_base
from listening_clf.finetune.data import Example, batches, encoded, labelled_turns
from listening_clf.finetune.forward import precision
from listening_clf.finetune.loop import optimizer_for, training_step
from listening_clf.finetune.start import Start
from training.corpora import authored


def main(
    turns: Annotated[int, typer.Option(help="Turns a round.")] = 1280,
    rounds: Annotated[int, typer.Option(help="Rounds that count, of each contestant.")] = 3,
) -> None:
    """Print tokens a second, and the ratios to transformers.Trainer, as Markdown."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config = TrainConfig()
    start = Start.of(config)
    model, tokenizer = load_base(start)
    everything = encoded(labelled_turns(list(authored.read()), start.labels), start.encoder())
    drawn = np.random.default_rng(0).permutation(len(everything))[:turns]
    examples = [everything[i] for i in drawn]
    tokens = sum(len(example.encoded.input_ids) for example in examples)

    plain = AutoModelForSequenceClassification.from_pretrained(start.source, dtype=torch.float32)
    contestants: dict[str, Callable[[], object]] = {
        "listening_clf": _ours(model, examples, config),
        "transformers.Trainer": _trainer(plain, tokenizer, examples, config, "random"),
        "transformers.Trainer, group_by_length": _trainer(plain, tokenizer, examples, config, "group_by_length"),
        "the same on our settings of the model": _trainer(model, tokenizer, examples, config, "group_by_length"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, run in contestants.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    rates = {name: tokens / statistics.median(taken[1:]) for name, taken in seconds.items()}
    print(f"{turns:,} turns, {tokens:,} tokens, batches of {config.batch_size}, {precision('auto')}, {rounds} rounds\n")
    print("| training | tokens a second | listening_clf is faster by |\n| --- | --- | --- |")
    for name, rate in rates.items():
        print(f"| {name} | {rate:,.0f} | {rates['listening_clf'] / rate:.2f} |")


def _ours(model: PreTrainedModel, examples: Sequence[Example], config: TrainConfig) -> Callable[[], None]:
    accelerator = Accelerator(mixed_precision=precision(config.mixed_precision))
    prepared, optimizer = accelerator.prepare(model, optimizer_for(model, config))

    def run() -> None:
        for batch in batches(examples, config.batch_size, (0, 0)):
            training_step(prepared, optimizer, batch, config.learning_rate, accelerator)

    return run


class _Rows(Dataset[dict[str, Any]]):
    """The examples as a Trainer takes them."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._rows = []
        for example in examples:
            arrays = {name: array[0].tolist() for name, array in pad([example.encoded], 0).items()}
            self._rows.append({**arrays, "labels": example.targets.tolist()})

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    config: TrainConfig,
    sampling: str,
) -> Callable[[], object]:
    settings = TrainingArguments(
        tempfile.gettempdir(),  # nothing is saved
        per_device_train_batch_size=config.batch_size,
        num_train_epochs=1,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        bf16=precision("auto") == "bf16",
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy=sampling,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    collate = DataCollatorWithPadding(tokenizer)
    trainer = Trainer(model, settings, train_dataset=_Rows(examples), data_collator=collate)
    return trainer.train


if __name__ == "__main__":
    typer.run(main)
