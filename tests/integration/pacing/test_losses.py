"""What a server loses is made good, and while it does not answer a share of the pace is kept by this host."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import replace
from itertools import pairwise

import pytest

from airflow_provider_claid.pacing import fallback, postgres, redis
from airflow_provider_claid.pacing.budget import BudgetError, Spend, utc_day
from airflow_provider_claid.pacing.fallback import FallbackStore
from airflow_provider_claid.pacing.schedule import MINUTE, Pace
from airflow_provider_claid.pacing.store import MemoryStore, StoreError
from tests.integration.conftest import started
from tests.integration.pacing.conftest import place_of, running
from tests.integration.pacing.relay import Relay
from tests.pacing_stores import Where
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer
from tests.unit.pacing.conftest import spent, today

ONE_A_MINUTE = Pace(per_second=1000, per_minute=1)
KINDS = {"redis": RedisServer, "postgres": PostgresServer}


@pytest.fixture(params=list(KINDS))
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def own_server(kind):
    """A server that this test may break."""
    server = started(kind())
    yield server
    server.stop()


@pytest.fixture
def own(own_server):
    """An account on it."""
    return Where("account", place=place_of(own_server.airflow_connection()))


def seconds_of(failing, *arguments, **keywords):
    """Return how long a call took that failed as it should, and what it said."""
    before = time.monotonic()
    with pytest.raises(StoreError) as caught:
        failing(*arguments, **keywords)
    return time.monotonic() - before, str(caught.value)


def shift_clocks(monkeypatch, seconds):
    """Let what both servers say of the time be off by so much; their own clock cannot be set."""
    lua = f"redis.call('TIME')\ntime[1] = time[1] + {seconds}\n"
    monkeypatch.setattr(redis, "_SCRIPT", redis._SCRIPT.replace("redis.call('TIME')\n", lua))
    sql = f"(clock_timestamp() + interval '{seconds} s')"
    monkeypatch.setattr(postgres, "_LOCK", postgres._LOCK.replace("clock_timestamp()", sql))


def test_a_server_that_is_killed_and_started_again(own_server, own, monkeypatch, caplog):
    monkeypatch.setattr(fallback, "RETRY_SECONDS", 0.3)
    store = own.open()
    guarded, pace = FallbackStore(store, MemoryStore()), Pace(per_second=50, per_minute=30)
    booked = [guarded.book(pace, spend=Spend(1, 20)) for _ in range(10)]
    own_server.kill()
    with caplog.at_level(logging.WARNING):
        lent = [guarded.book(pace) for _ in range(5)]
        with pytest.raises(StoreError):
            guarded.book(pace, spend=Spend(1, 20))
        own_server.restart()
        time.sleep(0.6)
        booked += [guarded.book(pace, spend=Spend(1, 20)) for _ in range(10)]
    with pytest.raises(BudgetError, match="20 of the 20 credits"):
        guarded.book(pace, spend=Spend(1, 20))
    booked += [guarded.book(pace) for _ in range(11)]
    assert all(later.due - earlier.due > 4 * 0.0209 for earlier, later in pairwise(lent))
    times = [booking.at for booking in booked]
    assert min(times) > 1e9
    assert all(times[i + 30] - times[i] >= MINUTE - 1e-5 for i in range(len(times) - 30))
    assert today(own.open()) == 20
    assert caplog.text.count("no more than a quarter of the account's limits is used") >= 1
    assert own_server.password not in caplog.text


@pytest.mark.parametrize("by_whom", ["the same process", "another, then the same"])
def test_an_emptied_server_gets_everything_back(place, where, by_whom, redis_server, postgres_server):
    store = where.open()
    first = store.book(ONE_A_MINUTE, spend=Spend(3, 9))
    if place.kind == "redis":
        redis_server.client().flushall()
    else:
        postgres_server.client().execute("DROP TABLE airflow_provider_claid_pacing")
    if by_whom != "the same process":
        where.open().book(Pace())
    assert store.book(ONE_A_MINUTE, spend=Spend(1, 9)).at - first.at > 60.249
    assert today(where.open()) == 4


def test_a_connection_that_the_server_closed_is_replaced_without_a_word(own_server, own):
    store = own.open()
    first = store.book(ONE_A_MINUTE)
    with own_server.client() as client:
        if isinstance(own_server, RedisServer):
            client.client_kill_filter(_type="normal", skipme=True)
        else:
            who = "application_name = 'airflow-provider-claid'"
            client.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {who}")
    time.sleep(0.1)
    assert 60.2 < store.book(ONE_A_MINUTE).at - first.at < 60.3


def test_an_answer_of_redis_that_was_lost_is_asked_for_again_and_counts_once(redis_server):
    where = Where(uuid.uuid4().hex, place=place_of(redis_server.airflow_connection()))
    store = where.open()
    store.book(Pace())
    calls, ask = [], store._client.eval

    def lose_the_first_answer(*arguments):
        calls.append(arguments)
        ask(*arguments)
        return ask(*arguments)

    store._client.eval = lose_the_first_answer
    store.book(Pace(), spend=Spend(1, 9))
    assert len(calls) == 1
    assert spent(where.open()) == ({utc_day(time.time()): 1}, 2)


@pytest.mark.parametrize("lags", [False, True])
def test_a_failover_to_a_replica(lags):
    with running(RedisServer()) as first, Relay(first.port) as relay:
        second = RedisServer(["--replicaof", f"127.0.0.1 {first.port}", "--replica-serve-stale-data", "yes"])
        second.password = first.password
        with second:
            place = replace(place_of(first.airflow_connection()), port=relay.port)
            where, other = Where("account", place=place), Where("account", place=place).open()
            store, pace = where.open(), Pace(per_second=1000, per_minute=6)
            booked = [store.book(pace, spend=Spend(1, 100)), other.book(pace)]
            first.client().wait(1, 5000)
            if lags:
                second.client().replicaof("NO", "ONE")
            booked += [store.book(pace, spend=Spend(1, 100)) for _ in range(4)]
            first.client().wait(0 if lags else 1, 5000)
            first.kill()
            if not lags:
                second.client().replicaof("NO", "ONE")
            relay.switch(second.port)
            # The others go on first; they cannot know what was lost, and who does tells them.
            other.book(pace)
            booked.append(store.book(pace, spend=Spend(1, 100)))
            assert booked[-1].at - booked[0].at > 60.249
            assert today(where.open()) == 6


def test_a_replica_that_was_not_promoted_is_not_used_and_left_again():
    with running(RedisServer()) as first, Relay(first.port) as relay:
        second = RedisServer(["--replicaof", f"127.0.0.1 {first.port}"])
        second.password = first.password
        with second:
            store = Where("account", place=replace(place_of(first.airflow_connection()), port=relay.port)).open()
            store.book(Pace())
            relay.switch(second.port)
            assert "read only replica" in seconds_of(store.book, Pace())[1]
            relay.switch(first.port)
            assert store.book(Pace()).due < time.monotonic() + 1


def test_a_failover_to_a_server_that_has_nothing_and_another_clock(kind, monkeypatch):
    with running(kind()) as first, kind() as second, Relay(first.port) as relay:
        second_place = place_of(second.airflow_connection())
        place = replace(second_place, port=relay.port, password=first.password)
        store = Where("account", place=place).open()
        pace = Pace(per_second=1000, per_minute=5)
        booked = [store.book(pace, spend=Spend(1, 100)) for _ in range(5)]
        relay.switch(second.port)
        assert seconds_of(store.book, pace)[0] < 3
        store._place = replace(place, password=second.password)
        shift_clocks(monkeypatch, -5000)
        after = store.book(pace, spend=Spend(1, 100))
        assert abs(after.at - booked[0].at + 5000 - MINUTE) < 1.0
        assert abs(after.due - booked[0].due - MINUTE) < 1.0
        assert today(store) == 6


@pytest.mark.parametrize("step", [-4000, -3, 3, 4000])
def test_a_step_of_the_servers_clock_heals_itself(place, where, step, monkeypatch):
    pace = Pace(per_second=1000, per_minute=5)
    stores = [where.open() for _ in range(3)]
    booked = [store.book(pace) for store in stores + stores[:2]]
    shift_clocks(monkeypatch, step)
    after = stores[1].book(pace)
    assert abs(after.due - booked[0].due - MINUTE) < 1.5
    later = [store.book(pace) for store in (stores[0], stores[2], stores[0], where.open())]
    assert all(-0.1 < booking.due - after.due < 7 for booking in later)
