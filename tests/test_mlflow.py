"""MLflow: models in a tracking store and registry as MLflow makes them on one machine, in SQLite and a folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when mlflow is imported

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.models.model import ModelInfo
from mlflow.pyfunc import PyFuncModel

import listening_clf as lc
import listening_clf.mlflow
from listening_clf import CheckpointError, ListeningClassifier, Prediction, TurnError
from listening_clf.checkpoint import MANIFEST, ONNX, WEIGHTS

CHARGES = "There are two charges on my card."
TEXTS = ["So you were charged twice for the same order.", "How can I help?", "Mm-hm."]
CONTEXTS = [CHARGES, None, "And then it"]
TURNS = pd.DataFrame({"text": TEXTS, "context": CONTEXTS}, index=[30, 10, 20])


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an empty tracking store, registry and artifact store; nothing else is used."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        environment.delenv("MLFLOW_REGISTRY_URI", raising=False)
        experiment = mlflow.create_experiment("calls", artifact_location=(folder / "artifacts").as_uri())
        environment.setenv("MLFLOW_EXPERIMENT_ID", experiment)
        yield folder


@pytest.fixture(scope="module")
def tiny() -> ListeningClassifier:
    return ListeningClassifier.from_pretrained("tiny")


@pytest.fixture(scope="module")
def logged(tiny: ListeningClassifier) -> ModelInfo:
    return lc.mlflow.log_model(tiny)


@pytest.fixture(scope="module")
def pyfunc(logged: ModelInfo) -> PyFuncModel:
    return mlflow.pyfunc.load_model(logged.model_uri)


def artifacts(model: ModelInfo) -> Path:
    """Where the artifact store has the model."""
    return Path(mlflow.artifacts.download_artifacts(model.model_uri))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# logged, registered, loaded


def test_a_logged_model_predicts_as_before(tiny: ListeningClassifier, logged: ModelInfo) -> None:
    loaded = lc.mlflow.load_model(logged.model_uri)
    assert loaded.predict(TEXTS, CONTEXTS) == tiny.predict(TEXTS, CONTEXTS)
    assert loaded.thresholds == tiny.thresholds


def test_a_model_belongs_to_the_active_run(tiny: ListeningClassifier, store: Path) -> None:
    with mlflow.start_run() as run:
        model = lc.mlflow.log_model(tiny, "calls", tags={"team": "billing"})
    assert model.run_id == run.info.run_id
    assert mlflow.get_logged_model(model.model_id).name == "calls"
    assert mlflow.get_logged_model(model.model_id).tags["team"] == "billing"
    assert store in artifacts(model).parents


def test_a_registered_model_is_loaded_by_version_and_rolled_back_by_alias(
    tiny: ListeningClassifier, bundled: ListeningClassifier
) -> None:
    lc.mlflow.log_model(tiny, registered_model_name="listening")
    lc.mlflow.log_model(bundled, registered_model_name="listening")
    registry = mlflow.MlflowClient()

    def predicted_by(model: str) -> list[Prediction]:
        return lc.mlflow.load_model(f"models:/listening{model}").predict(TEXTS, CONTEXTS)

    older, newer = tiny.predict(TEXTS, CONTEXTS), bundled.predict(TEXTS, CONTEXTS)
    assert older != newer
    assert [predicted_by("/1"), predicted_by("/2")] == [older, newer]
    registry.set_registered_model_alias("listening", "live", "2")
    assert predicted_by("@live") == newer
    registry.set_registered_model_alias("listening", "live", "1")
    assert predicted_by("@live") == older


def test_a_saved_model_is_loaded_from_its_folder(tiny: ListeningClassifier, tmp_path: Path) -> None:
    lc.mlflow.save_model(tiny, tmp_path / "model")
    assert lc.mlflow.load_model(str(tmp_path / "model")).predict(TEXTS) == tiny.predict(TEXTS)
    assert list(mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(TURNS).index) == [30, 10, 20]
    with pytest.raises(MlflowException, match="already exists"):
        lc.mlflow.save_model(tiny, tmp_path / "model")


# what is stored


def test_a_model_is_its_checkpoint_and_mlflows_descriptions(tiny: ListeningClassifier, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "tiny")
    lc.mlflow.save_model(tiny, tmp_path / "model")
    descriptions = {"MLmodel", "requirements.txt", "conda.yaml", "python_env.yaml"}
    examples = {"input_example.json", "serving_input_example.json"}
    checkpoint = {f"data/checkpoint/{path}" for path in files(tmp_path / "tiny")}
    assert files(tmp_path / "model") == descriptions | examples | checkpoint


def test_it_loads_where_pickles_are_forbidden(logged: ModelInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    assert len(mlflow.pyfunc.load_model(logged.model_uri).predict(TURNS)) == len(TURNS)


def test_the_requirements_are_mlflow_and_this_version(logged: ModelInfo) -> None:
    requirements = (artifacts(logged) / "requirements.txt").read_text(encoding="utf-8").split()
    assert requirements == [f"mlflow=={mlflow.__version__}", f"listening-clf=={lc.__version__}"]


def test_the_metadata_name_the_labels_and_the_codebook(tiny: ListeningClassifier, logged: ModelInfo) -> None:
    assert logged.metadata == {"labels": list(tiny.labels), "codebook_version": "1.1"}


def test_what_is_logged_can_be_said_otherwise(tiny: ListeningClassifier, tmp_path: Path) -> None:
    example = pd.DataFrame({"text": ["Hello."]})
    wheel = "https://wheels.example/listening_clf-0.1.0-py3-none-any.whl"
    options = {"pip_requirements": [wheel], "input_example": example, "metadata": {"team": "billing"}}
    lc.mlflow.save_model(tiny, tmp_path / "model", **options)
    saved = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    requirements = (tmp_path / "model" / "requirements.txt").read_text(encoding="utf-8").split()
    assert requirements == [f"mlflow=={mlflow.__version__}", wheel]
    assert saved.input_example.equals(example)
    assert saved.metadata.metadata == {"labels": list(tiny.labels), "codebook_version": "1.1", "team": "billing"}


def test_how_a_model_is_called_cannot_be_said_otherwise(tiny: ListeningClassifier) -> None:
    with pytest.raises(TypeError, match="signature"):
        lc.mlflow.log_model(tiny, signature=None)


def test_it_is_loaded_by_this_library(logged: ModelInfo) -> None:
    assert list(logged.flavors) == ["python_function"]
    assert logged.flavors["python_function"]["loader_module"] == "listening_clf.mlflow"


# verified


@pytest.mark.parametrize("path", [ONNX, WEIGHTS])
def test_an_altered_artifact_is_refused(tiny: ListeningClassifier, path: str) -> None:
    model = lc.mlflow.log_model(tiny)
    altered = artifacts(model) / "data" / "checkpoint" / path
    altered.write_bytes(altered.read_bytes() + b"\0")
    for load in (lc.mlflow.load_model, mlflow.pyfunc.load_model):
        with pytest.raises(CheckpointError, match=f"{path} in .* is not the file that was saved"):
            load(model.model_uri)


def test_another_kind_of_model_is_refused_without_running_it(tmp_path: Path) -> None:
    mlflow.pyfunc.save_model(tmp_path / "model", loader_module="antigravity", pip_requirements=[])
    with pytest.raises(CheckpointError) as caught:
        lc.mlflow.load_model(str(tmp_path / "model"))
    problem = f"is no model that listening_clf.mlflow wrote: it has no data/checkpoint/{MANIFEST}"
    assert str(caught.value) == f"{tmp_path / 'model'} {problem}"
    assert "antigravity" not in sys.modules


def test_a_model_that_is_not_there_is_mlflows_error() -> None:
    with pytest.raises(MlflowException, match="nowhere"):
        lc.mlflow.load_model("models:/nowhere/1")


# a function of tables


def test_a_table_has_a_row_of_labels_and_probabilities_for_each_turn(
    tiny: ListeningClassifier, pyfunc: PyFuncModel
) -> None:
    found = pyfunc.predict(TURNS)
    predictions = tiny.predict(TEXTS, CONTEXTS)
    assert list(found.columns) == ["labels", *tiny.labels]
    assert list(found.index) == [30, 10, 20]
    assert list(found["labels"]) == [list(prediction.labels) for prediction in predictions]
    assert found[list(tiny.labels)].to_dict("records") == [prediction.scores for prediction in predictions]


@pytest.mark.parametrize(
    "contexts", [["", " ", "\t"], [None] * 3, ["", None, float("nan")], pd.Series([pd.NA] * 3, dtype="str")]
)
def test_a_context_may_be_empty_or_missing(
    tiny: ListeningClassifier, pyfunc: PyFuncModel, contexts: list[str | float | None]
) -> None:
    found = pyfunc.predict(pd.DataFrame({"text": TEXTS, "context": contexts}))
    assert list(found["paraphrase"]) == [prediction.scores["paraphrase"] for prediction in tiny.predict(TEXTS)]


def test_the_context_may_be_left_out(tiny: ListeningClassifier, pyfunc: PyFuncModel) -> None:
    found = pyfunc.predict(TURNS[["text"]])
    assert list(found["paraphrase"]) == [prediction.scores["paraphrase"] for prediction in tiny.predict(TEXTS)]


def test_the_columns_are_in_the_signature(tiny: ListeningClassifier, pyfunc: PyFuncModel) -> None:
    signature = pyfunc.metadata.signature
    assert str(signature.inputs) == "['text': string (required), 'context': string (optional)]"
    assert signature.outputs == infer_signature(TURNS, pyfunc.predict(TURNS)).outputs
    assert signature.outputs.input_names() == ["labels", *tiny.labels]


def test_an_empty_table_gives_an_empty_one(pyfunc: PyFuncModel) -> None:
    found, empty = pyfunc.predict(TURNS), pyfunc.predict(TURNS.iloc[:0])
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == found.dtypes.to_dict()


def test_the_example_is_one_that_the_model_takes(pyfunc: PyFuncModel) -> None:
    assert list(pyfunc.input_example.columns) == ["text", "context"]
    assert len(pyfunc.predict(pyfunc.input_example)) == len(pyfunc.input_example)


def test_other_columns_make_no_difference(pyfunc: PyFuncModel) -> None:
    assert pyfunc.predict(TURNS.assign(call=7)).equals(pyfunc.predict(TURNS))


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"text": ["Hello.", 5]}, "row b: the text must be a string, not 5"),
        ({"text": ["Hello.", float("nan")]}, "row b: the text must be a string, not nan"),
        ({"text": [" ", "Hello."]}, "row a: the text is empty: leave the turn out, or give it words"),
        ({"text": ["Hello.", "Hi."], "context": ["", 5]}, "row b, context: the text must be a string, not 5"),
    ],
)
def test_a_bad_row_is_named(pyfunc: PyFuncModel, columns: dict[str, list[Any]], problem: str) -> None:
    with pytest.raises(TurnError) as caught:
        pyfunc.predict(pd.DataFrame(columns, index=["a", "b"]))
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"words": ["Hello."]}, r"missing inputs \['text'\]"),
        ({"text": [5]}, "Incompatible input types for column text"),
        ({"text": ["Hello."], "context": [5]}, "Incompatible input types for column context"),
    ],
)
def test_a_table_that_the_signature_does_not_allow_is_mlflows_error(
    pyfunc: PyFuncModel, columns: dict[str, list[Any]], problem: str
) -> None:
    with pytest.raises(MlflowException, match=problem):
        pyfunc.predict(pd.DataFrame(columns))


# what is imported


def test_predicting_imports_neither_mlflow_nor_pandas() -> None:
    code = "import sys, listening_clf as lc; lc.predict('Hello.'); print({'mlflow', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"


@pytest.mark.parametrize("package", ["mlflow", "pandas"])
def test_without_its_packages_the_extra_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "listening_clf.mlflow")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError) as caught:
        import_module("listening_clf.mlflow")
    assert str(caught.value) == f'listening_clf.mlflow needs the package {package}: pip install "listening-clf[mlflow]"'
