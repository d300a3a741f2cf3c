"""`POST /v1/image/generate`: the contract, row by row."""

from __future__ import annotations

import json
import time
from uuid import UUID

import httpx
import pytest

from airflow_provider_claid.api.models import GenerateResponse
from airflow_provider_claid.sandbox.server import SandboxServer

FLAT = {"error_code", "error_type", "error_message", "error_details"}


def totals(server):
    return server.report()["totals"]


def test_answers_with_pictures(server, post, last):
    answer = post("a red bicycle", 2)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    data = answer.json()["data"]
    assert data["input"] == {"text": "a red bicycle"}
    assert data["profiling"] == {}
    assert len(data["output"]) == 2
    for one in data["output"]:
        assert one["tmp_url"].startswith(f"{server.url}/tmp/")
        assert {key: value for key, value in one.items() if key != "tmp_url"} == {
            "ext": "png",
            "mps": 1.048576,
            "mime": "image/png",
            "format": "PNG",
            "width": 1024,
            "height": 1024,
            "object_key": None,
            "object_bucket": None,
            "object_uri": None,
            "claid_storage_uri": None,
        }
    assert all(image.uri for image in GenerateResponse.model_validate(data).output)
    record = last()
    assert (record["status"], record["credits"], record["images"], record["account"]) == (200, 2, 2, "default")
    assert record["request_id"] == str(UUID(answer.headers["x-request-id"]))


def test_makes_and_bills_four_pictures_unless_told_otherwise(server, client):
    answer = client.post("/v1/image/generate", json={"input": "a red bicycle"})
    assert len(answer.json()["data"]["output"]) == 4
    assert totals(server)["credits"] == totals(server)["pictures"] == 4


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", "Basic sandbox-key", "sandbox-key", "Bearer sandbox-keyx"],
)
def test_401_without_a_key(server, authorization, last):
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = httpx.post(f"{server.url}/v1/image/generate", json={"input": "a cat"}, headers=headers)
    assert answer.status_code == 401
    assert answer.json() == {
        "error_code": "111",
        "error_type": "auth",
        "error_message": "Authorization is required.",
        "error_details": {},
    }
    assert UUID(answer.headers["x-request-id"])
    assert (last()["account"], last()["credits"]) == (None, 0)


def test_403_without_the_scope(post, server):
    answer = post(headers={"Authorization": "Bearer storage-only"})
    assert answer.status_code == 403
    assert answer.json()["error_message"] == "Not enough permissions."
    assert totals(server)["accepted"] == 0


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "input"),
        ({"input": "ab"}, "input"),
        ({"input": "x" * 1025}, "input"),
        ({"input": 123}, "input"),
        ({"input": {"text": "a cat"}}, "input"),
        ({"input": "a cat", "seed": 1}, "seed"),
        ({"input": "a cat", "options": {"width": 512}}, "options.width"),
        ({"input": "a cat", "options": {"number_of_images": 0}}, "options.number_of_images"),
        ({"input": "a cat", "options": {"number_of_images": 5}}, "options.number_of_images"),
        ({"input": "a cat", "options": {"number_of_images": "2"}}, "options.number_of_images"),
        ({"input": "a cat", "options": {"guidance_scale": 50}}, "options.guidance_scale"),
        ({"input": "a cat", "options": {"guidance_scale": 0.9}}, "options.guidance_scale"),
        ({"input": "a cat", "options": None}, "options"),
        ({"input": "a cat", "output": "storage://my-storage/no-slash"}, "output"),
        ({"input": "a cat", "output": "s3://bucket/"}, "output"),
        ([], "__root__"),
        (None, "__root__"),
    ],
)
def test_422_for_what_the_closed_schema_does_not_know(client, server, body, path):
    answer = client.post("/v1/image/generate", content=json.dumps(body))
    assert answer.status_code == 422
    refusal = answer.json()
    assert refusal.keys() == FLAT
    assert (refusal["error_code"], refusal["error_type"]) == ("9000", "validation")
    assert list(refusal["error_details"]) == [path]
    assert all(isinstance(message, str) for message in refusal["error_details"][path])
    assert refusal["error_message"]
    assert totals(server)["credits"] == 0


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"input=a"])
def test_400_for_what_is_not_json(client, body):
    answer = client.post("/v1/image/generate", content=body)
    assert answer.status_code == 400
    assert answer.json().keys() == FLAT


def test_402_when_the_credits_are_used_up(server, post):
    server.change(credits=3)
    assert post(pictures=2).status_code == 200
    refused = post(pictures=2)
    assert refused.status_code == 402
    assert refused.json().keys() == FLAT
    assert post(pictures=1).status_code == 200
    report = server.report()
    assert report["accounts"] == {"default": {"credits_left": 0}, "other": {"credits_left": 3}}
    assert (report["totals"]["credits"], report["totals"]["accepted"]) == (3, 2)


def test_unknown_paths_and_wrong_methods(client):
    unknown = client.get("/v1/image/edit")
    assert (unknown.status_code, unknown.json().keys()) == (404, FLAT)
    wrong = client.get("/v1/image/generate")
    assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})
    for answer in (unknown, wrong, client.get("/docs"), client.get("/openapi.json")):
        assert answer.status_code in {404, 405}
        assert UUID(answer.headers["x-request-id"])


def test_429_nested_with_the_binding_policy_first(server, post):
    server.change(per_second=2, per_minute=100)
    server.state.accounts.by_name["default"].limiter._clock = lambda: 0
    answers = [post() for _ in range(2)]
    assert [answer.headers["ratelimit-limit"] for answer in answers] == ["100, 100;w=60, 2;w=1"] * 2
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["99", "98"]
    assert answers[0].headers["ratelimit-reset"] == "60"
    refused = post()
    assert refused.status_code == 429
    assert refused.headers["ratelimit-limit"] == "2, 100;w=60, 2;w=1"
    assert (refused.headers["ratelimit-remaining"], refused.headers["ratelimit-reset"]) == ("-1", "1")
    assert refused.json() == {
        "detail": {
            "error_code": "2001",
            "error_type": "general",
            "error_message": "Too Many Requests. Rate limit exceeded.",
            "error_details": {},
        }
    }
    assert totals(server)["refused"] == {"total": 1, "second": 1, "minute": 0}
    assert (totals(server)["posts"], totals(server)["accepted"], totals(server)["credits"]) == (3, 2, 2)


@pytest.mark.parametrize("window", ["sliding", "anchored"])
def test_the_minute_window_holds_each_account_by_itself(server, post, window):
    server.change(per_second=None, per_minute=2, window=window)
    answers = [post() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["ratelimit-limit"] == "2, 2;w=60"
    assert post(headers={"Authorization": "Bearer pictures-only"}).status_code == 429
    assert post(headers={"Authorization": "Bearer neighbour"}).status_code == 200
    assert totals(server)["refused"] == {"total": 2, "second": 0, "minute": 2}


def test_answers_after_the_windows_carry_their_headers_too(server, post, client):
    server.change(per_minute=100)
    for answer in (client.post("/v1/image/generate", content=b"{"), post("ab"), post(output="storage://none/a/")):
        assert answer.status_code in {400, 422}
        assert answer.headers["ratelimit-limit"] == "100, 100;w=60"
    assert "ratelimit-limit" not in client.get("/v1/storage/storages").headers


def test_bills_a_client_that_hangs_up(server, raw, last):
    server.change(latency=0.2)
    raw(pictures=3).close()
    record = last()
    assert (record["status"], record["credits"]) == ("client_left", 3)
    assert totals(server)["credits"] == 3


def test_latency_repeats_with_the_seed():
    with SandboxServer(latency="1-8", seed=5) as first, SandboxServer(latency="1-8", seed=5) as second:
        waits = [[one.state.next_latency() for _ in range(5)] for one in (first, second)]
    assert waits[0] == waits[1]
    assert len(set(waits[0])) == 5
    assert all(1 <= wait <= 8 for wait in waits[0])


def test_latency_is_waited(server, post):
    server.change(latency=0.15)
    started = time.monotonic()
    assert post().status_code == 200
    assert time.monotonic() - started >= 0.15
