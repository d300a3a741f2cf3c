"""What it takes to see 1,000 pictures in S3: requests, CPU, time and memory, beside Amazon's `S3KeySensor`."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.child import Child
from benchmarks.store import Store, names, picture, store
from benchmarks.table import show

PICTURES, BYTES = 1000, 300_000
ROUNDS = 5
SENSORS = {
    "S3KeySensor, 1,001 keys": "keys",
    "S3KeySensor, wildcard": "wildcard",
    "ours, exists": "exists",
    "ours, header": "header",
}
TRIGGERS = {"S3KeyTrigger": "keys", "ours, exists": "exists", "ours, header": "header"}
WATCHES = {
    "S3KeySensor, wildcard": "wildcard",
    "ours, exists, folder": "exists",
    "ours, header, folder": "header",
    "ours, header, list of URIs": "images",
}
MANY, SMALL, FURTHER = (1000, 10_000), 5_000, 20

Figures = dict[str, Any]


def main() -> None:
    """Fill a store, measure, and print the tables."""
    with store() as s3:
        keys = names("pictures", PICTURES + 1)
        data = picture(BYTES)
        s3.put(keys[:-1], data)
        _sensors(s3, keys, data)
        s3.delete(keys[-1:])
        _triggers(s3, keys[:-1])
        _memory(s3)


def _sensors(s3: Store, keys: list[str], data: bytes) -> None:
    found: dict[tuple[str, str], list[Figures]] = {}
    for number in range(ROUNDS):
        for name in turns(list(SENSORS), number):
            for look, figures in _looks(s3, SENSORS[name], keys, data).items():
                found.setdefault((name, look), []).append(figures)
    show(
        f"Sensing {PICTURES:,} pictures in S3",
        ("look", "sensor", "**CPU to S3KeySensor**", "**time**", "list / HEAD / range requests", "CPU s", "s",
         "peak MB over start"),
        [
            _row((look, name), found[name, look], found["S3KeySensor, 1,001 keys", look])
            for look in ("first", "second")
            for name in SENSORS
        ],
        f"{PICTURES:,} pictures of {len(data) // 1000} KB are in one folder and {PICTURES + 1:,} are waited for; "
        "before the second look the last one comes. The first look includes the imports.",
        f"Medians of {ROUNDS} fresh processes each, in turns. The store is on the same machine.",
        "With a wildcard S3KeySensor is content with the first match; it counts by a `check_fn` here.",
    )  # fmt: skip


def _looks(s3: Store, kind: str, keys: list[str], data: bytes) -> dict[str, Figures]:
    """Let a fresh process look twice; the last picture comes in between."""
    s3.delete(keys[-1:])
    uris = [s3.uri(key) for key in keys]
    with Child("benchmarks.looks", s3.environment()) as child:
        start = child.ask("start")["rss"]
        s3.forget()
        first = child.ask("sensor", kind=kind, uris=uris) | {"asked": s3.asked()}
        s3.put(keys[-1:], data)
        s3.forget()
        second = child.ask("again") | {"asked": s3.asked()}
    if (first["result"], second["result"]) != (False, True):
        raise RuntimeError(f"{kind}: delivered at the first look {first['result']}, at the second {second['result']}")
    return {"first": first | {"start": start}, "second": second | {"start": start}}


def _triggers(s3: Store, keys: list[str]) -> None:
    uris = [s3.uri(key) for key in keys]
    found: dict[str, list[Figures]] = {name: [] for name in TRIGGERS}
    for number in range(ROUNDS):
        for name in turns(list(TRIGGERS), number):
            with Child("benchmarks.looks", s3.environment()) as child:
                start = child.ask("start")["rss"]
                s3.forget()
                figures = child.ask("trigger", kind=TRIGGERS[name], uris=uris)
                found[name].append(figures | {"asked": s3.asked(), "start": start})
    events = {name: sorted({one["result"]["event"] for one in runs}) for name, runs in found.items()}
    stalls = {name: statistics.median(one["result"]["stall"] for one in runs) for name, runs in found.items()}
    show(
        f"The trigger for the same {PICTURES:,} pictures, one look",
        ("trigger", "**CPU to S3KeyTrigger**", "**time**", "list / HEAD / range requests", "CPU s", "s",
         "peak MB over start", "longest stall of the loop, s", "event"),
        [
            (*_row((name,), runs, found["S3KeyTrigger"]), f"{stalls[name]:.2f}", ", ".join(events[name]))
            for name, runs in found.items()
        ],
        f"Medians of {ROUNDS} fresh processes each, in turns, the imports and the first connection included.",
    )  # fmt: skip


def _row(head: tuple[object, ...], runs: list[Figures], base: list[Figures]) -> tuple[object, ...]:
    """Return medians; a ratio is the median of each round's ratio."""
    cpu, wall = (_ratio(runs, base, name) for name in ("cpu", "wall"))
    median = {name: statistics.median(one[name] for one in runs) for name in ("cpu", "wall")}
    peak = statistics.median(one["peak"] - one["start"] for one in runs)
    asked = " or ".join(sorted({str(one["asked"]) for one in runs}))
    return (*head, f"**{cpu:.2f}**", f"**{wall:.2f}**", asked, f"{median['cpu']:.2f}", f"{median['wall']:.2f}",
            f"{peak:.0f}")  # fmt: skip


def _ratio(runs: list[Figures], base: list[Figures], name: str) -> float:
    return statistics.median(one[name] / other[name] for one, other in zip(runs, base, strict=True))


def _memory(s3: Store) -> None:
    data = picture(SMALL)
    s3.put(names("memory/1", 1), data)
    for count in MANY:
        s3.put(names(f"memory/{count}", count), data)
    found = {
        (name, count): _watch(s3, kind, count)
        for count in MANY
        for name, kind in WATCHES.items()
    }  # fmt: skip
    show(
        "Memory of a watch over many pictures",
        ("pictures", "sensor", "**bytes for one more**", "MB of the first look, at most", "after it",
         "after a second look", f"after {FURTHER} more", "of all, at most", "list / HEAD / range requests, first look",
         "s of the first look", "s of a further one"),
        [_memory_row(name, count, one, found[name, MANY[0]]) for (name, count), one in found.items()],
        f"Resident memory over a process that saw one picture; of {len(data) / 1000:.1f} KB each; one run.",
    )  # fmt: skip


def _memory_row(name: str, count: int, one: Figures, fewest: Figures) -> tuple[object, ...]:
    each = (_held(one) - _held(fewest)) / max(count - MANY[0], 1)
    held = [one[look]["rss"] - one["start"] for look in ("first", "second", "further")]
    most = max(one[look]["peak"] for look in ("first", "second", "further")) - one["start"]
    return (f"{count:,}", name, f"**{each * 2**20:.0f}**" if count > MANY[0] else "-",
            f"{one['first']['peak'] - one['start']:.1f}", *(f"{value:.1f}" for value in held), f"{most:.1f}",
            one["asked"], f"{one['first']['wall']:.1f}", f"{one['further']['wall'] / FURTHER:.2f}")  # fmt: skip


def _held(one: Figures) -> float:
    return float(one["further"]["rss"] - one["start"])


def _watch(s3: Store, kind: str, count: int) -> Figures:
    with Child("benchmarks.looks", s3.environment()) as child:
        start = child.ask("begin", kind=kind, folder=s3.uri("memory/1/"))["rss"]
        s3.forget()
        first = child.ask("look_at", kind=kind, folder=s3.uri(f"memory/{count}/"), count=count)
        asked = s3.asked()
        second = child.ask("look_on", times=1)
        further = child.ask("look_on", times=FURTHER)
    if not (first["result"] and second["result"] and further["result"]):
        raise RuntimeError(f"{kind} did not see {count} pictures")
    return {"start": start, "first": first, "second": second, "further": further, "asked": asked}


def turns(contestants: list[str], number: int) -> list[str]:
    """Return them in another order each round, so that another one begins."""
    first = number % len(contestants)
    return contestants[first:] + contestants[:first]


if __name__ == "__main__":
    main()
