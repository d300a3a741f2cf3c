"""One printer for all figures: plain Markdown tables."""

from __future__ import annotations

import os
from collections.abc import Sequence


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *notes: str) -> None:
    """Print a table under its title, its notes, and how busy the machine is."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print()
    for note in notes:
        print(f"{note}  ")
    print(f"Load average of the last 1, 5 and 15 minutes: {load()}", flush=True)


def load() -> str:
    """Return the load averages of this machine."""
    return " / ".join(f"{value:.1f}" for value in os.getloadavg())
