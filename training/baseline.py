"""The baseline that the model is held against: TF-IDF of the turn and of what came before, and logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from listening_clf.conversation import TurnInContext
from listening_clf.finetune.data import LabelledTurn

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TfidfBaseline:
    """One logistic regression a label, each fitted on the turns for which the label is known."""

    def fit(self, turns: Sequence[LabelledTurn]) -> TfidfBaseline:
        """Learn from labelled turns."""
        targets = np.stack([turn.targets for turn in turns])
        texts = _texts([turn.item for turn in turns])
        self._models = []
        for column in targets.T:
            known = ~np.isnan(column)
            self._models.append(_pipeline().fit(texts[known], column[known]))
        return self

    def logits(self, items: Sequence[TurnInContext]) -> NDArray[np.float32]:
        """The log-odds of every label, shape (items, labels)."""
        texts = _texts(items)
        return np.stack([model.decision_function(texts) for model in self._models], axis=1).astype(np.float32)


def _texts(items: Sequence[TurnInContext]) -> NDArray[np.object_]:
    """Two columns: the turn, and the turn before it."""
    return np.array(
        [(turns[index].text, turns[index - 1].text if index else "") for turns, index in items], dtype=object
    )


def _pipeline() -> Pipeline:
    words = ColumnTransformer(
        [
            (name, TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), column)
            for column, name in enumerate(("turn", "before"))
        ]
    )
    return make_pipeline(words, LogisticRegression(C=10, max_iter=1000, class_weight="balanced"))
