"""
The rules of the pace, as a pure class: the caller brings the clock and keeps the state.

Two rules hold for any arrival pattern: sends are evenly spaced, a little wider than the account's limit per second
asks, and no 60.25 s hold more than the limit per minute. A schedule that keeps them is legal on sliding, fixed
and anchored server windows alike. Within them, each booking is the earliest legal time.
"""

from __future__ import annotations

import json
import sys
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass

MINUTE = 60.25
SECOND_MARGIN = 1.25
GUARD_START = 0.05
GUARD_STEP = 0.03
GUARD_CAP = 0.5
GUARD_DECAY = 0.99
# Bookings that a longer queue than this would need come from another boot or a restored disk.
LONGEST_QUEUE = 7200
LONGEST_BRAKE = 120.0
# How long bookings are kept: an answer names a window that had ended long before it came.
HISTORY = 300.0
# Sums of seconds are equal within this.
EPSILON = 1e-6
# Of what `Schedule.dump` writes; a schedule of another version is not read.
VERSION = 1


@dataclass(frozen=True)
class Pace:
    """The limits of an account: requests per second and per minute."""

    per_second: float = 4.0
    per_minute: int = 120

    def share(self, part: float) -> Pace:
        """Return a part of this pace, at least one request a minute."""
        return Pace(self.per_second * part, max(1, int(self.per_minute * part)))


@dataclass(frozen=True)
class Exhausted:
    """What a server said of a used-up window: `window` and `reset` in seconds, `limit` in requests."""

    window: float
    limit: int
    reset: float


class Schedule:
    """
    The booked send times of one account, in seconds of the store's clock, and what was learned about it.

    `guard` widens the spacing: four sends may arrive early or late by `guard` seconds in all without five of them
    falling into one second. `closed_until` is the brake: nothing is booked before it.
    """

    def __init__(self, bookings: Iterable[float] = (), guard: float = GUARD_START, closed_until: float = 0.0) -> None:
        self.bookings = array("d", bookings)
        self.guard = guard
        self.closed_until = closed_until

    def copy(self) -> Schedule:
        """Return the same schedule, kept apart."""
        return Schedule(self.bookings, self.guard, self.closed_until)

    def dump(self) -> bytes:
        """Return the schedule as bytes, the same on every machine: a line of JSON, then each booking as a double."""
        header = {"version": VERSION, "guard": self.guard, "closed_until": self.closed_until}
        return json.dumps(header).encode() + b"\n" + _little_endian(self.bookings).tobytes()

    @classmethod
    def load(cls, dumped: bytes) -> Schedule:
        """Return what was dumped; raises `ValueError` for what is no schedule, or one of a later version."""
        header, _, body = dumped.partition(b"\n")
        bookings = array("d")
        bookings.frombytes(body)
        try:
            fields = json.loads(header)
            if fields["version"] == VERSION:
                return cls(_little_endian(bookings), float(fields["guard"]), float(fields["closed_until"]))
        except (KeyError, TypeError) as cause:
            raise ValueError("no schedule") from cause
        raise ValueError(f"no schedule of version {VERSION}")

    def shift(self, seconds: float) -> None:
        """Follow a clock that was stepped by this much."""
        self.bookings = array("d", (at + seconds for at in self.bookings))
        self.closed_until += seconds

    def remember(self, seen: Schedule) -> None:
        """Add what was seen before, when the place where it is kept has lost some of it."""
        self.bookings = array("d", sorted({*self.bookings, *seen.bookings}))
        self.guard = max(self.guard, seen.guard)
        self.closed_until = max(self.closed_until, seen.closed_until)

    def book(self, now: float, pace: Pace, *, instead_of: float | None = None, spread: float = 0.0) -> float:
        """
        Book the earliest legal send time, at or after `now`, and return it.

        `instead_of` is a booking that was missed with nothing sent: it is given back. `spread` is how many seconds
        late the caller's last request left.
        """
        if instead_of is not None:
            self._remove(instead_of)
        self._forget(now, pace)
        self.guard = GUARD_START + (self.guard - GUARD_START) * GUARD_DECAY
        self.widen(spread)
        at = self._earliest_legal(max(now, self.closed_until), pace)
        insort(self.bookings, at)
        return at

    def spacing(self, pace: Pace) -> float:
        """Return the seconds between two sends."""
        return (1.0 + self.guard) / pace.per_second

    def widen(self, guard: float) -> None:
        """Widen the spacing so that sends may be off by this many seconds."""
        self.guard = min(GUARD_CAP, max(self.guard, guard))

    def refused(self, now: float, at: float, pace: Pace, exhausted: Exhausted) -> bool:
        """
        Take note of a 429 for the request booked at `at`, and say whether this schedule explains it.

        A used-up minute closes the schedule until it resets, one second longer because servers round. A used-up
        second widens the spacing.
        """
        explained = self._explains(at, exhausted)
        if exhausted.window > 1:
            self.close(now, exhausted.reset + 1.0)
        else:
            self.widen(self.guard + GUARD_STEP)
            self.close(now, self.spacing(pace))
        return explained

    def exhausted(self, at: float, exhausted: Exhausted) -> bool:
        """Take note of an accepted request, booked at `at`, that was the window's last; brake if it is not ours."""
        explained = self._explains(at, exhausted)
        if not explained:
            self.close(at, exhausted.reset + 1.0)
        return explained

    def close(self, now: float, seconds: float) -> None:
        """Book nothing for this long, at most `LONGEST_BRAKE`: then one request asks again, instead of all waiting."""
        self.closed_until = max(self.closed_until, now + min(seconds, LONGEST_BRAKE))

    def _explains(self, at: float, exhausted: Exhausted) -> bool:
        margin = SECOND_MARGIN if exhausted.window <= 1 else MINUTE / 60.0
        first = bisect_left(self.bookings, at - exhausted.window * margin)
        return bisect_right(self.bookings, at) - first >= exhausted.limit

    def _remove(self, at: float) -> None:
        index = bisect_left(self.bookings, at)
        if index < len(self.bookings) and self.bookings[index] == at:
            del self.bookings[index]

    def _forget(self, now: float, pace: Pace) -> None:
        ahead = max(LONGEST_QUEUE / pace.per_minute * 60.0, LONGEST_QUEUE * self.spacing(pace))
        del self.bookings[bisect_right(self.bookings, now + ahead) :]
        del self.bookings[: bisect_right(self.bookings, now - max(HISTORY, self.spacing(pace)))]
        if self.closed_until > now + LONGEST_BRAKE:
            self.closed_until = 0.0

    def _earliest_legal(self, start: float, pace: Pace) -> float:
        booked, room = self.bookings, 2 * self.spacing(pace) - EPSILON
        for place in range(bisect_left(booked, start), len(booked)):
            if place > 0 and booked[place] - booked[place - 1] < room:
                continue
            low, high = self._bounds(place, start, pace)
            if low <= high + EPSILON and self._leaves_room(place, pace.per_minute):
                return low
        return self._bounds(len(booked), start, pace)[0]

    def _bounds(self, place: int, start: float, pace: Pace) -> tuple[float, float]:
        """Return the earliest and latest time that a booking inserted at this place may have."""
        booked, spacing, most = self.bookings, self.spacing(pace), pace.per_minute
        low, high = start, float("inf")
        if place > 0:
            low = max(low, booked[place - 1] + spacing)
        if place >= most:
            low = max(low, booked[place - most] + MINUTE)
        if place < len(booked):
            high = booked[place] - spacing
        if place + most - 1 < len(booked):
            high = min(high, booked[place + most - 1] - MINUTE)
        return low, high

    def _leaves_room(self, place: int, most: int) -> bool:
        """Tell whether every minute around this place can take one more booking."""
        booked = self.bookings
        first, last = max(0, place - most + 1), min(place, len(booked) - most + 1)
        return all(booked[index + most - 1] - booked[index] >= MINUTE - EPSILON for index in range(first, last))


def _little_endian(bookings: array[float]) -> array[float]:
    """Turn this machine's order of bytes into the little-endian one, and back."""
    if sys.byteorder == "little":
        return bookings
    swapped = array("d", bookings)
    swapped.byteswap()
    return swapped
