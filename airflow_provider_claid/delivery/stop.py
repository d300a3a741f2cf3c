"""The wish that work end before it pays."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Stop:
    """
    Set when the work is to end: nothing may leave from then on. Setting it is all that a signal handler does.

    `under_way` counts the requests that may have left and of which is not recorded yet what became of them.
    """

    asked: bool = False
    under_way: int = 0
