"""What a look found: how much is told of it, and when it is handed on, waited for or a failure."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.api.errors import ClaidContentFilteredError
from airflow_provider_claid.delivery.checks import ON_FILTERED
from airflow_provider_claid.delivery.watching.report import SHOWN, Report, handed_on

A, B, C = (f"s3://b/{name}.png" for name in "abc")


def report(delivered=(), black=(), expected=2, missing=None, **more):
    return Report(expected, tuple(delivered), frozenset(black), missing or {}, **more)


@pytest.mark.parametrize(
    ("found", "policy", "handed"),
    [
        (report([A, B]), "fail", [A, B]),
        (report([B, A]), "fail", [B, A]),
        (report([A, B, C]), "fail", [A, B, C]),
        (report([A]), "fail", None),
        (report(), "keep", None),
        (report([A, B], [A]), "skip", [B]),
        (report([A, B], [A]), "keep", [A, B]),
        (report([A, B], [A, B]), "keep", [A, B]),
        (report([A], [A]), "skip", None),
        (report([A], [A]), "keep", None),
        (report([A, B, C], [C]), "skip", [A, B]),
        (report([A, B], missing={C: "it is not there"}), "fail", [A, B]),
    ],
)
def test_it_is_handed_on_as_soon_as_as_many_are_there_as_were_expected(found, policy, handed):
    assert handed_on(found, policy) == handed


@pytest.mark.parametrize(
    ("found", "policy"),
    [
        (report([A, B], [A]), "fail"),
        (report([A], [A]), "fail"),
        (report([A, B], [A, B]), "fail"),
        (report([A, B], [A, B]), "skip"),
    ],
)
def test_black_pictures_fail_at_once_or_where_nothing_else_is_left(found, policy):
    with pytest.raises(ClaidContentFilteredError) as caught:
        handed_on(found, policy)
    # Anybody may have put them there.
    assert caught.value.billed == "unknown"
    assert not caught.value.retryable
    assert all(uri in str(caught.value) for uri in found.delivered)


uris = st.lists(st.integers(0, 20).map(lambda number: f"s3://b/{number}.png"), unique=True, max_size=12)


@given(uris, st.sets(st.integers(0, 11)), st.integers(1, 12), st.sampled_from(ON_FILTERED))
def test_nothing_is_handed_on_too_early_twice_or_out_of_order(delivered, black, expected, policy):
    black = frozenset(uri for number, uri in enumerate(delivered) if number in black)
    found = Report(expected, tuple(delivered), black)
    try:
        handed = handed_on(found, policy)
    except ClaidContentFilteredError:
        assert black and policy != "keep"
        return
    assert (handed is None) == (len(delivered) < expected)
    if handed is not None:
        assert handed == [uri for uri in delivered if policy == "keep" or uri not in black] != []


def test_a_summary_says_how_many_which_not_and_why():
    found = report([A], missing={B: "it is not there", C: "it has 0 bytes"}, expected=3, where="s3://b/")
    assert found.summary() == (
        f"1 of 3 pictures are delivered in s3://b/. Missing: {B} (it is not there); {C} (it has 0 bytes)."
    )
    assert report([A, B]).summary() == "2 of 2 pictures are delivered."


@pytest.mark.parametrize("number", [1, SHOWN - 1, SHOWN, SHOWN + 1, 10_000])
def test_a_summary_stays_short_and_counts_the_rest(number):
    missing = {f"s3://b/{each}.png": "it is not there" for each in range(number)}
    summary = report(missing=missing, expected=number).summary()
    assert summary.count("not there") == min(number, SHOWN)
    assert (f"; and {number - SHOWN} more." in summary) == (number > SHOWN)
    assert len(summary) < 1000
    everything = report(missing=missing, expected=number).summary(number)
    assert everything.count("not there") == number
    assert "more" not in everything


def test_many_black_pictures_are_named_in_part():
    many = [f"s3://b/{each}.png" for each in range(1000)]
    with pytest.raises(ClaidContentFilteredError, match="1000 pictures black") as caught:
        handed_on(Report(1000, tuple(many), frozenset(many)), "skip")
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(("there", "expected"), list(itertools.product(range(4), range(1, 4))))
def test_it_is_done_when_enough_is_delivered(there, expected):
    assert report([A, B, C][:there], expected=expected).done == (there >= expected)
