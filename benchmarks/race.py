"""One run: several client processes, one account, one sandbox; measured by the clients and by the sandbox's report."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Empty
from typing import Any

from benchmarks import ideal
from benchmarks.contestants import CONTESTANTS, Course
from benchmarks.places import place
from benchmarks.sandbox import report, sandbox

REQUESTS, WORKERS = 240, 64
SEED, LATENCY = 7, "1-8"
LONGEST = 300.0
"""Seconds after which a run is ended, however much is left."""
START_OF_MINUTE = 22.0
"""Second of the clock's minute at which a run against fixed windows starts."""


@dataclass(frozen=True)
class Run:
    """Who runs, in how many processes, against which windows; `store` is where ours keeps its schedule."""

    contestant: str
    processes: int
    window: str
    store: str = "sqlite"


@dataclass(frozen=True)
class Line:
    """The starting line of all processes: they wait at `ready` twice, once prepared and once `start` is known."""

    ready: Barrier
    start: Synchronized[float]
    results: Any


@dataclass(frozen=True)
class Finish:
    """How one process ended: when its last request was done (monotonic seconds), and what failed."""

    number: int
    finished: float
    done: int
    errors: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """The figures of a run; times in seconds. The ideals take the latencies by order of admission."""

    run: Run
    done: int
    makespan: float
    ideal_sliding: float
    ideal_fixed: float
    span: float
    span_sliding: float
    refused_minute: int
    refused_second: int
    jain: float
    spread: float
    errors: tuple[str, ...]


def race(run: Run, keep: Path | None = None) -> Result:
    """Measure one run, with a sandbox and a folder of its own; `keep` is a folder for the sandbox's raw report."""
    options = ("--latency", LATENCY, "--seed", str(SEED), "--window", run.window)
    with (
        tempfile.TemporaryDirectory(prefix="claid-benchmark-") as folder,
        place(run.store) as server,
        sandbox(*options) as url,
    ):
        started, finishes = _run_processes(run, Course(url, Path(folder), server))
        seen = report(url)
    if keep:
        name = f"{run.window}-{run.contestant}-{run.store}-{run.processes}.json"
        (keep / name).write_text(json.dumps({"started": started, **seen}))
    return _result(run, started, finishes, seen)


def _run_processes(run: Run, course: Course) -> tuple[float, list[Finish]]:
    context = multiprocessing.get_context("spawn")
    line = Line(context.Barrier(run.processes + 1), context.Value("d", 0.0), context.Queue())
    processes = [context.Process(target=_process, args=(run, n, course, line)) for n in range(run.processes)]
    for process in processes:
        process.start()
    try:
        line.ready.wait(60)
        line.start.value = started = _start_time(run.window)
        line.ready.wait(60)
        finishes = _collect(line.results, run.processes, started + LONGEST + 30)
    finally:
        for process in processes:
            process.join(10)
            if process.is_alive():
                process.kill()
    return started, finishes


def _start_time(window: str) -> float:
    """Return when to start, in monotonic seconds; against fixed windows always at the same second of the minute."""
    wait = (START_OF_MINUTE - time.time() - 2.0) % 60.0 + 2.0 if window == "fixed" else 1.0
    return time.monotonic() + wait


def _collect(results: Any, count: int, until: float) -> list[Finish]:
    finishes: list[Finish] = []
    while len(finishes) < count:
        try:
            finishes.append(results.get(timeout=max(0.1, until - time.monotonic())))
        except Empty:
            sys.stderr.write(f"{count - len(finishes)} processes did not end in time\n")
            break
    return finishes


def _process(run: Run, number: int, course: Course, line: Line) -> None:
    line.results.put(asyncio.run(_work(run, number, course, line)))


async def _work(run: Run, number: int, course: Course, line: Line) -> Finish:
    """Send this process's part of the requests, each worker one after another."""
    send = await CONTESTANTS[run.contestant](course)
    await asyncio.to_thread(line.ready.wait, 60)
    await asyncio.to_thread(line.ready.wait, 60)
    prompts = iter([f"process {number} picture {index}" for index in range(REQUESTS // run.processes)])
    done, errors = 0, []

    async def worker() -> None:
        nonlocal done
        for prompt in prompts:
            try:
                await send(prompt)
                done += 1
            except Exception as error:  # noqa: BLE001 - whatever goes wrong belongs into the table
                errors.append(f"{type(error).__name__}: {error}")

    await asyncio.sleep(line.start.value - time.monotonic())
    try:
        async with asyncio.timeout(LONGEST):
            await asyncio.gather(*(worker() for _ in range(WORKERS // run.processes)))
    except TimeoutError:
        errors.append(f"not done after {LONGEST:.0f} s")
    return Finish(number, time.monotonic(), done, tuple(errors))


def _result(run: Run, started: float, finishes: list[Finish], seen: dict[str, Any]) -> Result:
    accepted = sorted(
        (record for record in seen["requests"] if record["status"] == 200 and record["credits"]),
        key=lambda record: record["monotonic"],
    )
    count, refused = len(accepted), seen["totals"]["refused"]
    latencies = [record["seconds"] for record in accepted]
    makespan = max(finish.finished for finish in finishes) - started
    epoch = started + accepted[0]["wall"] - accepted[0]["monotonic"]
    half = started + makespan / 2
    by_half = Counter(record["prompt"].split()[1] for record in accepted if record["monotonic"] <= half)
    ends = [finish.finished for finish in finishes]
    return Result(
        run,
        sum(finish.done for finish in finishes),
        makespan,
        ideal.makespan(ideal.sliding_times(count), latencies),
        ideal.makespan(ideal.fixed_times(count, epoch), latencies),
        accepted[-1]["monotonic"] - started,
        ideal.sliding_times(count)[-1],
        refused["minute"],
        refused["second"],
        ideal.jain([by_half[str(number)] for number in range(run.processes)]),
        max(ends) - min(ends),
        tuple(error for finish in finishes for error in finish.errors),
    )
