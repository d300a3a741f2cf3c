"""How long to wait before something that costs nothing is tried again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from airflow_provider_claid.delivery.store_errors import StoreBusyError

STORE_TRIES = 5
STORE_PAUSE = 0.2

T = TypeVar("T")


def doubling(first: float, tries: int, jitter: float | None = None) -> float:
    """Return the seconds to wait after so many tries: `first`, doubled by each, less up to half of it by `jitter`."""
    return first * float(2 ** (tries - 1)) * (0.5 + 0.5 * (random.random() if jitter is None else jitter))


def is_busy(cause: Exception) -> bool:
    """Tell whether a store failed in a way that may pass."""
    return isinstance(cause, StoreBusyError)


def persistent(step: Callable[[], T], passes: Callable[[Exception], bool] = is_busy) -> T:
    """
    Do one step of a store, again while its error is one that `passes`, for 1.5 to 3 seconds of pauses; then raise it.

    That is `StoreBusyError`, unless something else is given.
    """
    for tries in range(1, STORE_TRIES):
        try:
            return step()
        except Exception as cause:
            if not passes(cause):
                raise
            time.sleep(doubling(STORE_PAUSE, tries))
    return step()
