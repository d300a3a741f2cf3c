"""The wish that work end before it pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _never() -> bool:
    return False


@dataclass
class Stop:
    """
    Set when the work is to end: nothing may leave from then on. Setting it is all that a signal handler does.

    `under_way` counts the requests that may have left and of which is not recorded yet what became of them. `above` is
    the wish that a larger piece of work end, which this work heeds too. While `held` says so nothing leaves either, but
    may later.
    """

    asked: bool = False
    under_way: int = 0
    above: Stop | None = None
    held: Callable[[], bool] = _never

    @property
    def is_asked(self) -> bool:
        """Tell whether this work, or that which it is a part of, is to end."""
        return self.asked or (self.above is not None and self.above.is_asked)
