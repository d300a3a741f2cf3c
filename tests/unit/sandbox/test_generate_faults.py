"""Faults on generations: what the client sees, and what it was billed."""

from __future__ import annotations

import time

import httpx
import pytest

from airflow_provider_claid.api.models import GenerateResponse


def outcome(last):
    record = last()
    return record["fault"], record["status"], record["credits"]


@pytest.mark.parametrize(
    ("shape", "check"),
    [
        ("flat", lambda answer: answer.json()["error_message"] == "boom"),
        ("nested", lambda answer: answer.json()["detail"]["error_message"] == "boom"),
        ("fastapi", lambda answer: answer.json()["detail"][0]["msg"] == "boom"),
        ("html", lambda answer: "<h1>502</h1>" in answer.text and "html" in answer.headers["content-type"]),
        ("text", lambda answer: answer.text == "boom"),
        ("empty", lambda answer: answer.content == b""),
        ("garbage-json", lambda answer: answer.text.startswith('{"error_code"') and not answer.text.endswith("}")),
        ("list", lambda answer: answer.json() == ["boom"]),
    ],
)
def test_a_status_in_any_shape(server, post, last, shape, check):
    server.fault("generate", "status", status=502, body=shape, message="boom", headers={"Retry-After": "7"})
    answer = post(pictures=2)
    assert answer.status_code == 502
    assert check(answer)
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-request-id"]
    assert outcome(last) == ("status", 502, 0)
    assert post().status_code == 200


def test_a_status_after_billing(server, post, last):
    server.fault("generate", "status", status=500, billed=True)
    answer = post(pictures=2)
    assert (answer.status_code, answer.json()["error_type"]) == (500, "general")
    assert outcome(last) == ("status", 500, 2)


def test_a_status_that_repeats_the_key(server, post):
    server.fault("generate", "status", status=500, echo_key=True)
    answer = post()
    assert "Bearer sandbox-key" in answer.json()["error_message"]
    assert answer.json()["error_details"] == {"authorization": ["Bearer sandbox-key"]}
    assert answer.headers["x-echo-authorization"] == "Bearer sandbox-key"


def test_a_hang_and_then_the_answer(server, post, last):
    server.fault("generate", "hang", seconds=0.2)
    started = time.monotonic()
    assert post().status_code == 200
    assert time.monotonic() - started >= 0.2
    assert outcome(last) == ("hang", 200, 1)


def test_a_hang_that_the_client_does_not_wait_for(server, post, last):
    server.fault("generate", "hang", seconds=3)
    with pytest.raises(httpx.ReadTimeout):
        post(pictures=3, timeout=httpx.Timeout(60, read=0.1))
    assert outcome(last) == ("hang", "hang", 3)


def test_a_hang_that_was_not_billed_ends_without_an_answer(server, post, last):
    server.fault("generate", "hang", seconds=0.05, billed=False)
    with pytest.raises(httpx.RemoteProtocolError):
        post()
    assert outcome(last) == ("hang", "hang", 0)


@pytest.mark.parametrize(("when", "cost"), [("before_billing", 0), ("after_billing", 2)])
def test_a_reset(server, raw, last, when, cost):
    server.fault("generate", "reset", when=when)
    with pytest.raises(ConnectionResetError):
        raw(pictures=2).recv(100)
    assert outcome(last) == ("reset", "reset", cost)
    assert server.report()["totals"]["posts"] == 1


def test_httpx_sees_a_reset_as_a_read_error(server, post):
    server.fault("generate", "reset", when="after_billing")
    with pytest.raises(httpx.ReadError):
        post()


@pytest.mark.parametrize("billed", [False, True])
def test_a_close(server, raw, last, billed):
    server.fault("generate", "close", billed=billed)
    assert raw(pictures=2).recv(100) == b""
    assert outcome(last) == ("close", "close", 2 * billed)


def test_a_cut(server, post, last):
    server.fault("generate", "cut")
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        post(pictures=2)
    assert outcome(last) == ("cut", "cut", 2)


def test_garbage(server, post, last):
    server.fault("generate", "garbage")
    answer = post(pictures=2)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError, match="Expecting value"):
        answer.json()
    assert outcome(last) == ("garbage", 200, 2)


def test_slow(server, client, post, last):
    server.fault("generate", "slow", seconds=0.2)
    started = time.monotonic()
    body = {"input": "a red bicycle", "options": {"number_of_images": 1}}
    with client.stream("POST", "/v1/image/generate", json=body) as answer:
        pieces = list(answer.iter_raw())
    assert time.monotonic() - started >= 0.2
    assert len(pieces) > 1
    assert b"tmp_url" in b"".join(pieces)
    assert outcome(last) == ("slow", 200, 1)


@pytest.mark.parametrize(
    ("rule", "delivered", "cost"),
    [
        ({"kind": "empty_output"}, 0, 0),
        ({"kind": "empty_output", "billed": True}, 0, 3),
        ({"kind": "fewer"}, 2, 2),
        ({"kind": "fewer", "billed": True}, 2, 3),
    ],
)
def test_fewer_pictures_than_asked_for(server, post, last, *, rule, delivered, cost):
    server.fault("generate", **rule)
    answer = post(pictures=3)
    assert answer.status_code == 200
    assert len(answer.json()["data"]["output"]) == delivered
    assert outcome(last) == (rule["kind"], 200, cost)


def test_wrong_types_keep_the_addresses(server, post, last):
    server.fault("generate", "wrong_types")
    data = post(pictures=2).json()["data"]
    assert data["input"] is None
    assert data["output"][0]["mps"] == "1.05"
    assert data["output"][0]["object_uri"] == ""
    for image in GenerateResponse.model_validate(data).output:
        assert httpx.get(image.uri).status_code == 200
    assert outcome(last) == ("wrong_types", 200, 2)


@pytest.mark.parametrize("status", [307, 302])
def test_a_redirect(server, post, last, status):
    server.fault("generate", "redirect", status=status, location="http://elsewhere.example/")
    answer = post(follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (status, "http://elsewhere.example/")
    assert outcome(last) == ("redirect", status, 0)


def test_faults_strike_only_what_was_admitted(server, post):
    server.fault("generate", "garbage")
    server.change(credits=0)
    assert post("ab").status_code == 422
    assert post().status_code == 402
    server.change(credits=None)
    assert post().text.startswith("<<<")


def test_a_fault_waits_for_its_prompt(server, post):
    server.fault("generate", "empty_output", match="blue", times=None)
    assert len(post("a red cat").json()["data"]["output"]) == 1
    assert post("a blue cat").json()["data"]["output"] == []
