"""1,000 deferred generations in one triggerer process, beside the `HttpTrigger` of a deferrable `HttpOperator`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import ideal
from benchmarks.child import Child
from benchmarks.sandbox import KEY, report, reset, sandbox
from benchmarks.table import load, show

TRIGGERS, PER_SECOND = 1000, 40
PER_MINUTE = (1200, 600)
"""Requests a minute: ten times a usual account's, and half of that, so that a second minute is needed."""
SEED, LATENCY = 7, "1-8"
LONGEST = 180.0
"""Seconds after which a run is ended, however much is left."""

Figures = dict[str, Any]


@dataclass(frozen=True)
class Contestant:
    """Which trigger, and whether one that failed runs again, as a task with retries does."""

    kind: str
    again: bool = False


CONTESTANTS = {
    "HttpTrigger": Contestant("http"),
    "HttpTrigger, again after a failure": Contestant("http", again=True),
    "ours": Contestant("ours"),
}


def main() -> None:
    """Run all, one after the other, and print the tables."""
    for per_minute in PER_MINUTE:
        runs = {name: _run(contestant, per_minute) for name, contestant in CONTESTANTS.items()}
        _show(per_minute, runs)


def _show(per_minute: int, runs: Mapping[str, Figures]) -> None:
    times = ideal.sliding_times(TRIGGERS, PER_SECOND, per_minute)
    show(
        f"{TRIGGERS:,} deferred generations in one loop, {PER_SECOND} a second and {per_minute:,} a minute",
        ("trigger", "done", "**makespan to the ideal**", "makespan s", "ideal s", "last admission s (ideal)", "POSTs",
         "429 (minute / second)", "credits", "times a trigger ran", "**longest stall of the loop, s**", "p99",
         "one collection of the process before", "**KB a trigger**", "CPU s",
         "stall of the import / of the first one, s", "load before"),
        [_row(name, run, times) for name, run in runs.items()],
        f"The sandbox takes {LATENCY} s for a picture. Ideal: the fastest schedule legal under sliding windows, "
        "with the latencies of this run by order of admission; only where all are done.",
        "Something that wants to run every 10 ms tells the stalls; behind them in brackets what remains of the longest "
        "without Python's garbage collections, which stop every thread. Goal: at most 0.1 s. The import and the first "
        "trigger of the process are measured before, by themselves. Memory is the most that was resident beyond what "
        "was before; goal: 60 KB. Connections come from the environment, records are in a local folder.",
        "HttpTrigger sends at once, and after a 429 its task fails. Again after "
        f"a failure: a new trigger after a random wait of at most min(60, 2^tries) s; at most {LONGEST:.0f} s in all.",
    )  # fmt: skip


def _run(contestant: Contestant, per_minute: int) -> Figures:
    before = load().split(" ")[0]
    limits = ("--per-second", str(PER_SECOND), "--per-minute", str(per_minute))
    with (
        tempfile.TemporaryDirectory(prefix="claid-benchmark-") as folder,
        sandbox("--latency", LATENCY, "--seed", str(SEED), *limits) as url,
        Child("benchmarks.deferring", _environment(url, Path(folder), per_minute)) as child,
    ):
        child.ask("start")
        warm = child.ask("warm", kind=contestant.kind)
        reset(url)
        found = child.ask("defer", kind=contestant.kind, count=TRIGGERS, seconds=LONGEST, again=contestant.again)
        seen = report(url)
    return {"warm": warm, "load": before, "seen": seen, **found}


def _environment(url: str, folder: Path, per_minute: int) -> dict[str, str]:
    """Return the environment of an Airflow that knows the sandbox, by a name for each of the triggers."""
    address = urlsplit(url)
    (folder / "records").mkdir()
    host = {"host": f"http://{address.hostname}", "port": address.port}
    pace = {"requests_per_second": PER_SECOND, "requests_per_minute": per_minute}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return inherited | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__CLAID__PACING_DIR": str(folder / "pacing"),
        "AIRFLOW__CLAID__RECORDS_PATH": f"file://{folder}/records/",
        "AIRFLOW_CONN_CLAID_DEFAULT": json.dumps({"conn_type": "claid", "password": KEY, "extra": pace, **host}),
        "AIRFLOW_CONN_HTTP_DEFAULT": json.dumps({"conn_type": "http", **host}),
    }


def _row(name: str, run: Figures, times: list[float]) -> tuple[object, ...]:
    totals, warm, whole = run["seen"]["totals"], run["warm"], run["done"] == TRIGGERS
    accepted = sorted(
        (record for record in run["seen"]["requests"] if record["status"] == 200 and record["credits"]),
        key=lambda record: record["monotonic"],
    )
    best = ideal.makespan(times, [record["seconds"] for record in accepted]) if whole else 0.0
    last = accepted[-1]["monotonic"] - run["started"] if accepted else 0.0
    refused = totals["refused"]
    return (name, run["done"], f"**{best / run['makespan']:.3f}**" if whole else "-", f"{run['makespan']:.1f}",
            f"{best:.1f}" if whole else "-", f"{last:.1f} ({times[-1]:.0f})", totals["posts"],
            f"{refused['total']} ({refused['minute']} / {refused['second']})", totals["credits"], run["runs"],
            f"**{run['stall']:.3f}** ({run['own_stall']:.3f})", f"{run['p99']:.3f}", f"{run['collection']:.3f}",
            f"**{run['held'] * 1024 / TRIGGERS:.0f}**", f"{run['cpu']:.1f}",
            f"{warm['import']:.3f} / {warm['first']:.3f}", run["load"])  # fmt: skip


if __name__ == "__main__":
    main()
