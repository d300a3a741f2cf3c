"""Credits booked in every store: with the slot or not at all, over threads, processes and midnights."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest

from airflow_provider_claid.pacing.budget import BudgetError, Spend, utc_day
from airflow_provider_claid.pacing.schedule import Pace
from tests.unit.pacing.conftest import spent, today

FAST = Pace(per_second=1000, per_minute=100_000)
ONE_A_MINUTE = Pace(per_second=1000, per_minute=1)
BEFORE, AFTER = "2026-02-28", "2026-03-01"


def test_credits_are_booked_with_the_slot_until_the_day_is_spent(store):
    bookings = [store.book(FAST, spend=Spend(4, 10)) for _ in range(2)]
    assert {(booking.credits, booking.day) for booking in bookings} == {(4, utc_day(time.time()))}
    with pytest.raises(BudgetError) as caught:
        store.book(FAST, spend=Spend(4, 10))
    assert (caught.value.spent, caught.value.limit) == (8, 10)
    assert today(store) == 8
    store.book(FAST, spend=Spend(2, 10))
    assert today(store) == 10


def test_a_refusal_leaves_no_send_time_booked_and_the_store_usable(store):
    first = store.book(ONE_A_MINUTE, spend=Spend(1, 1))
    for _ in range(5):
        with pytest.raises(BudgetError):
            store.book(ONE_A_MINUTE, spend=Spend(1, 1))
    assert 60.2 < store.book(ONE_A_MINUTE).due - first.due < 60.3
    assert spent(store)[1] == 2


def test_a_missed_booking_that_is_refused_anew_keeps_its_credits_until_they_are_given_back(store, near_midnight):
    missed = store.book(FAST, spend=Spend(1, 1))
    near_midnight(1)
    store.book(FAST, spend=Spend(1, 1))
    with pytest.raises(BudgetError):
        store.book(FAST, instead_of=missed, spend=Spend(1, 1))
    assert spent(store) == ({BEFORE: 1, AFTER: 1}, 2)
    store.refund(missed)
    assert spent(store) == ({AFTER: 1}, 2)


def test_a_refund_gives_the_credits_back_and_not_the_slot(store):
    booking = store.book(ONE_A_MINUTE, spend=Spend(3, 3))
    store.refund(booking)
    assert today(store) == 0
    assert store.book(ONE_A_MINUTE, spend=Spend(3, 3)).due - booking.due > 60.249


def test_a_refund_of_a_booking_without_credits_is_nothing(store):
    store.refund(store.book(FAST))
    assert today(store) == 0


def test_a_booking_counts_on_the_day_on_which_it_is_sent(store, near_midnight):
    now = store.book(ONE_A_MINUTE, spend=Spend(2, 4))
    in_a_minute = store.book(ONE_A_MINUTE, spend=Spend(3, 4))
    assert (now.day, in_a_minute.day) == (BEFORE, AFTER)
    assert spent(store)[0] == {BEFORE: 2, AFTER: 3}


def test_a_slot_missed_at_midnight_takes_its_credits_to_the_other_day(store, near_midnight):
    missed = store.book(FAST, spend=Spend(2, 2))
    near_midnight(0.1)
    again = store.book(FAST, instead_of=missed, spend=Spend(2, 2))
    assert (again.day, again.credits) == (AFTER, 2)
    assert spent(store) == ({AFTER: 2}, 1)


def test_a_slot_missed_on_a_day_that_is_spent_is_booked_anew(store):
    missed = store.book(FAST, spend=Spend(2, 2))
    assert store.book(FAST, instead_of=missed, spend=Spend(2, 2)).credits == 2
    assert spent(store) == ({utc_day(time.time()): 2}, 1)


def test_threads_spend_exactly_the_limit(store):
    booked = []

    def spend_some():
        for _ in range(30):
            with suppress(BudgetError):
                booked.append(store.book(FAST, spend=Spend(1, 100)))

    threads = [threading.Thread(target=spend_some) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(booked) == today(store) == 100
