"""How the results of benchmarks/serve.py are shown: tables as Markdown, and the plot."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.contenders import OURS
from benchmarks.protocol import ROOT

PLOT = ROOT / "docs" / "serve.svg"

PEER = "FastAPI around transformers.pipeline"

MODEL = "small"
"""Whom targets are for."""
OURS_MEASURED = f"listening_clf {MODEL}"

SHARE_TARGET = 0.85
"""Of the turns a second without HTTP, with the most clients."""
TAIL_TARGET = 10
"""Times p50 that p99 may be there."""
LIVE_TARGET_MS = 50
AFTER_TARGET = 1.5
"""Times as long as before that a request may take right after an overload."""
COLD_START_TARGET_SECONDS = 2
GROWTH_TARGET = 0.05
"""Of the memory that the service had after a tenth of the soak."""

COLOURS = {"listening_clf small": "#1f6fb4", "listening_clf tiny": "#5aa02c", PEER: "#c2571a"}


def markdown(result: Mapping[str, Any]) -> str:
    """All tables, and what must be known to read them."""
    return "\n".join(_lines(result))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    machine, settings = result["machine"], result["settings"]
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average'][0]:.1f} before. Services and "
        "clients share the cores."
    )
    shown: dict[str, Callable[[Any], Iterator[str]]] = {
        "throughput": _throughput,
        "live": _live,
        "overload": _overload,
        "cold_start": _cold_start,
        "soak": _soak,
    }
    for part, show in shown.items():
        if part in result:
            yield f"\n{_about(part, settings)}\n"
            yield from show(result[part])
    yield "\n| target | measured | reached |\n| --- | --- | --- |"
    for target, measured, reached in _targets(result):
        yield _row(target, measured, "yes" if reached else "no")


def _about(part: str, settings: Mapping[str, Any]) -> str:
    return {
        "throughput": (
            f"One agent turn with the turns before it a request, keep-alive; {settings['turns']:,} turns a round. "
            f"Medians of {settings['rounds']} rounds (least – most); latencies of all rounds together. "
            "Of the CPU: seconds of core time a thousand turns, of the service and of the clients."
        ),
        "live": (
            f"Live calls, a turn every 3 s each, in four parts and then whole, {settings['seconds']:g} s each: from an "
            "agent message to what is said of it."
        ),
        "overload": "More than the queue takes:",
        "cold_start": "From the start of the process until it is ready, medians (least – most):",
        "soak": "The service's memory:",
    }[part]


def _throughput(measured: Mapping[str, Any]) -> Iterator[str]:
    yield _row("", "clients", "turns/s", "of `predict`", "to the peer", "p50", "p99", "p99/p50", "CPU", "clients' CPU")
    yield _row(*["---"] * 10)
    for name, it in measured["in_process"].items():
        yield _row(f"`predict`, {name}, no HTTP", "–", _spread(_in_process_rates(it)), "100 %", *["–"] * 6)
    peer = measured["services"].get(PEER, {})
    for name, by_clients in measured["services"].items():
        for clients, runs in by_clients.items():
            rates = [_rate(run) for run in runs]
            p50, p99 = (_percentile(_latencies(runs), share) for share in (50, 99))
            to_peer = statistics.median(rates) / _median_rate(peer[clients]) if peer else None
            failed = sum(run["failed"] for run in runs)
            yield _row(
                f"{name}, {failed} failed" if failed else name,
                str(clients),
                _spread(rates),
                _percents(_shares(measured, name, clients)) if name in OURS else "–",
                f"{to_peer:.2f}" if to_peer else "–",
                f"{p50:,.1f} ms",
                f"{p99:,.1f} ms",
                f"{p99 / p50:.1f}",
                *(f"{_cpu(runs, whose):.2f} s" for whose in ("server", "client")),
            )


def _live(measured: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield _row("calls", "HTTP clients beside them", "messages", "p50", "p95", "p99", "most")
    yield _row(*["---"] * 7)
    for it in measured:
        beside = f"{it['clients']}, {it['turns_per_second']:,.0f} turns/s" if it["clients"] else "none"
        shares = (_percentile(it["latencies_ms"], share) for share in (50, 95, 99, 100))
        yield _row(str(it["calls"]), beside, f"{len(it['latencies_ms']):,}", *(f"{ms:.1f} ms" for ms in shares))


def _overload(it: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{it['clients']} clients, {it['turns_a_request']} turns a request, for {it['seconds']:.1f} s until the last "
        f"answer: {it['served']:,} answered ({it['served'] * it['turns_a_request'] / it['seconds']:,.0f} turns/s; p50 "
        f"{_ms(it['served_p50_ms'])}, p99 {_ms(it['served_p99_ms'])}), {it['refused']:,} refused with 503 (p50 "
        f"{_ms(it['refused_p50_ms'])}, p99 {_ms(it['refused_p99_ms'])}; {it['without_retry_after']} without "
        f"Retry-After), {it['others']} otherwise. One request at a time took {_ms(it['single_before_ms'])} before, "
        f"{_ms(it['single_after_ms'])} right after (at most {_ms(it['single_after_most_ms'])}; "
        f"{it['single_after_failed']} failed)."
    )


def _cold_start(measured: Mapping[str, Sequence[float]]) -> Iterator[str]:
    yield _row("", "ready after", "ratio")
    yield _row("---", "---", "---")
    for name, seconds in measured.items():
        spread = f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} – {max(seconds):.2f})"
        ratio = statistics.median(measured[PEER]) / statistics.median(seconds) if PEER in measured else None
        yield _row(name, spread, f"1/{ratio:.1f}" if ratio else "–")


def _soak(measured: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield _row("soak", "failed", "before", "after a tenth", "in the end", "most growth after a tenth")
    yield _row(*["---"] * 6)
    for it in measured:
        sizes = (f"{it[key]:.1f} MB" for key in ("before_mb", "early_mb", "end_mb", "growth_mb"))
        yield _row(f"{it['done']:,} {it['what']}", str(it["failed"]), *sizes)


def _targets(result: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """What was to be reached, what was, and whether that is enough."""
    if "throughput" in result:
        measured = result["throughput"]
        clients, runs = list(measured["services"][OURS_MEASURED].items())[-1]
        share = statistics.median(_shares(measured, OURS_MEASURED, clients))
        tail = _percentile(_latencies(runs), 99) / _percentile(_latencies(runs), 50)
        yield (
            f"{MODEL}, {clients} clients: {100 * SHARE_TARGET:.0f} % of the turns/s without HTTP",
            f"{100 * share:.1f} %",
            share >= SHARE_TARGET,
        )
        yield f"{MODEL}, {clients} clients: p99 at most {TAIL_TARGET} × p50", f"{tail:.1f} ×", tail <= TAIL_TARGET
    for it in result.get("live", []):
        beside = f" beside {it['clients']} clients" if it["clients"] else ""
        p95 = _percentile(it["latencies_ms"], 95)
        yield (
            f"live, {it['calls']} calls{beside}: p95 at most {LIVE_TARGET_MS} ms",
            f"{p95:.1f} ms",
            p95 <= LIVE_TARGET_MS,
        )
    if "overload" in result:
        it = result["overload"]
        yield "each 503 says when to try again", f"{it['without_retry_after']} do not", not it["without_retry_after"]
        times = it["single_after_ms"] / it["single_before_ms"]
        yield (
            f"one request right after the overload: at most {AFTER_TARGET} × as long as before",
            f"{times:.2f} ×",
            times <= AFTER_TARGET and not it["single_after_failed"],
        )
    for name in OURS if "cold_start" in result else ():
        seconds = statistics.median(result["cold_start"][name])
        yield (
            f"{name}: ready in {COLD_START_TARGET_SECONDS} s",
            f"{seconds:.2f} s",
            seconds < COLD_START_TARGET_SECONDS,
        )
    for it in result.get("soak", []):
        growth = it["growth_mb"] / it["early_mb"]
        yield (
            f"{it['done']:,} {it['what']}: memory grows by at most {100 * GROWTH_TARGET:.0f} % after a tenth",
            f"{100 * growth:.1f} %",
            growth <= GROWTH_TARGET,
        )


def draw(result: Mapping[str, Any]) -> None:
    """Draw turns a second and latencies by the number of clients."""
    plt.rcParams["svg.hashsalt"] = "listening_clf"
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    measured = result["throughput"]
    for name, by_clients in measured["services"].items():
        numbers = list(by_clients)
        left.plot(numbers, [_median_rate(runs) for runs in by_clients.values()], "o-", color=COLOURS[name], label=name)
        for share, style in ((50, "o-"), (99, "o:")):
            latencies = [_percentile(_latencies(runs), share) for runs in by_clients.values()]
            right.plot(numbers, latencies, style, color=COLOURS[name], label=f"{name}, p{share}")
    for name, it in measured["in_process"].items():
        rate = statistics.median(_in_process_rates(it))
        left.axhline(rate, color=COLOURS[name], linestyle="--", linewidth=1, label=f"{name} without HTTP")
    clients = list(measured["services"][OURS_MEASURED])
    _label(left, "agent turns a second", clients)
    _label(right, "milliseconds", clients)
    right.set_yscale("log")
    left.set_ylim(0, 1.5 * left.get_ylim()[1])  # with room for the legends
    right.set_ylim(top=10 * right.get_ylim()[1])
    figure.savefig(PLOT, metadata={"Date": None})


def _label(axes: Axes, what: str, clients: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(clients, [str(number) for number in clients])
    axes.minorticks_off()
    axes.set_xlabel("clients at once")
    axes.set_ylabel(what)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="x-small")


def _shares(measured: Mapping[str, Any], name: str, clients: int) -> list[float]:
    """The turns a second of each round, as shares of what the same model does without HTTP in the same round."""
    references = _in_process_rates(measured["in_process"][name])
    return [
        _rate(run) / reference for run, reference in zip(measured["services"][name][clients], references, strict=True)
    ]


def _in_process_rates(it: Mapping[str, Any]) -> list[float]:
    return [it["turns"] / seconds for seconds in it["seconds"]]


def _median_rate(runs: Sequence[Mapping[str, Any]]) -> float:
    return statistics.median(map(_rate, runs))


def _rate(run: Mapping[str, Any]) -> float:
    return float(len(run["latencies_ms"]) / run["seconds"])


def _latencies(runs: Sequence[Mapping[str, Any]]) -> list[float]:
    return [latency for run in runs for latency in run["latencies_ms"]]


def _cpu(runs: Sequence[Mapping[str, Any]], whose: str) -> float:
    """Seconds of a core a thousand turns."""
    seconds = sum(run[f"{whose}_cpu_seconds"] for run in runs)
    return float(1000 * seconds / sum(len(run["latencies_ms"]) + run["failed"] for run in runs))


def _percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else float("nan")


def _ms(milliseconds: float | None) -> str:
    return "–" if milliseconds is None else f"{milliseconds:,.1f} ms"


def _spread(rates: Sequence[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} – {max(rates):,.0f})"


def _percents(shares: Sequence[float]) -> str:
    return f"{100 * statistics.median(shares):.0f} % ({100 * min(shares):.0f} – {100 * max(shares):.0f})"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
