"""The forward pass in torch: of one batch, and of many turns whose logits are wanted and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator

from listening_clf.encoding import Encoded, pad
from listening_clf.finetune.data import LENGTH_MULTIPLE

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
