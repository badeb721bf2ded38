"""Models in MLflow: log a `ListeningClassifier` to a run, register it, and get it back.

>>> import listening_clf as lc, listening_clf.mlflow, mlflow, pandas as pd
>>> info = lc.mlflow.log_model(lc.ListeningClassifier.from_pretrained(), registered_model_name="listening")
>>> classifier = lc.mlflow.load_model("models:/listening/1")
>>> table = mlflow.pyfunc.load_model("models:/listening/1").predict(pd.DataFrame({"text": ["What happened?"]}))

What MLflow stores is the checkpoint folder, and that this module loads it. Nothing is pickled, and every file is
verified by its sha256 at each load, as anywhere else.

Needs the `mlflow` extra: `pip install "listening-clf[mlflow]"`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from listening_clf import __version__
from listening_clf.checkpoint import MANIFEST, Checkpoint
from listening_clf.classifier import ListeningClassifier
from listening_clf.conversation import Speaker, Turn
from listening_clf.errors import CheckpointError, TurnError

try:
    import mlflow
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.models.model import ModelInfo
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array
except ImportError as error:
    needed = f'listening_clf.mlflow needs the package {error.name}: pip install "listening-clf[mlflow]"'
    raise ImportError(needed, name=error.name) from error

_FOLDER = "checkpoint"
_DATA = Path("data", _FOLDER)
"""Where MLflow puts a folder of that name among a model's files."""

_INPUTS = Schema([ColSpec(DataType.string, "text"), ColSpec(DataType.string, "context", required=False)])
_EXAMPLE = {
    "text": ["So you were charged twice for the same order.", "What happened then?"],
    "context": ["There are two charges on my card.", ""],
}


def log_model(classifier: ListeningClassifier, name: str = "model", **options: Any) -> ModelInfo:
    """Log the model to the active run, or without one to the active experiment.

    `mlflow.pyfunc.load_model` makes of it a function from a DataFrame to a DataFrame with the same index, one row an
    agent turn. In: `text`, and where known `context`, what the customer said before (empty or missing: nothing; where
    no row has one, leave the column out, as pandas takes it for numbers, which the signature refuses). Out: `labels`, a
    list of names, and for each label a column with its calibrated probability, 0 to 1. It raises MlflowException for
    columns that are missing or of another type, and TurnError for a text that is none, named by its row's index.

    Args:
        classifier: the model.
        name: what it is called among the models of the run.
        options: other arguments of `mlflow.pyfunc.log_model`, such as `registered_model_name` or `tags`. Logged unless
            they say otherwise: an `input_example`, and `pip_requirements` (listening-clf in this version). `metadata`
            is added to the labels and the codebook's version.

    Returns:
        What MLflow knows of it. Its `model_uri` is what `load_model` takes.

    Raises:
        CheckpointError: the classifier's checkpoint is not whole, or altered.
    """
    with _pyfunc(classifier, options) as arguments:
        info: ModelInfo = mlflow.pyfunc.log_model(name=name, **arguments)
    return info


def save_model(classifier: ListeningClassifier, path: str | Path, **options: Any) -> None:
    """Write to a new folder what `log_model` writes to the artifact store.

    Args:
        classifier: the model.
        path: the folder; it must not be there yet, or be empty.
        options: other arguments of `mlflow.pyfunc.save_model`, as for `log_model`.

    Raises:
        CheckpointError: the classifier's checkpoint is not whole, or altered.
        MlflowException: there is something in the folder.
    """
    with _pyfunc(classifier, options) as arguments:
        mlflow.pyfunc.save_model(path=str(path), **arguments)


def load_model(model_uri: str) -> ListeningClassifier:
    """Load what `log_model` or `save_model` wrote, verified file by file. No code that comes with a model is run.

    Args:
        model_uri: as MLflow takes it: `models:/name/1`, `models:/name@alias`, `models:/m-…`, a folder, …

    Raises:
        CheckpointError: another kind of model, or one that is incomplete, altered or too new.
        MlflowException: there is no such model.
    """
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri))
    if not (folder / _DATA / MANIFEST).is_file():
        raise CheckpointError(f"{model_uri} is no model that listening_clf.mlflow wrote: it has no {_DATA / MANIFEST}")
    return ListeningClassifier.from_pretrained(folder / _DATA)


@contextmanager
def _pyfunc(classifier: ListeningClassifier, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What MLflow is told of the model, while its checkpoint lies in a folder of its own."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / _FOLDER
        classifier.save_pretrained(folder)
        manifest = Checkpoint.read(folder).manifest
        scores = [ColSpec(DataType.double, label) for label in manifest.labels]
        metadata = {"labels": list(manifest.labels), "codebook_version": manifest.codebook_version}
        defaults = {"input_example": pd.DataFrame(_EXAMPLE), "pip_requirements": [f"listening-clf=={__version__}"]}
        yield dict(
            loader_module=__name__,
            data_path=str(folder),
            signature=ModelSignature(_INPUTS, Schema([ColSpec(Array(DataType.string), "labels"), *scores])),
            **(defaults | options | {"metadata": metadata | (options.get("metadata") or {})}),
        )


def _load_pyfunc(path: str) -> _TableClassifier:
    """Called by `mlflow.pyfunc.load_model`, with where the checkpoint is."""
    return _TableClassifier(ListeningClassifier.from_pretrained(Path(path)))


class _TableClassifier:
    """A classifier of tables, as `log_model` describes it."""

    def __init__(self, classifier: ListeningClassifier) -> None:
        self._classifier = classifier

    def predict(self, table: pd.DataFrame) -> pd.DataFrame:
        """Judge the turn of every row. MLflow has checked the table's columns.

        Raises:
            TurnError: a text or context that is none, named by the row's index.
        """
        turns = [_turn("agent", text, f"row {row}") for row, text in table["text"].items()]
        contexts: list[list[Turn]] = [[] for _ in turns]
        if "context" in table:
            said = table["context"].astype(object).fillna("")
            contexts = [
                [_turn("customer", text, f"row {row}, context")] if str(text).strip() else []
                for row, text in said.items()
            ]
        predictions = self._classifier.predict(turns, contexts)
        labels = pd.Series([list(found.labels) for found in predictions], table.index, dtype=object)
        scores = {
            label: pd.Series([found.scores[label] for found in predictions], table.index, dtype=float)
            for label in self._classifier.labels
        }
        return pd.DataFrame({"labels": labels, **scores})


def _turn(speaker: Speaker, text: Any, place: str) -> Turn:
    try:
        return Turn(speaker, text)
    except TurnError as error:
        raise TurnError(f"{place}: {error}") from None
