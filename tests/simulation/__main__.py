"""`python -m tests.simulation`: many seeds, or one told step by step."""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.simulation import deferred
from tests.simulation.runs import Outcome, simulate

CHUNK = 50
SHOWN = 10
MUST_HAPPEN_FROM = 1_000
MUST_HAPPEN = (
    *(
        "attempts",
        "payments",
        "crashes",
        "stops",
        "zombies",
        "cancelled",
        "cleared",
        "permitted",
        "fenced",
        "deferred",
        "lost_places",
        "collected",
        "reused",
        "succeeded",
    ),
    *("errors", "store_faults", "store_delays", "pacing_faults", "bad_downloads"),
    *("recorded_done", "recorded_adopted", "recorded_unknown", "recorded_unbilled", "recorded_open"),
)
"""What must have been counted in so many runs: a simulation in which it never happens proves nothing."""


def chunk(seeds: range) -> tuple[Counter[str], list[Outcome]]:
    """Run some seeds; return what was counted, and the outcomes in which something was wrong."""
    counters: Counter[str] = Counter()
    broken = []
    for count, seed in enumerate(seeds, 1):
        outcome = simulate(seed)
        counters += outcome.counters
        counters["virtual_hours"] += int(outcome.virtual_seconds // 3600)
        if outcome.faults:
            broken.append(outcome)
        if count % 10 == 0:
            gc.collect()
    return counters, broken


def many(first: int, runs: int, processes: int) -> tuple[Counter[str], list[Outcome]]:
    """Run seeds in several processes."""
    prepare()
    seeds = [range(start, min(start + CHUNK, first + runs)) for start in range(first, first + runs, CHUNK)]
    counters: Counter[str] = Counter()
    broken: list[Outcome] = []
    for counted, found in _results(seeds, processes):
        counters += counted
        broken += found
    return counters, sorted(broken, key=lambda each: each.seed)


def _results(seeds: list[range], processes: int) -> Iterator[tuple[Counter[str], list[Outcome]]]:
    if processes == 1:
        yield from map(chunk, seeds)
        return
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(chunk, seeds)


def prepare() -> None:
    """Silence the product's log, and keep the garbage collector from going through all modules at each run."""
    logging.disable(logging.CRITICAL)
    deferred.module()
    gc.disable()
    gc.collect()
    gc.freeze()


def missing(counters: Counter[str]) -> list[str]:
    """Name what never happened."""
    return [name for name in MUST_HAPPEN if not counters[name]] if counters["runs"] >= MUST_HAPPEN_FROM else []


def main() -> int:
    """Run as asked; 1 if an invariant was broken or a kind of event never happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--verbose", action="store_true", help="tell all that happens in the replay")
    asked = parser.parse_args()
    if asked.seed is not None:
        return replay(asked.seed, verbose=asked.verbose)
    begun = time.monotonic()
    counters, broken = many(asked.first, asked.runs, asked.processes)
    seconds = time.monotonic() - begun
    print(f"{counters['runs']} runs in {seconds:.0f} s ({1000 * seconds / max(1, counters['runs']):.1f} ms each)")
    print(", ".join(f"{name} {count}" for name, count in sorted(counters.items()) if name != "runs"))
    for outcome in broken[:SHOWN]:
        print(f"seed {outcome.seed}: {'; '.join(outcome.faults)}")
        print(f"    python -m tests.simulation --seed {outcome.seed} --verbose")
    for name in (never := missing(counters)):
        print(f"{name} never happened: nothing is proved about it")
    print(f"{len(broken)} of {counters['runs']} runs broke an invariant")
    return 1 if broken or never else 0


def replay(seed: int, *, verbose: bool) -> int:
    """Run one seed, and tell of it."""
    deferred.module()
    if verbose:
        ours = logging.getLogger("airflow_provider_claid")
        ours.handlers, ours.propagate = [logging.StreamHandler(sys.stdout)], False
        ours.setLevel(logging.INFO)
        ours.handlers[0].setFormatter(logging.Formatter(f"{'':24}%(module)s: %(message)s"))
    else:
        logging.disable(logging.CRITICAL)
    outcome = simulate(seed, print if verbose else None)
    print("; ".join(outcome.faults) or "nothing was broken", f"({outcome.steps} steps)")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
