"""How the results of benchmarks/run.py are shown: tables as Markdown, and the plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.cold_start import Run, table
from benchmarks.contenders import OURS, PIPELINES
from benchmarks.protocol import ROOT

PLOT = ROOT / "docs" / "speed.svg"

BASELINE = next(iter(PIPELINES))
"""Whom ratios compare with: the pipeline as it is called without settings."""

COLOURS = {True: "#1f6fb4", False: "#c2571a"}
"""Ours, and others."""
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)


def markdown(result: Mapping[str, Any]) -> str:
    """All tables, and what must be known to read them."""
    return "\n".join(_lines(result))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    machine, settings = result["machine"], result["settings"]
    most = {arithmetic: rate / 1e9 for arithmetic, rate in result["limits"].items()}
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average'][0]:.1f} before; medians of "
        f"{settings['rounds']} rounds of {settings['turns']:,} turns; latency of {settings['singles']:,} single turns."
    )
    yield (
        f"Macro F1 on {result['dev']['turns']:,} turns: {result['dev']['name']}. The machine's limit is "
        f"{most['int8']:,.0f} billion multiply-adds a second in int8, {most['float32']:,.0f} in float32."
    )
    for number, (name, workload) in enumerate(result["workloads"].items()):
        yield (
            f"\n{name.capitalize()}: {workload['tokens_per_turn']:.0f} tokens a turn, "
            f"{100 * workload['distinct']:.1f} % of the inputs distinct.\n"
        )
        yield from _table(workload["contenders"], None if number else result["contenders"])
        yield from _best_pipeline(workload["contenders"])
    yield "\n" + table({name: [Run(*run) for run in runs] for name, runs in result["cold_start"].items()})


def _table(figures: Mapping[str, Any], contenders: Mapping[str, Any] | None) -> Iterator[str]:
    """A row a contender; memory and accuracy do not depend on the workload, so they are shown once."""
    header = ["contender", "turns/s", "ratio", "p50", "ratio", "p95"]
    header += ["peak memory", "ratio", "macro F1"] if contenders else []
    yield _row(*header, "share of the limit")
    yield _row(*["---"] * (len(header) + 1))
    base = figures[BASELINE]
    for name, it in figures.items():
        cells = [
            name,
            f"{it['turns_per_second']:,.1f}",
            f"{it['turns_per_second'] / base['turns_per_second']:.2f}",
            f"{it['p50_ms']:.1f} ms",
            f"1/{base['p50_ms'] / it['p50_ms']:.2f}",
            f"{it['p95_ms']:.1f} ms",
        ]
        if contenders:
            peak = contenders[name]["peak_mb"]
            ratio = contenders[BASELINE]["peak_mb"] / peak
            cells += [f"{peak:,.0f} MB", f"1/{ratio:.1f}", f"{contenders[name]['macro_f1']:.3f}"]
        yield _row(*cells, f"{100 * it['share_of_limit']:.0f} % of {it['limit']}" if "limit" in it else "–")


def _best_pipeline(figures: Mapping[str, Any]) -> Iterator[str]:
    rates = {name: figures[name]["turns_per_second"] for name in PIPELINES}
    best = max(PIPELINES, key=rates.__getitem__)
    ours = [f"{name} {figures[name]['turns_per_second'] / rates[best]:.2f}" for name in OURS]
    yield f"\nTimes as many turns a second as the fastest pipeline ({best}): {', '.join(ours)}."


def draw(result: Mapping[str, Any]) -> None:
    """Draw a point a contender: turns a second against macro F1."""
    plt.rcParams["svg.hashsalt"] = "listening_clf"
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    workload = next(iter(result["workloads"].values()))
    points = {
        name: (figures["turns_per_second"], result["contenders"][name]["macro_f1"])
        for name, figures in workload["contenders"].items()
    }
    rates, f1 = zip(*points.values(), strict=True)
    for name, (rate, quality) in points.items():
        # Of those that lie close together, each is named a line lower than the next one to its right.
        row = 1 + sum(1 < other[0] / rate < 2 and abs(other[1] - quality) < 0.03 for other in points.values())
        colour = COLOURS[name in OURS]
        axes.plot(rate, quality, "o", color=colour)
        line = {"arrowstyle": "-", "color": colour, "alpha": 0.5, "shrinkA": 0, "shrinkB": 3, "relpos": (0, 0.5)}
        axes.annotate(
            name, (rate, quality), (0, -14 * row), textcoords="offset points", fontsize="small", arrowprops=line
        )
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / 1.3, max(rates) * 2.5)
    axes.set_ylim(min(f1) - 0.06, max(f1) + 0.02)
    ticks = [tick for tick in TICKS if min(rates) / 1.3 <= tick <= max(rates) * 2.5]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("agent turns a second, each read with the turns before it")
    axes.set_ylabel("macro F1 on dev")
    axes.grid(alpha=0.3)
    figure.savefig(PLOT, metadata={"Date": None})


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
