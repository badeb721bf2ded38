"""The figures of a report, drawn by matplotlib: SVG that stands inside the page and takes its colours."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve

from listening_clf.finetune.evaluation import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_BINS = 10

# matplotlib knows no CSS. It draws in these colours, which stand in the SVG for variables that follow the reader's
# scheme, light or dark.
_INK, _MUTED, _GRID, _ACCENT, _FILL = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _GRID: "--grid", _ACCENT: "--accent", _FILL: "--fill"}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
}

# Where a text stands to its point; the distance is in points.
_RIGHT: dict[str, Any] = {"textcoords": "offset points", "ha": "left", "va": "center"}
_BELOW_LEFT: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "top"}
_ABOVE: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom"}


def precision_recall(evaluation: Evaluation, label: str) -> Markup | None:
    """The curve of one label over lines of equal F1, with the point where its threshold lies.

    None where no turn has the label.
    """
    result = evaluation.labels[label]
    truth, probabilities = _known(evaluation, label)
    if not truth.any():
        return None
    precision, recall, _ = precision_recall_curve(truth, probabilities, drop_intermediate=True)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.4, 3.1), layout="constrained")
        axes = figure.add_subplot()
        _unit(axes, "recall", "precision")
        axes.set_box_aspect(1)
        for f1 in (0.2, 0.4, 0.6, 0.8):
            along = np.linspace(f1 / (2 - f1), 1, 50)
            axes.plot(along, f1 * along / (2 * along - f1), color=_GRID, linewidth=0.8, zorder=1)
            axes.annotate(f"F1 {f1:.1f}", (1, f1 / (2 - f1)), (3, 0), fontsize=7, color=_MUTED, **_RIGHT)
        axes.axhline(truth.mean(), color=_MUTED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        axes.step(recall, precision, where="post", color=_ACCENT, linewidth=1.8, clip_on=False, zorder=2)
        point = result.recall.value, result.precision.value
        axes.plot(*point, marker="o", markersize=7, color=_INK, markeredgewidth=0, clip_on=False, zorder=3)
        axes.annotate(f"threshold {result.threshold:.2f}", point, (-8, -4), fontsize=8, zorder=4, **_BELOW_LEFT)
        return _svg(
            figure,
            f"pr{evaluation.scored.labels.index(label)}",
            f"Precision-recall curve of {label}: average precision {result.average_precision.value:.3f}; at the "
            f"threshold {result.threshold:.2f} precision is {point[1]:.3f} and recall {point[0]:.3f}; "
            f"{truth.mean():.1%} of the turns have the label.",
        )


def reliability(evaluation: Evaluation, label: str) -> Markup | None:
    """What share of the turns has the label, by the probability that the model gives; below, how many turns.

    None where the label is known of no turn.
    """
    truth, probabilities = _known(evaluation, label)
    if not len(truth):
        return None
    share, probability = calibration_curve(truth, probabilities, n_bins=_BINS)
    counts, edges = np.histogram(probabilities, bins=_BINS, range=(0, 1))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.4, 4.1), layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
        _unit(axes, "", "turns that have the label")
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        axes.plot(probability, share, color=_ACCENT, linewidth=1.8, marker="o", markersize=5, clip_on=False, zorder=2)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.tick_params(labelbottom=True)

        # Bars grow with the logarithm: most turns lie in the first bin, and the others are to be seen, too.
        heights = np.log10(counts + 1.0)
        below.bar(edges[:-1], heights, width=0.1, align="edge", color=_FILL, edgecolor=_ACCENT, linewidth=0.8)
        for left, height, count in zip(edges, heights, counts, strict=False):
            below.annotate(_short(count), (left + 0.05, height), (0, 2), fontsize=7, color=_MUTED, **_ABOVE)
        below.set_ylim(0, max(heights) * 1.35)
        below.yaxis.set_major_locator(NullLocator())
        below.spines["left"].set_visible(False)
        below.set_ylabel("turns")
        below.set_xlabel("probability")
        parts = [f"{mean:.2f}: {of:.0%}" for mean, of in zip(probability, share, strict=True)]
        return _svg(
            figure,
            f"rel{evaluation.scored.labels.index(label)}",
            f"Reliability diagram of {label}: expected calibration error "
            f"{evaluation.labels[label].calibration_error:.3f}. Mean "
            f"probability, and share of turns with the label: {', '.join(parts)}. Turns in the ten bins: "
            f"{', '.join(map(str, counts))}.",
        )


def _known(evaluation: Evaluation, label: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Of the turns for which the label is known: whether they have it, and how probable it is to the model."""
    column = evaluation.scored.labels.index(label)
    targets = evaluation.scored.targets[:, column]
    known = ~np.isnan(targets)
    return targets[known] == 1, evaluation.scored.probabilities[known, column]


def _unit(axes: Axes, across: str, up: str) -> None:
    """Both axes from 0 to 1."""
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1]))
    axes.grid(color=_GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def _svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as SVG inside HTML: the same bytes every time, its ids its own, its colours the page's."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg)  # which HTML needs not
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    opening = Markup('<svg role="img" aria-label="{}"').format(description)
    return Markup(svg.replace("<svg", str(opening), 1))


def _short(count: int) -> str:
    """A count in the width of a bar."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 10_000 else f"{count / 1000:.0f}k"
