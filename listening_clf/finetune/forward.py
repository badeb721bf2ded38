"""The forward pass in torch: of one batch, and of many turns whose logits are wanted and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification

from listening_clf.checkpoint import TOKENIZER, Checkpoint
from listening_clf.encoding import Encoded, Encoder, pad
from listening_clf.finetune.data import LENGTH_MULTIPLE
from listening_clf.runtime import encoding_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}

_BATCH_SIZE = 32


class TorchModel:
    """A checkpoint that is run in torch, in the precision and on the devices of a run.

    In int8, some large models answer quite otherwise (docs/experiments.md).

    Args:
        checkpoint: one with all that training needs, all of it verified.
        accelerator: of the run.
    """

    def __init__(self, checkpoint: Checkpoint, accelerator: Accelerator) -> None:
        self.labels = checkpoint.manifest.labels
        self.encoder = Encoder(Tokenizer.from_file(str(checkpoint.folder / TOKENIZER)), encoding_settings(checkpoint))
        self._accelerator = accelerator
        self._model = AutoModelForSequenceClassification.from_pretrained(
            checkpoint.folder,
            dtype=_PRECISIONS.get(accelerator.mixed_precision, torch.float32),
            use_safetensors=True,
            trust_remote_code=False,
        ).to(accelerator.device)

    def logits(self, turns: Sequence[Encoded]) -> NDArray[np.float32]:
        """Shape (turns, labels), in the order given."""
        return all_logits(self._model, turns, len(self.labels), _BATCH_SIZE, self._accelerator)


def precision(setting: str) -> str:
    """The mixed precision that accelerate is told: "auto" is bf16 where the device computes in it by itself."""
    if setting != "auto":
        return setting
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # torch has no public ones
    return "bf16" if any(getattr(torch.cpu, check, bool)() for check in checks) else "no"


def batch_logits(model: Any, batch: Sequence[Encoded], device: torch.device) -> torch.Tensor:
    """The logits of one batch, shape (turns, labels)."""
    architecture = (model.module if hasattr(model, "module") else model).config
    arrays = pad(batch, architecture.pad_token_id or 0, LENGTH_MULTIPLE)
    if getattr(architecture, "type_vocab_size", 0) < 2:
        del arrays["token_type_ids"]
    logits: torch.Tensor = model(**{name: torch.from_numpy(array).to(device) for name, array in arrays.items()}).logits
    return logits


@torch.no_grad()
def all_logits(
    model: torch.nn.Module, turns: Sequence[Encoded], labels: int, batch_size: int, accelerator: Accelerator
) -> NDArray[np.float32]:
    """The logits of all turns, shape (turns, labels), in evaluation mode. Each process reads its share of batches."""
    model.eval()
    order = sorted(range(len(turns)), key=lambda i: len(turns[i].input_ids))
    cut = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    logits = torch.zeros(len(turns), labels, device=accelerator.device)
    with accelerator.autocast():
        for rows in cut[accelerator.process_index :: accelerator.num_processes]:
            logits[rows] = batch_logits(model, [turns[row] for row in rows], accelerator.device).float()
    found: NDArray[np.float32] = accelerator.reduce(logits, reduction="sum").cpu().numpy()
    return found
