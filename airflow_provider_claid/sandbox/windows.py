"""Rate windows: the exact rules that accept or refuse a request of an account; pure, the clock is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_claid.sandbox.settings import WindowKind

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `limit` requests in a window of `seconds`."""

    limit: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Decision:
    """
    Whether a request may pass, and what its answer says about it.

    `policy` is the binding one: the full window with the longest wait, or the longest window if none is
    full. `remaining` is -1 for a refused request. `reset` is nanoseconds until a place gets free (sliding)
    or the window ends.
    """

    accepted: bool
    policy: Policy
    remaining: int
    reset: int


class _Window(Protocol):
    def used(self, now: int) -> int: ...
    def reset(self, now: int) -> int: ...
    def count(self, now: int) -> None: ...


class SlidingWindow:
    """No more than `limit` counted requests in any span of the window's length, wherever it starts."""

    def __init__(self, policy: Policy) -> None:
        self._width = policy.seconds * NANOSECONDS
        # Only the newest `limit` requests can refuse the next one, so older ones need not be kept.
        self._log: deque[int] = deque(maxlen=policy.limit)

    def used(self, now: int) -> int:
        """Return how many counted requests are younger than the window is long."""
        while self._log and self._log[0] <= now - self._width:
            self._log.popleft()
        return len(self._log)

    def reset(self, now: int) -> int:
        """Return the nanoseconds until the oldest request leaves the window."""
        return self._log[0] + self._width - now if self._log else 0

    def count(self, now: int) -> None:
        """Remember a request at `now`."""
        self._log.append(now)


class _CountingWindow(ABC):
    """A window with a start, an end and a counter; subclasses say when the next one starts."""

    def __init__(self, policy: Policy) -> None:
        self._width = policy.seconds * NANOSECONDS
        self._start: int | None = None
        self._count = 0

    def _is_over(self, now: int) -> bool:
        return self._start is None or now >= self._start + self._width

    @abstractmethod
    def _next_start(self, now: int) -> int:
        """Return when the window that holds `now` starts, if it is a new one."""

    def used(self, now: int) -> int:
        """Return how many requests were counted in the window that holds `now`."""
        return 0 if self._is_over(now) else self._count

    def reset(self, now: int) -> int:
        """Return the nanoseconds until the window that holds `now` ends."""
        start = self._next_start(now) if self._start is None or self._is_over(now) else self._start
        return start + self._width - now

    def count(self, now: int) -> None:
        """Count a request at `now`, in a new window if the last one is over."""
        if self._is_over(now):
            self._start, self._count = self._next_start(now), 0
        self._count += 1


class FixedWindow(_CountingWindow):
    """Windows aligned to the clock: each full minute, each full second."""

    def _next_start(self, now: int) -> int:
        return now - now % self._width


class AnchoredWindow(_CountingWindow):
    """Windows that open with the first counted request after the last one ended."""

    def _next_start(self, now: int) -> int:
        return now


_KINDS: dict[WindowKind, type[SlidingWindow | FixedWindow | AnchoredWindow]] = {
    "sliding": SlidingWindow,
    "fixed": FixedWindow,
    "anchored": AnchoredWindow,
}


class RateLimiter:
    """
    The windows of one account, longest first; a request must find room in all of them.

    `clock` gives nanoseconds that never go back, since the epoch if the windows are `fixed`. An accepted
    request is counted in every window, a refused one in none, or with `count_refused` in every window too.
    """

    def __init__(
        self,
        kind: WindowKind,
        policies: Sequence[Policy],
        clock: Callable[[], int],
        *,
        count_refused: bool = False,
    ) -> None:
        ordered = sorted(policies, key=lambda policy: -policy.seconds)
        self._windows: list[tuple[Policy, _Window]] = [(policy, _KINDS[kind](policy)) for policy in ordered]
        self._clock = clock
        self._count_refused = count_refused

    def decide(self) -> Decision | None:
        """Accept or refuse a request that arrives now; None if there are no limits."""
        if not self._windows:
            return None
        now = self._clock()
        full = [(policy, window) for policy, window in self._windows if window.used(now) >= policy.limit]
        if full:
            if self._count_refused:
                self._count(now)
            reset, policy = max(((window.reset(now), policy) for policy, window in full), key=lambda item: item[0])
            return Decision(accepted=False, policy=policy, remaining=-1, reset=reset)
        self._count(now)
        policy, window = self._windows[0]
        return Decision(True, policy, policy.limit - window.used(now), window.reset(now))

    def _count(self, now: int) -> None:
        for _, window in self._windows:
            window.count(now)

    def headers(self, decision: Decision) -> list[tuple[bytes, bytes]]:
        """Return the `ratelimit-*` headers that tell `decision`; seconds are rounded up."""
        policies = ", ".join(f"{policy.limit};w={policy.seconds}" for policy, _ in self._windows)
        return [
            (b"ratelimit-limit", f"{decision.policy.limit}, {policies}".encode()),
            (b"ratelimit-remaining", str(decision.remaining).encode()),
            (b"ratelimit-reset", str(-(-decision.reset // NANOSECONDS)).encode()),
        ]
