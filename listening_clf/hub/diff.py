"""Two models side by side: what their manifests and cards say."""

from __future__ import annotations

from typing import Any, NamedTuple

from listening_clf.hub.card import in_words
from listening_clf.hub.facts import Facts, megabytes


class Row(NamedTuple):
    """One thing that two models have different, in words."""

    what: str
    first: str
    second: str


class _Thing(NamedTuple):
    value: Any
    """What is compared: figures differ even where they read the same."""
    text: str


_NOTHING = _Thing(None, "–")


def differing_facts(first: Facts, second: Facts) -> list[Row]:
    """What the manifests and cards of two models have different, in the order in which one would ask."""
    ours, theirs = _described(first), _described(second)
    pairs = {what: (ours.get(what, _NOTHING), theirs.get(what, _NOTHING)) for what in (*ours, *theirs)}
    return [Row(what, one.text, other.text) for what, (one, other) in pairs.items() if one.value != other.value]


def _described(facts: Facts) -> dict[str, _Thing]:
    """What a manifest and a card say, thing by thing."""
    manifest, card = facts.manifest, facts.card
    words = {
        "labels": ", ".join(manifest.labels),
        "codebook": manifest.codebook_version,
        "base model": in_words(card.base_model),
        "licence": in_words(card.license),
        "language": in_words(card.language),
        "trained on": facts.trained_on,
        "size": facts.size and megabytes(facts.size),
        "to predict": facts.size_to_predict and megabytes(facts.size_to_predict),
    }
    words |= {f"encoding: {name}": str(value) for name, value in manifest.encoding.items()}
    things = {what: _Thing(text or None, text or "–") for what, text in words.items()}
    things |= {f"threshold of {label}": _Thing(it, _figure(it)) for label, it in manifest.thresholds.items()}
    things |= {
        f"calibration of {label}": _Thing(it, f"{_figure(it.scale)} · logit {it.bias:+.4g}")
        for label, it in manifest.calibration.items()
    }
    for data, metrics in facts.metrics.items():
        of_several = "" if len(facts.metrics) == 1 else f" ({data})"
        things |= {f"card: {metric}{of_several}": _Thing(it, _figure(it)) for metric, it in metrics.items()}
    measured_on = "; ".join(facts.metrics) or None
    things["card: measured on"] = _Thing(measured_on, measured_on or "–")
    return things | {f"file {path}": _Thing(sha, sha[:12]) for path, sha in manifest.files.items()}


def _figure(value: float) -> str:
    return f"{value:.4g}"
