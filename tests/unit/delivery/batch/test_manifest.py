"""The manifest of a batch: there from the start, one attempt writes it, and at the end it is in order."""

from __future__ import annotations

import errno
import json
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_claid.api.errors import (
    ClaidBatchUnfinishedError,
    ClaidConfigurationError,
    ClaidInputError,
    ClaidRecordsError,
)
from airflow_provider_claid.delivery.batch import fence
from airflow_provider_claid.delivery.batch.endings import ENDINGS, FINAL, Line
from airflow_provider_claid.delivery.batch.manifest import MOST, Manifest
from airflow_provider_claid.delivery.batch.sinks import EVERY, SHARE, FileSink, ObjectSink, open_sink
from airflow_provider_claid.delivery.checks import parse_target
from airflow_provider_claid.delivery.records.objects import open_objects
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from tests.unit.delivery.batch.conftest import PRINT, line, target
from tests.unit.delivery.batch.test_fence import begin

NAME = "manifest.jsonl"


def opened(place, total=10, fingerprint=PRINT):
    manifest = Manifest(open_sink(place, NAME), fingerprint, total)
    manifest.open()
    return manifest


def begun(place, total=10, fingerprint=PRINT):
    """A manifest of an attempt that has begun: all earlier ones are overtaken."""
    manifest = opened(place, total, fingerprint)
    manifest.begin(begin(open_objects(place), "key"))
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
def remote(bucket, tmp_path):
    """A place in a bucket."""
    return parse_target(f"s3://pictures/{tmp_path.name}/", "my_aws")


def content(place, bucket=None):
    """What whoever has the address of the manifest reads."""
    parts = urlsplit(place.uri)
    if parts.scheme == "file":
        return Path(parts.path, NAME).read_bytes()
    return bucket.get_object(Bucket=parts.netloc, Key=f"{parts.path[1:]}{NAME}")["Body"].read()


def test_each_kind_of_place_has_its_sink(local, remote):
    assert isinstance(open_sink(local, NAME), FileSink)
    assert isinstance(open_sink(remote, NAME), ObjectSink)
    assert 0 < open_sink(remote, NAME).patience < 15


def test_a_line_is_read_as_it_was_written():
    one = line(3, "failed", id="sku", images=({"uri": "x"},), request_id="r", error={"kind": "x"}, duplicate_of=1)
    assert Line.unpacked(one.packed(PRINT)).packed(PRINT) == one.packed(PRINT)
    assert one.packed(PRINT).count(b"\n") == 1


def test_lines_are_there_once_written_and_in_order_at_the_end(place):
    manifest = begun(place)
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
    manifest = begun(place)
    written(manifest, line(0, "unknown"), line(1, "not_started", credits=0), line(0, "delivered", 1, credits=3))
    for each in (manifest, opened(place)):
        summary = each.summary()
        assert summary == {
            "manifest": f"{place.uri}{NAME}", "total": 10, "delivered": 1, "filtered": 0, "failed": 0, "unknown": 0,
            "not_started": 1, "credits": 3,
        }  # fmt: skip
        assert (each.counts.done, each.counts.is_final) == (1, False)


def test_an_attempt_goes_on_after_a_finish_and_after_a_kill(place):
    first = begun(place)
    written(first, line(0))
    first.finish()
    written(first, line(1))
    second = begun(place)
    written(second, line(2))
    assert endings(opened(place))[:3] == ["delivered"] * 3
    begun(place).finish()
    assert indexes(opened(place).read()) == [0, 1, 2]


def test_the_latest_line_counts_also_if_a_clock_is_behind(place):
    written(begun(place), line(0, "unknown", 60))
    second = begun(place)
    written(second, line(0, "failed", 0))
    assert opened(place).ending(0) == "failed"


def test_the_manifest_of_another_batch_is_refused_with_both_fingerprints(place):
    written(begun(place), line(0))
    with pytest.raises(ClaidInputError) as caught:
        opened(place, fingerprint="b" * 32)
    assert PRINT in str(caught.value)
    assert "b" * 32 in str(caught.value)
    assert f"{place.uri}{NAME}" in str(caught.value)


def test_a_manifest_that_has_more_items_is_of_another_batch(local):
    written(begun(local), line(9))
    with pytest.raises(ClaidInputError, match="another manifest_path"):
        opened(local, total=9)


@pytest.mark.parametrize("garbage", [b"garbage", b"{}", b"[]", b"null", b"\xff", b'{"outcome": "lost"}'])
def test_a_line_that_cannot_be_read_is_named(local, path, garbage):
    written(begun(local), line(0))
    with path.open("ab") as file:
        file.write(garbage + b"\n")
    with pytest.raises(ClaidRecordsError, match="cannot be read") as caught:
        opened(local)
    assert str(path) in str(caught.value)


def test_a_torn_last_line_is_cut_off_and_written_again(local, path):
    written(begun(local), line(0), line(1))
    whole = path.read_bytes()
    for cut in range(len(line(0).packed(PRINT)), len(whole), 25):
        path.write_bytes(whole[:cut])
        manifest = begun(local)
        assert endings(manifest)[:2] == ["delivered", None]
        written(manifest, line(1))
        assert path.read_bytes() == whole


def test_a_disk_that_is_full_leaves_no_half_line(local, path):
    manifest = begun(local)
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
    manifest = begun(local)
    written(manifest, line(1), line(0))
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(StoreBusyError):
            manifest.finish()
    assert [each.read_bytes() for each in path.parent.iterdir() if each.is_file()] == [before]


def test_a_folder_in_the_place_of_the_manifest_needs_a_person(local, path):
    path.mkdir(parents=True)
    with pytest.raises(ClaidConfigurationError, match="manifest_path"):
        opened(local)


def test_a_folder_that_cannot_be_made_needs_a_person(tmp_path):
    (tmp_path / "batch").write_text("")
    with pytest.raises(ClaidInputError, match="manifest_path"):
        opened(target(tmp_path))


def test_threads_that_write_at_once_write_each_line_once(place):
    manifest = begun(place, total=80)

    def add_and_write(index):
        manifest.add(line(index))
        manifest.write()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add_and_write, range(80)))
    assert manifest.pending == 0
    assert sorted(indexes(open_sink(place, NAME).lines())) == list(range(80))


@pytest.mark.parametrize("place", ["file", "s3"], indirect=True)
def test_it_is_there_to_be_read_before_anything_has_ended(place, bucket):
    begun(place)
    assert content(place, bucket) == b""
    written(begun(place), line(1))
    begun(place)
    assert indexes(content(place, bucket).splitlines()) == [1]


def test_an_object_is_whole_and_in_order_after_each_write(remote, bucket):
    manifest = begun(remote)
    written(manifest, line(2), line(0, "unknown"))
    assert indexes(content(remote, bucket).splitlines()) == [0, 2]
    written(manifest, line(1), line(0))
    assert indexes(content(remote, bucket).splitlines()) == [0, 1, 2]
    assert manifest._sink.grows is False
    puts = []
    manifest._sink.replace = lambda *_: puts.append(1)
    manifest.finish()
    assert puts == []


def test_an_object_that_takes_long_to_write_is_written_less_often(remote):
    sink = begun(remote, total=1000)._sink
    assert sink.patience == EVERY
    sink._seconds = 3.0
    assert sink.patience == 3.0 * SHARE


def test_an_object_waits_for_no_number_of_lines(remote, local):
    assert begun(local, total=1201).most == MOST
    assert begun(remote, total=1201).most > 1201


def test_an_object_that_was_written_and_answered_badly_is_written_once_more(remote, monkeypatch):
    manifest = begun(remote)
    upload, lost = manifest._sink._objects.upload, iter([True])

    def answered_badly(*given):
        kept = upload(*given)
        if next(lost, False):
            raise StoreBusyError("cut")
        return kept

    monkeypatch.setattr(manifest._sink._objects, "upload", answered_badly)
    manifest.add(line(0))
    with pytest.raises(StoreBusyError):
        manifest.write()
    assert manifest.pending == 1
    manifest.write()
    assert opened(remote).summary() == manifest.summary()


def test_a_slow_upload_never_takes_the_place_of_what_a_later_attempt_has_finished(remote, monkeypatch):
    """A process that stood still with its fence asked and its request half sent."""
    late = begun(remote)
    upload, finished = late._sink._objects.upload, []

    def slow(*given):
        later = begun(remote)
        written(later, *map(line, range(10)))
        later.finish()
        finished.append(b"".join(later._sink.lines()))
        return upload(*given)

    late.add(line(0))
    monkeypatch.setattr(late._sink._objects, "upload", slow)
    with pytest.raises(ClaidBatchUnfinishedError, match="A later attempt of this batch has begun"):
        late.write()
    assert len(finished) == 1
    assert b"".join(opened(remote)._sink.lines()) == finished[0]
    assert finished[0].count(b"\n") == 10


def test_a_store_of_any_kind_takes_a_manifest(monkeypatch):
    """It is written by one attempt: only records need an exclusive create."""
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(
        "airflow.providers.common.compat.sdk.ObjectStoragePath",
        lambda uri, conn_id: SimpleNamespace(fs=MemoryFileSystem(), path="/bucket/out"),
    )
    assert open_sink(parse_target("memory://bucket/out/", None), NAME).uri == f"memory://bucket/out/{NAME}"


class TestTheLatestAttempt:
    """Airflow may take one for dead that only stood still: it must not write over what a later one has finished."""

    def finished(self, place):
        """A first attempt that has written some, and a second that has brought everything to its end."""
        zombie = begun(place, 3)
        written(zombie, line(0, "failed"), line(2))
        latest = begun(place, 3)
        written(latest, line(0, seconds=9), line(1, seconds=9))
        latest.finish()
        return zombie

    @pytest.mark.parametrize("lines", [[line(1, "failed", 99)], [line(1, seconds=99)], [line(0), line(1, "unknown")]])
    def test_alone_writes_the_manifest(self, place, bucket, lines, monkeypatch):
        monkeypatch.setattr(fence, "ASK_EVERY", 0.0)
        zombie = self.finished(place)
        before = content(place, bucket)
        assert indexes(before.splitlines()) == [0, 1, 2]
        for each in lines:
            zombie.add(each)
        for step in (zombie.write, zombie.finish) if place.scheme == "file" else (zombie.write,):
            with pytest.raises(ClaidBatchUnfinishedError, match="A later attempt of this batch has begun"):
                step()
        assert zombie.overtaken
        assert content(place, bucket) == before

    def test_is_undisturbed_even_by_one_that_has_just_asked(self, local, path, monkeypatch):
        """It stood still between its question and its write."""
        zombie = self.finished(local)
        before = path.read_bytes()
        monkeypatch.setattr(fence.Fence, "require_latest", lambda _: None)
        written(zombie, line(1, "failed", 99))
        assert path.read_bytes() == before

    def test_reads_past_what_one_that_has_just_asked_has_put_over_it(self, place, bucket, monkeypatch):
        zombie = self.finished(place)
        with monkeypatch.context() as patched:
            patched.setattr(fence.Fence, "require_latest", lambda _: None)
            written(zombie, line(1, "failed", 99))
            zombie.finish()
        # The journal knows the rest.
        third = begun(place, 3)
        written(third, line(0, seconds=100), line(1, seconds=100))
        third.finish()
        assert endings(opened(place, 3), 3) == ["delivered"] * 3

    def test_with_nothing_left_to_say_leaves_the_manifest_alone(self, place, bucket):
        self.finished(place)
        again = opened(place, 3)
        assert again.is_finished
        again.finish()

    def test_that_was_killed_before_it_put_it_in_order_is_followed_by_one_that_does(self, local, path):
        written(begun(local, 2), line(1), line(0))
        assert not opened(local, 2).is_finished
        begun(local, 2).finish()
        assert indexes(path.read_bytes().splitlines()) == [0, 1]
        assert opened(local, 2).is_finished


def test_a_symbolic_link_in_the_place_of_the_manifest_is_refused_and_not_followed(local, path, tmp_path):
    path.parent.mkdir(exist_ok=True)
    (tmp_path / "secret").write_text("mine\n")
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(ClaidConfigurationError, match="a symbolic link"):
        opened(local)
    assert (tmp_path / "secret").read_text() == "mine\n"


def test_what_is_added_while_a_write_is_under_way_waits_for_the_next(local, monkeypatch):
    manifest = begun(local)
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
    manifest, on_disk, latest = begun(place, 5), {}, {}
    for index, outcome, move in moves:
        if move == "add" and latest.get(index) not in FINAL:
            manifest.add(line(index, outcome))
            latest[index] = outcome
        elif move == "reopen":
            manifest, latest = begun(place, 5), dict(on_disk)
        else:
            manifest.write()
            on_disk = dict(latest)
            if move == "finish":
                manifest.finish()
        assert {i: ending for i, ending in enumerate(endings(manifest, 5)) if ending} == latest
        assert sum(manifest.counts.endings.values()) == len(latest)
    again = opened(place, 5)
    assert {i: ending for i, ending in enumerate(endings(again, 5)) if ending} == on_disk
