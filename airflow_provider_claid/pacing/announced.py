"""What follows from the rate headers of an answer, as pure code: the limits to keep, and the window that is used up."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_claid.pacing.headers import RateLimit
from airflow_provider_claid.pacing.schedule import LONGEST_BRAKE, Pace
from airflow_provider_claid.pacing.window import WINDOW, Quota

BELIEVED = 600.0
"""Seconds for which an announced limit is kept if no answer says another."""

# A `reset` of a second is said in whole seconds, rounded up.
_RESET_OF_A_SECOND = 2.0


class Announced:
    """The limits per second and per minute that a server announces; of each window, the latest answer counts."""

    def __init__(self) -> None:
        self._latest: dict[float, tuple[int, float]] = {}

    def note(self, policies: Iterable[tuple[int, float]], now: float) -> None:
        """Take note of an answer's policies, as (limit, window in seconds), at a moment of the monotonic clock."""
        said: dict[float, int] = {}
        for count, window in policies:
            if window in (1.0, WINDOW) and count > 0:
                said[window] = min(count, said.get(window, count))
        self._latest |= {window: (count, now) for window, count in said.items()}

    def pace(self, limits: Pace, now: float) -> Pace:
        """Return the configured limits, each lowered to what is announced; never more than them."""
        lower = self.lower_than(limits, now)
        return Pace(lower.get(1.0, limits.per_second), lower.get(WINDOW, limits.per_minute))

    def lower_than(self, limits: Pace, now: float) -> dict[float, int]:
        """Return the announced limits that are lower than the configured ones, by their windows."""
        configured = {1.0: limits.per_second, WINDOW: limits.per_minute}
        believed = {window: count for window, (count, at) in self._latest.items() if now - at <= BELIEVED}
        return {window: count for window, count in believed.items() if count < configured[window]}


def used_up_window(limit: RateLimit, pace: Pace) -> Quota:
    """
    Return the window for which a request was refused.

    That is the named one if nothing is left of it; where some are left, a second, which the headers do not describe.
    """
    if limit.remaining is not None and limit.remaining > 0:
        return _second(pace, 1.0)
    return _used_up(limit) or _unnamed(limit, pace)


def said_of_minute(limit: RateLimit) -> Quota | None:
    """Return what an accepted answer says of the minute, or of a window that it says is used up."""
    if limit.remaining is None:
        return None
    if limit.remaining <= 0:
        return _used_up(limit)
    if limit.window == WINDOW and limit.limit is not None and limit.reset is not None:
        return Quota(WINDOW, limit.limit, limit.remaining, limit.reset)
    return None


def _used_up(limit: RateLimit) -> Quota | None:
    if limit.limit is None or limit.window is None:
        return None
    return Quota(limit.window, limit.limit, limit.remaining or 0, _reset(limit, limit.window))


def _unnamed(limit: RateLimit, pace: Pace) -> Quota:
    """Return a used-up window whose length was not said: what resets later than a second can is the minute."""
    reset = _reset(limit, 1.0)
    if reset <= _RESET_OF_A_SECOND:
        return _second(pace, reset)
    return Quota(WINDOW, limit.limit or pace.per_minute, limit.remaining or 0, reset)


def _second(pace: Pace, reset: float) -> Quota:
    return Quota(1.0, max(1, int(pace.per_second)), 0, reset)


def _reset(limit: RateLimit, window: float) -> float:
    """Return in how many seconds the window resets; what is longer than any brake is a date or an error."""
    return window if limit.reset is None or limit.reset > LONGEST_BRAKE else limit.reset
