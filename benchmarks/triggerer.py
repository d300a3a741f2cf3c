"""Many triggers in one event loop: by how much they hold it up, and what they take, beside Airflow's own triggers."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.child import Child
from benchmarks.store import Store, picture, store
from benchmarks.table import load, show

TRIGGERS, PICTURES, FILES = 200, 4, 200
BYTES = 5_000
ROUNDS = 3
STEADY, LATE, SECONDS = 15.0, 30.0, 40.0
"""Seconds from the start: by the first everything has looked; by the second the missing pictures come; the end."""

Figures = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """What is waited for: a group of addresses for each trigger, and a way to have the last of each come or go."""

    groups: list[list[str]]
    arrive: Callable[[], None]
    leave: Callable[[], None]


def main() -> None:
    """Measure all in turns, and print the tables."""
    with store() as s3, tempfile.TemporaryDirectory(prefix="claid-benchmark-") as folder:
        scene = _in_s3(s3)
        _show(s3, scene, {"S3KeyTrigger": "keys", "ours": "ours"}, f"{PICTURES} pictures in S3")
        scene = _on_disk(Path(folder))
        _show(s3, scene, {"FileTrigger, one file": "file", "ours": "ours"}, f"{FILES} local files")


def _in_s3(s3: Store) -> Scene:
    data = picture(BYTES)
    keys = [[f"run-{trigger:03}/{number}.png" for number in range(PICTURES)] for trigger in range(TRIGGERS)]
    last = [group[-1] for group in keys]
    s3.put([key for group in keys for key in group[:-1]], data)
    groups = [[s3.uri(key) for key in group] for group in keys]
    return Scene(groups, lambda: s3.put(last, data), lambda: s3.delete(last))


def _on_disk(folder: Path) -> Scene:
    source = folder / "picture.png"
    source.write_bytes(picture(BYTES))
    groups = []
    for trigger in range(TRIGGERS):
        within = folder / f"run-{trigger:03}"
        within.mkdir()
        groups.append([within / f"{number:03}.png" for number in range(FILES)])
        for path in groups[-1][:-1]:
            os.link(source, path)
    last = [group[-1] for group in groups]

    def arrive() -> None:
        for path in last:
            os.link(source, path)

    def leave() -> None:
        for path in last:
            path.unlink(missing_ok=True)

    return Scene([[f"file://{path}" for path in group] for group in groups], arrive, leave)


def _show(s3: Store, scene: Scene, contestants: dict[str, str], what: str) -> None:
    rows = []
    for number in range(ROUNDS):
        order = list(contestants.items())
        runs = {name: _run(s3, scene, kind) for name, kind in (order if number % 2 == 0 else order[::-1])}
        base = runs[order[0][0]]
        rows += [_row(number, name, runs[name], base) for name in contestants]
    show(
        f"{TRIGGERS} triggers in one loop, each for {what}",
        ("round", "triggers", "**longest stall, s: waiting**", "**beginning**", "p99 waiting",
         "one collection of the process before", "CPU s of the beginning", "**CPU waiting, to the other**",
         "% of a core", "requests a minute, waiting", "KB a trigger", "stall of the import / of the first one, s",
         "events", "load before"),
        rows,
        f"One of the {what} comes after {LATE:.0f} s; every trigger looks each 5 s; {SECONDS:.0f} s in all. Beginning: "
        f"the first {STEADY:.0f} s, in which all make their connections; waiting: the rest; its CPU and requests: from "
        f"{STEADY:.0f} to {LATE:.0f} s; memory: at {LATE:.0f} s.",
        "Something that wants to run every 10 ms tells the stalls; behind them in brackets what remains of the longest "
        "without Python's garbage collections, which stop every thread. Goal: at most 0.1 s. The import and the first "
        "trigger of the process are measured before, by themselves. Connections come from the environment.",
    )  # fmt: skip


def _run(s3: Store, scene: Scene, kind: str) -> Figures:
    scene.leave()
    before = load()
    with Child("benchmarks.waiting", s3.environment()) as child:
        child.ask("start")
        warm = child.ask("warm", kind=kind, uris=[scene.groups[0][0]])
        child.tell("wait", kind=kind, groups=scene.groups, seconds=SECONDS, steady=STEADY, late=LATE)
        time.sleep(STEADY)
        s3.forget()
        time.sleep(LATE - STEADY)
        asked = s3.asked()
        scene.arrive()
        found = child.hear()
    return {"warm": warm, "asked": asked, "load": before.split(" ")[0], **found}


def _row(number: int, name: str, run: Figures, base: Figures) -> tuple[object, ...]:
    per_minute = run["asked"].total * 60 / (LATE - STEADY)
    events = ", ".join(f"{count} {status}" for status, count in run["events"].items()) or "none"
    return (number + 1, name, _stall(run, "later"), _stall(run, "beginning"), f"{run['p99']:.3f}",
            f"{run['collection']:.3f}", f"{run['beginning_cpu']:.1f}", f"**{run['cpu'] / base['cpu']:.2f}**",
            f"{run['cpu'] * 100:.0f}", f"{per_minute:.0f}", f"{run['held'] * 1024 / TRIGGERS:.0f}",
            f"{run['warm']['import']:.3f} / {run['warm']['first']:.3f}", events, run["load"])  # fmt: skip


def _stall(run: Figures, when: str) -> str:
    return f"**{run[when]:.3f}** ({run[f'own_{when}']:.3f})"


if __name__ == "__main__":
    main()
