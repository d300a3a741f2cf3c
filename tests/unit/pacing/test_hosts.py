"""Hosts while their common store is away: each takes its part, by how many were seen, and the sum keeps the limits."""

from __future__ import annotations

import heapq
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.pacing.budget import Budget
from airflow_provider_claid.pacing.fallback import SHARE, HostsFallbackStore
from airflow_provider_claid.pacing.schedule import HOST_KEPT, HOST_SAYS, MINUTE, Pace, Schedule
from airflow_provider_claid.pacing.sqlite import SQLiteStore, host_of
from airflow_provider_claid.pacing.store import MemoryStore, ScheduleStore, StoreError
from tests.unit.pacing.traffic import Server

PACE = Pace(per_second=1000, per_minute=160)


class Common(ScheduleStore):
    """What several hosts reach until it is `away`; each client is of one host."""

    away = False
    schedule = Schedule()

    def __init__(self, host, known=True):
        self.host = host
        self._seen = {} if known else None

    def _step(self, change, *, budgeted=False):
        if Common.away:
            raise StoreError("away")
        Common.schedule.note_host(self.host, time.monotonic())
        result = change(Common.schedule, time.monotonic(), Budget())
        self._seen = dict(Common.schedule.hosts)
        return result

    def hosts(self):
        return self._seen or {}


@pytest.fixture(autouse=True)
def _common(monkeypatch):
    monkeypatch.setattr(Common, "away", False)
    monkeypatch.setattr(Common, "schedule", Schedule())


@pytest.mark.parametrize("count", [1, 4, 5, 8, 20])
def test_the_sum_of_all_hosts_keeps_the_minute_while_the_store_is_away(tmp_path, count, monkeypatch):
    def client(number):
        return HostsFallbackStore(Common(f"host {number}"), SQLiteStore(tmp_path / str(number), "account"))

    clients = [client(number) for number in range(count)]
    for store in [*clients, *clients]:
        store.book(PACE)
    monkeypatch.setattr(Common, "away", True)
    # A process that begins now knows what its host knew.
    late = [client(number) for number in range(count)]
    booked = sorted(each.book(PACE).due for pair in zip(clients, late, strict=True) for each in pair for _ in range(24))
    most = PACE.per_minute
    assert all(booked[index + most] - booked[index] >= MINUTE - 1e-5 for index in range(len(booked) - most))


def test_fewer_hosts_take_more_again(tmp_path):
    hosts = {f"host {number}": time.monotonic() for number in range(8)}
    Common.schedule.hosts = hosts
    store = HostsFallbackStore(Common("host 0"), MemoryStore())
    store.book(PACE)
    assert len(store._second.hosts()) == 8
    Common.schedule.hosts = {"host 0": time.monotonic()}
    store.book(PACE)
    assert len(store._second.hosts()) == 1


def refusals(count, pace, apart, seconds=600.0):
    """Return how many requests of so many busy hosts, each at this pace, a server refuses; and how many it accepts."""
    server, schedules = Server("sliding"), [Schedule() for _ in range(count)]
    events = [(schedules[number].book(1000.0 + apart * number, pace), number) for number in range(count)]
    heapq.heapify(events)
    refused = accepted = 0
    while events[0][0] < 1000.0 + seconds:
        at, number = heapq.heappop(events)
        counted, quota = server.count(at)
        accepted, refused = accepted + counted, refused + (not counted)
        if not counted:
            schedules[number].refused(at, at, pace, quota)
        heapq.heappush(events, (schedules[number].book(at, pace), number))
    return refused, accepted


def lent(count):
    """Return what each of so many hosts may use while the store is away."""
    store = HostsFallbackStore(Common("host"), MemoryStore())
    store._share = min(SHARE, 1 / count)
    return store._lent(Pace())


@pytest.mark.parametrize("apart", [0.0, 0.1, 0.37])
@pytest.mark.parametrize("count", [1, 4, 5, 8, 16, 30])
def test_the_parts_of_all_hosts_are_hardly_refused_and_use_what_they_may(count, apart):
    refused, accepted = refusals(count, lent(count), apart)
    # Those that began together are pushed apart once, by refusals that are not billed.
    assert refused <= 7 * count
    assert accepted > 900 * min(1, count / 4)
    if count > 4:
        assert refusals(count, Pace().share(SHARE), apart)[0] > 100


def test_processes_of_one_folder_are_one_host(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    assert host_of(one) == host_of(one) != host_of(other) != ""
    other.chmod(0o777)
    assert host_of(other) == ""


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 300)), max_size=50))
def test_every_host_of_the_last_minutes_is_known_and_no_other(said):
    schedule, now, last = Schedule(), 0.0, {}
    for name, later in said:
        now += later
        schedule.note_host(name, now)
        last[name] = now
        lately = {each for each, at in last.items() if now - at < HOST_KEPT - HOST_SAYS}
        assert lately <= set(schedule.hosts) <= set(last)
    assert Schedule.load(schedule.dump()).hosts == schedule.hosts
