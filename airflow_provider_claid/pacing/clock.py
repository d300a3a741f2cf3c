"""The clock of a store on another host, as a pure class: how far it is from this process's monotonic clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

KEPT_SECONDS = 60.0
# How much two clocks may drift apart: what NTP corrects at most, and what a time stamp is rounded by.
DRIFT = 0.0005
ROUNDING = 0.001


@dataclass(frozen=True)
class _Sample:
    received: float
    offset: float
    error: float


class StoreClock:
    """
    The offset of a store's clock to this process's monotonic clock; all in seconds.

    A time stamp was made between request and answer, so the shortest round trip tells the most: the shortest of the
    last minute counts, and slow answers shift nothing.
    """

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()

    @property
    def known(self) -> bool:
        """True once an answer was seen."""
        return bool(self._samples)

    def store_time(self, monotonic: float) -> float:
        """Return a moment of this process in the store's clock."""
        return monotonic + self._samples[0].offset

    def monotonic(self, store_time: float) -> float:
        """Return a moment of the store in this process's clock."""
        return store_time - self._samples[0].offset

    def observe(self, sent: float, stamp: float, received: float) -> float:
        """
        Take note of the store's time `stamp` in an answer, and return by how much its clock was stepped; mostly 0.

        A clock that was stepped, or that of another machine which took over, contradicts what was seen before: all of
        that is forgotten.
        """
        new = _Sample(received, stamp - (sent + received) / 2, (received - sent) / 2)
        stepped = self._contradicted(new)
        if stepped:
            self._samples.clear()
        while self._samples and self._samples[0].received < received - KEPT_SECONDS:
            self._samples.popleft()
        while self._samples and self._samples[-1].error >= new.error:
            self._samples.pop()
        self._samples.append(new)
        return stepped

    def _contradicted(self, new: _Sample) -> float:
        if not self._samples:
            return 0.0
        best = self._samples[0]
        allowed = best.error + new.error + ROUNDING + DRIFT * (new.received - best.received)
        moved = new.offset - best.offset
        return moved if abs(moved) > allowed else 0.0
