"""What a shared store lost is made good by who saw it, and a step of its clock makes nobody wait or hurry."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.pacing.budget import Budget, Spend
from airflow_provider_claid.pacing.place import Place
from airflow_provider_claid.pacing.schedule import MINUTE, Pace, Schedule
from airflow_provider_claid.pacing.shared import Kept, Memory, SharedStore, Version
from airflow_provider_claid.pacing.store import key_of
from airflow_provider_claid.pacing.window import Quota

NOW = 1_790_000_000.0
DAY = "2026-09-21"
PACE = Pace(per_second=4, per_minute=5)


class Store:
    """A store as it is on the server: what is kept, and its clock."""

    def __init__(self, now=NOW):
        self.kept, self.now = Kept(), now


class Process:
    """One that books in a store, and remembers."""

    def __init__(self):
        self.memory = Memory()

    def book(self, store, pace=PACE, credits=0):
        schedule, budget = self.memory.resume(store.kept, store.now)
        at = schedule.book(store.now, pace)
        if credits:
            budget.book(DAY, Spend(credits, 1000))
        version = store.kept.version.next()
        store.kept = Kept(version, store.now, schedule.dump(), budget.dump())
        self.memory.see(version, schedule, budget)
        return at

    def step(self, store, seconds):
        """Let the store's clock jump, and this process notice it."""
        self.memory.stepped(store.now, seconds)


def spent(store):
    return Budget.load(store.kept.budget).days.get(DAY, 0)


def test_processes_take_turns_without_a_memory_getting_in_the_way():
    store, one, other = Store(), Process(), Process()
    times = [process.book(store, credits=1) for _ in range(20) for process in (one, other)]
    alone = Schedule()
    assert times == [alone.book(NOW, PACE) for _ in range(40)]
    assert spent(store) == 40


@pytest.mark.parametrize("also_other", [False, True])
def test_a_store_that_was_emptied_gets_everything_back(also_other):
    store, one, other = Store(), Process(), Process()
    times = [one.book(store, credits=2) for _ in range(5)]
    store.kept = Kept()
    if also_other:
        # Who saw nothing of it cannot know; it makes a line of its own, which the first one tells from the old.
        times.append(other.book(store))
    assert one.book(store, credits=1) >= times[0] + MINUTE
    assert spent(store) == 11


def test_a_replica_that_lags_behind_gets_back_what_it_missed():
    store, one, other = Store(), Process(), Process()
    times = [one.book(store, credits=1) for _ in range(3)]
    lagging = store.kept
    times += [one.book(store, credits=1), other.book(store, credits=1)]
    store.kept = lagging
    assert other.book(store, credits=1) >= times[0] + MINUTE
    assert spent(store) == 6


@pytest.mark.parametrize("broken", [b"", b"no schedule", b'{"version": 99}\n'])
def test_what_cannot_be_read_is_replaced(broken):
    store, one = Store(), Process()
    times = [one.book(store, credits=1) for _ in range(5)]
    store.kept = Kept(store.kept.version.next(), store.now, broken, b"broken")
    assert one.book(store) >= times[0] + MINUTE
    assert spent(store) == 5


def test_a_clock_put_back_holds_up_nobody_and_lets_nobody_hurry():
    for knows in (True, False):
        store, one = Store(), Process()
        for _ in range(5):
            one.book(store)
        store.now -= 3000
        who = one if knows else Process()
        if knows:
            who.step(store, -3000)
        assert store.now + MINUTE - 2 < who.book(store) < store.now + MINUTE + 2


def test_a_clock_put_forward_lets_nobody_hurry():
    store, one, other = Store(), Process(), Process()
    for _ in range(4):
        one.book(store)
    other.book(store)
    store.now += 30
    one.step(store, 30)
    first = one.book(store)
    assert store.now + MINUTE - 2 < first < store.now + MINUTE + 2
    other.step(store, 30)
    assert first < other.book(store) < first + 31


def test_who_wrote_last_moves_what_is_kept_once():
    store, one, other = Store(), Process(), Process()
    for _ in range(4):
        other.book(store)
    one.book(store)
    store.now += 3000
    one.step(store, 3000)
    assert store.now + MINUTE - 2 < one.book(store) < store.now + MINUTE + 2
    moved = list(Schedule.load(store.kept.schedule).bookings)
    other.step(store, 3000)
    other.book(store)
    assert list(Schedule.load(store.kept.schedule).bookings)[: len(moved)] == moved


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "emptied", "lags"]), st.sampled_from([0.0, 0.2, 5.0, 61.0]))))
def test_the_pace_is_kept_whatever_is_lost_if_who_saw_it_comes_first(events):
    store, processes, times = Store(), {name: Process() for name in "abc"}, []
    last = processes["a"]
    for event, pause in events:
        store.now += pause
        if event == "emptied":
            store.kept = Kept()
        elif event == "lags":
            older = store.kept
            times += [last.book(store), last.book(store)]
            store.kept = older
        else:
            last = processes[event]
        times.append(last.book(store))
    times.sort()
    assert all(later - earlier >= 0.2625 - 1e-5 for earlier, later in pairwise(times))
    assert all(times[i + 5] - times[i] >= MINUTE - 1e-5 for i in range(len(times) - 5))


def test_a_write_that_a_replica_missed_is_noticed_after_others_went_on():
    store, one, other = Store(), Process(), Process()
    other.book(store, credits=1)
    lagging = store.kept
    one.book(store, credits=5)
    store.kept = lagging
    for _ in range(9):
        other.book(store)
    assert spent(store) == 1
    one.book(store, credits=1)
    assert spent(store) == 7


def test_versions():
    first = Version().next()
    second = first.next()
    assert str(Version()) == ""
    assert (Version.parse(str(second)), Version.parse("")) == (second, Version())
    assert (second.line, second.count) == (first.line, 2)
    assert str(first.next()) != str(second)
    assert second.follows(first) and second.follows(second)
    assert not first.follows(second)
    assert not first.next().follows(second)
    assert not Version().next().follows(first)
    for _ in range(100):
        second = second.next()
    assert second.follows(first)
    assert len(str(second)) < 400
    assert Version.parse("of another") == Version("of another")


def test_the_key_holds_no_account():
    assert "secret" not in key_of("secret")
    assert key_of("secret") != key_of("other")


class Ticking(SharedStore):
    """A store whose steps are seen."""

    def __init__(self):
        super().__init__(Place("redis", "p", "store", 1), "account")
        self.schedule = Schedule()

    def _transact(self, change, *, budgeted):
        return change(self.schedule, NOW, Budget())

    def _forget_client(self):
        pass


def test_a_refusal_of_what_this_hosts_own_store_booked_brakes_and_blames_nobody():
    store, used_up = Ticking(), Quota(window=60, limit=120, remaining=0, reset=5)
    assert store.refused(1234.5, Pace(), used_up) is True
    assert store.schedule.closed_until == NOW + 6
    assert store.accepted(1234.5, 2.0, used_up) is True
    assert store.refused(NOW, Pace(), used_up) is False
    assert store.accepted(NOW, 2.0, used_up) is False
