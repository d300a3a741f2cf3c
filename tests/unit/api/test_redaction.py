"""The key is masked in every form in which a server, a proxy or a library may write it down."""

from __future__ import annotations

import base64
import html
import json
import logging
import traceback
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.api import errors
from airflow_provider_claid.api.errors import parse_error_body
from airflow_provider_claid.api.redaction import MASK, mask_in_library_logs, redact, without
from airflow_provider_claid.delivery.sync import run
from airflow_provider_claid.exceptions import airflow_errors
from tests.unit.api.test_generations import generation

KEYS = ["0123456789abcdef0123456789abcdef", "sk-Ab/c+d=e&f<g>\"h'i\\j%k~l", "a+/b", "????>>>>~~~~"]


def b64(text, *, safe=False, bare=False):
    code = (base64.urlsafe_b64encode if safe else base64.b64encode)(text.encode()).decode()
    return code.rstrip("=") if bare else code


FORMS = {
    "plain": lambda key: key,
    "bearer": lambda key: f"Bearer {key}",
    "url": lambda key: quote(key, safe=""),
    "url, lower case": lambda key: "".join(f"%{ord(char):02x}" for char in key),
    "url, twice": lambda key: quote(quote(key, safe=""), safe=""),
    "url, all of it": lambda key: "".join(f"%{ord(char):02X}" for char in key),
    "form": quote_plus,
    "html": lambda key: html.escape(key, quote=True),
    "html, numbers": lambda key: "".join(f"&#{ord(char)};" for char in key),
    "html, hexadecimal": lambda key: "".join(f"&#x{ord(char):X};" for char in key),
    "html, twice": lambda key: html.escape(html.escape(key)) if "&" not in html.escape(key) else html.escape(key),
    "json": lambda key: json.dumps(key)[1:-1],
    "json, slashes": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "json, all of it": lambda key: "".join(f"\\u{ord(char):04x}" for char in key),
    "python": lambda key: "".join(f"\\x{ord(char):02x}" for char in key),
    "hexadecimal": lambda key: key.encode().hex(),
}
PACKED = {
    "base64": b64,
    "base64, bare": lambda key: b64(key, bare=True),
    "base64, for URLs": lambda key: b64(key, safe=True),
    "base64, for URLs, bare": lambda key: b64(key, safe=True, bare=True),
    "base64, in a URL": lambda key: quote(b64(key), safe=""),
    "base64, in JSON": lambda key: b64(key).replace("/", "\\/"),
    **{f"basic, {user!r}": (lambda key, user=user: f"Basic {b64(f'{user}:{key}')}") for user in ("", "a", "ab", "api")},
    **{f"inside, {end!r}": (lambda key, end=end: b64(f"x{key}{end}", safe=True)) for end in ("", "\n", "yz", "&a=b")},
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_masked_whole(key, form):
    assert redact(f"<{FORMS[form](key)}>", key).replace("Bearer ", "") == f"<{MASK}>"


@pytest.mark.parametrize("key", [key for key in KEYS if len(key) > 8])
@pytest.mark.parametrize("form", PACKED)
def test_in_base64_nothing_of_it_is_left_but_what_surrounds_it(key, form):
    masked = redact(f"<{PACKED[form](key)}>", key)
    assert MASK in masked
    assert len(masked.replace(MASK, "").removeprefix("<Basic ")) <= len("<emE9Yg==>")


@given(st.text(max_size=80))
def test_text_without_the_key_is_left_as_it_is(text):
    assert redact(text, KEYS[0]) == text
    assert redact(text, "") == text


def test_bytes_names_and_lists_are_masked_and_the_depth_ends():
    assert redact({KEYS[0]: [KEYS[0].encode(), 1, None, (KEYS[0],)]}, KEYS[0]) == {MASK: [b"***", 1, None, [MASK]]}
    deep = KEYS[0]
    for _ in range(900):
        deep = [deep]
    assert KEYS[0] not in repr(redact(deep, KEYS[0]))


@pytest.mark.parametrize("form", [*FORMS, *PACKED])
def test_no_cause_that_quotes_it_is_in_a_chain(form):
    code = (FORMS | PACKED)[form](KEYS[0])
    assert without(ValueError(f"illegal line {code.encode()!r}"), KEYS[0]) is None
    outer = RuntimeError("it broke")
    outer.__context__ = ValueError(code)
    assert without(outer, KEYS[0]) is None
    outer.__context__ = ValueError("of something else")
    assert without(outer, KEYS[0]) is outer


@pytest.mark.parametrize("form", [*FORMS, *PACKED])
def test_no_form_is_in_an_error_body(form):
    code = (FORMS | PACKED)[form](KEYS[0])
    body = parse_error_body(
        json.dumps({"error_message": f"No: {code}", "error_details": {code: [code]}}).encode(), KEYS[0]
    )
    assert code not in f"{body}" and MASK in body.message
    assert code not in parse_error_body(f"<html>{code}</html>".encode(), KEYS[0]).message


@pytest.mark.parametrize("form", [*FORMS, *PACKED])
def test_no_form_is_in_a_log_of_the_libraries(form, caplog):
    code = (FORMS | PACKED)[form](KEYS[0])
    mask_in_library_logs(KEYS[0])
    logging.getLogger("httpcore.http11").warning("headers %r", [("x-echo", code)])
    logging.getLogger("httpx").warning("Redirect to https://example.com/?%s", code)
    assert code not in caplog.text and caplog.text.count(MASK) >= 2


@pytest.mark.parametrize("form", ["url, all of it", "html, numbers", "json, all of it", "basic, 'api'", "base64"])
def test_an_echo_over_a_socket_is_in_no_message_and_no_traceback(answering, tmp_path, form, caplog):
    caplog.set_level(logging.DEBUG)
    code = (FORMS | PACKED)[form](KEYS[0])
    url = answering("/v1/image/generate", 500, {"x-request-id": code, "X-Echo": code}, code.encode())
    with pytest.raises(errors.ClaidUnknownOutcomeError) as caught, airflow_errors():
        run(generation(url, tmp_path, key=KEYS[0]))
    assert code not in "".join(traceback.format_exception(caught.value)) + caplog.text
    assert code not in f"{caught.value.request_id} {caught.value.__dict__}"
