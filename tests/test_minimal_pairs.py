"""A checklist (Ribeiro et al. 2020): pairs of turns that look alike, of which only one carries a label.

What differs is a word or two ("Could you tell me more about that?", "Could you tell me your order number?"), or what
was said before: a restatement after the customer said it, and the same words when he had not. No model was trained on
them; what they showed led to further training data.
"""

import json
from collections import Counter
from pathlib import Path

from listening_clf import Label, ListeningClassifier

PAIRS = [json.loads(line) for line in (Path(__file__).parent / "minimal_pairs.jsonl").read_text("utf-8").splitlines()]


def test_of_a_hundred_turns_in_minimal_pairs_90_are_judged_right(bundled: ListeningClassifier) -> None:
    wrong = []
    for pair in PAIRS:
        for side in ("with", "without"):
            turn = pair[side]
            given = pair["label"] in bundled.predict(turn["text"], turn.get("context")).labels
            if given != (side == "with"):
                wrong.append(f"{pair['label']}, {side}: {turn['text']}")
    assert len(wrong) <= 0.1 * 2 * len(PAIRS), "\n".join(wrong)


def test_the_minimal_pairs_are_of_every_label() -> None:
    of_label = Counter(pair["label"] for pair in PAIRS)
    assert set(of_label) == set(Label)
    assert min(of_label.values()) >= 10
    assert len(PAIRS) >= 50
