"""The schedule and the budget of an account in Redis, one hash per account, changed by compare-and-swap."""

from __future__ import annotations

import time
from typing import Any, TypeVar

from airflow_provider_claid.pacing.budget import Budget, BudgetError
from airflow_provider_claid.pacing.place import Place
from airflow_provider_claid.pacing.schedule import Schedule
from airflow_provider_claid.pacing.shared import CONNECT_SECONDS, STEP_SECONDS, STEPPED, Kept, SharedStore, Version
from airflow_provider_claid.pacing.store import Change

T = TypeVar("T")

KEPT_SECONDS = 3 * 86_400
"""How long an account that nobody uses is kept."""

# A version that no state has.
_READ = "-"
# Writes if the version is the one last seen and the caller's clock is right, else answers with what there is. A caller
# whose answer was lost asks again: its version is there then. ARGV: version last seen, new one, caller's time, dumps.
_SCRIPT = f"""
local kept = redis.call('HMGET', KEYS[1], 'version', 'written_at', 'schedule', 'budget')
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local stamp = string.format('%.6f', now)
local version = kept[1] or ''
if version == ARGV[2] then return {{1, stamp}} end
if version ~= ARGV[1] or math.abs(now - ARGV[3]) > {STEPPED} then
    return {{0, stamp, version, kept[2] or '0', kept[3] or '', kept[4] or ''}}
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'written_at', stamp, 'schedule', ARGV[4], 'budget', ARGV[5])
redis.call('EXPIRE', KEYS[1], {KEPT_SECONDS})
return {{1, stamp}}
"""


class RedisStore(SharedStore):
    """
    A schedule in Redis (5 or newer), by the server's `TIME`.

    A step computes what is to be from what was last seen, so it mostly takes one round trip, and a second one if
    another process has written meanwhile.
    """

    def __init__(self, place: Place, account: str, host: str = "") -> None:
        super().__init__(place, account, host)
        # The braces keep an account in one slot of a cluster.
        self._name = f"airflow-provider-claid:{{{self._key}}}:pacing"
        self._client: Any = None
        self._kept = Kept()

    def _transact(self, change: Change[T], *, budgeted: bool) -> T:
        import redis

        try:
            return self._swap(change)
        except BudgetError:
            raise
        except (redis.RedisError, redis.exceptions.RedisClusterException, OSError, ValueError) as cause:
            client, self._client = self._client, None
            if client is not None:
                client.close()
            raise self._failure(cause) from cause

    def _swap(self, change: Change[T]) -> T:
        """Compute and write until nobody came between."""
        until = time.monotonic() + STEP_SECONDS
        fresh = not self._clock.known
        if fresh:
            self._read()
        while time.monotonic() < until:
            now = self._now()
            schedule, budget = self._memory.resume(self._kept, now)
            try:
                result = change(schedule, now, budget)
            except BudgetError:
                if fresh:
                    raise
                # Others may have given credits back since we looked.
                self._read()
            else:
                if self._write(schedule, budget, now):
                    return result
            fresh = True
        raise TimeoutError(f"others wrote first for {STEP_SECONDS:g} s")

    def _read(self) -> None:
        self._call(_READ, _READ, 0.0, b"", b"")

    def _write(self, schedule: Schedule, budget: Budget, now: float) -> bool:
        """Write what follows on what was last seen; False if that is not what is there now."""
        seen = self._kept.version
        version = seen.next()
        stamp = self._call(str(seen), str(version), now, schedule.dump(), budget.dump())
        if stamp is None:
            return False
        self._kept = Kept(version, stamp)
        self._memory.see(version, schedule, budget)
        return True

    def _call(self, seen: str, version: str, now: float, schedule: bytes, budget: bytes) -> float | None:
        """Run the script; return when it has written. None: it did not, and what is there is the last seen now."""
        if self._client is None:
            self._client = connect(self._place)
        sent = time.monotonic()
        answer = self._client.eval(_SCRIPT, 1, self._name, seen, version, f"{now:.6f}", schedule, budget)
        stamp = float(answer[1])
        self._observe(sent, stamp)
        if answer[0]:
            return stamp
        self._kept = Kept(Version.parse(answer[2].decode()), float(answer[3]), answer[4], answer[5])
        return None

    def _forget_client(self) -> None:
        self._client = None


def connect(place: Place) -> Any:
    """Make a client (`redis.Redis` or `redis.RedisCluster`), which connects when it is first used."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # An idle connection may have been closed by the server; the script can be asked twice.
    once_more = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    options: dict[str, Any] = {
        "host": place.host,
        "port": place.port,
        "username": place.user,
        "password": place.password,
        "socket_timeout": STEP_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_keepalive": True,
        "protocol": 2,
        "retry": once_more,
        **place.client_options(),
    }
    if place.cluster:
        return redis.RedisCluster(**options)
    return redis.Redis(**options, db=int(place.database or 0))
