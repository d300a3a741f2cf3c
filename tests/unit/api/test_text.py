"""Texts of a server on one line: nothing that forges a log line, steers a terminal or cannot be stored."""

from __future__ import annotations

import json
import logging
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.api import errors
from airflow_provider_claid.api.answers import Reply, describe, failure, read_generation
from airflow_provider_claid.api.endpoint import Endpoint
from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidNotSentError, parse_error_body
from airflow_provider_claid.api.outcome import Outcome
from airflow_provider_claid.api.redaction import without
from airflow_provider_claid.api.text import one_line, plain
from airflow_provider_claid.delivery.sync import run
from airflow_provider_claid.exceptions import airflow_errors
from tests.unit.api.test_generations import generation

ENDPOINT = Endpoint("0123456789abcdef")
NASTY = [
    "\n", "\r", "\r\n", "\v", "\f", "\x1b", "\x1b[2K", "\x00", "\x07", "\x08", "\x7f", "\x85", "\x9b", "\x90",
    "\u2028", "\u2029", "\u202e", "\u202a", "\u2066", "\u2069", "\u200e", "\u200f", "\u061c", "\u200b", "\ufeff",
    "\ud83d", "\udc00", "\U000e0041",
]  # fmt: skip


def is_harmless(text):
    text.encode()
    return not any(char in text for nasty in NASTY for char in nasty if char != "[" and char not in "2K")


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_nothing_of_it_is_left_and_the_rest_is(nasty):
    shown = one_line(f"before {nasty} after")
    assert is_harmless(shown)
    assert shown.startswith("before ") and shown.endswith(" after")


@pytest.mark.parametrize("text", ["", "Bad.", "größer als 東京 🚲", "a  b", "ನ\u200dನ", "👩\u200d🎨", "\\n"])
def test_ordinary_text_is_left_as_it_is(text):
    assert one_line(text) == text


@given(st.text(st.characters(), max_size=60), st.integers(0, 40))
def test_any_text_is_one_harmless_line_and_stays_so(text, limit):
    shown = one_line(text, limit)
    assert is_harmless(shown) and len(shown) <= limit
    assert one_line(shown) == shown
    assert len(shown.splitlines()) <= 1


def test_a_value_of_json_is_kept_within_bounds():
    deep = []
    for _ in range(500):
        deep = [deep, "\x1b"]
    told = plain({"a\n": ["\u202e", 10**400, True, None, 1.5], "deep": deep, "long": ["x"] * 999})
    assert told["a "] == ["?", "a long number", True, None, 1.5]
    assert len(json.dumps(told)) < 9_999


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_no_part_of_an_error_has_any(nasty):
    body = {"error_message": f"a{nasty}b", "error_code": f"1{nasty}", "error_type": f"x{nasty}"}
    body["error_details"] = {f"in{nasty}put": [f"bad{nasty}"]}
    headers = {"x-request-id": f"r{nasty}1", "location": f"http://a/{nasty}", "ratelimit-limit": f"1{nasty}"}
    for status in (422, 429, 500, 302):
        for raw in (json.dumps(body).encode(), json.dumps({"detail": body}).encode()):
            with pytest.raises(errors.ClaidError) as caught:
                read_generation(Reply(status, headers, raw), ENDPOINT)
            error = caught.value
            shown = [str(error), *error.args, error.request_id or "", *error.rate_headers.values()]
            shown += [
                error.error_code or "",
                error.error_type or "",
                *error.details,
                *error.details["in" + one_line(nasty) + "put"],
            ]
            assert all(map(is_harmless, shown))


@pytest.mark.parametrize("nasty", [each for each in NASTY if each.isascii()], ids=ascii)
@pytest.mark.parametrize("shape", ['[{{"loc": ["a{0}"], "msg": "b{0}"}}]', '"text {0}"', '["text {0}"]'])
def test_no_other_shape_of_body_has_any(nasty, shape):
    raw = f'{{"detail": {shape.format(json.dumps(nasty)[1:-1])}}}'.encode()
    body = parse_error_body(raw, ENDPOINT.api_key)
    assert is_harmless(body.message) and all(map(is_harmless, body.details))
    assert is_harmless(parse_error_body(f"<html>{nasty}</html>".encode(), ENDPOINT.api_key).message)


def test_a_cause_is_one_line_and_in_no_traceback_as_it_was():
    cause = ValueError("first\nERROR - all good, 0 credits\x1b[2K")
    assert describe(cause, "") == "ValueError: first ERROR - all good, 0 credits?[2K"
    assert is_harmless(str(failure(Outcome.NOT_SENT, ENDPOINT, cause=cause)))
    assert without(cause, "") is None
    outer = ValueError("fine")
    outer.__cause__ = cause
    assert without(outer, "") is None
    assert without(ValueError("fine"), "") is not None


def test_what_a_store_or_a_field_says_is_one_line_too():
    assert str(ClaidNotSentError("a\nb\x1b")).startswith("a b? (")
    error = ClaidConfigurationError("save_to", "s3://b/ (a\nb\u202e)", "a bucket", "First.\nSecond.")
    assert "s3://b/ (a b?)" in str(error)
    assert "First.\nSecond." in str(error)


def test_over_a_socket_nothing_of_it_reaches_a_log_a_message_or_a_traceback(answering, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    forged = "\x85[2026-01-01] INFO - 0 credits\x9b31m\u202e"
    body = json.dumps({"error_message": f"a\n{forged}", "error_code": "\x1b[1m"}).encode()
    url = answering("/v1/image/generate", 500, {"x-request-id": "r\x9b1"}, body)
    with pytest.raises(errors.ClaidUnknownOutcomeError) as caught, airflow_errors():
        run(generation(url, tmp_path))
    assert caught.value.request_id == "r?1"
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(char in shown + caplog.text for char in "\x85\x9b\u202e\x1b")
