"""Where in an answer pictures are read, and what of each is kept."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.api.json_text import MAX_DEPTH, loads
from airflow_provider_claid.api.outputs import response_in

KEY = "0123456789abcdef"
URL = "https://dl.claid.ai/1.png"
IMAGE = {"tmp_url": URL, "width": 1024}
OTHER = {"object_uri": "s3://b/2.png"}


def uris(content, *, files=False):
    read = response_in(content if isinstance(content, bytes) else json.dumps(content).encode(), KEY, files=files)
    return None if read is None else [image.uri for image in read.output]


@pytest.mark.parametrize(
    "content",
    [
        {"data": {"output": [IMAGE]}},
        {"data": {"output": [None, IMAGE]}},
        {"data": {"output": [[IMAGE]]}},
        {"data": {"output": IMAGE}},
        {"data": {"output": {"0": IMAGE}}},
        {"data": [IMAGE]},
        {"data": IMAGE},
        {"data": {"data": {"output": [IMAGE]}}},
        {"data": [{"output": [IMAGE]}]},
        {"data": {"input": {"text": "x"}}, "output": [IMAGE]},
        {"data": None, "output": [IMAGE]},
        {"data": {"output": []}, "output": [IMAGE]},
        {"data": {"output": [{"width": 5}, None]}, "output": [IMAGE]},
        {"data": {"output": [], "images": [IMAGE]}},
        {"data": {"output": None}, "result": {"images": [{"image": IMAGE}]}},
        {"output": IMAGE},
        [IMAGE],
        IMAGE,
        {"data": {"output": [IMAGE]}, "again": [IMAGE]},
        {"data": {"images": [IMAGE]}, "again": [IMAGE]},
    ],
    ids=json.dumps,
)
def test_a_picture_anywhere_is_found_once(content):
    assert uris(content) == [URL]


def test_the_order_of_the_answer_is_kept():
    assert uris({"data": {"output": [OTHER, IMAGE]}}) == ["s3://b/2.png", URL]
    assert uris({"data": {"images": [OTHER, {"deep": [IMAGE]}]}}) == ["s3://b/2.png", URL]


def test_an_object_without_an_address_keeps_its_place():
    assert uris({"data": {"output": [{}, IMAGE]}}) == [None, URL]
    assert uris({"data": {"output": [{}, {"tmp_url": 5}]}}) == [None, None]


def test_an_item_that_is_nothing_but_an_address_is_a_picture():
    assert uris({"data": {"output": [URL, None, "x", IMAGE]}}) == [URL, URL]
    assert uris({"output": ["s3://bucket/a.png", "javascript:alert(1)"]}) == ["s3://bucket/a.png"]


@pytest.mark.parametrize("content", [{"data": {"output": []}}, {"data": {"output": [None, "x"]}}, {"output": []}])
def test_a_place_without_any_picture_is_told_from_no_place(content):
    assert uris(content) == []


@pytest.mark.parametrize("content", [None, 1, "x", [], {}, {"data": []}, {"data": {"output": "x"}}, b"", b"\xff\xfe{"])
def test_no_place_is_none(content):
    assert uris(content) is None


@pytest.mark.parametrize(
    "odd",
    [
        {"width": True}, {"width": -1}, {"width": 0}, {"width": 10**30}, {"width": "tall"}, {"width": float("nan")},
        {"height": 1e300}, {"mps": float("inf")}, {"mps": -1}, {"mps": [1]}, {"ext": 7}, {"ext": {"a": 1}},
        {"mime": "\ud83d"}, {"format": "x" * 99_999}, {"object_key": ["a"]}, {"object_bucket": {}},
        {"object_uri": "no"}, {"new": "\ud800"},
        {"object_uri": "javascript:alert(1)"}, {"claid_storage_uri": "data:text/html,x"}, {"object_uri": "file:///etc"},
        {"object_uri": "s3://"}, {"object_uri": "https://[::1"}, {"object_uri": f"s3://b/{'x' * 99_999}"},
    ],
    ids=lambda odd: repr(odd)[:40],
)  # fmt: skip
def test_an_odd_value_loses_nothing_but_itself(odd):
    read = response_in(json.dumps({"data": {"output": [{**IMAGE, **odd}]}}).encode(), KEY, files=False)
    image = read.output[0]
    assert image.uri == URL
    stored = json.dumps(image.model_dump(mode="json", exclude_none=True), allow_nan=False, ensure_ascii=False)
    assert len(stored.encode()) < 5_000


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (f" {URL}\n", URL),
        ("HTTPS://dl.claid.ai/1.png", URL),
        ("https://dl.claid.ai/\t1\r\n.png", URL),
        ("https://dl.claid.ai/\x1b\u202e.png", "https://dl.claid.ai/%1B%E2%80%AE.png"),
        ("https://dl.claid.ai/\ud83d.png", "https://dl.claid.ai/%3F.png"),
        ("http://127.0.0.1:80/1.png", "http://127.0.0.1:80/1.png"),
        ("java\nscript:alert(1)", None),
        ("javascript://dl.claid.ai/%0aalert(1)", None),
        ("file:///etc/passwd", None),
        ("blob:https://dl.claid.ai/1", None),
        ("//dl.claid.ai/1.png", None),
        ("1.png", None),
    ],
    ids=ascii,
)
def test_an_address_is_kept_as_it_can_be_shown_or_counts_as_missing(told, kept):
    assert uris({"data": {"output": [{"tmp_url": told}]}}) == [kept]


@pytest.mark.parametrize("uri", ["s3://b/k", "gs://b/a b", "storage://shop/x/1.png", "https://h/x", "http://h/x"])
def test_the_addresses_of_pictures_that_claid_gives(uri):
    assert uris({"data": {"output": [{"object_uri": uri}]}}) == [uri]


def test_a_file_is_an_address_of_a_sandbox_alone():
    content = {"data": {"output": [{"object_uri": "file:///pictures/1.png"}]}}
    assert (uris(content), uris(content, files=True)) == ([None], ["file:///pictures/1.png"])


def test_an_echoed_key_is_in_nothing_that_is_kept():
    escaped = "".join(f"\\u{ord(char):04x}" for char in KEY)
    raw = f'{{"data":{{"input":{{"text":"{escaped}"}},"output":[{{"tmp_url":"{URL}?{escaped}","mime":"{KEY}"}}]}}}}'
    read = response_in(raw.encode(), KEY, files=False)
    assert KEY not in repr(read)
    assert read.output[0].uri == f"{URL}?***"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values, st.lists(json_values, max_size=3), st.lists(json_values, max_size=3))
def test_whatever_surrounds_a_picture_it_is_delivered(extra, text, before, after):
    content = {"new": extra, "data": {"input": text, "output": [*before, IMAGE, *after], "new": extra}}
    assert URL in uris(content)


@given(json_values)
def test_json_is_read_as_json_is(value):
    raw = json.dumps(value).encode()
    assert json.dumps(loads(raw)) == json.dumps(json.loads(raw))


@given(json_values, st.data())
def test_what_is_cut_anywhere_is_read_without_a_fault(value, data):
    raw = json.dumps({"data": {"output": [value, IMAGE]}}).encode()
    uris(raw[: data.draw(st.integers(0, len(raw)))])


@given(st.binary(max_size=200))
def test_no_bytes_can_break_the_reader(raw):
    uris(raw)


def test_what_is_too_deep_is_left_out_and_the_rest_is_there():
    read = loads(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b',"b":1,"c":{"d":"e\\n\\u00e9"}}')
    assert (read["b"], read["c"]) == (1, {"d": "e\né"})
    depth = 0
    level = read["a"]
    while level:
        level, depth = level[0], depth + 1
    assert depth < MAX_DEPTH
