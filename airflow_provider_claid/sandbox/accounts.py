"""Keys and the accounts behind them: who may do what, how often, and for how many credits."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from airflow_provider_claid.sandbox.answers import error
from airflow_provider_claid.sandbox.windows import Policy, RateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_claid.sandbox.settings import Key, Scope, Settings


class Account:
    """One account: its rate windows, and the credits it has left (None: no end of them)."""

    def __init__(self, name: str, settings: Settings, clock: Callable[[], int]) -> None:
        self.name = name
        self._clock = clock
        self.credits_left = settings.credits
        self.limiter = self._windows(settings)

    def _windows(self, settings: Settings) -> RateLimiter:
        limits = ((settings.per_minute, 60), (settings.per_second, 1))
        policies = [Policy(limit, seconds) for limit, seconds in limits if limit]
        return RateLimiter(settings.window, policies, self._clock, count_refused=settings.count_refused)

    def apply(self, settings: Settings, changed: set[str]) -> None:
        """Take over changed settings; changed windows start empty, changed credits count from now."""
        if changed & {"window", "per_second", "per_minute", "count_refused"}:
            self.limiter = self._windows(settings)
        if "credits" in changed:
            self.credits_left = settings.credits

    def require(self, pictures: int) -> None:
        """Raise the 402 if the account cannot pay for so many pictures, 1 credit each."""
        if self.credits_left is not None and pictures > self.credits_left:
            raise error(402)

    def bill(self, pictures: int) -> None:
        """Take 1 credit for each picture off what is left."""
        if self.credits_left is not None:
            self.credits_left -= pictures


class Accounts:
    """All keys and accounts of a sandbox."""

    def __init__(self, settings: Settings, clock: Callable[[], int]) -> None:
        self._keys = settings.keys
        names = {key.account for key in self._keys}
        self.by_name = {name: Account(name, settings, clock) for name in sorted(names)}

    def of(self, authorization: str) -> tuple[Key, Account]:
        """Return the key of a Bearer header and its account, or raise the 401."""
        scheme, _, token = authorization.partition(" ")
        found = None
        # Every key is compared, so that the time taken says nothing about how near a guess was.
        for key in self._keys:
            if hmac.compare_digest(key.token.encode(), token.encode()):
                found = key
        if found is None or scheme.lower() != "bearer":
            raise error(401)
        return found, self.by_name[found.account]


def require_scope(key: Key, scope: Scope) -> None:
    """Raise the 403 if `key` lacks `scope`."""
    if scope not in key.scopes:
        raise error(403)
