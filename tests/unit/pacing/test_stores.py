"""One suite for every store: the same rules, whoever keeps the bookings."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_claid.pacing.budget import BudgetError, Spend
from airflow_provider_claid.pacing.schedule import Pace
from airflow_provider_claid.pacing.window import Quota
from tests.pacing_stores import Load, assert_paced, in_processes, in_threads
from tests.unit.pacing.conftest import spent, today

FAST = Pace(per_second=1000.0, per_minute=10_000)

paces = st.builds(Pace, per_second=st.sampled_from([3.0, 50.0, 1000.0]), per_minute=st.integers(3, 60))
seeds = st.integers(0, 2**32)


def test_the_first_booking_is_now(store):
    before = time.monotonic()
    booking = store.book(Pace())
    assert before - 0.01 <= booking.due <= time.monotonic() + 0.01


def test_bookings_are_spaced(store):
    times = [store.book(Pace()).at for _ in range(8)]
    assert all(abs(later - earlier - 0.2625) < 0.001 for earlier, later in pairwise(times))


def test_the_minute_is_kept(store):
    times = [store.book(Pace(per_second=1000, per_minute=5)).at for _ in range(6)]
    assert times[5] - times[0] > 60.249


def test_a_missed_booking_is_given_back(store):
    pace = Pace(per_second=1000, per_minute=2)
    first = store.book(pace)
    store.book(pace)
    again = store.book(pace, instead_of=first)
    assert again.due - first.due < 1.0


def test_a_brake_holds_everyone(store):
    store.close(20.0)
    assert store.book(Pace()).due - time.monotonic() > 19.0


def test_a_refusal_that_no_booking_explains_is_told(store):
    booking = store.book(Pace())
    assert store.refused(booking.at, Pace(), Quota(window=60, limit=120, remaining=0, reset=5)) is False
    assert store.book(Pace()).due - time.monotonic() > 5.0


def test_an_accepted_request_that_used_up_a_window_of_ours_is_explained(store):
    pace = Pace(per_second=1000, per_minute=3)
    # A store's clock that becomes better known may go back by milliseconds.
    last = max((store.book(pace) for _ in range(3)), key=lambda booking: booking.at)
    assert store.accepted(last.at, 2.0, Quota(window=60, limit=3, remaining=0, reset=60)) is True


def test_threads_never_book_the_same_time(store):
    times, lock = [], threading.Lock()

    def book_some():
        for _ in range(50):
            # In the store's clock: what this process takes it for is mended by each answer.
            at = store.book(FAST).at
            with lock:
                times.append(at)

    threads = [threading.Thread(target=book_some) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    assert len(times) == 400
    assert all(later - earlier > 0.0009 for earlier, later in pairwise(times))


def test_clients_of_one_store_see_each_other(where):
    one, other = where.open(), where.open()
    times = [client.book(Pace()).at for _ in range(4) for client in (one, other)]
    assert all(abs(later - earlier - 0.2625) < 0.001 for earlier, later in pairwise(times))
    one.close(30.0)
    assert other.book(Pace()).due - time.monotonic() > 29.0


def test_accounts_do_not_see_each_other(where):
    other = replace(where, account=uuid.uuid4().hex)
    pace = Pace(per_second=1000, per_minute=1)
    assert abs(where.open().book(pace).at - other.open().book(pace).at) < 5.0


def test_a_refused_second_widens_the_spacing(store):
    booking = store.book(Pace())
    store.refused(booking.at, Pace(), Quota(window=1, limit=4, remaining=-1, reset=1))
    first, second = store.book(Pace()).at, store.book(Pace()).at
    assert second - first > 0.268


def test_a_change_that_fails_leaves_nothing_behind(store):
    def change(schedule, now, budget):
        schedule.book(now, Pace())
        budget.book("2026-02-28", Spend(1, 9))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store._step(change, budgeted=True)
    assert spent(store) == ({}, 0)


def test_credits_that_another_client_gave_back_can_be_spent(where):
    one, other = where.open(), where.open()
    booking = one.book(FAST, spend=Spend(3, 3))
    with pytest.raises(BudgetError):
        other.book(FAST, spend=Spend(1, 3))
    one.refund(booking)
    assert other.book(FAST, spend=Spend(3, 3)).credits == 3


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paces, st.integers(1, 120), st.lists(seeds, min_size=2, max_size=6))
def test_clients_in_threads_never_break_the_pace_nor_the_budget(where, pace, limit, seeds):
    where = replace(where, account=uuid.uuid4().hex)
    clients = [where.open() for _ in seeds]
    bookings, credits = in_threads(clients, [Load(pace, limit, 10, seed) for seed in seeds])
    assert_paced(bookings, pace)
    assert credits == today(where.open()) <= limit


@pytest.mark.parametrize("pace", [Pace(200.0, 90), Pace(50.0, 10_000)])
def test_clients_in_processes_never_break_the_pace_nor_the_budget(shared_where, pace):
    bookings, credits = in_processes(shared_where, [Load(pace, 150, 50, seed) for seed in range(4)])
    assert_paced(bookings, pace)
    assert credits == today(shared_where.open()) <= 150
