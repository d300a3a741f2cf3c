"""Copies into S3: what `save_to` does with pictures in memory, and the whole way of a job, beside plain boto3."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.child import Child
from benchmarks.sensing import turns
from benchmarks.store import Store, names, picture, store
from benchmarks.table import show

PICTURES, BYTES, ROUNDS = 200, 1_500_000, 9
COPIES = {"boto3: upload_fileobj": "upload_fileobj", "boto3: put_object": "put_object", "ours: publish": "publish"}
JOBS = {
    "requests, boto3: upload_fileobj": "download_and_upload",
    "the same with Pillow's verify() and SHA-256": "download_check_and_upload",
    "ours: download, check, publish": "job",
}


def main() -> None:
    """Copy in all ways in turns, and print the table."""
    with store() as s3, Child("benchmarks.copying", s3.environment()) as child:
        size = child.ask("load", count=PICTURES, size=BYTES)["bytes"]
        child.ask("take", addresses=_addresses(s3))
        rows = _rows("memory", _measured(child, COPIES), size) + _rows("web", _measured(child, JOBS), size)
    show(
        f"Copies of {PICTURES} pictures into S3",
        ("from", "contestant", "**speed to boto3**", "**CPU to boto3**", "MB/s", "slowest to fastest round",
         "CPU ms a picture"),
        rows,
        f"{ROUNDS} rounds of {PICTURES} pictures of {BYTES / 1e6:.1f} MB, contestants in turns in one process, after "
        "one round each to warm up; 8 threads each; goal: a speed of at least 0.9.",
        "Medians over the rounds; a ratio is the median of each round's ratio.",
        "From the web: the temporary addresses are the same gateway's, so that it serves as much as it takes. Ours "
        "checks the whole PNG, looks whether it is black and takes its SHA-256; the first checks nothing.",
    )  # fmt: skip


def _addresses(s3: Store) -> list[str]:
    keys = names("source", PICTURES)
    s3.put(keys, picture(BYTES))
    return [s3.address(key) for key in keys]


def _measured(child: Child, ways: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name in turns(list(ways), number):
            figures = child.ask("copy", way=ways[name])
            if number:  # the first round warms up
                found[name].append(figures)
    return found


def _rows(source: str, found: dict[str, list[dict[str, Any]]], size: int) -> list[tuple[object, ...]]:
    base = next(iter(found.values()))
    rows: list[tuple[object, ...]] = []
    for name, runs in found.items():
        speed = statistics.median(other["wall"] / one["wall"] for one, other in zip(runs, base, strict=True))
        cpu = statistics.median(one["cpu"] / other["cpu"] for one, other in zip(runs, base, strict=True))
        rates = [size / one["wall"] / 1e6 for one in runs]
        each = statistics.median(one["cpu"] for one in runs) / PICTURES * 1000
        spread = f"{min(rates):.0f} to {max(rates):.0f}"
        rows.append((source, name, f"**{speed:.2f}**", f"**{cpu:.2f}**", f"{statistics.median(rates):.0f}", spread,
                     f"{each:.1f}"))  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
