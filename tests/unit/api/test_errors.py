"""Error bodies of every shape are read, fuzz included, and the key is in nothing that comes out."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid import exceptions
from airflow_provider_claid.api import errors
from airflow_provider_claid.api.answers import Reply, failure, parse_retry_after, read_generation, read_list
from airflow_provider_claid.api.endpoint import Endpoint
from airflow_provider_claid.api.errors import parse_error_body
from airflow_provider_claid.api.outcome import Outcome

KEY = "0123456789abcdef0123456789abcdef"
ENDPOINT = Endpoint(KEY)
FLAT = {
    "error_code": "9000",
    "error_type": "validation",
    "error_message": "Bad.",
    "error_details": {"input": ["short"]},
}


@pytest.mark.parametrize("body", [FLAT, {"detail": FLAT}])
def test_flat_and_nested_bodies_are_read_alike(body):
    read = parse_error_body(json.dumps(body).encode(), KEY)
    assert (read.error_code, read.error_type, read.message) == ("9000", "validation", "Bad.")
    assert read.details == {"input": ["short"]}


def test_fastapis_list_becomes_details_by_field():
    body = {"detail": [{"loc": ["body", "input"], "msg": "too short", "type": "x"}]}
    read = parse_error_body(json.dumps(body).encode(), KEY)
    assert read.details == {"body.input": ["too short"]}
    assert read.message == "body.input: too short"


@pytest.mark.parametrize(
    "raw", [b"", b"<html>  Bad\n Gateway</html>", b"\xff\xfe", b"[1]", b"null", b'"x"', b"[" * 9999]
)
def test_a_body_of_any_kind_is_text(raw):
    read = parse_error_body(raw, KEY)
    assert read.error_code is None
    assert len(read.message) <= 300


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_no_body_can_break_the_reader(raw):
    assert isinstance(parse_error_body(raw, KEY).message, str)


def test_half_a_character_is_replaced_as_nothing_can_store_it():
    body = parse_error_body(
        b'{"error_message": "no \\ud83d here", "error_type": "x", "error_details": {"input": ["\\udc00"]}}', KEY
    )
    assert (body.message, body.details) == ("no ? here", {"input": ["?"]})


@given(
    st.recursive(
        st.sampled_from([KEY, f"Bearer {KEY}", "x", 1, None]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["detail", "error_message", "error_code", "error_details", "error_type", "loc", "msg", KEY]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=10,
    ),
    st.sampled_from([400, 401, 402, 403, 404, 422, 429, 500, 503, 302, 303, 200]),
)
def test_an_echoed_key_is_in_no_error(content, status):
    headers = {"x-request-id": KEY, "location": KEY, "ratelimit-limit": KEY}
    # Escaped, so that the key is in no byte of the body and only reading it brings it back.
    raw = json.dumps(content).replace(KEY, "".join(f"\\u{ord(char):04x}" for char in KEY)).encode()
    with pytest.raises(errors.ClaidError) as caught:
        read_generation(Reply(status, headers, raw), ENDPOINT)
    shown = f"{caught.value} {caught.value!r} {caught.value.__dict__}"
    assert KEY not in shown


def test_a_key_cut_by_shortening_leaves_no_half():
    raw = json.dumps({"error_message": "x" * 290 + KEY}).encode()
    assert KEY[:8] not in parse_error_body(raw, KEY).message
    assert KEY[:8] not in parse_error_body(b"y" * 290 + KEY.encode(), KEY).message


def test_the_endpoint_does_not_show_its_key():
    assert KEY not in repr(ENDPOINT)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0", 0.0), ("-3", 0.0), ("1.5", 1.5), ("soon", None), ("nan", None), ("inf", None), (None, None)],
)
def test_retry_after_in_seconds(value, seconds):
    assert parse_retry_after(value) == seconds


def test_retry_after_as_a_date():
    assert parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now=784111767.0) == 10.0
    assert parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now=784111787.0) == 0.0


@given(st.text(max_size=40))
def test_no_retry_after_can_break_the_reader(value):
    found = parse_retry_after(value)
    assert found is None or found >= 0


def test_an_error_says_all_it_knows():
    reply = Reply(422, {"x-request-id": "r-1", "retry-after": "3"}, json.dumps(FLAT).encode())
    error = failure(Outcome.INVALID, ENDPOINT, reply=reply)
    assert str(error) == (
        "Claid refused a value of the request: Bad. (HTTP 422, code 9000, type validation, request id r-1, not billed)"
    )
    assert (error.retry_after, error.billed, error.details) == (3.0, "no", {"input": ["short"]})
    assert (error.status, error.code, error.error_type, error.request_id) == (422, "9000", "validation", "r-1")


def test_an_unbilled_list_that_fails_may_be_asked_again():
    for status in (500, 502, 503, 408):
        with pytest.raises(errors.ClaidUnavailableError):
            read_list(Reply(status, {}), ENDPOINT)
    with pytest.raises(errors.ClaidUnavailableError, match="without the documented list"):
        read_list(Reply(200, {}, b'{"data": 3}'), ENDPOINT)
    with pytest.raises(errors.ClaidPermissionError):
        read_list(Reply(403, {}), ENDPOINT)


@pytest.mark.parametrize("name", [name for name in exceptions.__all__ if name != "ClaidError"])
def test_every_kind_has_a_face_that_keeps_what_it_carries_and_survives_pickling(name):
    kind = getattr(errors, name)
    if issubclass(kind, errors.ClaidInputError):
        original = kind("prompt", "'ab'", "a text", "Write more.")
    else:
        original = kind("It failed", billed="unknown", status=500, request_id="r-1", retry_after=2.0)
    with pytest.raises(getattr(exceptions, name)) as caught, exceptions.airflow_errors():
        raise original
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value)
    assert again.__dict__ == original.__dict__
    assert str(again) == str(original)
