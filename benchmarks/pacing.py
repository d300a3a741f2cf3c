"""Makespan of 240 requests: our pacing beside exponential backoff and pyrate-limiter."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from benchmarks.contestants import CONTESTANTS
from benchmarks.places import STORES
from benchmarks.race import LATENCY, LONGEST, REQUESTS, START_OF_MINUTE, WORKERS, Result, Run, race
from benchmarks.table import show
from tests.services.processes import ServiceMissingError

WINDOWS = ("sliding", "fixed")
PROCESSES = (1, 4, 8)
COLUMNS = (
    "contestant", "processes", "done", "makespan s", "ideal s", "**ratio**", "last admission s", "ideal s", "ratio",
    "429 (minute / second)", "Jain at half time", "finish spread s", "load",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Run what the command line chooses, by default everything (about 60 minutes)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing", description=__doc__)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES), help="where ours books")
    parser.add_argument("--processes", nargs="+", type=int, default=PROCESSES)
    parser.add_argument("--windows", nargs="+", choices=WINDOWS, default=WINDOWS)
    parser.add_argument("--keep", type=Path, help="an existing folder for the sandbox's raw reports")
    chosen = parser.parse_args(arguments)
    for window in chosen.windows:
        runs = [
            Run(name, processes, window, store)
            for name in chosen.contestants
            for store in (chosen.stores if name == "ours" else ["sqlite"])
            for processes in chosen.processes
        ]
        rows = [row for run in runs if (row := measured(run, chosen.keep))]
        columns = (*COLUMNS[:6], "ratio to greedy", *COLUMNS[6:]) if window == "fixed" else COLUMNS
        show(f"Pacing, {window} windows", columns, rows, *notes(window))


def measured(run: Run, keep: Path | None) -> tuple[object, ...] | None:
    """Measure one run and return its row; None where the server of its store is not installed."""
    sys.stderr.write(f"{run} ...\n")
    try:
        result = race(run, keep)
    except ServiceMissingError as missing:
        sys.stderr.write(f"  left out: {missing}\n")
        return None
    for error, count in Counter(result.errors).items():
        sys.stderr.write(f"  {count} times {error}\n")
    row = row_of(result)
    sys.stderr.write(f"  {row}\n")
    return row


def row_of(result: Result) -> tuple[object, ...]:
    """Turn a result into a row; a run that did not finish has no ratio."""
    run, whole = result.run, result.done == REQUESTS
    greedy = [f"{result.ideal_fixed / result.makespan:.3f}" if whole else "-"] if run.window == "fixed" else []
    return (
        f"ours, {run.store}" if run.contestant == "ours" else run.contestant,
        run.processes,
        result.done,
        f"{result.makespan:.1f}",
        f"{result.ideal_sliding:.1f}",
        f"**{result.ideal_sliding / result.makespan:.3f}**" if whole else "-",
        *greedy,
        f"{result.span:.2f}",
        f"{result.span_sliding:.0f}",
        f"{result.span_sliding / result.span:.3f}" if whole else "-",
        f"{result.refused_minute + result.refused_second} ({result.refused_minute} / {result.refused_second})",
        f"{result.jain:.4f}",
        f"{result.spread:.1f}",
        f"{os.getloadavg()[0]:.1f}",
    )


def notes(window: str) -> list[str]:
    """Say what the table shows."""
    lines = [
        f"{REQUESTS} requests of one picture, {WORKERS} workers over all processes, latency {LATENCY} s.",
        f"A run ends after {LONGEST:.0f} s, however much is left.",
        "Ideal: the fastest schedule legal under sliding windows, with this run's latencies by order of admission.",
        "Ratio: ideal / measured.",
    ]
    if window == "fixed":
        lines.append(f"Each run starts {START_OF_MINUTE:.0f} s into the clock's minute; greedy knows the boundary.")
    return lines


if __name__ == "__main__":
    main()
