"""What follows from rate headers: announced limits come and go, and a refusal names one window and a bounded wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.pacing.announced import BELIEVED, Announced, said_of_minute, used_up_window
from airflow_provider_claid.pacing.headers import RateLimit
from airflow_provider_claid.pacing.schedule import LONGEST_BRAKE, Pace

windows = st.sampled_from([1.0, 60.0, 3600.0, 0.5])
counts = st.integers(-5, 1000)
answers = st.lists(st.tuples(st.lists(st.tuples(counts, windows), max_size=4), st.floats(0, 1000)), max_size=12)
paces = st.builds(Pace, st.sampled_from([0.05, 4.0, 20.0]), st.integers(1, 600))
seconds = st.one_of(st.none(), st.floats(0, 1e12))
limits = st.builds(
    RateLimit,
    limit=st.none() | st.integers(0, 1000),
    window=st.none() | st.sampled_from([1.0, 60.0]),
    remaining=st.none() | st.integers(-3, 1000),
    reset=seconds,
)


@given(answers, paces)
def test_the_pace_is_never_above_the_account_s_limits_nor_stopped(said, pace):
    announced, now = Announced(), 0.0
    for policies, later in said:
        now += later
        announced.note(policies, now)
        kept = announced.pace(pace, now)
        assert 0 < kept.per_second <= pace.per_second
        assert 0 < kept.per_minute <= pace.per_minute


@given(answers, paces)
def test_the_latest_answer_counts_whatever_was_said_before(said, pace):
    announced = Announced()
    for policies, _ in said:
        announced.note(policies, 0.0)
    announced.note([(100_000, 60.0), (100_000, 1.0)], 1.0)
    assert announced.pace(pace, 1.0) == pace
    announced.note([(1, 60.0)], 2.0)
    assert announced.pace(pace, 2.0) == Pace(pace.per_second, 1)


@given(answers, paces)
def test_what_nobody_says_any_more_is_forgotten(said, pace):
    announced = Announced()
    for policies, _ in said:
        announced.note(policies, 0.0)
    assert announced.pace(pace, BELIEVED + 1) == pace


@given(limits, paces)
def test_every_refusal_names_a_window_and_a_wait_within_the_longest_brake(limit, pace):
    quota = used_up_window(limit, pace)
    assert quota.window in (1.0, 60.0)
    assert 0 <= quota.reset <= LONGEST_BRAKE
    said = said_of_minute(limit)
    assert said is None or said.remaining > 0 or said.reset <= LONGEST_BRAKE
