"""Objects that are numbered without a gap, read many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from airflow_provider_claid.delivery.backoff import persistent

AT_ONCE = 16


class MissingError(Exception):
    """An object of this `number` is not there, and a later one is."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def numbered(number: int) -> str:
    """Return the name of an object by its number, such that names sort as numbers do."""
    return f"{number:06d}"


def read_on(get: Callable[[int], bytes | None], last: int, at_once: int = AT_ONCE) -> Iterator[tuple[int, bytes]]:
    """
    Yield the numbers behind `last`, up to the first that is not there, each with what `get` has for it. Blocks.

    Raises `StoreBusyError` if the store stays busy, `MissingError` for a gap before one of the next `at_once`.
    """
    with ThreadPoolExecutor(at_once) as threads:
        while True:
            numbers = range(last + 1, last + 1 + at_once)
            found = list(zip(numbers, threads.map(partial(_read, get), numbers), strict=True))
            end = max((number for number, raw in found if raw is not None), default=last)
            for number, first in found[: end - last]:
                # Both may have been written while they were read.
                raw = _read(get, number) if first is None else first
                if raw is None:
                    raise MissingError(number)
                yield number, raw
            if end < numbers[-1]:
                return
            last = end


def _read(get: Callable[[int], bytes | None], number: int) -> bytes | None:
    return persistent(partial(get, number))
