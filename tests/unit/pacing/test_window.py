"""A fixed window is used once it is proven, no other is taken for one, and nothing of ours is ever refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_claid.pacing.schedule import DISTRUST, GUARD_CAP, MINUTE, Pace, Schedule
from airflow_provider_claid.pacing.window import FRESH, JITTER, FixedWindow, Quota
from tests.unit.pacing.traffic import ROUNDINGS, Plan, Server, ideal, run

FULL = Pace()
PROCESSES = (1, 2, 4, 8, 30)

phases = st.floats(0, 59.9)
seconds = st.sampled_from(["sliding", "fixed"])
roundings = st.sampled_from(sorted(ROUNDINGS))
later_starts = st.floats(0, 400) | st.sampled_from([60.0, 90.0, 120.0])
plans = st.builds(
    Plan,
    processes=st.sampled_from(PROCESSES),
    requests=st.sampled_from([20, 100, 240, 400]),
    starts=st.lists(later_starts, max_size=4).map(lambda gaps: (1000.0, *sorted(1000.0 + gap for gap in gaps))),
    jitter=st.floats(0, 0.05),
    delay=st.floats(0, 0.3),
    latency=st.sampled_from([(1, 8), (1, 8), (5, 60), (3, 3.1), (0.1, 0.2)]),
    lost=st.sampled_from([0.0, 0.0, 0.05]),
    seed=st.integers(0, 10**6),
)
crowds = st.lists(st.floats(940, 1300), min_size=1, max_size=100).map(tuple)


@settings(max_examples=100, deadline=None)
@given(plans, st.sampled_from(["sliding", "anchored", "fixed"]), seconds, roundings, phases)
def test_alone_we_are_never_refused_and_never_blame_others(plan, minute, second, rounding, phase):
    traffic = run(plan, Server(minute, second, rounding, phase))
    assert (traffic.refused, traffic.unexplained) == ([], 0)
    if not plan.lost:
        assert len(traffic.accepted) == plan.requests // len(plan.starts) * len(plan.starts)


@settings(max_examples=100, deadline=None)
@given(plans, crowds, st.sampled_from(["sliding", "anchored"]), seconds, roundings, phases)
def test_no_other_window_is_taken_for_a_fixed_one_whoever_else_sends(plan, crowd, minute, second, rounding, phase):
    assert run(replace(plan, others=crowd), Server(minute, second, rounding, phase)).proven_at is None


@settings(max_examples=60, deadline=None)
@given(st.floats(3, 27) | st.floats(31.1, 58), st.sampled_from([1, 4, 8]), seconds, roundings, st.integers(0, 10**6))
def test_a_fixed_window_is_used_well(phase, processes, second, rounding, seed):
    traffic = run(Plan(processes, seed=seed), Server("fixed", second, rounding, (phase - 1000) % 60))
    best = ideal(traffic.latencies, "fixed", phase)
    assert traffic.refused == []
    assert best / (traffic.ended - 1000.0) >= 0.90


@settings(max_examples=60, deadline=None)
@given(phases, st.sampled_from([1, 4, 8]), roundings, st.integers(0, 10**6))
def test_other_windows_are_used_as_well_as_ever(phase, processes, rounding, seed):
    traffic = run(Plan(processes, seed=seed), Server("sliding", "sliding", rounding, phase))
    best = ideal(traffic.latencies, "sliding")
    assert best / (traffic.ended - 1000.0) >= 0.97


def proven(boundary=1038.0, booked=(), room=120):
    """A schedule that relies on windows that end at `boundary` and each minute before and after it."""
    window = FixedWindow(boundary - 0.5, boundary + 0.5, 1000.0, 1010.0, 1.0, 8.0, True, room, proven=True)
    return Schedule(booked, window=window)


def answer(schedule, at, reset, remaining=100, took=2.0):
    return schedule.accepted(at, took, Quota(60.0, 120, remaining, reset))


def book_all(schedule, now, count):
    return [schedule.book(now, FULL) for _ in range(count)]


def test_two_full_windows_follow_each_other_and_bookings_near_a_boundary_count_in_both():
    times = book_all(proven(), 1000.0, 360)
    assert times[119] < 1038.0 - 0.5 - JITTER
    assert times[120] == 1038.5
    assert times[239] < 1098.0 - 0.5 - JITTER
    assert times[240] == 1098.5
    late = book_all(proven(), 1020.0, 360)
    for end in (1038.0, 1098.0, 1158.0):
        assert sum(end - 60 - 0.5 - JITTER <= time < end + 0.5 for time in late) <= 120


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 70), min_size=1, max_size=20), st.floats(1000, 1059), st.integers(0, 5))
def test_no_window_holds_more_than_its_room_and_no_legal_moment_is_passed_over(gaps, boundary, room):
    schedule, now, booked, slow = proven(boundary, room=room), 1000.0, [], Pace(4.0, 5)
    spans = [(boundary - 0.5 - JITTER + 60 * k, boundary + 60.5 + 60 * k) for k in range(-2, 30)]

    def is_legal(times):
        times = sorted(times)
        counts = [sum(first - 1e-5 <= time < end - 1e-5 for time in times) for first, end in spans]
        full = any(count > (room if number == 1 else 5) for number, count in enumerate(counts))
        return not full and all(later - earlier >= 0.26249 for earlier, later in pairwise(times))

    for gap in gaps:
        now += min(gap, FRESH / len(gaps))
        at = schedule.book(now, slow)
        moments = [now, *(time + 0.2625 for time in booked), *(end for _, end in spans)]
        assert not any(is_legal([*booked, moment]) for moment in moments if now <= moment < at - 1e-5)
        booked.append(at)
        assert is_legal(booked)


def test_the_sliding_minute_holds_until_a_window_is_proven_and_again_once_it_is_not():
    booked = book_all(Schedule(), 1000.0, 120)
    sliding = booked[0] + MINUTE
    assert proven(booked=booked).book(1032.0, FULL) == 1038.5
    assert Schedule(booked).book(1032.0, FULL) == sliding
    other_reset = proven(booked=booked)
    answer(other_reset, 1020.0, reset=25.0)
    assert other_reset.book(1032.0, FULL) == sliding
    refused = proven(booked=booked)
    refused.refused(1032.0, 1031.9, FULL, Quota(60.0, 120, -1, 6.0))
    assert refused.book(1032.0, FULL) == sliding
    old = proven(booked=[time + FRESH for time in booked])
    assert old.book(1032.0 + FRESH, FULL) == sliding + FRESH


def test_answers_that_name_the_same_instant_go_on_proving_it():
    schedule = proven(booked=book_all(Schedule(), 1000.0, 120))
    for at, reset in ((1020.0, 18.0), (1031.0, 7.0), (1015.0, 23.0), (1050.0, 48.0), (1020.0, 18.0), (1130.0, 28.0)):
        answer(schedule, at, reset)
        assert schedule.window.proven
    assert schedule.window.earliest <= 1158.0 <= schedule.window.latest
    assert schedule.window.heard == schedule.window.since == 1130.0


def test_what_was_not_heard_of_for_long_is_proven_anew():
    schedule = proven()
    answer(schedule, 1011.0 + FRESH, reset=1218.0 - 1011.0 - FRESH)
    assert not schedule.window.proven


def test_a_refusal_by_a_window_that_was_relied_on_is_remembered_for_long():
    schedule = proven(booked=book_all(Schedule(), 1000.0, 120))
    schedule.refused(1039.0, 1038.6, FULL, Quota(60.0, 120, -1, 59.0))
    for at in (1100.0, 1110.0, 1110.0 + DISTRUST / 2):
        answer(schedule, at, reset=30.0)
        assert schedule.window is None
    answer(schedule, 1040.0 + DISTRUST, reset=30.0)
    assert schedule.window is not None


def test_a_schedule_that_was_stepped_or_restored_relies_on_no_window_and_distrusts_as_before():
    stepped, restored, seen = proven(), proven(), Schedule(distrusted_until=2000.0)
    stepped.distrusted_until = 2000.0
    stepped.shift(5.0)
    restored.remember(seen)
    assert (stepped.window, stepped.distrusted_until) == (None, 2005.0)
    assert (restored.window, restored.distrusted_until) == (None, 2000.0)


def test_a_refusal_by_a_second_that_we_filled_says_nothing_about_the_minute():
    schedule = proven(booked=book_all(Schedule(), 1000.0, 8))
    schedule.refused(1002.0, schedule.bookings[7], FULL, Quota(1.0, 4, -1, 1.0))
    assert schedule.window.proven


@pytest.mark.parametrize(
    ("resets", "booked"),
    [
        # A request that is alone in its window opened it, or did not count itself.
        ([60.0, 54.0, 50.0], [1000.0, 1006.0, 1010.0]),
        ([57.0, 51.0, 47.0], [997.0, 1000.0, 1006.0, 1010.0]),
        # A bucket that refills all the time.
        ([1.0, 1.0, 1.0], [1000.0, 1006.0, 1010.0]),
    ],
)
def test_what_looks_like_a_fixed_window_for_a_while_is_none(resets, booked):
    schedule = Schedule(booked)
    for at, reset, remaining, took in zip((1000.0, 1006.0, 1010.0), resets, (119, 118, 117), (1, 8, 3), strict=True):
        answer(schedule, at, reset, remaining, took)
    assert not schedule.window.proven


@pytest.mark.parametrize(
    ("times", "took", "is_proof"),
    [
        ((1000.0, 1006.0), (1.0, 5.0), True),
        ((1000.0, 1003.0), (1.0, 5.0), False),
        # `reset` may be that of the moment of answering, if all answers take equally long.
        ((1000.0, 1006.0), (4.0, 5.0), False),
    ],
)
def test_a_proof_needs_requests_and_waits_that_are_apart(times, took, is_proof):
    schedule = Schedule(times)
    answer(schedule, times[0], 38.0, 119, took[0])
    answer(schedule, times[1], 1038.0 - times[1], 118, took[1])
    assert schedule.window.proven is is_proof


def test_requests_of_others_leave_us_less_room_in_their_window_alone():
    booked = book_all(proven(), 1000.0, 40)
    schedule = proven(booked=booked)
    for index, used in ((9, 40), (19, 50), (29, 55)):
        answer(schedule, booked[index], 1038.0 - booked[index], remaining=120 - used)
    times = [*booked, *book_all(schedule, 1010.5, 240)]
    # One more than the 90 that are left: what was booked just after a request may have overtaken it.
    assert sum(time < 1038.0 for time in times) == 91
    assert sum(1038.0 < time < 1098.0 for time in times) == 120


def test_the_last_of_a_window_is_ours_if_we_filled_it_and_of_others_if_not():
    booked = book_all(proven(), 1000.0, 120)
    ours = proven(booked=booked)
    assert answer(ours, booked[-1], 7.0, remaining=0)
    assert ours.book(1032.0, FULL) == pytest.approx(1038.5, abs=0.5)
    theirs = proven(booked=booked[:60])
    assert not answer(theirs, booked[59], 1038.0 - booked[59], remaining=0)
    assert theirs.book(1020.0, FULL) > 1038.0


@given(st.floats(1000, 1059), st.integers(0, 120), st.booleans(), st.floats(0, 2e9))
def test_what_is_known_comes_back_as_it_was(boundary, room, is_proven, distrusted_until):
    schedule = proven(boundary, [1.0, 2.0], room)
    schedule.window = replace(schedule.window, proven=is_proven)
    schedule.distrusted_until = distrusted_until
    found = Schedule.load(schedule.dump())
    assert (found.window, found.distrusted_until) == (schedule.window, distrusted_until)
    assert vars(found.copy()) == vars(schedule.copy())


@pytest.mark.parametrize("window", [b"[1]", b'{"latest": 1.0}', b"1037.5"])
def test_a_window_that_is_none_is_no_schedule(window):
    dumped = Schedule().dump().replace(b'"window": null', b'"window": ' + window)
    with pytest.raises(ValueError, match="no schedule"):
        Schedule.load(dumped)
    with pytest.raises(ValueError, match="no schedule"):
        Schedule.load(proven().dump().replace(b"1037.5", b"null"))


def test_a_jitter_that_the_spacing_allows_for_is_one_that_the_boundary_allows_for():
    assert JITTER >= GUARD_CAP
