"""How long to wait before something that costs nothing is tried again."""

from __future__ import annotations

import random


def doubling(first: float, tries: int, jitter: float | None = None) -> float:
    """Return the seconds to wait after so many tries: `first`, doubled by each, less up to half of it by `jitter`."""
    return first * float(2 ** (tries - 1)) * (0.5 + 0.5 * (random.random() if jitter is None else jitter))
