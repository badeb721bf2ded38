"""Why a model is run as it is: `python -m benchmarks.execution` measures each choice against what else there is.

From the plain export to what the library does, each row changes one thing: the graph, its numbers, which turns run
together, on how many cores. All rows run the same turns, and their rounds alternate in one process.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import onnx
import onnxruntime as ort
import torch
import typer
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from rich.console import Console
from rich.progress import track
from transformers import AutoModelForSequenceClassification

from benchmarks.workload import agent_turns
from listening_clf import batching
from listening_clf.checkpoint import ONNX, Checkpoint
from listening_clf.encoding import Encoded, pad
from listening_clf.finetune.graph import export_onnx
from listening_clf.finetune.quantize import weight_products
from listening_clf.hub import DEFAULT_MODEL, locate
from listening_clf.runtime import CORES, SLOWER_FUSIONS, Runtime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Inputs = dict[str, NDArray[np.int64]]

PADDED_TOKENS = 1024
"""Of a batch with padding, in turns of about the same length."""


class Way(NamedTuple):
    """One way to run a model."""

    name: str
    graph: Path
    batches: list[list[Encoded]]
    threads: int = 1
    """Of one batch; as many batches run at once as that leaves cores for."""
    fusions: bool = False
    """Whether ONNX Runtime fuses all that it can."""


def main(
    model: Annotated[str, typer.Option(help="A bundled model's name, or a checkpoint folder.")] = DEFAULT_MODEL,
    turns: Annotated[int, typer.Option(help="Turns a round.")] = 500,
    rounds: Annotated[int, typer.Option(help="Rounds that count.")] = 3,
) -> None:
    """Print turns a second of every way, as Markdown."""
    folder = locate(model)
    encoder = Runtime(Checkpoint.open(folder)).encoder
    encoded = encoder.encode_many(agent_turns(turns, seed=0))
    samples = encoder.encode_many(agent_turns(200, seed=1))
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = [(way.name, _runner(way)) for way in _ways(folder, Path(scratch), encoded, samples)]
        seconds: dict[str, list[float]] = {name: [] for name, _ in runs}
        for number in track(range(rounds + 1), "rounds", console=Console(stderr=True)):
            for name, run in runs:
                begin = time.perf_counter()
                run()
                if number:
                    seconds[name].append(time.perf_counter() - begin)
    rates = {name: turns / statistics.median(taken) for name, taken in seconds.items()}
    first = next(iter(rates.values()))
    tokens = sum(len(it.input_ids) for it in encoded) / turns
    print(f"{model}, {turns:,} turns of {tokens:.0f} tokens on average, {CORES} cores, median of {rounds} rounds\n")
    print("| | turns a second | by the first row |\n| --- | --- | --- |")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.0f} | {rate / first:.2f} |")


def _ways(folder: Path, scratch: Path, encoded: Sequence[Encoded], samples: Sequence[Encoded]) -> list[Way]:
    graphs = {name: scratch / name / "model.onnx" for name in ("masked", "float32", "dynamic", "qdq")}
    for path in graphs.values():
        path.parent.mkdir()
    _export_masked(folder, graphs["masked"])
    export_onnx(folder, graphs["float32"])
    int8: dict[str, Any] = {"per_channel": True, "reduce_range": True, "weight_type": QuantType.QInt8}
    quantize_dynamic(graphs["float32"], graphs["dynamic"], **int8)
    quantize_static(
        graphs["float32"],
        graphs["qdq"],
        _Samples(samples),
        quant_format=QuantFormat.QDQ,
        nodes_to_quantize=[node.name for node in weight_products(onnx.load(graphs["float32"]))],
        activation_type=QuantType.QUInt8,
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        **int8,
    )
    ours, equal = folder / ONNX, batching.batches(encoded)
    return [
        Way("float32 as exported, padded batches on all cores", graphs["masked"], _padded(encoded), CORES, True),
        Way("… without the fusions that are slower", graphs["masked"], _padded(encoded), CORES),
        Way("… a batch on each core", graphs["masked"], _padded(encoded, batching.TOKENS_PER_BATCH)),
        Way("… batches of one length, no mask, first token only in the last layer", graphs["float32"], equal),
        Way("… int8, dynamic (onnxruntime)", graphs["dynamic"], equal),
        Way("… int8, static, QDQ (onnxruntime)", graphs["qdq"], equal),
        Way("… int8, static: what the library does", ours, equal),
        Way("the same with all fusions", ours, equal, fusions=True),
        Way("the same with each batch on all cores", ours, equal, CORES),
        *(
            Way(f"the same in batches of {tokens} tokens", ours, batching.batches(encoded, tokens))
            for tokens in (1, 64, 128, 512, 1024)
        ),
    ]


def _runner(way: Way) -> Callable[[], object]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = way.threads
    session = ort.InferenceSession(way.graph, options, disabled_optimizers=None if way.fusions else SLOWER_FUSIONS)
    names = [node.name for node in session.get_inputs()]
    pool = ThreadPoolExecutor(max(1, CORES // way.threads))

    def run_batch(batch: list[Encoded]) -> None:
        arrays = pad(batch, pad_id=0)
        session.run(None, {name: arrays[name] for name in names})

    return lambda: list(pool.map(run_batch, way.batches))


def _padded(encoded: Sequence[Encoded], tokens: int = PADDED_TOKENS) -> list[list[Encoded]]:
    """Batches of about the same length, as many turns as fit with their padding."""
    batches: list[list[Encoded]] = [[]]
    for turn in sorted(encoded, key=lambda it: len(it.input_ids)):
        if batches[-1] and (len(batches[-1]) + 1) * len(turn.input_ids) > tokens:
            batches.append([])
        batches[-1].append(turn)
    return batches


def _export_masked(folder: Path, path: Path) -> None:
    """The model as one would export it: with a mask for the padding, and all of the last layer."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    names = ("input_ids", "attention_mask", "token_type_ids")
    free = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        model.eval(),
        kwargs={name: torch.ones(2, 8, dtype=torch.int64) for name in names},
        f=path,
        dynamo=True,
        verbose=False,
        input_names=names,
        output_names=["logits"],
        dynamic_shapes={name: {0: free, 1: free} for name in names},
    )


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    """Turns to calibrate by, as onnxruntime's quantizer takes them."""

    def __init__(self, samples: Sequence[Encoded]) -> None:
        self._next: Iterator[Inputs] = map(partial(pad, pad_id=0), ([sample] for sample in samples))

    def get_next(self) -> Inputs | None:
        arrays = next(self._next, None)
        return arrays and {name: arrays[name] for name in ("input_ids", "token_type_ids")}


if __name__ == "__main__":
    typer.run(main)
