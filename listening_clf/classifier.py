"""`ListeningClassifier`: the one object that people hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from listening_clf import hub
from listening_clf.background import Background
from listening_clf.checkpoint import Checkpoint
from listening_clf.conversation import Conversation, Prediction, Turn, TurnInContext, as_turns
from listening_clf.errors import TurnError

if TYPE_CHECKING:
    from listening_clf.runtime import Runtime

Context: TypeAlias = str | Sequence[Turn | Mapping[str, Any]] | None
"""What came before a turn: what the customer just said, or the turns of both sides, oldest first."""

Texts: TypeAlias = list[str] | list[Turn] | list[str | Turn]


class ListeningClassifier:
    """Says of agent turns which listening labels they carry.

    Get one with `from_pretrained`. Safe to use from several threads.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        # Importing this module stays light: what runs a model is imported with the first one.
        from listening_clf.runtime import Runtime

        self._checkpoint = checkpoint
        self._runtime: Runtime = Runtime(checkpoint)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path | None = None, *, revision: str | None = None
    ) -> ListeningClassifier:
        """Load a model, verified file by file.

        Args:
            name_or_path: the name of a bundled model (None: the default one), a checkpoint folder, or a hub id.
            revision: a branch, tag or commit of the hub.

        Raises:
            CheckpointError: no such model, or one that is incomplete, altered or too new.
        """
        checkpoint = Checkpoint.open(hub.locate(name_or_path, revision=revision))
        verified = Background(checkpoint.verify_the_rest)
        classifier = cls(checkpoint)
        verified.result()
        return classifier

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the model knows, in the order of its scores."""
        return self._checkpoint.manifest.labels

    @property
    def thresholds(self) -> dict[str, float]:
        """For each label, the probability from which on it is given."""
        return dict(self._checkpoint.manifest.thresholds)

    @overload
    def predict(self, text: str | Turn, context: Context = None) -> Prediction: ...
    @overload
    def predict(self, text: Texts, context: Sequence[Context] | None = None) -> list[Prediction]: ...
    def predict(
        self, text: str | Turn | Texts, context: Context | Sequence[Context] = None
    ) -> Prediction | list[Prediction]:
        """Judge one agent turn, or many that need not belong together.

        Args:
            text: what the agent said; a `Turn` where its times are known; or a list of these.
            context: what came before: the customer's words, or a list of turns. With a list of texts, a list of
                contexts, one for each (None where there is none).

        Returns:
            One prediction, or with a list of texts a list of as many, in order.

        Raises:
            TurnError: a text or a turn that is not one, or contexts that do not match the texts.
        """
        if isinstance(text, list):
            return self._predict(_items(text, context))
        return self._predict([_item(text, context)])[0]

    def predict_conversation(self, conversation: Conversation | Iterable[Turn | Mapping[str, Any]]) -> list[Prediction]:
        """Judge every agent turn of a conversation, each read with the turns before it.

        Args:
            conversation: a `Conversation`, or its turns as `Turn`s or JSON objects.

        Returns:
            One prediction an agent turn, in order (`Conversation.agent_turns` has their indices).

        Raises:
            TurnError: a turn that is not one, named by its index.
        """
        if not isinstance(conversation, Conversation):
            conversation = Conversation(as_turns(conversation))
        return self._predict([(conversation.turns, index) for index in conversation.agent_turns])

    def save_pretrained(self, path: str | Path) -> None:
        """Write the checkpoint folder to `path`. It appears there whole or not at all, in place of an older one.

        Raises:
            CheckpointError: something other than a checkpoint stands there, or this one was downloaded in part.
        """
        self._checkpoint.copy_to(path)

    def _predict(self, items: Sequence[TurnInContext]) -> list[Prediction]:
        thresholds = self._checkpoint.manifest.thresholds
        predictions = []
        for row in self._runtime.probabilities(items).tolist():
            scores = dict(zip(self.labels, row, strict=True))
            labels = tuple(label for label, probability in scores.items() if probability >= thresholds[label])
            predictions.append(Prediction(labels, scores))
        return predictions


@overload
def predict(text: str | Turn, context: Context = None) -> Prediction: ...
@overload
def predict(text: Texts, context: Sequence[Context] | None = None) -> list[Prediction]: ...
def predict(text: Any, context: Any = None) -> Prediction | list[Prediction]:
    """Judge agent turns with the bundled model, which is loaded once.

    Args:
        text: what the agent said: a string, a `Turn` where its times are known, or a list of these.
        context: what came before: the customer's words, or a list of turns; with a list of texts, a list of contexts.

    Returns:
        One `Prediction`, or with a list of texts a list of as many, in order.

    Raises:
        TurnError: a text or a turn that is not one, or contexts that do not match the texts.
    """
    predictions: Prediction | list[Prediction] = _default_classifier().predict(text, context)
    return predictions


@cache
def _default_classifier() -> ListeningClassifier:
    return ListeningClassifier.from_pretrained()


def _items(texts: Texts, contexts: object) -> list[TurnInContext]:
    if contexts is None:
        contexts = [None] * len(texts)
    if not isinstance(contexts, Sequence) or isinstance(contexts, str) or len(contexts) != len(texts):
        raise TurnError(f"with a list of {len(texts)} texts, context must be a list of {len(texts)} contexts")
    items = []
    for index, (text, context) in enumerate(zip(texts, contexts, strict=True)):
        try:
            items.append(_item(text, context))
        except TurnError as error:
            raise TurnError(f"item {index}: {error}") from None
    return items


def _item(text: str | Turn, context: Any) -> TurnInContext:
    turn = text if isinstance(text, Turn) else Turn("agent", text)
    if turn.speaker != "agent":
        raise TurnError("the turn to predict is the customer's: labels are for what the agent says")
    if context is None:
        return (turn,), 0
    before = (Turn("customer", context),) if isinstance(context, str) else as_turns(context)
    return (*before, turn), len(before)
