"""Answers to a generation of every shape, over real sockets: a picture that can be read is delivered."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest

from airflow_provider_claid.api import client, errors
from airflow_provider_claid.api.client import ClaidClient, OpenGate
from airflow_provider_claid.api.models import GenerateOptions, GenerateRequest
from airflow_provider_claid.delivery.records.submission import Result, packed
from airflow_provider_claid.delivery.sync import run
from tests.conftest import make_account

PATH = "/v1/image/generate"
FIRST = {"ext": "png", "width": 1024, "height": 1024, "tmp_url": "https://dl.claid.ai/1.png"}
SECOND = {**FIRST, "tmp_url": "https://dl.claid.ai/2.png"}


async def generation(url, folder, count=2, key="0123456789abcdef0123456789abcdef"):
    account = make_account(url.removesuffix(PATH), folder, api_key=key)
    request = GenerateRequest(input="a red bicycle", options=GenerateOptions(number_of_images=count))
    return await ClaidClient(account.endpoint).generate(request, OpenGate())


@pytest.fixture
def answered(answering, tmp_path):
    """Return the addresses that a client reads from an answer."""

    def read(raw, headers=None, count=2, **options):
        answer = run(generation(answering(PATH, 200, headers, raw, **options), tmp_path, count))
        read.answer = answer
        return [image.uri for image in answer.response.output]

    return read


def outputs(*items):
    return json.dumps({"data": {"output": list(items)}}).encode()


def test_bad_items_are_missing_and_the_good_ones_are_there(answered):
    assert answered(outputs(None, FIRST, "text", 7, [], True, SECOND)) == [FIRST["tmp_url"], SECOND["tmp_url"]]


@pytest.mark.parametrize("extra", [b"[" * 3000 + b"]" * 3000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b"9" * 9999])
def test_a_monster_beside_the_picture_does_not_lose_it(answered, extra):
    first = json.dumps(FIRST).encode()
    raw = b'{"data":{"profiling":' + extra + b',"output":[' + first[:-1] + b',"new":' + extra + b"}]}}"
    assert answered(raw) == [FIRST["tmp_url"]]
    image = answered.answer.response.output[0]
    assert image.model_dump(exclude_none=True) == FIRST


def test_half_a_character_in_a_field_or_a_name_is_in_no_record(answered):
    raw = outputs({**FIRST, "mime": "image/\ud83d", "object_key": "a\udc00", "new": "\ud800", "\udfff": 1})
    answered(raw)
    image = answered.answer.response.output[0]
    assert (image.mime, image.object_key) == ("image/?", "a?")
    from datetime import UTC, datetime

    packed(Result("t", "done", "yes", datetime.now(UTC), images=(image,)).to_json()).decode()


@pytest.mark.parametrize(
    ("pack", "coding"),
    [
        (gzip.compress, "gzip"),
        (gzip.compress, "X-GZip"),
        (zlib.compress, "deflate"),
        (lambda raw: zlib.compress(raw)[2:-4], "deflate"),
        (lambda raw: gzip.compress(gzip.compress(raw)), "gzip, gzip"),
        (lambda raw: raw, "identity"),
        (lambda raw: raw, "gzip"),
        (lambda raw: raw, "zstd"),
        (lambda raw: raw, "br"),
    ],
)
def test_a_coding_that_nobody_asked_for_does_not_lose_the_picture(answered, answering, pack, coding):
    assert answered(pack(outputs(FIRST)), {"Content-Encoding": coding}) == [FIRST["tmp_url"]]
    assert "accept-encoding: identity" in [line.lower() for line in answering.asked[0]]


@pytest.mark.parametrize("coding", ["zstd", "br", "compress", "gzip, zstd", "x" * 500])
def test_a_coding_that_cannot_be_read_is_named(answered, coding):
    with pytest.raises(errors.ClaidAnswerLostError, match="which was not asked for") as caught:
        answered(b"\x28\xb5\x2f\xfd\x00\x01\x02", {"Content-Encoding": coding})
    assert caught.value.billed == "yes"
    assert len(str(caught.value)) < 500


def test_a_bomb_of_zeros_is_not_unpacked(answered, monkeypatch):
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 100_000)
    with pytest.raises(errors.ClaidAnswerLostError, match="more than 100000 bytes"):
        answered(gzip.compress(b"0" * 10_000_000), {"Content-Encoding": "gzip"})


def test_a_cut_answer_counts_where_all_pictures_came(answered):
    whole = outputs(FIRST, SECOND)
    assert answered(whole[:-3], length=len(whole)) == [FIRST["tmp_url"], SECOND["tmp_url"]]
    packed_whole = gzip.compress(outputs(FIRST, SECOND) + b" " * 5000)
    headers = {"Content-Encoding": "gzip"}
    assert answered(packed_whole[:-8], headers, length=len(packed_whole)) == [FIRST["tmp_url"], SECOND["tmp_url"]]


def test_a_cut_answer_with_a_part_of_them_is_lost_and_names_those(answered):
    whole = outputs(FIRST, SECOND)
    with pytest.raises(errors.ClaidAnswerLostError, match=FIRST["tmp_url"]) as caught:
        answered(whole[: len(whole) * 2 // 3], length=len(whole))
    assert caught.value.billed == "yes"


def test_an_answer_that_is_too_large_counts_where_all_pictures_came(answered, monkeypatch):
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 2_000)
    raw = outputs(FIRST, SECOND)[:-2] + b',"profiling":"' + b"x" * 99_999 + b'"}}'
    assert answered(raw) == [FIRST["tmp_url"], SECOND["tmp_url"]]


@pytest.mark.parametrize("raw", [b"", b"null", b"<html>OK</html>", b'{"data": {}}', b'{"data": {"output": "x"}}', b"{"])
def test_an_answer_without_a_place_for_pictures_is_lost(answered, raw):
    with pytest.raises(errors.ClaidAnswerLostError) as caught:
        answered(raw)
    assert caught.value.billed == "yes"
