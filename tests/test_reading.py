"""Labelled data from files and datasets, and the share of it that is held out."""

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Sequence, Value

from listening_clf import Conversation, Label, TrainingError, TranscriptError, Turn
from listening_clf.finetune.reading import held_out_split, read_labelled

CUSTOMER = {"speaker": "customer", "text": "It leaks."}
CALL = {"id": "a", "turns": [CUSTOMER, {"speaker": "agent", "text": "Since when?", "labels": ["open_question"]}]}
OTHER = {"id": "b", "turns": [{"speaker": "agent", "text": "Hello.", "labels": [], "start": 1.5}], "channel": "phone"}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(*sources: str, agent: str | None = None) -> list[Conversation]:
    return [located.conversation for located in read_labelled(sources, tuple(Label), agent=agent)]


def dataset(*rows: dict[str, Any]) -> Dataset:
    # A dataset has the columns of its first row.
    columns = {column: None for row in rows for column in row}
    return Dataset.from_list([columns | row for row in rows])


def as_jsonl(*rows: dict[str, Any]) -> list[Conversation]:
    Path("expected.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return read("expected.jsonl")


def error_of(*sources: str) -> str:
    with pytest.raises((TrainingError, TranscriptError)) as caught:
        read(*sources)
    return str(caught.value)


# datasets


def test_a_row_of_a_dataset_is_what_a_line_of_jsonl_is() -> None:
    expected = as_jsonl(CALL, OTHER)
    dataset(CALL, OTHER).to_parquet("calls.parquet")
    dataset(CALL, OTHER).save_to_disk("calls")
    assert read("calls.parquet") == expected
    assert read("calls") == expected


def test_single_agent_turns_may_be_the_rows() -> None:
    dataset({"text": "Hi.", "summary": 1, "reflection": 0}, {"text": "Hello.", "context": "Hi."}).to_parquet(
        "t.parquet"
    )
    first, second = read("t.parquet")
    assert first.turns[0].labels == ("summary",)
    assert first.turns[0].unlabelled == ("paraphrase", "open_question", "interruption")
    assert second.turns == (Turn("customer", "Hi."), Turn("agent", "Hello."))


def test_what_is_null_in_a_dataset_is_not_there() -> None:
    dataset({"text": "Hi.", "turns": None, "channel": None}, OTHER).to_parquet("mixed.parquet")
    first, second = read("mixed.parquet")
    assert (first.turns, first.meta) == ((Turn("agent", "Hi."),), {})
    assert (second.turns, second.meta) == ((Turn("agent", "Hello.", 1.5, labels=()),), {"channel": "phone"})


def test_classes_are_read_by_their_names() -> None:
    speaker, label = ClassLabel(names=["agent", "customer"]), ClassLabel(names=list(Label))
    features = Features({"turns": List({"speaker": speaker, "text": Value("string"), "labels": List(label)})})
    turns = [{"speaker": 1, "text": "It leaks.", "labels": None}, {"speaker": 0, "text": "Oh.", "labels": [1, 3]}]
    Dataset.from_list([{"turns": turns}], features=features).to_parquet("calls.parquet")
    (conversation,) = read("calls.parquet")
    assert conversation.turns == (
        Turn("customer", "It leaks."),
        Turn("agent", "Oh.", labels=("reflection", "summary")),
    )


def test_turns_may_be_kept_as_a_list_for_each_of_their_fields() -> None:
    features = Features({"turns": Sequence({"speaker": Value("string"), "text": Value("string")})})
    fields = {"speaker": ["customer", "agent"], "text": ["It leaks.", "Oh."]}
    Dataset.from_list([{"turns": fields}], features=features).save_to_disk("calls")
    (conversation,) = read("calls")
    assert conversation.turns == (Turn("customer", "It leaks."), Turn("agent", "Oh."))


def test_rows_know_their_number_in_the_dataset() -> None:
    dataset(*[{"text": "Hi.", "id": None}] * 1500).to_parquet("turns.parquet")
    located = read_labelled(["turns.parquet"], ())
    assert str(located[17].places[0]) == "turns.parquet, row 17"
    assert located[1400].conversation.id == "turns.parquet:1400"


def test_a_bad_row_is_named_and_the_rest_is_read() -> None:
    bad: list[TranscriptError] = []
    dataset(CALL, {"turns": [CUSTOMER]}, OTHER).to_parquet("calls.parquet")
    assert len(read_labelled(["calls.parquet"], (), on_bad=bad.append)) == 2
    assert list(map(str, bad)) == ["calls.parquet, row 1: no agent turn: the speakers are 'customer'"]
    assert error_of("calls.parquet") == str(bad[0])


def test_a_split_must_be_named_where_there_are_several() -> None:
    DatasetDict(train=dataset(CALL), test=dataset(OTHER)).save_to_disk("calls")
    assert read("calls:test") == as_jsonl(OTHER)
    assert error_of("calls") == "calls: name one of its splits (train, test), as in calls:train"
    assert error_of("calls:dev") == "calls:dev: there is no split 'dev': its splits are train, test"


def test_the_only_split_need_not_be_named() -> None:
    DatasetDict(train=dataset(CALL)).save_to_disk("calls")
    assert read("calls") == as_jsonl(CALL)


def test_a_dataset_without_splits_has_none_to_name() -> None:
    dataset(CALL).to_parquet("calls.parquet")
    dataset(CALL).save_to_disk("calls")
    for source in ("calls.parquet:train", "calls:train"):
        assert error_of(source) == f"{source}: the dataset has no splits: leave out :train"


def test_what_is_no_dataset_is_one_sentence() -> None:
    Path("bad.parquet").write_text("PAR")
    Path("folder").mkdir()
    assert error_of("bad.parquet").startswith("bad.parquet: cannot be read as a dataset (")
    assert error_of("folder").startswith("folder: cannot be read as a dataset (Directory folder is neither")


def test_a_dataset_without_rows_is_refused() -> None:
    dataset(CALL).select([]).to_parquet("calls.parquet")
    assert error_of("calls.parquet") == "calls.parquet: the dataset has no rows"


def test_a_hub_that_is_not_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    problem = "org/calls:train: no such file or folder, and no dataset of the hub to read (Couldn't reach"
    assert error_of("org/calls:train").startswith(problem)


def test_a_missing_file_is_not_looked_for_on_the_hub() -> None:
    for name in ("data/trian.jsonl", "data/trian.parquet", "nowhere", "a/b/c"):
        assert error_of(name) == f"{name}: cannot be read (No such file or directory)"


def test_without_the_datasets_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("calls").mkdir()
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert error_of("calls").endswith('needs the package datasets: pip install "listening-clf[train]"')


# files


def test_sources_of_all_kinds_are_read_in_order() -> None:
    Path("a.csv").write_text("speaker,text,summary\nDana,Hi.,1\n")
    Path("b.jsonl").write_text(json.dumps({"turns": [{"speaker": "Dana", "text": "Hello."}]}))
    dataset({"text": "Bye."}).to_parquet("c.parquet")
    conversations = read("a.csv", "b.jsonl", "c.parquet", agent="Dana")
    assert [conversation.turns[0].text for conversation in conversations] == ["Hi.", "Hello.", "Bye."]
    assert conversations[0].turns[0].labels == ("summary",)


def test_a_bad_file_does_not_spoil_the_others() -> None:
    bad: list[TranscriptError] = []
    Path("b.csv").write_text("text\nHi.\n")
    Path("c").mkdir()
    assert len(read_labelled(["a.csv", "c", "b.csv"], (), on_bad=bad.append)) == 1
    assert [str(error).split(":")[0] for error in bad] == ["a.csv", "c"]


# the held-out share


def conversation(id: str | None, labels: tuple[str, ...] | None = ()) -> Conversation:
    return Conversation((Turn("agent", "Hi.", labels=labels),), id)


def ids(conversations: list[Conversation]) -> list[str | None]:
    return [conversation.id for conversation in conversations]


def test_turns_of_one_conversation_stay_together() -> None:
    data = [conversation(f"c{number % 20}") for number in range(100)]
    train, dev = held_out_split(data, 0.25, seed=0)
    assert len(train) + len(dev) == 100
    assert len(set(ids(dev))) == 5
    assert not set(ids(train)) & set(ids(dev))


def test_what_is_held_out_depends_on_the_seed_and_not_on_the_order() -> None:
    data = [conversation(f"c{number}") for number in range(50)]
    shuffled = Random(0).sample(data, len(data))
    assert set(ids(held_out_split(data, 0.2, 1)[1])) == set(ids(held_out_split(shuffled, 0.2, 1)[1]))
    assert set(ids(held_out_split(data, 0.2, 1)[1])) != set(ids(held_out_split(data, 0.2, 2)[1]))


def test_only_annotated_conversations_are_held_out() -> None:
    data = [conversation(f"c{number}", () if number < 2 else None) for number in range(20)]
    train, dev = held_out_split(data, 0.5, 0)
    assert ids(dev) in (["c0"], ["c1"])
    assert len(train) == 19


def test_conversations_without_an_id_stand_for_themselves() -> None:
    train, dev = held_out_split([conversation(None)] * 10, 0.3, 0)
    assert (len(train), len(dev)) == (7, 3)


def test_what_was_read_with_its_place_is_split_with_its_place() -> None:
    Path("a.csv").write_text("text,summary,conversation\n" + "Hi.,1,a\nHi.,0,a\nHi.,0,b\n")
    train, dev = held_out_split(read_labelled(["a.csv"], tuple(Label)), 0.5, 0)
    places = [str(located.places[0]) for located in (*train, *dev)]
    assert sorted(places) == ["a.csv, line 2", "a.csv, line 3", "a.csv, line 4"]


@pytest.mark.parametrize(
    ("count", "share", "problem"),
    [
        (1, 0.5, r"1 conversation\(s\) with annotated turns: to hold some out for dev takes 2 or more"),
        (3, 0.9, "a share of 0.9 for dev leaves none of 3 conversations to train on"),
        (3, 1, "must lie between 0 and 1, not 1"),
    ],
)
def test_neither_side_may_be_empty(count: int, share: float, problem: str) -> None:
    with pytest.raises(TrainingError, match=problem):
        held_out_split([conversation(f"c{number}") for number in range(count)], share, 0)
