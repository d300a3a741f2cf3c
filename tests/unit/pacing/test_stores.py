"""One suite for every store: the same rules, whoever keeps the bookings."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

from airflow_provider_claid.pacing.schedule import Exhausted, Pace

FAST = Pace(per_second=1000.0, per_minute=10_000)


def test_the_first_booking_is_now(store):
    before = time.monotonic()
    booking = store.book(Pace())
    assert before <= booking.due <= time.monotonic()


def test_bookings_are_spaced(store):
    times = [store.book(Pace()).due for _ in range(8)]
    assert all(abs(later - earlier - 0.2625) < 0.001 for earlier, later in pairwise(times))


def test_the_minute_is_kept(store):
    times = [store.book(Pace(per_second=1000, per_minute=5)).due for _ in range(6)]
    assert times[5] - times[0] >= 60.25


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
    assert store.refused(booking.at, Pace(), Exhausted(window=60, limit=120, reset=5)) is False
    assert store.book(Pace()).due - time.monotonic() > 5.0


def test_an_accepted_request_that_used_up_a_window_of_ours_is_explained(store):
    pace = Pace(per_second=1000, per_minute=3)
    last = [store.book(pace) for _ in range(3)][-1]
    assert store.exhausted(last.at, Exhausted(window=60, limit=3, reset=60)) is True


def test_threads_never_book_the_same_time(store):
    times, lock = [], threading.Lock()

    def book_some():
        for _ in range(50):
            due = store.book(FAST).due
            with lock:
                times.append(due)

    threads = [threading.Thread(target=book_some) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    assert len(times) == 400
    assert all(later - earlier > 0.0009 for earlier, later in pairwise(times))
