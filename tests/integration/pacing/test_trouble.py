"""Slow servers, full ones, strange ones: each step is bounded, and what is said of it shows no secret."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from dataclasses import replace

import pytest

from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.pacing.budget import Spend
from airflow_provider_claid.pacing.schedule import Pace
from airflow_provider_claid.pacing.store import StoreError
from tests.conftest import self_signed
from tests.integration.pacing.conftest import place_of, running
from tests.integration.pacing.test_losses import seconds_of
from tests.pacing_stores import Load, Where, assert_paced, in_processes
from tests.services.postgres import PostgresServer
from tests.services.processes import free_port
from tests.services.redis import RedisServer
from tests.unit.pacing.conftest import today

ONE_A_MINUTE = Pace(per_second=1000, per_minute=1)


@pytest.fixture
def in_redis(redis_server):
    return Where(uuid.uuid4().hex, place=place_of(redis_server.airflow_connection()))


@pytest.fixture
def in_postgres(postgres_server):
    return Where(uuid.uuid4().hex, place=place_of(postgres_server.airflow_connection()))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(self_signed("localhost"))
    path.chmod(0o600)
    return path


def at_the_same_time(work):
    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.2)
    return thread


def test_a_redis_that_sleeps_shifts_no_send_time(redis_server, in_redis):
    store = in_redis.open()
    first = store.book(Pace())
    client = redis_server.client()
    sleeper = at_the_same_time(lambda: client.execute_command("DEBUG", "SLEEP", "1.6"))
    slow = store.book(ONE_A_MINUTE)
    sleeper.join()
    assert abs((slow.due - first.due) - (slow.at - first.at)) < 0.005


def test_a_redis_that_sleeps_long_is_not_waited_for(redis_server, in_redis):
    store = in_redis.open()
    store.book(Pace())
    client = redis_server.client()
    sleeper = at_the_same_time(lambda: client.execute_command("DEBUG", "SLEEP", "4"))
    assert 1.5 < seconds_of(store.book, Pace())[0] < 4
    sleeper.join()
    store.book(Pace())


def test_a_frozen_redis_is_not_waited_for():
    with running(RedisServer()) as server:
        store = Where("account", place=place_of(server.airflow_connection())).open()
        store.book(Pace())
        server.freeze()
        took = [seconds_of(store.book, Pace())[0] for _ in range(2)]
        server.thaw()
        assert max(took) < 5
        store.book(Pace())


def test_a_frozen_postgres_is_not_waited_for(in_postgres):
    store = in_postgres.open()
    store.book(Pace())
    backend = store._connection.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    try:
        assert 2 < seconds_of(store.book, Pace())[0] < 4
        store.book(Pace())
    finally:
        os.kill(backend, signal.SIGCONT)


@pytest.mark.parametrize(("holds", "fails"), [(0.8, False), (4.0, True)])
def test_a_row_that_another_session_holds_is_waited_for_so_long(postgres_server, in_postgres, holds, fails):
    store = in_postgres.open()
    first = store.book(Pace())
    client = postgres_server.client()

    def hold():
        locked = "SELECT * FROM airflow_provider_claid_pacing FOR UPDATE"
        client.execute(f"BEGIN; {locked}; SELECT pg_sleep({holds}); COMMIT")

    holder = at_the_same_time(hold)
    if fails:
        took, said = seconds_of(store.book, Pace())
        assert 1.5 < took < 30
        assert "timeout" in said
    else:
        held = store.book(Pace())
        assert abs((held.due - first.due) - (held.at - first.at)) < 0.005
    holder.join()
    store.book(Pace())


def test_a_process_that_stops_while_it_holds_the_row_is_put_out(in_postgres):
    stuck, other = in_postgres.open(), in_postgres.open()
    failures, done = [], threading.Event()

    def stop_in_the_middle():
        try:
            stuck._step(lambda schedule, now, _: done.wait(60))
        except StoreError as failure:
            failures.append(str(failure))

    thread = at_the_same_time(stop_in_the_middle)
    other.book(Pace())
    assert not done.is_set() and thread.is_alive()
    done.set()
    thread.join()
    assert failures
    stuck.book(Pace())


def test_a_statement_timeout_is_told(in_postgres, monkeypatch):
    from airflow_provider_claid.pacing import postgres

    store = in_postgres.open()
    monkeypatch.setattr(postgres, "_LOCK", f"SELECT pg_sleep(5); {postgres._LOCK}")
    took, said = seconds_of(store.book, Pace())
    assert took < 30
    assert "statement timeout" in said


def test_a_row_that_was_evicted_is_made_again():
    with running(RedisServer(["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru"])) as server:
        where = Where("account", place=place_of(server.airflow_connection()))
        store, client = where.open(), server.client()
        first = store.book(ONE_A_MINUTE, spend=Spend(2, 9))
        for number in range(400):
            client.set(f"junk {number}", b"x" * 20_000)
        assert not client.exists(store._name)
        assert store.book(ONE_A_MINUTE, spend=Spend(1, 9)).at - first.at > 60.249
        assert today(where.open()) == 3


def test_a_redis_without_memory_left_is_told():
    with running(RedisServer(["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"])) as server:
        store = Where("account", place=place_of(server.airflow_connection())).open()
        assert "maxmemory" in seconds_of(store.book, Pace())[1]


def test_a_redis_that_is_loading_or_refuses_to_write_is_told(redis_server, in_redis):
    client = redis_server.client()
    client.config_set("min-replicas-to-write", 1)
    try:
        assert "NOREPLICAS" in seconds_of(in_redis.open().book, Pace())[1]
    finally:
        client.config_set("min-replicas-to-write", 0)


def test_an_account_that_nobody_uses_goes_away(redis_server, in_redis):
    store = in_redis.open()
    store.book(Pace())
    assert 2 * 86_400 < redis_server.client().ttl(store._name) <= 3 * 86_400
    assert in_redis.account.encode() not in b"".join(redis_server.client().keys("*"))


def test_a_wrong_password_is_told_and_not_shown(place):
    store = Where("account", place=replace(place, password="hunter2")).open()
    took, said = seconds_of(store.book, Pace())
    assert "password" in said
    assert "hunter2" not in said
    assert took < 30
    assert "'shared'" in said


def test_nothing_listens(place):
    port = free_port()
    took, said = seconds_of(Where("account", place=replace(place, port=port)).open().book, Pace())
    assert took < 30
    assert str(port) in said


def test_a_postgres_user_who_may_not_make_a_table_is_told(postgres_server):
    with postgres_server.client() as client:
        client.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    postgres_server.make_database("guests")
    place = replace(place_of(postgres_server.airflow_connection("guests")), user="guest", password="guest")
    assert "permission denied" in seconds_of(Where("account", place=place).open().book, Pace())[1]


def test_many_processes_make_the_table_at_once(postgres_server):
    name = uuid.uuid4().hex
    postgres_server.make_database(name)
    where = Where("account", place=place_of(postgres_server.airflow_connection(name)))
    pace = Pace(100, 10_000)
    bookings, _ = in_processes(where, [Load(pace, 100, 5, seed) for seed in range(6)])
    assert_paced(bookings, pace)


def test_redis_over_tls(certificate):
    with running(RedisServer(certificate=certificate)) as server:
        place = place_of(server.airflow_connection())
        assert Where("account", place=place).open().book(Pace()).at > 0
        unchecked = replace(place, options=(("ssl", True), ("ssl_cert_reqs", "required")))
        assert "CERTIFICATE_VERIFY_FAILED" in seconds_of(Where("account", place=unchecked).open().book, Pace())[1]
        seconds_of(Where("account", place=replace(place, options=())).open().book, Pace())


def test_postgres_over_tls(certificate):
    with running(PostgresServer(certificate=certificate)) as server:
        checked = server.airflow_connection(sslmode="verify-full", sslrootcert=str(certificate))
        store = Where("account", place=place_of(checked)).open()
        store.book(Pace())
        assert store._connection.pgconn.ssl_in_use
        other = server.airflow_connection(sslmode="verify-full", sslrootcert="/nowhere.pem")
        assert "nowhere.pem" in seconds_of(Where("account", place=place_of(other)).open().book, Pace())[1]


def test_a_redis_cluster():
    with running(RedisServer(cluster=True)) as server:
        place = place_of(server.airflow_connection(cluster=True))
        where = Where("account", place=place)
        assert place.cluster
        one, other = where.open(), where.open()
        times = [client.book(Pace(), spend=Spend(1, 99)).at for _ in range(3) for client in (one, other)]
        assert times == sorted(set(times))
        assert today(one) == 6
        server.kill()
        assert seconds_of(one.book, Pace())[0] < 30


def test_a_database_that_is_not_there_is_told(place):
    missing = "99" if place.kind == "redis" else "nowhere"
    seconds_of(Where("account", place=replace(place, database=missing)).open().book, Pace())


def test_a_forked_child_uses_a_client_of_its_own(place, where):
    store = where.open()
    first = store.book(ONE_A_MINUTE)
    child = os.fork()
    if child == 0:
        os._exit(0 if store.book(ONE_A_MINUTE).at - first.at > 60.249 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.book(ONE_A_MINUTE).at - first.at > 120.49


def test_a_fork_in_the_middle_of_a_step_harms_neither(where):
    store = where.open()
    store.book(Pace())
    slow = at_the_same_time(lambda: store._step(lambda schedule, now, _: time.sleep(0.6)))
    child = os.fork()
    if child == 0:
        store.book(Pace())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    slow.join()
    store.book(Pace())


def test_what_is_wrong_with_the_connection_is_said_before_anything_is_opened():
    with pytest.raises(ClaidConfigurationError, match="extra db"):
        place_of({"conn_type": "redis", "host": "127.0.0.1", "extra": {"db": "first"}})
