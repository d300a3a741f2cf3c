"""The rules of the pace hold for any arrival pattern, and no legal time is passed over."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_claid.pacing.schedule import (
    EPSILON,
    GUARD_CAP,
    GUARD_START,
    LONGEST_QUEUE,
    MINUTE,
    Pace,
    Schedule,
)
from airflow_provider_claid.pacing.window import Quota

FULL = Pace()
SMALL = Pace(per_second=4.0, per_minute=5)

arrivals = st.lists(st.floats(0, 90, allow_nan=False), min_size=1, max_size=60)
# Steps of a millisecond: sums are equal or far apart, and none lies within what counts as equal.
milliseconds = st.integers(0, 40_000).map(lambda number: number / 1000)
bursts = st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.2, 5.0, 59.0, 60.25]), min_size=1, max_size=400)


def book_all(gaps, pace):
    schedule, now, booked = Schedule(), 1000.0, []
    for gap in gaps:
        now += gap
        booked.append(schedule.book(now, pace))
        assert booked[-1] >= now
    return booked


def breaks_a_rule(times, pace, spacing):
    times = sorted(times)
    if any(later - earlier < spacing - 2 * EPSILON for earlier, later in pairwise(times)):
        return True
    most = pace.per_minute
    return any(times[i + most] - times[i] < MINUTE - 2 * EPSILON for i in range(len(times) - most))


@given(bursts)
def test_no_minute_holds_more_than_the_limit_and_no_two_are_closer_than_the_spacing(gaps):
    assert not breaks_a_rule(book_all(gaps, FULL), FULL, 0.2625)


@given(arrivals)
def test_the_same_with_a_small_limit_and_any_gaps(gaps):
    assert not breaks_a_rule(book_all(gaps, SMALL), SMALL, 0.2625)


def earliest_by_brute_force(times, now, pace, spacing):
    candidates = [now, *(t + spacing for t in times), *(t + MINUTE for t in times)]
    return min(c for c in candidates if c >= now and not breaks_a_rule([*times, c], pace, spacing))


@settings(max_examples=300)
@given(st.lists(st.tuples(milliseconds, st.booleans(), st.integers(0, 100)), min_size=1, max_size=30))
def test_a_legal_slot_is_never_skipped_even_where_a_booking_was_given_back(steps):
    schedule, now, times = Schedule(), 50.0, []
    for gap, give_back, which in steps:
        now += gap
        given_back = times.pop(which % len(times)) if give_back and times else None
        expected = earliest_by_brute_force(times, now, SMALL, schedule.spacing(SMALL))
        at = schedule.book(now, SMALL, instead_of=given_back)
        assert abs(at - expected) <= EPSILON
        times.append(at)


def test_a_full_quota_takes_as_long_as_the_arithmetic_says():
    booked = book_all([0.0] * 240, FULL)
    assert abs(booked[119] - booked[0] - 119 * 0.2625) < 1e-6
    assert abs(booked[239] - booked[0] - (MINUTE + 119 * 0.2625)) < 1e-6


def test_refusals_widen_the_spacing_up_to_the_cap_and_bookings_narrow_it_again():
    schedule = Schedule()
    for _ in range(100):
        schedule.refused(10.0, 10.0, FULL, Quota(window=1, limit=4, remaining=0, reset=1))
    assert schedule.guard == GUARD_CAP
    now = 20.0
    for _ in range(1000):
        now += 30
        schedule.book(now, FULL)
    assert GUARD_START <= schedule.guard < GUARD_START + 0.001


def test_a_late_send_widens_the_spacing_to_what_was_measured():
    schedule = Schedule()
    schedule.book(0.0, FULL, spread=0.2)
    assert schedule.guard == 0.2


def test_a_used_up_minute_closes_the_schedule_until_it_resets():
    schedule = Schedule()
    at = schedule.book(100.0, FULL)
    explained = schedule.refused(101.0, at, FULL, Quota(window=60, limit=120, remaining=0, reset=30))
    assert not explained
    assert schedule.book(101.0, FULL) == 132.0


def test_a_refusal_in_a_minute_that_we_filled_ourselves_is_explained():
    schedule = Schedule()
    for _ in range(119):
        schedule.book(100.0, FULL)
    last = schedule.book(100.0, FULL)
    assert schedule.refused(last + 1, last, FULL, Quota(window=60, limit=120, remaining=0, reset=30))


def test_four_sends_in_a_second_explain_a_refusal_by_the_second_but_one_does_not():
    schedule = Schedule()
    times = [schedule.book(100.0, FULL) for _ in range(4)]
    assert schedule.refused(102.0, times[-1], FULL, Quota(window=1, limit=4, remaining=0, reset=1))
    alone = Schedule()
    assert not alone.refused(102.0, alone.book(100.0, FULL), FULL, Quota(window=1, limit=4, remaining=0, reset=1))


def test_an_accepted_last_request_brakes_only_if_it_is_not_ours():
    ours = Schedule()
    for _ in range(119):
        ours.book(100.0, FULL)
    last = ours.book(100.0, FULL)
    assert ours.accepted(last, 2.0, Quota(window=60, limit=120, remaining=0, reset=60))
    assert ours.closed_until == 0.0
    theirs = Schedule()
    at = theirs.book(100.0, FULL)
    assert not theirs.accepted(at, 2.0, Quota(window=60, limit=120, remaining=0, reset=20))
    assert theirs.book(101.0, FULL) == at + 21.0


def test_a_minute_that_is_named_long_after_it_ended_is_still_ours():
    schedule = Schedule()
    for _ in range(119):
        schedule.book(100.0, FULL)
    last = schedule.book(100.0, FULL)
    schedule.book(last + 150.0, FULL)
    assert schedule.accepted(last, 2.0, Quota(window=60, limit=120, remaining=0, reset=30))


def test_bookings_of_another_boot_far_ahead_are_dropped():
    ahead = 10.0 + LONGEST_QUEUE / 120 * 60
    assert Schedule([ahead + 1.0, ahead + 2.0], closed_until=ahead).book(10.0, FULL) == 10.0
    assert Schedule([10.0, ahead - 1.0]).book(10.0, FULL) > 10.0


def test_a_slow_pace_is_kept_too():
    slow = Pace(per_second=1 / 60, per_minute=1)
    schedule = Schedule()
    booked = [schedule.book(0.0, slow) for _ in range(100)]
    assert all(later - earlier >= 60.25 for earlier, later in pairwise(booked))
    assert schedule.book(booked[-1] + 61.0, slow) >= booked[-1] + 63.0


@given(st.floats(0.01, 1.0))
def test_a_share_is_never_nothing(part):
    share = FULL.share(part)
    assert share.per_minute >= 1
    assert share.per_second > 0


times = st.lists(st.floats(0, 2e9), max_size=50)


@given(times, st.floats(0, GUARD_CAP), st.floats(0, 2e9))
def test_a_dumped_schedule_comes_back_as_it_was(bookings, guard, closed_until):
    schedule = Schedule(bookings, guard, closed_until)
    found = Schedule.load(schedule.dump())
    assert (found.bookings, found.guard, found.closed_until) == (schedule.bookings, guard, closed_until)


@pytest.mark.parametrize(
    "dumped",
    [
        b"",
        b"no schedule",
        b"[]\n",
        b'{"version": 2, "guard": 0.05, "closed_until": 0.0}\n',
        Schedule([1.0]).dump()[:-1],
        Schedule([1.0]).dump().replace(b"guard", b"other"),
        Schedule([1.0]).dump().replace(b"0.05", b"null"),
    ],
)
def test_what_is_no_schedule_is_refused(dumped):
    with pytest.raises(ValueError, match=r"."):
        Schedule.load(dumped)
