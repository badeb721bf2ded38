"""`ListeningClassifier`: the one object that people hold."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from listening_clf import hub
from listening_clf.background import Background
from listening_clf.checkpoint import NEEDED_ON_GPU, NEEDED_TO_PREDICT, Checkpoint
from listening_clf.conversation import Conversation, Prediction, Turn, TurnInContext, as_turns, in_context
from listening_clf.errors import ThresholdError, TurnError
from listening_clf.hub.common import Access

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from listening_clf.runtime import Device, Runtime

Context: TypeAlias = str | Sequence[Turn | Mapping[str, Any]] | None
"""What came before a turn: what the customer just said, or the turns of both sides, oldest first."""

Texts: TypeAlias = list[str] | list[Turn] | list[str | Turn]


class ListeningClassifier:
    """Says of agent turns which listening labels they carry.

    Get one with `from_pretrained`. Safe to use from several threads.
    """

    def __init__(self, checkpoint: Checkpoint, *, device: Device = "auto") -> None:
        # Importing this module stays light: what runs a model is imported with the first one.
        from listening_clf.runtime import Runtime

        self._checkpoint = checkpoint
        self._runtime: Runtime = Runtime(checkpoint, device)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        *,
        revision: str | None = None,
        device: Device = "auto",
        min_precision: float | Mapping[str, float] | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> ListeningClassifier:
        """Load a model, verified file by file. Of one on the Hugging Face hub, only what is needed is downloaded.

        Args:
            name_or_path: the name of a bundled model (None: the default one), a checkpoint folder, a hub id, or the
                path or file:// URL of a model in a directory that serves as a hub; or NAME@REVISION of these.
            revision: a branch, tag or commit of the hub; a ref or version of a directory. None: `main`.
            device: "cpu"; "cuda"; or "auto": a GPU where onnxruntime-gpu finds one.
            min_precision: above 0, at most 1; one for all labels, or by label. The threshold of each of these labels is
                then the one with the most recall among those with at least that precision on the model's dev turns.
                `save_pretrained` and `push_to_hub` keep it. None: the model's own, chosen for F1, which labels that are
                not named have, too.
            token: for a private model on the hub. None: HF_TOKEN, or what `hf auth login` stored.
            cache_dir: where downloads are kept. None: where HF_HOME or HF_HUB_CACHE says.
            local_files_only: take what the cache has, and do not ask the hub.

        Raises:
            CheckpointError: no such model or revision, no right to it, or one that is incomplete, altered or too new.
            ThresholdError: `min_precision` is no precision, names a label that the model does not have, or is more than
                dev shows for any threshold.
            DeviceError: "cuda", where there is no GPU that the model can run on.
        """
        access = Access(token, cache_dir, local_files_only)
        source = hub.find(name_or_path, revision=revision, access=access)
        needed = _needed_on(device) if source.is_remote else NEEDED_TO_PREDICT
        checkpoint = Checkpoint.read(source.fetch(needed))
        if min_precision is not None:
            try:
                manifest = checkpoint.manifest.with_min_precision(min_precision)
            except ThresholdError as error:
                raise ThresholdError(f"{source.name}: {error}") from None
            checkpoint = replace(checkpoint, manifest=manifest)
        verified, rest_verified = Background(checkpoint.verify), Background(checkpoint.verify_the_rest)
        import listening_clf.runtime  # noqa: F401 - takes longer than to verify what is loaded next

        verified.result()
        classifier = cls(checkpoint, device=device)
        rest_verified.result()
        return classifier

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the model knows, in the order of its scores."""
        return self._checkpoint.manifest.labels

    @property
    def thresholds(self) -> dict[str, float]:
        """For each label, the probability from which on it is given."""
        return dict(self._checkpoint.manifest.thresholds)

    @property
    def checkpoint(self) -> Checkpoint:
        """The folder that it was loaded from, and what its manifest says. Its files are not to be altered."""
        return self._checkpoint

    @property
    def device(self) -> str:
        """Where the model runs: "cpu" or "cuda"."""
        return self._runtime.device

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
            return list(self.predict_in_context(_items(text, context)))
        return next(self.predict_in_context([in_context(text, context)]))

    def predict_stream(self, turns: Iterable[str | Turn | tuple[str | Turn, Context]]) -> Iterator[Prediction]:
        """Judge agent turns one after the other, however many, in bounded memory.

        Args:
            turns: each a text or a `Turn`, or a pair of it and its context, as `predict` takes them. Up to 2,048 are
                read ahead of what is yielded.

        Yields:
            One prediction a turn, in order.

        Raises:
            TurnError: a turn that is not one, named by its index, after the predictions of all turns before it.
        """
        return self.predict_in_context(_item_at(index, turn) for index, turn in enumerate(turns))

    def predict_conversation(self, conversation: Conversation | Iterable[Turn | Mapping[str, Any]]) -> list[Prediction]:
        """Judge every agent turn of a conversation, each read with the turns before it.

        Args:
            conversation: a `Conversation`, or its turns as `Turn`s or JSON objects.

        Returns:
            One prediction an agent turn, in order (`Conversation.agent_turns` has their indices).

        Raises:
            TurnError: a turn that is not one, named by its index.
        """
        return list(self.predict_in_context(_agent_turns(_conversation(conversation))))

    def predict_conversations(
        self, conversations: Iterable[Conversation | Iterable[Turn | Mapping[str, Any]]]
    ) -> Iterator[tuple[Conversation, list[Prediction]]]:
        """Judge conversations one after the other, however many, in bounded memory.

        Their turns run together, which for many short conversations is faster than `predict_conversation` on each. The
        conversations of up to 2,048 agent turns are read ahead of what is yielded.

        Args:
            conversations: each as `predict_conversation` takes it.

        Yields:
            Each conversation with one prediction an agent turn, in order.

        Raises:
            TurnError: a turn that is not one, after the predictions of all conversations before its own.
        """
        read: deque[Conversation] = deque()

        def agent_turns() -> Iterator[TurnInContext]:
            for item in conversations:
                read.append(_conversation(item))
                yield from _agent_turns(read[-1])

        def without_agent() -> Iterator[tuple[Conversation, list[Prediction]]]:
            while read and not read[0].agent_turns:
                yield read.popleft(), []

        done: list[Prediction] = []
        try:
            for prediction in self.predict_in_context(agent_turns()):
                yield from without_agent()
                done.append(prediction)
                if len(done) == len(read[0].agent_turns):
                    yield read.popleft(), done
                    done = []
        except Exception:
            yield from without_agent()
            raise
        yield from without_agent()

    def predict_in_context(self, turns: Iterable[TurnInContext]) -> Iterator[Prediction]:
        """Judge agent turns, each read with those before it in its conversation: what the other methods come to.

        Args:
            turns: each as `(turns, index)`: the turns of a conversation, and the index of the one to judge. Up to
                2,048 are read ahead of what is yielded.

        Yields:
            One prediction a turn, in order.
        """
        for probabilities in self._runtime.probabilities(turns):
            yield self._prediction(probabilities)

    def predict_on_one_core(self, turns: Sequence[TurnInContext]) -> list[Prediction]:
        """Judge a few agent turns in the calling thread, on one core: for programs that have a thread for each core.

        Args:
            turns: each as `(turns, index)`, one at least.

        Returns:
            One prediction a turn, in order.
        """
        return list(map(self._prediction, self._runtime.probabilities_on_one_core(turns)))

    def save_pretrained(self, path: str | Path) -> None:
        """Write the checkpoint folder to `path`. It appears there whole or not at all, in place of an older one.

        Raises:
            CheckpointError: something other than a checkpoint stands there, or this one was downloaded in part.
        """
        self._checkpoint.copy_to(path)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        token: str | None = None,
    ) -> str:
        """Publish the model: to the Hugging Face hub, or into a directory that serves as one.

        Args:
            repo_id: org/name, or the path or file:// URL of the model in a directory.
            private: who sees a repository that is made. None: as the account is set up.
            revision: the branch, or a directory's ref, to publish to; made if there is none. None: `main`.
            commit_message: what is new in this version.
            token: one that may write. None: HF_TOKEN, or what `hf auth login` stored.

        Returns:
            NAME@REVISION with the commit or version, by which `from_pretrained` loads just these files.

        Raises:
            CheckpointError: this model was downloaded in part or altered; a name or a card that the hub refuses; no
                right to write; no way to the hub; or `private` for a directory, which has its own permissions.
        """
        target = hub.destination(repo_id, revision=revision, access=Access(token))
        return target.publish(self._checkpoint, message=commit_message, private=private)

    def _prediction(self, probabilities: NDArray[np.float32]) -> Prediction:
        """What the probabilities of the labels, of shape (labels,), come to."""
        thresholds = self._checkpoint.manifest.thresholds
        scores = dict(zip(self.labels, probabilities.tolist(), strict=True))
        labels = tuple(label for label, probability in scores.items() if probability >= thresholds[label])
        return Prediction(labels, scores)


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


def _needed_on(device: Device) -> tuple[str, ...]:
    """The files that predicting needs on a device: a GPU runs others."""
    from listening_clf.runtime import has_gpu

    return (
        (*NEEDED_TO_PREDICT, *NEEDED_ON_GPU)
        if device == "cuda" or (device == "auto" and has_gpu())
        else NEEDED_TO_PREDICT
    )


def _items(texts: Texts, contexts: object) -> list[TurnInContext]:
    if contexts is None:
        contexts = [None] * len(texts)
    if not isinstance(contexts, Sequence) or isinstance(contexts, str) or len(contexts) != len(texts):
        raise TurnError(f"with a list of {len(texts)} texts, context must be a list of {len(texts)} contexts")
    return [_item_at(index, pair) for index, pair in enumerate(zip(texts, contexts, strict=True))]


def _item_at(index: int, turn: object) -> TurnInContext:
    text, context = turn if isinstance(turn, tuple) and len(turn) == 2 else (turn, None)
    try:
        return in_context(text, context)
    except TurnError as error:
        raise TurnError(f"item {index}: {error}") from None


def _conversation(turns: Conversation | Iterable[Turn | Mapping[str, Any]]) -> Conversation:
    return turns if isinstance(turns, Conversation) else Conversation(as_turns(turns))


def _agent_turns(conversation: Conversation) -> list[TurnInContext]:
    return [(conversation.turns, index) for index in conversation.agent_turns]
