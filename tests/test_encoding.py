"""The encoding: what the model reads of a conversation, the same in training and in prediction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from listening_clf import Conversation, ListeningClassifier, Turn
from listening_clf.checkpoint import TOKENIZER
from listening_clf.encoding import MARKS, Encoded, Encoder, EncodingSettings, Timing, as_text_pair, pad, timing_of
from listening_clf.finetune.config import TrainConfig
from listening_clf.finetune.data import epoch_turns
from listening_clf.hub import BUNDLED
from listening_clf.labels import Label
from listening_clf.runtime import Runtime

SMALL = BUNDLED / "small"
PLAIN = TrainConfig(asr_copies=0, timing_dropout=0, context_dropout=0)

words = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(str.strip)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    turns, clock = [], 0.0
    for _ in range(draw(st.integers(0, 6))):
        timed = draw(st.booleans())
        start = max(0.0, clock + draw(st.floats(-2, 2)))
        clock = start + draw(st.floats(0, 5))
        turns.append(
            Turn(
                draw(st.sampled_from(["agent", "customer"])), draw(words), *((start, clock) if timed else ()), labels=()
            )
        )
    return Conversation((*turns, Turn("agent", draw(words), clock, labels=())))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(Tokenizer.from_file(str(SMALL / TOKENIZER)))


@pytest.fixture(scope="module")
def runtime(bundled: ListeningClassifier) -> Runtime:
    return bundled._runtime


def shown(encoder: Encoder, encoded: Encoded) -> str:
    return encoder._tokenizer.decode(encoded.input_ids, skip_special_tokens=False)


@settings(max_examples=200, deadline=None)
@given(conversation=conversations())
def test_training_and_prediction_encode_the_same(runtime: Runtime, conversation: Conversation) -> None:
    tokenizer = AutoTokenizer.from_pretrained(SMALL)
    training = Encoder(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), runtime.encoder.settings)
    trained_on = training.encode_many(turn.item for turn in epoch_turns([conversation], tuple(Label), PLAIN, epoch=0))
    predicted_on = runtime.encoder.encode_many((conversation.turns, index) for index in conversation.agent_turns)
    assert trained_on == predicted_on


@settings(max_examples=100, deadline=None)
@given(conversation=conversations())
def test_transformers_reads_the_text_pair_as_the_same_tokens(encoder: Encoder, conversation: Conversation) -> None:
    tokenizer = AutoTokenizer.from_pretrained(SMALL)
    for index in conversation.agent_turns:
        expected = encoder.encode(conversation.turns, index)
        fits = len(expected.input_ids) - expected.context_start < encoder.settings.context_tokens
        if fits and not any(mark in turn.text for turn in conversation.turns for mark in ("[", "]")):
            theirs = tokenizer(*as_text_pair(conversation.turns, index))
            ours = pad([expected], 0)
            assert theirs["input_ids"] == expected.input_ids
            assert theirs["token_type_ids"] == ours["token_type_ids"][0].tolist()


def test_the_turn_comes_first_then_who_said_what_before_it(encoder: Encoder) -> None:
    turns = [Turn("agent", "Hello."), Turn("customer", "It broke.", 0, 2), Turn("agent", "What broke?", 1)]
    assert shown(encoder, encoder.encode(turns, 2)) == (
        "[CLS] what broke? [SEP] [long_overlap] [agent] hello. [customer] it broke. [SEP]"
    )


def test_a_bare_sentence_is_a_bare_sentence(encoder: Encoder) -> None:
    assert shown(encoder, encoder.encode([Turn("agent", "What broke?")], 0)) == "[CLS] what broke? [SEP]"


def test_what_comes_after_the_turn_is_not_read(encoder: Encoder) -> None:
    turns = [Turn("customer", "It broke."), Turn("agent", "What broke?"), Turn("customer", "The lid.")]
    assert encoder.encode(turns, 1) == encoder.encode(turns[:2], 1)


@given(st.integers(0, 40), st.integers(1, 60))
def test_the_oldest_context_goes_first_and_the_turn_stays_whole(budget: int, length: int) -> None:
    encoder = Encoder(
        Tokenizer.from_file(str(SMALL / TOKENIZER)), EncodingSettings(context_tokens=budget, max_length=64)
    )
    turns = [Turn("customer", "one two three"), Turn("agent", "four five"), Turn("customer", "six seven eight")]
    turns.append(Turn("agent", " ".join(["go"] * length)))
    encoded = encoder.encode(turns, 3)
    assert len(encoded.input_ids) <= 64
    assert encoded.input_ids.count(encoder._tokenizer.token_to_id("go")) == length
    context = encoded.input_ids[encoded.context_start : -1]
    whole = encoder._tokenizer.encode("one two three four five six seven eight", add_special_tokens=False).ids
    kept = [token for token in context if token in whole]
    assert kept == whole[len(whole) - len(kept) :]
    assert len(context) <= budget


def test_a_turn_over_the_limit_keeps_its_beginning_and_its_end(encoder: Encoder) -> None:
    turn = Turn("agent", " ".join(["start", *["so"] * 2000, "end"]))
    encoded = encoder.encode([Turn("customer", "Hello."), turn], 1)
    assert len(encoded.input_ids) == encoder.settings.max_length
    assert shown(encoder, encoded).startswith("[CLS] start so")
    assert shown(encoder, encoded).endswith("so end [SEP]")


def test_words_that_look_like_marks_are_words(encoder: Encoder) -> None:
    marks = {encoder._tokenizer.token_to_id(token) for token in (*MARKS, "[SEP]", "[CLS]", "[PAD]")}
    turns = [Turn("customer", "[agent] [SEP] [PAD]"), Turn("agent", "[customer] [long_overlap] [CLS]")]
    encoded = encoder.encode(turns, 1)
    found = [token for token in encoded.input_ids if token in marks]
    assert encoder._tokenizer.decode(found, skip_special_tokens=False) == "[CLS] [SEP] [customer] [SEP]"


@pytest.mark.parametrize(
    ("end", "start", "timing"),
    [
        (None, 5.0, Timing.UNKNOWN),
        (5.0, None, Timing.UNKNOWN),
        (5.0, 5.5, Timing.NO_OVERLAP),
        (5.0, 5.0, Timing.NO_OVERLAP),
        (5.0, 4.9, Timing.SHORT_OVERLAP),
        (5.0, 4.5, Timing.LONG_OVERLAP),
    ],
)
def test_timing_is_how_far_the_agent_starts_before_the_customer_ends(
    end: float | None, start: float | None, timing: Timing
) -> None:
    turns = [Turn("customer", "Well I", 1.0, end), Turn("agent", "Yes.", start)]
    assert timing_of(turns, 1) is timing


def test_timing_is_unknown_before_the_customer_has_spoken() -> None:
    assert timing_of([Turn("agent", "Hello.", 0.0, 1.0)], 0) is Timing.UNKNOWN


def test_padding_is_masked_and_the_context_is_the_second_segment() -> None:
    arrays = pad([Encoded([101, 7, 102], 3), Encoded([101, 7, 102, 8, 102], 3)], pad_id=9)
    np.testing.assert_array_equal(arrays["input_ids"], [[101, 7, 102, 9, 9], [101, 7, 102, 8, 102]])
    np.testing.assert_array_equal(arrays["attention_mask"], [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(arrays["token_type_ids"], [[0, 0, 0, 0, 0], [0, 0, 0, 1, 1]])


def test_a_tokenizer_without_the_marks_is_refused() -> None:
    from tokenizers.models import WordLevel

    with pytest.raises(ValueError, match="has no token '\\[agent\\]'"):
        Encoder(Tokenizer(WordLevel({"a": 0}, unk_token="a")))
