"""Rate headers of the older and the current drafts are read; garbage is ignored, with one warning."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.pacing import headers
from airflow_provider_claid.pacing.headers import RateLimit, parse

POLICIES = ((120, 60.0), (4, 1.0))


@pytest.fixture(autouse=True)
def _nothing_warned_of_yet():
    headers._warned.clear()


def test_the_documented_headers_name_the_minute():
    found = parse({"ratelimit-limit": "120, 120;w=60, 4;w=1", "ratelimit-remaining": "119", "ratelimit-reset": "34"})
    assert found == RateLimit(limit=120, window=60.0, remaining=119, reset=34.0, policies=POLICIES)


def test_the_documented_refusal_names_the_second():
    found = parse({"ratelimit-limit": "4, 120;w=60, 4;w=1", "ratelimit-remaining": "-1", "ratelimit-reset": "1"})
    assert found == RateLimit(limit=4, window=1.0, remaining=-1, reset=1.0, policies=POLICIES)


def test_draft_07_in_one_field():
    found = parse({"ratelimit": "limit=120, remaining=3, reset=20", "ratelimit-policy": "120;w=60, 4;w=1"})
    assert found == RateLimit(limit=120, window=60.0, remaining=3, reset=20.0, policies=POLICIES)


def test_the_current_draft_takes_the_tightest_of_the_named_windows():
    found = parse(
        {
            "ratelimit-policy": '"minute";q=120;w=60, "second";q=4;w=1',
            "ratelimit": '"minute";r=50;t=30, "second";r=0;t=1',
        }
    )
    assert found == RateLimit(limit=4, window=1.0, remaining=0, reset=1.0, policies=POLICIES)


def test_no_rate_headers_are_nothing_to_warn_of(caplog):
    assert parse({"content-type": "application/json"}) is None
    assert not caplog.records


@pytest.mark.parametrize("value", ["many", "-", ";w=60", "999999999999999999", "1e9", "NaN"])
def test_garbage_is_ignored_loudly_and_once(value, caplog):
    with caplog.at_level(logging.WARNING):
        assert parse({"ratelimit-limit": value}) is None
        assert parse({"ratelimit-limit": value}) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@given(st.dictionaries(st.sampled_from(["ratelimit", "ratelimit-limit", "ratelimit-policy", "ratelimit-remaining",
                                        "ratelimit-reset"]), st.text(max_size=60)))  # fmt: skip
def test_no_header_can_break_the_reader(fields):
    found = parse(fields)
    assert found is None or (found.reset is None or found.reset >= 0)


@given(st.dictionaries(st.sampled_from(["ratelimit", "ratelimit-limit", "ratelimit-policy", "ratelimit-remaining",
                                        "ratelimit-reset"]), st.text('"a=;,w1260rtq-. ', max_size=40)))  # fmt: skip
def test_no_nearly_right_header_can_either(fields):
    found = parse(fields)
    assert found is None or all(window > 0 for _, window in found.policies)


@pytest.mark.parametrize(
    "told",
    [
        {"ratelimit-limit": "4, 4;w=1", "ratelimit-remaining": "0", "ratelimit-reset": "1795880000000"},
        {"ratelimit": "limit=4, remaining=0, reset=999999999999"},
        {"ratelimit-policy": '"year";q=4;w=31536000', "ratelimit": '"year";r=0;t=31536000'},
    ],
)
def test_no_header_closes_a_schedule_for_longer_than_an_hour(told):
    assert (parse(told).reset or 0) <= headers.LONGEST_RESET
