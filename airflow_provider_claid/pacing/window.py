"""
What answers prove about the server's minute, as a pure class: whether it is a fixed window, and when the next begins.

A fixed window begins when the server's clock says so, whoever sends. A sliding or an anchored one begins with a
request, so all of them name one `reset` for a while. What tells them apart is an answer that counts its own request
alone, in a window which began well before it. Proof is such an answer, together with others, sent seconds later, that
name the same instant, after waits so different that the instant must refer to the counting, not to the answering.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor

WINDOW = 60.0
# `reset` is whole seconds, rounded up or down.
ROUNDING = 1.0
# Requests reach the server's count at most this much apart from each other, seen from their booked times. What all
# of them take moves the boundary as well, and cancels out.
JITTER = 0.5
# Seconds per second by which the server's clock may run away from ours.
DRIFT = 0.001
# A window that holds one request began before it, not with it, if it began this much earlier: rounding, and room.
OPENED_BEFORE = 2.0
# Seconds between the first and the last request of a window that name its end, before that proves anything.
SENT_APART = 5.0
# Seconds between the fastest and the slowest answer, before they prove to what moment `reset` refers.
ANSWERED_APART = 3.0
# Seconds after which a window of which nothing was heard counts for nothing.
FRESH = 180.0


@dataclass(frozen=True)
class Quota:
    """What a server said of a window of its: `window` and `reset` in seconds, `limit` and `remaining` in requests."""

    window: float
    limit: int
    remaining: int
    reset: float

    @property
    def used(self) -> int:
        """How many requests the window had counted, with the one that was answered."""
        return self.limit - self.remaining


@dataclass(frozen=True)
class FixedWindow:
    """
    What is known of a window that may be a fixed one; times in seconds of the store's clock, as booked.

    The window that was named last ends between `earliest` and `latest`; `since` and `heard` are its first and its last
    request of which an answer came. `fastest` and `slowest` answer came after so many seconds. `began_before` is
    whether a request was alone in a window that began before it. `room` is how many requests of ours the window holds
    beside those of others. `proven` stays, until an answer contradicts or none comes for some minutes.
    """

    earliest: float
    latest: float
    since: float
    heard: float
    fastest: float
    slowest: float
    began_before: bool
    room: int
    proven: bool = False

    @classmethod
    def named(cls, at: float, took: float, quota: Quota, booked: Sequence[float]) -> FixedWindow:
        """Return what one answer tells that came `took` seconds after the request booked at `at`."""
        named = at + quota.reset
        earliest, latest = named - ROUNDING, named + ROUNDING + JITTER
        first = bisect_left(booked, earliest - WINDOW - JITTER)
        alone = quota.used == 1 and quota.reset <= WINDOW - OPENED_BEFORE and bisect_left(booked, at) == first
        ours = min(quota.used, bisect_right(booked, at + JITTER) - first)
        return cls(earliest, latest, at, at, took, took, alone, quota.remaining + ours)

    @classmethod
    def load(cls, fields: Mapping[str, float]) -> FixedWindow:
        """Return what has these fields (`vars`); raises `TypeError` for others."""
        if not all(isinstance(value, int | float) for value in fields.values()):
            raise TypeError("not a number")
        return cls(**fields)  # type: ignore[arg-type]

    def after(self, at: float, took: float, quota: Quota, booked: Sequence[float]) -> FixedWindow:
        """Return what is known after another answer; where it contradicts, only what that answer tells."""
        told = FixedWindow.named(at, took, quota, booked)
        # Answers come in any order: this many windows later than the one that was named last, or earlier.
        later = round((told.earliest - self.earliest) / WINDOW)
        drift = DRIFT * abs(at - self.heard)
        earliest = max(self.earliest - drift, told.earliest - later * WINDOW)
        latest = min(self.latest + drift, told.latest - later * WINDOW)
        if earliest > latest or not self.is_fresh(at):
            return told
        known = replace(
            self,
            earliest=earliest + max(0, later) * WINDOW,
            latest=latest + max(0, later) * WINDOW,
            fastest=min(self.fastest, took),
            slowest=max(self.slowest, took),
            began_before=self.began_before or told.began_before,
        )
        if later > 0:
            known = replace(known, since=at, heard=at, room=told.room)
        elif later == 0:
            known = replace(known, since=min(self.since, at), heard=max(self.heard, at), room=min(self.room, told.room))
        return replace(known, proven=known.proven or known.is_proof())

    def is_proof(self) -> bool:
        """Tell whether the answers cannot be those of a window that begins with a request."""
        sent_apart, answered_apart = self.heard - self.since, self.slowest - self.fastest
        return self.began_before and sent_apart >= SENT_APART and answered_apart >= ANSWERED_APART

    def is_fresh(self, now: float) -> bool:
        """Tell whether the window was heard of lately."""
        return abs(now - self.heard) <= FRESH

    def holds(self, now: float) -> bool:
        """Tell whether requests may rely on the window."""
        return self.proven and self.is_fresh(now)

    def first_free(self, booked: Sequence[float], start: float, quota: int) -> float:
        """
        Return the first moment from `start` at which no window is full, with at most `quota` bookings in each.

        A booking near a boundary counts in both windows: either may be the one that counts it.
        """
        number, at = floor((start - self.latest) / WINDOW) + 1, start
        while True:
            if self._is_full(number, booked, quota):
                ahead = 1
            elif at >= self._span(number + 1)[0] and self._is_full(number + 1, booked, quota):
                ahead = 2
            else:
                return at
            number += ahead
            at = self.latest + (number - 1) * WINDOW

    def _is_full(self, number: int, booked: Sequence[float], quota: int) -> bool:
        first, end = self._span(number)
        most = min(quota, self.room) if number == 0 else quota
        return bisect_left(booked, end) - bisect_left(booked, first) >= most

    def _span(self, number: int) -> tuple[float, float]:
        """Return from when to when a booking may count in a window: 0 is the one that was named last, 1 the next."""
        return self.earliest + (number - 1) * WINDOW - JITTER, self.latest + number * WINDOW
