"""The wish that work end before it pays."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Stop:
    """
    Set when the work is to end: nothing may leave from then on. Setting it is all that a signal handler does.

    `under_way` is True from when a request may have left until what became of it is recorded.
    """

    asked: bool = False
    under_way: bool = False
