"""A store's clock, read over a network: slow answers shift nothing, and a step of it is noticed at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.pacing.clock import KEPT_SECONDS, ROUNDING, StoreClock

OFFSET = 1_000_000.0
ways = st.tuples(st.floats(0, 3), st.floats(0, 3), st.floats(0, 30))


def ask(clock, now, there=0.0, back=0.0, offset=OFFSET):
    """Ask at `now` for the time; the ways there and back take so many seconds."""
    return clock.observe(now, now + there + offset, now + there + back)


@given(st.lists(ways, min_size=1, max_size=30))
def test_the_error_is_never_more_than_half_of_the_shortest_round_trip_of_the_last_minute(asked):
    clock, now, trips = StoreClock(), 100.0, []
    for there, back, pause in asked:
        now += pause
        assert ask(clock, now, there, back) == 0.0
        now += there + back
        trips.append((now, there + back))
        shortest = min(trip for at, trip in trips if at >= now - KEPT_SECONDS)
        assert abs(clock.store_time(now) - now - OFFSET) <= shortest / 2 + 1e-6


@given(st.lists(ways, max_size=10), st.floats(-100, 100), st.floats(0, 0.1), st.floats(0, 0.1))
def test_a_step_is_noticed_and_what_was_seen_before_forgotten(asked, step, there, back):
    clock, now = StoreClock(), 100.0
    ask(clock, now, 0.001, 0.001)
    for before in asked:
        ask(clock, now, *before[:2])
        now += 1
    noticed = ask(clock, now, there, back, OFFSET + step)
    if abs(step) > there + back + ROUNDING + 0.001 + 0.02:
        assert noticed == pytest.approx(step, abs=there + back + 0.002)
    if noticed:
        assert abs(clock.store_time(now) - now - OFFSET - step) <= (there + back) / 2 + 1e-6
        assert ask(clock, now, 0.0, 0.0, OFFSET + step) == 0.0


def test_clocks_that_drift_are_not_taken_for_stepped():
    clock = StoreClock()
    for second in range(0, 600, 5):
        assert ask(clock, second, 0.0005, 0.0005, OFFSET + second * 0.0002) == 0.0
    assert abs(clock.store_time(600) - 600 - OFFSET - 600 * 0.0002) < KEPT_SECONDS * 0.0002 + 0.001


def test_both_ways_are_the_same_moment():
    clock = StoreClock()
    assert not clock.known
    ask(clock, 5.0)
    assert clock.known
    assert clock.monotonic(clock.store_time(7.0)) == 7.0
