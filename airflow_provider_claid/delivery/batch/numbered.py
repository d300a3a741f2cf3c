"""Objects that are numbered without a gap, read many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from airflow_provider_claid.delivery.backoff import persistent

AT_ONCE = 16


def numbered(number: int) -> str:
    """Return the name of an object by its number, such that names sort as numbers do."""
    return f"{number:06d}"


def read_on(get: Callable[[int], bytes | None], last: int, at_once: int = AT_ONCE) -> Iterator[tuple[int, bytes]]:
    """
    Yield the numbers behind `last`, up to the first that is not there, each with what `get` has for it. Blocks.

    Raises `StoreBusyError` if the store stays busy.
    """
    with ThreadPoolExecutor(at_once) as threads:
        while True:
            numbers = range(last + 1, last + 1 + at_once)
            for number, raw in zip(numbers, threads.map(partial(_read, get), numbers), strict=True):
                if raw is None:
                    return
                last = number
                yield number, raw


def _read(get: Callable[[int], bytes | None], number: int) -> bytes | None:
    return persistent(partial(get, number))
