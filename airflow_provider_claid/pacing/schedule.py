"""
The rules of the pace, as a pure class: the caller brings the clock and keeps the state.

Two rules hold for any arrival pattern: sends are evenly spaced, a little wider than the account's limit per second
asks, and no 60.25 s hold more than the limit per minute. A schedule that keeps them is legal on sliding, fixed
and anchored server windows alike. Once answers have proven that the server's minutes are fixed windows (`window`), the
second rule asks less: no such window holds more than the limit. Within the rules, each booking is the earliest legal
time. A booking that waits is not moved when the rule changes: it is one per process.
"""

from __future__ import annotations

import json
import sys
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from airflow_provider_claid.pacing.window import WINDOW, FixedWindow, Quota

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
# How long no fixed window is believed in after one was refused: another server counts so that it looks like one.
DISTRUST = 3600.0
# How long a host counts as one that uses the account, and how often it says so.
HOST_KEPT = 600.0
HOST_SAYS = 60.0
# Sums of seconds are equal within this.
EPSILON = 1e-6
# Of what `Schedule.dump` writes; a schedule of another version is not read.
VERSION = 1
_SECONDS = ("guard", "closed_until", "distrusted_until")


@dataclass(frozen=True)
class Pace:
    """The limits of an account: requests per second and per minute."""

    per_second: float = 4.0
    per_minute: int = 120

    def share(self, part: float) -> Pace:
        """Return a part of this pace, at least one request a minute."""
        return Pace(self.per_second * part, max(1, int(self.per_minute * part)))

    def evenly(self) -> Pace:
        """Return this pace without bursts: no faster than the minute allows in the long run."""
        return Pace(min(self.per_second, self.per_minute / 60.0), self.per_minute)


class Schedule:
    """
    The booked send times of one account, in seconds of the store's clock, and what was learned about it.

    `guard` widens the spacing: four sends may arrive early or late by `guard` seconds in all without five of them
    falling into one second. `closed_until` is the brake: nothing is booked before it. `window` is what is known of a
    fixed window of the server, None before `distrusted_until`. `hosts` are the hosts that used the account in the last
    ten minutes, by their names, with the time at which each said so.
    """

    def __init__(
        self,
        bookings: Iterable[float] = (),
        guard: float = GUARD_START,
        closed_until: float = 0.0,
        window: FixedWindow | None = None,
        distrusted_until: float = 0.0,
        *,
        hosts: Mapping[str, float] | None = None,
    ) -> None:
        self.bookings = array("d", bookings)
        self.guard = guard
        self.closed_until = closed_until
        self.window = window
        self.distrusted_until = distrusted_until
        self.hosts = dict(hosts or {})

    def copy(self) -> Schedule:
        """Return the same schedule, kept apart."""
        return Schedule(
            self.bookings, self.guard, self.closed_until, self.window, self.distrusted_until, hosts=self.hosts
        )

    def dump(self) -> bytes:
        """Return the schedule as bytes, the same on every machine: a line of JSON, then each booking as a double."""
        header = {
            "version": VERSION,
            "guard": self.guard,
            "closed_until": self.closed_until,
            "window": self.window and vars(self.window),
            "distrusted_until": self.distrusted_until,
            "hosts": self.hosts,
        }
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
                guard, closed, distrusted = (float(fields[name]) for name in _SECONDS)
                window = FixedWindow.load(fields["window"]) if fields["window"] else None
                hosts = {str(name): float(at) for name, at in fields["hosts"].items()}
                return cls(_little_endian(bookings), guard, closed, window, distrusted, hosts=hosts)
        except (AttributeError, KeyError, TypeError) as cause:
            raise ValueError("no schedule") from cause
        raise ValueError(f"no schedule of version {VERSION}")

    def shift(self, seconds: float) -> None:
        """Follow a clock that was stepped by this much; a fixed window has to be proven anew."""
        self.bookings = array("d", (at + seconds for at in self.bookings))
        self.closed_until += seconds
        self.distrusted_until += seconds
        self.hosts = {name: at + seconds for name, at in self.hosts.items()}
        self.window = None

    def remember(self, seen: Schedule) -> None:
        """Add what was seen before, when the place has lost some of it; a fixed window has to be proven anew."""
        self.bookings = array("d", sorted({*self.bookings, *seen.bookings}))
        self.guard = max(self.guard, seen.guard)
        self.closed_until = max(self.closed_until, seen.closed_until)
        self.distrusted_until = max(self.distrusted_until, seen.distrusted_until)
        self.hosts = seen.hosts | self.hosts
        self.window = None

    def book(self, now: float, pace: Pace, *, instead_of: float | None = None, spread: float = 0.0) -> float:
        """
        Book the earliest legal send time, at or after `now`, and return it.

        `instead_of` is a booking that was missed with nothing sent: it is given back. `spread` is how many seconds
        late the caller's last request left.
        """
        if instead_of is not None:
            self._remove(instead_of)
        self._forget(now, pace)
        # At any rate it takes as long to forget as at 4 a second.
        self.guard = GUARD_START + (self.guard - GUARD_START) * GUARD_DECAY ** (4 / pace.per_second)
        self.widen(spread)
        fixed = self.window if self.window and self.window.holds(now) else None
        at = self._earliest_legal(max(now, self.closed_until), pace, fixed)
        insort(self.bookings, at)
        return at

    def spacing(self, pace: Pace) -> float:
        """Return the seconds between two sends."""
        return (1.0 + self.guard) / pace.per_second

    def widen(self, guard: float) -> None:
        """Widen the spacing so that sends may be off by this many seconds."""
        self.guard = min(GUARD_CAP, max(self.guard, guard))

    def refused(self, now: float, at: float, pace: Pace, quota: Quota) -> bool:
        """
        Take note of a 429 for the request booked at `at`, and say whether this schedule explains it.

        A used-up minute closes the schedule until it resets, one second longer because servers round. A used-up second
        widens the spacing; if others used it up, it closes the schedule until it resets. A fixed window that was relied
        on is believed in no more, unless it was that second alone.
        """
        explained = self._explains(at, quota)
        if self.window and self.window.proven and (quota.window > 1 or not explained):
            self.window, self.distrusted_until = None, now + DISTRUST
        if quota.window > 1:
            self.close(now, quota.reset + 1.0)
        else:
            self.widen(self.guard + GUARD_STEP)
            self.close(now, self.spacing(pace) if explained else max(self.spacing(pace), quota.reset))
        return explained

    def accepted(self, at: float, took: float, quota: Quota) -> bool:
        """
        Take note of what the answer to the request booked at `at` says, which came `took` seconds later.

        Brakes if the window is used up and not by us: returns False if this schedule does not explain that.
        """
        if quota.window == WINDOW and at >= self.distrusted_until:
            known = self.window
            name = known.after if known else FixedWindow.named
            self.window = name(at, took, quota, self.bookings)
        explained = quota.remaining > 0 or self._explains(at, quota)
        if not explained:
            self.close(at, quota.reset + 1.0)
        return explained

    def close(self, now: float, seconds: float) -> None:
        """Book nothing for this long, at most `LONGEST_BRAKE`: then one request asks again, instead of all waiting."""
        self.closed_until = max(self.closed_until, now + min(seconds, LONGEST_BRAKE))

    def note_host(self, name: str, now: float) -> None:
        """Note that a host uses the account, and forget those that have not said so for long."""
        if not now - HOST_SAYS < self.hosts.get(name, now - HOST_KEPT) <= now + HOST_SAYS:
            kept = {each: at for each, at in self.hosts.items() if abs(now - at) < HOST_KEPT}
            self.hosts = kept | {name: now}

    def _explains(self, at: float, quota: Quota) -> bool:
        margin = SECOND_MARGIN if quota.window <= 1 else MINUTE / 60.0
        first = bisect_left(self.bookings, at - quota.window * margin)
        return bisect_right(self.bookings, at) - first >= quota.limit

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
        if self.distrusted_until > now + DISTRUST:
            self.distrusted_until = 0.0

    def _earliest_legal(self, start: float, pace: Pace, fixed: FixedWindow | None) -> float:
        booked, spacing, most = self.bookings, self.spacing(pace), pace.per_minute
        first = bisect_left(booked, start)
        for place in range(first, len(booked)):
            if place > 0 and booked[place] - booked[place - 1] < 2 * spacing - EPSILON:
                continue
            low = max(start, booked[place - 1] + spacing) if place > 0 else start
            low = fixed.first_free(booked, low, most) if fixed else self._first_free(place, low, most)
            if low <= booked[place] - spacing + EPSILON:
                return low
        low = max(start, booked[-1] + spacing) if booked else start
        return fixed.first_free(booked, low, most) if fixed else self._first_free(len(booked), low, most)

    def _first_free(self, place: int, start: float, most: int) -> float:
        """Return the first moment from `start` at which a booking at this place leaves every minute legal, or inf."""
        booked = self.bookings
        low = max(start, booked[place - most] + MINUTE) if place >= most else start
        if place + most - 1 < len(booked) and low > booked[place + most - 1] - MINUTE + EPSILON:
            return inf
        return low if self._leaves_room(place, most) else inf

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
