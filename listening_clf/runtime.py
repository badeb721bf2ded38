"""How a checkpoint runs: encoded turns → calibrated probabilities, in ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from threading import Lock
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, get_args

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from listening_clf.background import Background
from listening_clf.batching import TOKENS_PER_BATCH, Pass, chunks
from listening_clf.checkpoint import FLOAT_ONNX, NEEDED_ON_GPU, ONNX, ONNX_DATA, TOKENIZER, Calibration, Checkpoint
from listening_clf.conversation import TurnInContext
from listening_clf.encoding import ENCODING_VERSION, Encoded, Encoder, EncodingSettings, pad
from listening_clf.errors import CheckpointError, DeviceError, ListeningError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

    from numpy.typing import NDArray

    from listening_clf.batching import Batch, Wait

T = TypeVar("T")

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""The cores that this process may use."""

Device: TypeAlias = Literal["auto", "cpu", "cuda"]

GPU_PROVIDER = "CUDAExecutionProvider"

TOKENS_PER_GPU_BATCH = 16_384

SLOWER_FUSIONS = ["SkipLayerNormFusion", "BiasGeluFusion"]
"""What ONNX Runtime would fuse to operators that are not vectorised, and take a fifth longer."""


class Runtime:
    """A loaded model. Safe to use from several threads, but not over a fork.

    Args:
        checkpoint: one whose `needed` files are verified. What a GPU needs beside them is verified here.
        device: "cpu"; "cuda"; or "auto": a GPU where onnxruntime-gpu finds one.

    Raises:
        CheckpointError: an altered file, one that cannot be loaded, or an unknown encoding version.
        DeviceError: no such device, or none that this checkpoint can run on.
    """

    def __init__(self, checkpoint: Checkpoint, device: Device = "cpu") -> None:
        manifest = checkpoint.manifest
        settings = encoding_settings(checkpoint)
        self._checkpoint = checkpoint
        try:
            tokenizer = Background(lambda: Tokenizer.from_file(str(checkpoint.folder / TOKENIZER)))
            gpu_session = _gpu_session(checkpoint, device)
            self._session = gpu_session or _session(checkpoint.folder / ONNX, CORES)
            self.encoder = Encoder(tokenizer.result(), settings)
        except ListeningError:
            raise
        except Exception as error:  # both libraries raise bare exceptions of their own
            raise CheckpointError(f"the model in {checkpoint.folder} cannot be loaded: {error}") from error
        self.device: Device = "cuda" if gpu_session else "cpu"
        """Where the model runs."""
        self._tokens_per_batch = TOKENS_PER_GPU_BATCH if gpu_session else TOKENS_PER_BATCH
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._calibration = [manifest.calibration[label] for label in manifest.labels]

    def probabilities(self, items: Iterable[TurnInContext]) -> Iterator[NDArray[np.float32]]:
        """The calibrated probability of every label for each `(turns, index)`, in order, as an array of (labels,).

        Reads ahead of what it yields by two thousand items at most.
        """
        for logits in self._passed(items, self.encoder.encode_many):
            yield from calibrated(logits, self._calibration)

    def probabilities_on_one_core(self, items: Iterable[TurnInContext]) -> NDArray[np.float32]:
        """The calibrated probabilities, shape (items, labels), computed in the calling thread.

        Of use to who has a thread for each core: such threads never wait for each other, as all cores on one batch do.
        """
        self._shared_pool()
        one_pass = Pass(
            lambda cut: [cache(partial(self._run, self._core_session, batch)) for batch in cut], self._tokens_per_batch
        )
        return calibrated(one_pass.begin(self.encoder.encode_many(items))(), self._calibration)

    def logits(self, encoded: Sequence[Encoded]) -> NDArray[np.float32]:
        """The model's raw logits, shape (len(encoded), labels), in the order given."""
        empty = np.zeros((0, len(self._calibration)), dtype=np.float32)
        return np.concatenate([empty, *self._passed(encoded, list)])

    def _passed(self, items: Iterable[T], encode: Callable[[list[T]], list[Encoded]]) -> Iterator[NDArray[np.float32]]:
        """The logits of the items, a chunk at a time: while one is run, the next is read and encoded."""
        running: Wait | None = None
        error: Exception | None = None
        begun: list[Future[NDArray[np.float32]]] = []
        one_pass = Pass(partial(self._start, begun=begun), self._tokens_per_batch)
        try:
            for chunk, ended in chunks(items):
                started = one_pass.begin(encode(chunk)) if chunk else None
                if running:
                    yield running()
                running, error = started, ended
            if running:
                yield running()
            if error:
                raise error
        finally:
            for future in begun:  # whoever wants no more need not wait for the rest
                future.cancel()

    def _start(self, batches: list[Batch], begun: list[Future[NDArray[np.float32]]]) -> list[Wait]:
        """Begin to run batches: a single one on all cores, when it is waited for; several on a core each, at once.

        Cores that work on batches of their own wait for nothing. All on one batch wait for each other at every
        operator, and are 1.2 times as fast as one, not twice.
        """
        if len(batches) == 1:
            return [cache(partial(self._run, self._session, batches[0]))]
        pool = self._shared_pool()
        futures = [pool.submit(self._run, self._core_session, batch) for batch in batches]
        begun[:] = [*(future for future in begun if not future.done()), *futures]
        return [future.result for future in futures]

    def _run(self, session: ort.InferenceSession, batch: Batch) -> NDArray[np.float32]:
        arrays = pad(batch, pad_id=0)  # they are of one length: nothing is padded
        (logits,) = session.run(None, {name: arrays[name] for name in self._inputs})
        return np.asarray(logits)

    def _shared_pool(self) -> ThreadPoolExecutor:
        """The threads that all callers share, and the session that they run. Single turns need neither."""
        with self._lock:
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor  # a single turn starts 12 ms sooner without

                self._core_session, workers = self._session, 1
                if self.device == "cpu":
                    try:
                        self._checkpoint.verify(ONNX, ONNX_DATA)
                        self._core_session, workers = _session(self._checkpoint.folder / ONNX, threads=1), CORES
                    except (CheckpointError, OSError):
                        pass  # the folder has been replaced since: go on with what is loaded, batch after batch
                self._pool = ThreadPoolExecutor(workers)
            return self._pool


def calibrated(logits: NDArray[np.float32], calibration: Sequence[Calibration]) -> NDArray[np.float32]:
    """The probabilities that logits of shape (turns, labels) mean, by each label's Platt scaling."""
    scale, bias = np.array(calibration, dtype=np.float32).T
    return np.asarray(np.exp(-np.logaddexp(0, -(scale * logits + bias))))  # the sigmoid, without overflow


def has_gpu() -> bool:
    """Whether this onnxruntime can run a model on a GPU, if there is one."""
    return GPU_PROVIDER in ort.get_available_providers()


def encoding_settings(checkpoint: Checkpoint) -> EncodingSettings:
    """How the checkpoint's model reads turns.

    Raises:
        CheckpointError: it reads them in a way that this version does not know, or more of them than it has positions.
    """
    encoding = checkpoint.manifest.encoding
    if encoding.get("version") != ENCODING_VERSION:
        raise CheckpointError(
            f"the checkpoint was trained with encoding version {encoding.get('version')}, this listening_clf encodes "
            f"by version {ENCODING_VERSION}: use the version of listening_clf that the model was made with"
        )
    try:
        settings = EncodingSettings(**encoding)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's encoding settings are malformed: {error}") from error
    positions = checkpoint.config.get("max_position_embeddings", settings.max_length)
    if settings.max_length > positions:
        raise CheckpointError(f"the checkpoint's max_length is {settings.max_length}, but it reads {positions} tokens")
    return settings


def _gpu_session(checkpoint: Checkpoint, device: Device) -> ort.InferenceSession | None:
    """The float model on a GPU; None where it is to run on the CPU.

    Raises:
        CheckpointError: a file that it needs was altered.
        DeviceError: the device is no name of one, or "cuda" where that is not to be had.
    """
    if device not in get_args(Device):
        raise DeviceError(f"device must be one of {', '.join(get_args(Device))}, not {device!r}")
    if device == "cpu":
        return None
    reason = "onnxruntime finds none: it takes onnxruntime-gpu in place of onnxruntime, and NVIDIA's driver"
    if not checkpoint.has(*NEEDED_ON_GPU):
        reason = f"the checkpoint has no {' and '.join(NEEDED_ON_GPU)}: export it anew, or download all of its folder"
    elif has_gpu():
        checkpoint.verify(*NEEDED_ON_GPU)
        try:
            session = ort.InferenceSession(
                checkpoint.folder / FLOAT_ONNX, _options(), providers=[GPU_PROVIDER], enable_fallback=0
            )
            if GPU_PROVIDER in session.get_providers():  # without a device it would be the CPU
                return session
        except Exception as error:  # onnxruntime raises bare ones
            reason = str(error)
    if device == "cuda":
        raise DeviceError(f"the model cannot run on a GPU: {reason}")
    return None


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = _options()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(path, options, disabled_optimizers=SLOWER_FUSIONS)


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only: what goes wrong here is raised, not printed
    return options
