"""What is waited for: every form of XCom, folders and counts, addresses with any key, and what is refused by name."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pendulum
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.watching.expected import (
    STORES,
    Promise,
    Wanted,
    check_folder,
    locate,
    read_images,
    read_since,
    unmoved,
    wanted,
)

ROOTS = ["s3://bucket/", "s3a://bucket/f/", "gs://bucket/", "abfs://container/", "file:///", "storage://name/f/"]
URI = "s3://bucket/a.png"
HARD_KEYS = [
    "a b.png",
    "a+b.png",
    "Ünï/çà.png",
    "U\u0308.png",
    "50%25.png",
    "100%.png",
    "%2F.png",
    "what?.png",
    "no#1.png",
    "me@home.png",
    "12:30.png",
    "://.png",
    "a//b.png",
    "/a.png",
    "日本/🖼.png",
    "back\\slash.png",
    "{x}.png",
    "[1].png",
    "a\nb.png",
    " a.png ",
    "no end",
]


class Lazy:
    """What Airflow gives for a mapped task: it can be gone through again, and is no list."""

    def __init__(self, items):
        self._items = items

    def __iter__(self):
        return iter(self._items)


uris = st.builds(str.__add__, st.sampled_from(ROOTS), st.text(min_size=1).filter(lambda key: key[-1] != "/"))
facts = st.fixed_dictionaries(
    {},
    optional={
        "width": st.integers(1, 10_000),
        "height": st.none() | st.integers(1, 10_000),
        "mime": st.sampled_from(["image/png", "image/webp"]),
        "bytes": st.integers(1, 2**40),
        "sha256": st.just("0" * 64),
        "filtered": st.booleans(),
        "expires_at": st.just("2030-01-01T00:00:00+00:00"),
        "error": st.none(),
    },
)
images = st.builds(lambda uri, said: {"uri": uri, **said}, uris, facts)
results = st.builds(
    lambda pictures, conn_id: {"request_id": "r", "credits": 2, "images": pictures, "storage_conn_id": conn_id},
    st.lists(images, min_size=1, max_size=4),
    st.none() | st.just("my_store"),
)
forms = st.recursive(
    uris | results,
    lambda inner: st.builds(
        lambda kind, items: kind(items), st.sampled_from([list, tuple, Lazy]), st.lists(inner, min_size=1, max_size=4)
    ),
    max_leaves=8,
)


def flat(form):
    if isinstance(form, str):
        return [form]
    if isinstance(form, dict):
        return [image["uri"] for image in form["images"]]
    return [uri for item in form for uri in flat(item)]


@settings(max_examples=60)
@given(forms)
def test_every_form_of_xcom_gives_its_pictures_once_and_in_order(form):
    assert [promise.uri for promise in read_images(form)] == list(dict.fromkeys(flat(form)))


@settings(max_examples=60)
@given(forms, st.none() | st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1)))
def test_what_a_trigger_keeps_of_pictures_is_read_as_the_same(form, since):
    want = wanted(form, None, None, since)
    assert wanted(**json.loads(json.dumps(want.to_json()))) == want


@given(st.sampled_from(ROOTS), st.text(), st.integers(1), st.datetimes(timezones=st.just(UTC)))
def test_what_a_trigger_keeps_of_a_folder_is_read_as_the_same(root, name, count, since):
    want = wanted(None, f"{root}{name}/", count, since)
    assert wanted(**json.loads(json.dumps(want.to_json()))) == want
    assert want == Wanted((), f"{root}{name}/", count, since.replace(microsecond=0))


def test_what_the_operator_said_of_a_picture_is_kept():
    image = {"uri": URI, "width": 3, "height": 2, "mime": "image/png", "bytes": 9, "sha256": "ab", "filtered": False}
    result = {"images": [{**image, "error": None, "expires_at": None, "more": 1}], "storage_conn_id": "my_aws"}
    assert read_images(result) == (Promise(**image, storage_conn_id="my_aws"),)


def test_each_mapped_task_speaks_for_its_own_connection():
    results = [{"images": [{"uri": f"s3://b/{name}"}], "storage_conn_id": name} for name in ("one", "two")]
    promises = read_images([*results, "s3://b/three"])
    assert [promise.storage_conn_id for promise in promises] == ["one", "two", None]


def test_a_connection_said_of_one_picture_counts_more_than_that_of_the_result():
    result = {"images": [{"uri": URI, "storage_conn_id": "mine"}], "storage_conn_id": "other"}
    assert read_images(result)[0].storage_conn_id == "mine"


@pytest.mark.parametrize("order", [1, -1])
def test_what_was_said_of_a_picture_is_not_lost_where_its_uri_comes_again(order):
    result = {"images": [{"uri": URI, "sha256": "ab"}], "storage_conn_id": "my_aws"}
    assert read_images([result, [URI]][::order]) == (Promise(URI, sha256="ab", storage_conn_id="my_aws"),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", "1024"),
        ("bytes", "2048"),
        ("filtered", "False"),
        ("expires_at", "tomorrow"),
        ("expires_at", "2030-01-01T00:00:00"),
    ],
)
def test_what_is_said_in_another_type_is_read_or_refused_but_never_waited_for(name, value):
    read = {"width": int, "bytes": int, "filtered": bool}
    try:
        said = getattr(read_images([{"uri": URI, name: value}])[0], name)
    except ClaidInputError as error:
        assert error.field == "images"
    else:
        assert datetime.fromisoformat(said).tzinfo if name == "expires_at" else type(said) is read[name]


@pytest.mark.parametrize("key", HARD_KEYS)
def test_any_character_may_be_in_a_key(key):
    for root in ROOTS:
        address = locate(root + key, "images", "my_store")
        assert address.uri == root + key
        assert address.key.endswith(key)
        assert (address.bucket, address.conn_id) == (root.split("/")[2], "my_store")


@given(
    st.sampled_from([each for each in STORES if each != "file"]),
    st.sampled_from(["", "my_aws@"]),
    st.text().filter(lambda key: key[-1:] not in {"", "/"}),
)
def test_a_connection_in_an_address_is_taken_out_and_the_key_stays_as_it_is(scheme, inline, key):
    address = locate(f"{scheme}://{inline}bucket/{key}", "images", None)
    assert (address.scheme, address.bucket, address.key) == (scheme, "bucket", key)
    assert address.conn_id == (inline.rstrip("@") or None)
    assert locate(address.uri, "images", address.conn_id) == address


@pytest.mark.parametrize("query", ["?sig=a%2Fb@c:d", "?a=/", "#x", "?X-Amz-Date=1&redirect=https://other/x"])
def test_a_temporary_address_stays_whole(query):
    for address in (f"https://host/a b.png{query}", f"http://127.0.0.1:80/a.png{query}"):
        assert locate(address, "images", None).uri == address
        assert read_images([address])[0].uri == address


REFUSED_IMAGES = [
    "",
    "   ",
    "a.png",
    "/tmp/a.png",
    "s3:/bucket/a.png",
    "s3://",
    "s3:///a.png",
    "s3://bucket",
    "s3://bucket/",
    "s3://bucket/folder/",
    "storage://name/",
    "file://host/a.png",
    "file:///",
    "https://",
    "hdfs://host/a.png",
    "S3://bucket/a.png",
    " s3://bucket/a.png",
    "://bucket/a.png",
    "{{ ti.xcom_pull('generate') }}",
    "['s3://bucket/a.png']",
    '["s3://bucket/a.png"]',
    "('s3://bucket/a.png',)",
    "None",
    b"s3://bucket/a.png",
    bytearray(b"s3://bucket/a.png"),
    [b"s3://bucket/a.png"],
    Path("a.png"),
    object(),
    7,
    True,
    [],
    (),
    {},
    [[], []],
    Lazy([]),
    iter(()),
    [URI, None],
    [[URI], ""],
    {"images": []},
    {"images": None},
    {"images": 5},
    {"images": [None]},
    {"uri": None},
    {"uri": 7},
    {"uri": ["s3://b/a.png"]},
    {"url": URI},
    {"uri": URI, "error": "it is cut"},
    {"uri": "s3://one@bucket/a.png", "storage_conn_id": "two"},
    {"images": [{"uri": URI}, {"uri": None, "error": "Claid gave no address for it"}]},
]


@pytest.mark.parametrize("value", REFUSED_IMAGES, ids=lambda value: type(value).__name__)
def test_what_names_no_picture_is_refused_by_its_field(value):
    with pytest.raises(ClaidInputError) as caught:
        wanted(value, None, None, None)
    assert caught.value.field == "images"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "folder",
    [
        "",
        "s3://bucket",
        "s3://bucket/folder",
        "s3://",
        "s3:///folder/",
        "storage:///folder/",
        "/folder/",
        "file://host/folder/",
        "https://host/folder/",
        "http://127.0.0.1/folder/",
        "hdfs://host/folder/",
        "{{ x }}/",
        ["s3://bucket/folder/"],
        Path("folder/"),
        7,
        True,
    ],
    ids=repr,
)
def test_what_is_no_folder_is_refused_by_its_field(folder):
    with pytest.raises(ClaidInputError) as caught:
        wanted(None, folder, 1, None)
    assert caught.value.field == "folder"


@pytest.mark.parametrize("folder", [*ROOTS, "s3://bucket/a b/ü+%?#@/", "s3://bucket//", "file:////x/"])
def test_a_folder_is_taken_as_it_is(folder):
    assert check_folder(folder) == folder
    assert locate(folder, "folder", None).uri == folder


@pytest.mark.parametrize(
    ("images", "folder", "count", "field"),
    [
        (None, None, None, "images"),
        (None, None, 1, "images"),
        ([URI], "s3://bucket/f/", None, "images"),
        ([], "s3://bucket/f/", 1, "images"),
        ([URI], None, 1, "expected_count"),
        ([URI], None, 0, "expected_count"),
        (None, "s3://bucket/f/", None, "expected_count"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(images, folder, count, field):
    with pytest.raises(ClaidInputError) as caught:
        wanted(images, folder, count, None)
    assert caught.value.field == field


def count_of(value):
    return wanted(None, "s3://bucket/f/", value, None).count


@pytest.mark.parametrize(("value", "count"), [(1, 1), ("1", 1), (" 12 ", 12), ("007", 7), (10**6, 10**6)])
def test_a_count_may_be_text(value, count):
    assert count_of(value) == count


@pytest.mark.parametrize("value", [0, -1, "0", "-3", "", " ", "x", "1.0", "1e3", 1.0, 2.5, True, [1], "9" * 5000])
def test_a_count_that_is_none_is_refused_by_its_field(value):
    with pytest.raises(ClaidInputError, match="whole number") as caught:
        count_of(value)
    assert caught.value.field == "expected_count"


HOUR = timezone(timedelta(hours=1))
MOMENT = datetime(2026, 5, 1, 11, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    "since",
    [
        MOMENT,
        MOMENT.astimezone(HOUR),
        MOMENT.replace(tzinfo=None),
        MOMENT.replace(microsecond=999_999),
        pendulum.instance(MOMENT).in_timezone("Europe/Kyiv"),
        "2026-05-01T11:30:15Z",
        "2026-05-01T11:30:15.999999+00:00",
        "2026-05-01 12:30:15+01:00",
        " 2026-05-01T11:30:15 ",
        "20260501T113015Z",
        str(MOMENT),
        str(pendulum.instance(MOMENT)),
    ],
    ids=str,
)
def test_a_moment_in_every_form_is_the_same(since):
    read = read_since(since)
    assert read == MOMENT
    assert read.isoformat() == "2026-05-01T11:30:15+00:00"


@pytest.mark.parametrize("since", [None, ""])
def test_no_moment_is_none(since):
    assert read_since(since) is None


@pytest.mark.parametrize(
    "since",
    [
        "yesterday",
        "None",
        " ",
        "{{ ds }}",
        "2026-13-01",
        5,
        1.5,
        True,
        [],
        MOMENT.date(),
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
    ],
    ids=repr,
)
def test_what_is_no_moment_is_refused_by_its_field(since):
    with pytest.raises(ClaidInputError) as caught:
        read_since(since)
    assert caught.value.field == "since"


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.none() | st.timezones()))
def test_a_moment_is_cut_to_the_second_never_moved_forward(moment):
    read = read_since(moment)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    assert read.utcoffset() == timedelta(0)
    assert timedelta(0) <= aware - read < timedelta(seconds=1)


SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "address",
    [
        f"s3://AKIAX:{SECRET}@bucket/a.png",
        f"s3://AKIAX:{SECRET}@bucket",
        f"s3a://AKIAX:{SECRET}@bucket/f/",
        f"file://user:{SECRET}@host/a.png",
        f"https://user:{SECRET}@host/a.png",
        f"https://{SECRET}@host/a.png",
        f"ftp://user:{SECRET}@host/a.png",
        f"S3://AKIAX:{SECRET}@bucket/a.png",
        f"['s3://AKIAX:{SECRET}@bucket/a.png']",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_shown(address):
    for arguments in ((address, None, None, None), ([[address]], None, None, None), (None, address, 1, None)):
        with pytest.raises(ClaidInputError) as caught:
            wanted(*arguments)
        assert SECRET not in str(caught.value)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9) | uris,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["images", "uri", "error", "storage_conn_id", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(json_like, json_like, json_like, json_like)
def test_whatever_comes_is_read_or_refused_by_one_kind_of_error(images, folder, count, since):
    for arguments in ((images, None, None, since), (None, folder, count, since), (images, folder, count, since)):
        try:
            want = wanted(*arguments)
        except ClaidInputError as error:
            assert error.field in {"images", "folder", "expected_count", "since"}
        else:
            assert (len(want.images) >= 1) != (want.count >= 1)
            assert all(isinstance(promise.uri, str) for promise in want.images)


@pytest.mark.parametrize(
    ("value", "by_claid"),
    [
        ("file:///a.png", False),
        ({"images": ["file:///a.png"], "storage_conn_id": None}, False),
        ({"uri": "file:///a.png", "bytes": 9}, False),
        ({"images": [{"uri": "file:///a.png", "width": 3, "sha256": "ab"}]}, False),
        ({"images": [{"uri": "file:///a.png", "width": 3}]}, True),
        ({"images": [{"uri": "file:///a.png", "mime": "image/png"}]}, True),
    ],
)
def test_what_only_claids_answer_says_is_told_from_what_was_copied_or_written(value, by_claid):
    (promise,) = read_images(value)
    assert promise.is_of_claid is by_claid


@pytest.mark.parametrize(
    ("value", "uris"),
    [
        (Path("/a b.png"), ["file:///a b.png"]),
        ([ObjectStoragePath("s3://conn@b/a.png"), "s3://b/c.png"], ["s3://conn@b/a.png", "s3://b/c.png"]),
        ([[Path("/a.png")], (UPath("s3://b/c.png"),)], ["file:///a.png", "s3://b/c.png"]),
        ({"images": [{"uri": UPath("s3://b/c.png"), "width": 3}]}, ["s3://b/c.png"]),
    ],
)
def test_path_objects_are_read_as_their_uris(value, uris):
    assert [promise.uri for promise in read_images(value)] == uris


def test_a_path_object_of_a_folder_needs_no_final_slash():
    assert wanted(None, Path("/data/f"), 1, None).folder == "file:///data/f/"
    assert check_folder(ObjectStoragePath("s3://conn@b/f/")) == "s3://conn@b/f/"


START = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("since", "moved", "fixed", "result"),
    [
        (None, [START], [START - HOUR], None),
        (START, [], [START - HOUR], START),
        (START, [None], [START - HOUR], START),
        (START, [START + HOUR], [START - HOUR], START),
        (START, [START], [START - HOUR], START - HOUR),
        (START, [None, START.replace(microsecond=9)], [None, START - HOUR, START - 2 * HOUR], START - HOUR),
        (START, [START], [START + HOUR], START),
        (START, [START], [None], START),
    ],
)
def test_a_moment_that_has_moved_gives_way_to_one_that_does_not(since, moved, fixed, result):
    assert unmoved(since, moved, fixed) == result
