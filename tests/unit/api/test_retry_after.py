"""No server makes anything wait longer than an hour, in whatever form it says so."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.api.errors import ClaidRateLimitError
from airflow_provider_claid.api.retry_after import MAX_WAIT, bounded, parse_retry_after

NOW = 1_795_000_000.0


def after(value):
    return parse_retry_after(value, now=NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("60", 60), (" 60 ", 60), ("1.5", 1.5), ("1e3", 1000), ("-5", 0), ("-inf", None), ("nan", None), ("", None),
        ("3600", 3600), ("3601", 3600), ("31536000", 3600), ("999999999", 3600),
        (f"{NOW + 90:.0f}", 90), (f"{NOW + 90:.3f}", 90), (f"{(NOW + 90) * 1e3:.0f}", 90),
        (f"{(NOW + 90) * 1e6:.0f}", 90),
        (f"{(NOW + 90) * 1e9:.0f}", 90), (f"{NOW - 90:.0f}", 0), (f"{(NOW - 90) * 1e3:.0f}", 0), ("4102444800", 3600),
        ("4102444800000", 3600), ("9" * 30, 3600), ("9" * 5000, 3600), ("1e308", 3600), ("1e400", None), ("-1e308", 0),
        ("120 seconds", None), ("0x10", None), ("soon", None), ("\u0663", 3),
    ],
)  # fmt: skip
def test_numbers(value, seconds):
    assert after(value) == (None if seconds is None else pytest.approx(seconds, abs=0.01))


def moment(seconds):
    return datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize(("ahead", "seconds"), [(90, 90), (-90, 0), (7200, 3600), (10**9, 3600)])
@pytest.mark.parametrize(
    "form",
    [
        lambda at: email.utils.format_datetime(at, usegmt=True),
        email.utils.format_datetime,
        lambda at: f"{at:%A, %d-%b-%y %H:%M:%S} GMT" if at.year < 2069 else email.utils.format_datetime(at),
        lambda at: f"{at:%a %b %d %H:%M:%S %Y}",
        lambda at: f"{at:%a, %d %b %Y %H:%M:%S} -0000",
        datetime.isoformat,
        lambda at: f"{at:%Y-%m-%dT%H:%M:%SZ}",
        lambda at: f"{at:%Y-%m-%d %H:%M:%S}",
    ],
)
def test_dates_with_a_zone_or_without_one(form, ahead, seconds):
    assert after(form(moment(ahead))) == seconds


@pytest.mark.parametrize("value", ["Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "9999-12-31"])
def test_the_end_of_time_is_an_hour_away(value):
    assert after(value) in {MAX_WAIT, None}


@given(st.text(max_size=40) | st.floats().map(str) | st.integers().map(str) | st.datetimes().map(str))
def test_whatever_comes_is_a_wait_of_at_most_an_hour_or_none(value):
    found = after(value)
    assert found is None or 0 <= found <= MAX_WAIT


@given(st.floats() | st.integers() | st.just(10**400) | st.booleans() | st.none() | st.text(max_size=3))
def test_an_error_holds_no_other_wait(seconds):
    error = ClaidRateLimitError("slow down")
    error.retry_after = seconds
    assert error.retry_after == bounded(seconds)
    assert error.retry_after is None or 0 <= error.retry_after <= MAX_WAIT
    assert ClaidRateLimitError("slow down", retry_after=seconds).retry_after == bounded(seconds)
