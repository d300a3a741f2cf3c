"""The rate windows against a brute-force oracle that keeps every request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.sandbox.windows import NANOSECONDS, Policy, RateLimiter

KINDS = ["sliding", "fixed", "anchored"]
# Quarters of a second, so that many requests fall exactly on the edge of a window.
gaps = st.lists(st.integers(0, 12).map(lambda quarters: quarters * NANOSECONDS // 4), max_size=60)
policies = st.lists(
    st.builds(Policy, limit=st.integers(1, 6), seconds=st.integers(1, 8)),
    min_size=1,
    max_size=3,
    unique_by=lambda policy: policy.seconds,
)


def room_from(kind, policy, counted, now):
    """The earliest time from `now` on at which the policy has room, if nothing else arrives, by trying every edge."""
    width = policy.seconds * NANOSECONDS
    edges = {now, *(time + width for time in counted), now // width * width + width}
    return min(edge for edge in edges if edge >= now and used(kind, width, counted, edge) < policy.limit)


def used(kind, width, counted, now):
    if kind == "sliding":
        return sum(now - width < time <= now for time in counted)
    if kind == "fixed":
        return sum(time // width == now // width for time in counted)
    start, inside = None, 0
    for time in counted:
        if start is None or time >= start + width:
            start, inside = time, 0
        inside += 1
    return inside if start is not None and now < start + width else 0


@pytest.mark.parametrize("count_refused", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@given(gaps=gaps, policies=policies, first=st.integers(0, 40).map(lambda quarters: quarters * NANOSECONDS // 4))
def test_decides_as_the_oracle_does(kind, count_refused, gaps, policies, first):
    now, counted = first, []
    limiter = RateLimiter(kind, policies, lambda: now, count_refused=count_refused)
    for gap in [0, *gaps]:
        now += gap
        full = [one for one in policies if used(kind, one.seconds * NANOSECONDS, counted, now) >= one.limit]
        decision = limiter.decide()
        assert decision.accepted == (not full)
        if not full or count_refused:
            counted.append(now)
        if full:
            assert decision.policy in full
            assert decision.remaining == -1
            assert now + decision.reset == max(room_from(kind, one, counted, now) for one in full)
        else:
            longest = max(policies, key=lambda one: one.seconds)
            assert decision.policy == longest
            width = longest.seconds * NANOSECONDS
            assert decision.remaining == longest.limit - used(kind, width, counted, now)
            assert 0 < decision.reset <= width


@pytest.mark.parametrize("kind", KINDS)
@given(gaps=gaps)
def test_a_client_that_waits_as_told_is_never_refused_twice(kind, gaps):
    now = 0
    limiter = RateLimiter(kind, [Policy(3, 5), Policy(2, 1)], lambda: now)
    for gap in gaps:
        now += gap
        decision = limiter.decide()
        waits = 0
        while not decision.accepted:
            now += decision.reset
            decision = limiter.decide()
            waits += 1
        assert waits <= 2  # once for each policy


def test_headers_name_the_binding_policy_first_and_round_the_reset_up():
    now = 0
    limiter = RateLimiter("sliding", [Policy(2, 1), Policy(3, 60)], lambda: now)
    accepted = limiter.headers(limiter.decide())
    assert accepted == [
        (b"ratelimit-limit", b"3, 3;w=60, 2;w=1"),
        (b"ratelimit-remaining", b"2"),
        (b"ratelimit-reset", b"60"),
    ]
    limiter.decide()
    now = NANOSECONDS // 2
    assert dict(limiter.headers(limiter.decide())) == {
        b"ratelimit-limit": b"2, 3;w=60, 2;w=1",
        b"ratelimit-remaining": b"-1",
        b"ratelimit-reset": b"1",
    }
    now = NANOSECONDS
    assert limiter.decide().accepted
    now = 30 * NANOSECONDS + 1
    assert dict(limiter.headers(limiter.decide()))[b"ratelimit-reset"] == b"30"


def test_no_policies_are_no_limits():
    assert RateLimiter("sliding", [], lambda: 0).decide() is None
