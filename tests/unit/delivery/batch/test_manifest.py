"""The manifest of a batch: complete at any moment, and at the end in the order of the prompts."""

from __future__ import annotations

import errno
import json
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidInputError, ClaidRecordsError
from airflow_provider_claid.delivery.batch.endings import ENDINGS, FINAL, Line
from airflow_provider_claid.delivery.batch.manifest import MOST, Manifest
from airflow_provider_claid.delivery.batch.sinks import FileSink, PartsSink, open_sink
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from tests.unit.delivery.batch.conftest import PRINT, line, target

NAME = "manifest.jsonl"


def opened(place, total=10, fingerprint=PRINT):
    manifest = Manifest(open_sink(place, NAME), fingerprint, total)
    manifest.open()
    return manifest


def written(manifest, *lines):
    for each in lines:
        manifest.add(each)
    while manifest.pending:
        manifest.write()


def endings(manifest, total=10):
    return [manifest.ending(index) for index in range(total)]


def indexes(raw):
    return [json.loads(each)["index"] for each in raw]


@pytest.fixture
def local(tmp_path):
    return target(tmp_path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "batch" / NAME


@pytest.fixture
def parts(bucket, tmp_path):
    """A place in a bucket, and what lies there."""
    from airflow_provider_claid.delivery.checks import parse_target

    prefix = f"{tmp_path.name}/"

    def names():
        found = bucket.list_objects_v2(Bucket="pictures", Prefix=prefix).get("Contents", ())
        return [entry["Key"].removeprefix(prefix) for entry in found]

    place = parse_target(f"s3://pictures/{prefix}", "my_aws")
    return place, names


def test_each_kind_of_place_has_its_sink(local, parts):
    assert isinstance(open_sink(local, NAME), FileSink)
    assert isinstance(open_sink(parts[0], NAME), PartsSink)
    assert open_sink(parts[0], NAME).seconds == 15


def test_a_line_is_read_as_it_was_written():
    one = line(3, "failed", id="sku", images=({"uri": "x"},), request_id="r", error={"kind": "x"}, duplicate_of=1)
    assert Line.unpacked(one.packed(PRINT)).packed(PRINT) == one.packed(PRINT)
    assert one.packed(PRINT).count(b"\n") == 1


def test_lines_are_there_once_written_and_in_order_at_the_end(place):
    manifest = opened(place)
    written(manifest, line(2), line(0, "failed"))
    written(manifest, line(1, "unknown"))
    assert endings(opened(place))[:4] == endings(manifest)[:4] == ["failed", "unknown", "delivered", None]
    manifest.finish()
    again = opened(place)
    assert indexes(again.read()) == [0, 1, 2]
    assert again.line(2).uris == ["file:///2.png"]
    assert again.line(2).prompt == line(2).prompt
    assert again.line(3) is None


def test_the_counts_add_up_whatever_comes_twice(place):
    manifest = opened(place)
    written(manifest, line(0, "unknown"), line(1, "not_started", credits=0), line(0, "delivered", 1, credits=3))
    for each in (manifest, opened(place)):
        summary = each.summary()
        assert summary == {
            "manifest": f"{place.uri}{NAME}", "total": 10, "delivered": 1, "filtered": 0, "failed": 0, "unknown": 0,
            "not_started": 1, "credits": 3,
        }  # fmt: skip
        assert (each.counts.done, each.counts.is_final) == (1, False)


def test_an_attempt_goes_on_after_a_merge_and_after_a_kill(place):
    first = opened(place)
    written(first, line(0))
    first.finish()
    written(first, line(1))
    second = opened(place)
    written(second, line(2))
    assert endings(opened(place))[:3] == ["delivered"] * 3
    opened(place).finish()
    assert indexes(opened(place).read()) == [0, 1, 2]


def test_what_is_final_stays_so_whatever_an_attempt_that_knew_less_adds(place):
    first, second = opened(place), opened(place)
    written(first, line(0))
    written(second, line(0, "unknown", 60))
    assert opened(place).ending(0) == "delivered"


def test_the_latest_line_counts_also_if_a_clock_is_behind(place):
    written(opened(place), line(0, "unknown", 60))
    second = opened(place)
    written(second, line(0, "failed", 0))
    assert opened(place).ending(0) == "failed"


def test_the_manifest_of_another_batch_is_refused_with_both_fingerprints(place):
    written(opened(place), line(0))
    with pytest.raises(ClaidInputError) as caught:
        opened(place, fingerprint="b" * 32)
    assert PRINT in str(caught.value)
    assert "b" * 32 in str(caught.value)
    assert f"{place.uri}{NAME}" in str(caught.value)


def test_a_manifest_that_has_more_items_is_of_another_batch(local):
    written(opened(local), line(9))
    with pytest.raises(ClaidInputError, match="another manifest_path"):
        opened(local, total=9)


@pytest.mark.parametrize("garbage", [b"garbage", b"{}", b"[]", b"null", b"\xff", b'{"outcome": "lost"}'])
def test_a_line_that_cannot_be_read_is_named(local, path, garbage):
    written(opened(local), line(0))
    with path.open("ab") as file:
        file.write(garbage + b"\n")
    with pytest.raises(ClaidRecordsError, match="cannot be read") as caught:
        opened(local)
    assert str(path) in str(caught.value)


def test_a_torn_last_line_is_cut_off_and_written_again(local, path):
    written(opened(local), line(0), line(1))
    whole = path.read_bytes()
    for cut in range(len(line(0).packed(PRINT)), len(whole), 5):
        path.write_bytes(whole[:cut])
        manifest = opened(local)
        assert endings(manifest)[:2] == ["delivered", None]
        written(manifest, line(1))
        assert path.read_bytes() == whole


def test_a_disk_that_is_full_leaves_no_half_line(local, path):
    manifest = opened(local)
    written(manifest, line(0))
    before = path.read_bytes()
    manifest.add(line(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(StoreBusyError, match="cannot be used now"):
            manifest.write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    written(manifest)
    assert endings(opened(local))[:2] == ["delivered"] * 2


def test_a_whole_manifest_that_cannot_be_written_leaves_the_old_one(local, path, monkeypatch):
    manifest = opened(local)
    written(manifest, line(1), line(0))
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(StoreBusyError):
            manifest.finish()
    assert [each.read_bytes() for each in path.parent.iterdir()] == [before]


def test_a_folder_in_the_place_of_the_manifest_needs_a_person(local, path):
    path.mkdir(parents=True)
    with pytest.raises(ClaidConfigurationError, match="manifest_path"):
        opened(local)


def test_a_folder_that_cannot_be_made_needs_a_person(tmp_path):
    (tmp_path / "batch").write_text("")
    with pytest.raises(ClaidInputError, match="manifest_path"):
        opened(target(tmp_path))


def test_threads_that_write_at_once_write_each_line_once(place):
    manifest = opened(place, total=80)

    def add_and_write(index):
        manifest.add(line(index))
        manifest.write()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add_and_write, range(80)))
    assert manifest.pending == 0
    assert sorted(indexes(open_sink(place, NAME).lines())) == list(range(80))


def test_a_write_holds_at_most_five_hundred_lines(parts, bucket, tmp_path):
    place, names = parts
    manifest = opened(place, total=1201)
    written(manifest, *(line(index) for index in range(1201)))
    assert names() == [f"{NAME}.parts/{number:06d}" for number in (1, 2, 3)]
    sizes = [
        bucket.get_object(Bucket="pictures", Key=f"{tmp_path.name}/{name}")["Body"].read().count(b"\n")
        for name in names()
    ]
    assert sizes == [MOST, MOST, 201]
    manifest.finish()
    assert names() == [NAME]


def test_parts_that_may_not_be_deleted_put_nothing_old_over_the_merged_manifest(parts, monkeypatch):
    place, names = parts
    first = opened(place)
    written(first, line(0, "unknown"))
    written(first, line(1))
    monkeypatch.setattr(first._sink._objects._fs, "rm_file", lambda path: 1 / 0)
    written(first, line(0, "failed", 60))
    first.finish()
    assert len(names()) == 4
    second = opened(place)
    assert endings(second)[:2] == ["failed", "delivered"]
    written(second, line(0, "delivered", 120))
    assert opened(place).ending(0) == "delivered"


def test_parts_of_which_some_are_gone_do_not_hide_later_ones(parts, bucket, tmp_path):
    place, _ = parts
    first = opened(place)
    for index in range(4):
        written(first, line(index))
    first._sink._objects.remove = lambda names: bucket.delete_objects(
        Bucket="pictures", Delete={"Objects": [{"Key": f"{tmp_path.name}/{name}"} for name in names[:2]]}
    )
    first.finish()
    second = opened(place)
    for index in range(4, 8):
        written(second, line(index))
    assert endings(opened(place))[:8] == ["delivered"] * 8


def test_two_attempts_keep_out_of_each_others_parts(parts):
    place, names = parts
    first, second = opened(place), opened(place)
    for index in range(3):
        written(first, line(index))
        written(second, line(index + 5))
    assert len(names()) == 6
    assert [ending for ending in endings(opened(place)) if ending] == ["delivered"] * 6


def test_a_part_that_was_written_and_answered_badly_is_written_once_more(parts, monkeypatch):
    place, _ = parts
    manifest = opened(place)
    create, lost = manifest._sink._objects.create, iter([True])

    def answered_badly(*given):
        created = create(*given)
        if next(lost, False):
            raise StoreBusyError("cut")
        return created

    monkeypatch.setattr(manifest._sink._objects, "create", answered_badly)
    manifest.add(line(0))
    with pytest.raises(StoreBusyError):
        manifest.write()
    assert manifest.pending == 1
    manifest.write()
    assert opened(place).summary() == manifest.summary()


def test_what_is_added_while_a_write_is_under_way_waits_for_the_next(local, monkeypatch):
    manifest = opened(local)
    append, entered, go_on = manifest._sink.append, threading.Event(), threading.Event()

    def slow(lines):
        entered.set()
        go_on.wait(60)
        append(lines)

    monkeypatch.setattr(manifest._sink, "append", slow)
    manifest.add(line(0))
    writing = threading.Thread(target=manifest.write)
    writing.start()
    entered.wait(60)
    manifest.add(line(1))
    go_on.set()
    writing.join()
    assert manifest.pending == 1
    assert manifest.write() == [1]


steps = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(ENDINGS), st.sampled_from(["add", "write", "reopen", "finish"])),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_any_order_of_lines_writes_and_kills_keeps_the_latest_line_that_was_written(tmp_path_factory, moves):
    place = target(tmp_path_factory.mktemp("any"))
    manifest, on_disk, latest = opened(place, 5), {}, {}
    for index, outcome, move in moves:
        if move == "add" and latest.get(index) not in FINAL:
            manifest.add(line(index, outcome))
            latest[index] = outcome
        elif move == "reopen":
            manifest, latest = opened(place, 5), dict(on_disk)
        else:
            manifest.write()
            on_disk = dict(latest)
            if move == "finish":
                manifest.finish()
        assert {i: ending for i, ending in enumerate(endings(manifest, 5)) if ending} == latest
        assert sum(manifest.counts.endings.values()) == len(latest)
    again = opened(place, 5)
    assert {i: ending for i, ending in enumerate(endings(again, 5)) if ending} == on_disk
