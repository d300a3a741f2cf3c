"""What records cost a generation: its two steps on local files and in S3, and `pay()` beside `generate()`."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.child import Child
from benchmarks.sandbox import sandbox
from benchmarks.sensing import turns
from benchmarks.store import Store, store
from benchmarks.table import show

STEPS, ROUNDS = 200, 5
REQUESTS, TURNS = 100, 9
AT_ONCE = (1, 16)
KEPT = {
    "two local files, each synced": ("local", "files"),
    "ours, local files": ("local", "records"),
    "boto3: put_object twice, S3": ("s3", "boto3"),
    "ours, S3": ("s3", "records"),
}
SENT = {
    "generate(), no records": "generate",
    "pay(), local files": "local",
    "pay(), local files, read first": "local, read first",
    "pay(), S3": "s3",
    "pay(), S3, read first": "s3, read first",
}

Figures = dict[str, Any]


def main() -> None:
    """Measure all in turns, and print the tables."""
    with store() as s3, tempfile.TemporaryDirectory(prefix="claid-benchmark-") as folder:
        Path(folder, "records").mkdir()
        places = {"local": f"file://{folder}/records/", "s3": s3.uri("records/")}
        _steps(s3, places)
        _payments(s3, places)


def _steps(s3: Store, places: dict[str, str]) -> None:
    found: dict[str, list[Figures]] = {name: [] for name in KEPT}
    for number in range(ROUNDS):
        for name in turns(list(KEPT), number):
            place, way = KEPT[name]
            with Child("benchmarks.recording", s3.environment()) as child:
                child.ask("start")
                s3.forget()
                child.ask("write", way=way, place=places[place], run=f"first-{number}", count=1)
                first = s3.asked().total
                s3.forget()
                steps = child.ask("write", way=way, place=places[place], run=f"run-{number}", count=STEPS)["steps"]
                found[name].append({"first": first, "asked": s3.asked().total / STEPS, "steps": steps})
    show(
        "Records of a generation",
        ("what", "**p50 ms, both steps**", "p99", "before: p50", "p99", "after: p50", "p99",
         "opening: p50", "**round trips**", "of the first one in a process"),
        [_steps_row(name, runs) for name, runs in found.items()],
        f"{ROUNDS} fresh processes of {STEPS} generations each, in turns, after one generation that is not counted. "
        "Goals: both steps together at most 5 ms on local files (p50), at most two round trips in S3 and one more for "
        "each process.",
        "Opening: the connection is looked up and the place of records opened, once a task. The alternatives write as "
        "many bytes, the first with S3's own condition that there is no such object, and know nothing of each other.",
    )  # fmt: skip


def _steps_row(name: str, runs: Sequence[Figures]) -> tuple[object, ...]:
    opening, before, after = zip(*(each for run in runs for each in run["steps"]), strict=True)
    both = [one + two for one, two in zip(before, after, strict=True)]
    (place, way), asked, first = KEPT[name], "-", "-"
    if place == "s3":
        asked = " or ".join(sorted({f"{run['asked']:.2f}" for run in runs}))
        first = " or ".join(sorted({str(run["first"]) for run in runs}))
    return (name, f"**{_p50(both)}**", _p99(both), _p50(before), _p99(before), _p50(after), _p99(after),
            _p50(opening) if way == "records" else "-", f"**{asked}**", first)  # fmt: skip


def _payments(s3: Store, places: dict[str, str]) -> None:
    rows = []
    with (
        sandbox("--latency", "0", "--per-second", "0", "--per-minute", "0", "--seed", "1") as url,
        Child("benchmarks.recording", s3.environment()) as child,
    ):
        child.ask("start")
        for at_once in AT_ONCE:
            found: dict[str, list[Figures]] = {name: [] for name in SENT}
            for number in range(TURNS + 1):
                ways = [SENT[name] for name in turns(list(SENT), number)]
                answer = child.ask("send", ways=ways, places=places, url=url, requests=REQUESTS, at_once=at_once)
                if number:  # the first round warms up
                    for name, runs in found.items():
                        runs.append(answer[SENT[name]])
            for name, runs in found.items():
                s3.forget()
                child.ask("send", ways=[SENT[name]], places=places, url=url, requests=REQUESTS, at_once=at_once)
                asked = s3.asked().total / (REQUESTS + at_once)
                rows.append((*_payments_row(at_once, name, runs, found[next(iter(SENT))]), f"{asked:.2f}"))
    show(
        "Payment with records beside none",
        ("at once", "what", "p50 ms", "p99", "**ms more than without, p50**", "requests/s", "**ratio to generate()**",
         "slowest to fastest round", "CPU ms a request", "round trips to S3"),
        rows,
        f"{TURNS} rounds of {REQUESTS} requests, contestants in turns in one process, on a sandbox without latency and "
        "limits, at 10,000 requests/s. Medians over the rounds; a ratio is the median of each round's ratio.",
        "Read first: what a deferred task and every retry do; the first try of a task claims at once.",
    )  # fmt: skip


def _payments_row(at_once: int, name: str, runs: Sequence[Figures], base: Sequence[Figures]) -> tuple[object, ...]:
    taken = [each for run in runs for each in run["taken"]]
    rates = [run["per_second"] for run in runs]
    ratio = statistics.median(rate / other["per_second"] for rate, other in zip(rates, base, strict=True))
    more = statistics.median(
        statistics.median(run["taken"]) - statistics.median(other["taken"])
        for run, other in zip(runs, base, strict=True)
    )
    cpu = statistics.median(run["cpu"] for run in runs)
    return (at_once, name, _p50(taken), _p99(taken), f"**{more:.1f}**" if runs is not base else "-",
            f"{statistics.median(rates):.0f}", f"**{ratio:.2f}**", f"{min(rates):.0f} to {max(rates):.0f}",
            f"{cpu:.2f}")  # fmt: skip


def _p50(taken: Sequence[float]) -> str:
    return f"{statistics.median(taken):.2f}"


def _p99(taken: Sequence[float]) -> str:
    return f"{sorted(taken)[int(len(taken) * 0.99)]:.2f}"


if __name__ == "__main__":
    main()
