"""Small objects of a folder and of a bucket: created exclusively, whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidRecordsError
from airflow_provider_claid.delivery import files
from airflow_provider_claid.delivery.checks import check_request, parse_target
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.records import exclusive
from airflow_provider_claid.delivery.records import objects as objects_module
from airflow_provider_claid.delivery.records.objects import LocalObjects, StoreObjects, open_objects
from airflow_provider_claid.delivery.records.store import ObjectRecords, all_submissions, history
from airflow_provider_claid.delivery.records.submission import Intent, Result
from airflow_provider_claid.delivery.store_errors import StoreBusyError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
IDENTITY = Identity("dag", "run é", "task", 3)
REQUEST = check_request("a red bicycle", 2, 5.0, None)
INTENT = Intent(IDENTITY, 1, 1, 0, "mine", "print", REQUEST, None, NOW, NOW + timedelta(seconds=90))
RESULT = Result("mine", "unknown", "unknown", NOW, message="gone é")


@pytest.fixture(autouse=True)
def _nothing_proven(monkeypatch):
    monkeypatch.setattr(objects_module, "_proven", set())


@pytest.fixture
def local(tmp_path):
    (tmp_path / "a" / "records").mkdir(parents=True)
    return open_objects(parse_target(f"file://{tmp_path}/a/records/", None))


@pytest.fixture(params=["file", "s3"])
def objects(request, tmp_path):
    if request.param == "file":
        return request.getfixturevalue("local")
    request.getfixturevalue("bucket")
    return open_objects(parse_target(f"s3://pictures/{tmp_path.name}/", "my_aws"))


@pytest.fixture
def records(objects):
    return ObjectRecords(objects, IDENTITY.key())


def test_each_scheme_has_its_objects(local, bucket):
    assert isinstance(local, LocalObjects)
    assert isinstance(open_objects(parse_target("s3://pictures/x/", "my_aws")), StoreObjects)


def test_an_unknown_scheme_names_the_argument():
    with pytest.raises(ClaidConfigurationError, match="records_path"):
        open_objects(parse_target("nosuch://bucket/x/", None))


def test_a_taken_name_is_refused_and_left_as_it_is(objects):
    assert objects.create("job/1.intent", b"first")
    assert not objects.create("job/1.intent", b"second")
    assert objects.get("job/1.intent") == b"first"


def test_a_put_overwrites(objects):
    for data in (b"first, and longer", b"second"):
        objects.put("job/1.result", data)
    assert objects.get("job/1.result") == b"second"


def test_what_is_absent_is_none(objects):
    assert objects.get("job/1.intent") is None
    objects.create("job/1.intent", b"")
    assert (objects.get("job/1.intent"), objects.get("job/2.intent")) == (b"", None)


def test_all_names_are_listed_anew(objects):
    assert list(objects.names()) == []
    for name in ("one/1.intent", "one/1.result", "two/1.intent"):
        objects.put(name, b"x")
    assert sorted(objects.names()) == ["one/1.intent", "one/1.result", "two/1.intent"]


def test_of_many_creates_at_once_one_succeeds(objects):
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda n: objects.create("job/1.intent", b"%d" % n), range(8)))
    assert sum(created) == 1
    assert objects.get("job/1.intent") == b"%d" % created.index(True)


def test_records_are_this_users_only(local, tmp_path):
    before = os.umask(0)
    try:
        local.create("job/1.intent", b"x")
        local.put("job/1.result", b"x")
    finally:
        os.umask(before)
    folder = tmp_path / "a" / "records" / "job"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in ("1.intent", "1.result")] == [0o600, 0o600]


@pytest.mark.parametrize("step", ["link", "fsync"])
def test_a_crash_half_way_leaves_no_record(local, tmp_path, monkeypatch, step):
    def crash(*_):
        raise KeyboardInterrupt

    local.create("job/0.intent", b"x")
    with monkeypatch.context() as patched:
        patched.setattr(os, step, crash)
        with pytest.raises(KeyboardInterrupt):
            local.create("job/1.intent", b"x")
    assert sorted(local.names()) == ["job/0.intent"]
    assert local.create("job/1.intent", b"x")


def test_a_file_that_a_kill_left_half_written_is_no_record(local, tmp_path):
    records = ObjectRecords(local, IDENTITY.key())
    folder = tmp_path / "a" / "records" / IDENTITY.key()
    folder.mkdir()
    (folder / f".claid-{'a' * 32}.part").write_bytes(b"{")
    assert list(all_submissions(local)) == []
    assert records.read(1) is None
    assert records.claim(INTENT)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("step", ["create", "put"])
def test_a_full_or_failing_disk_may_pass(local, monkeypatch, step, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    local.create("job/0.intent", b"x")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreBusyError, match=r"job/1\.intent cannot be used now"):
        getattr(local, step)("job/1.intent", b"x")
    assert list(local.names()) == ["job/0.intent"]


def test_a_file_in_the_place_of_a_folder_needs_a_person(local, tmp_path):
    (tmp_path / "a" / "records" / "job").write_text("")
    for call in (lambda: local.create("job/1", b""), lambda: local.put("job/1", b""), lambda: local.get("job/1")):
        with pytest.raises(ClaidConfigurationError, match="records_path") as caught:
            call()
        assert f"file://{tmp_path}/a/records/job/1" in str(caught.value)


class TestTheRoot:
    """A folder that is lost holds what was paid for: no record is found there, and none is made."""

    def opened(self, root, **how):
        return open_objects(parse_target(f"file://{root}/", None), **how)

    def refused(self, root, call):
        with pytest.raises(ClaidConfigurationError, match="records_path") as caught:
            call()
        assert not caught.value.retryable
        assert caught.value.billed == "no"
        for part in (f"file://{root}/", "Mount it, or create it"):
            assert part in str(caught.value)

    def test_has_to_be_there(self, tmp_path):
        (tmp_path / "file").write_text("")
        for root in (tmp_path / "records", tmp_path / "file", tmp_path / "file" / "below", tmp_path / "a" / "b"):
            self.refused(root, lambda root=root: self.opened(root))
        (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
        self.refused(tmp_path / "dangling", lambda: self.opened(tmp_path / "dangling"))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]

    @pytest.mark.parametrize("replaced", [False, True])
    @pytest.mark.parametrize(
        "call",
        [
            lambda objects: objects.create("job/1.intent", b"x"),
            lambda objects: objects.create("new/1.intent", b"x"),
            lambda objects: objects.create("1.intent", b"x"),
            lambda objects: objects.put("job/1.result", b"x"),
            lambda objects: objects.get("job/1.intent"),
            lambda objects: list(objects.names()),
        ],
    )
    def test_that_vanished_is_an_error_and_is_not_made_again(self, local, tmp_path, call, replaced):
        local.create("job/1.intent", b"x")
        root = tmp_path / "a" / "records"
        root.rename(tmp_path / "elsewhere")
        if replaced:
            root.write_text("")
        self.refused(root, lambda: call(local))
        assert not root.is_dir()

    def test_that_vanishes_while_a_record_is_written_is_not_made_again(self, local, tmp_path, monkeypatch):
        real = files.make_folder

        def vanishes(folder, mode):
            shutil.rmtree(tmp_path / "a")
            return real(folder, mode)

        monkeypatch.setattr(files, "make_folder", vanishes)
        self.refused(tmp_path / "a" / "records", lambda: local.create("job/1.intent", b"x"))
        assert list(tmp_path.iterdir()) == []

    def test_may_be_a_link_to_a_folder(self, tmp_path):
        (tmp_path / "disk").mkdir()
        (tmp_path / "records").symlink_to(tmp_path / "disk")
        assert self.opened(tmp_path / "records").create("job/attempts/000001", b"x")
        assert (tmp_path / "disk" / "job" / "attempts" / "000001").exists()

    def test_is_made_for_a_batch_below_its_pictures_and_nothing_above_it(self, tmp_path):
        assert self.opened(tmp_path / "records", makes_root=True).create("1", b"x")
        assert stat.S_IMODE((tmp_path / "records").stat().st_mode) == 0o700
        self.refused(tmp_path / "lost" / "records", lambda: self.opened(tmp_path / "lost" / "records", makes_root=True))


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_mount_without_hard_links_is_refused_by_its_name(local, monkeypatch, code):
    def fails(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", fails)
    with pytest.raises(ClaidConfigurationError, match="makes no hard links") as caught:
        ObjectRecords(local, IDENTITY.key()).claim(INTENT)
    for part in (local.uri, "Set records_path to", "object store"):
        assert part in str(caught.value)
    assert "permission" not in str(caught.value).lower().replace(os.strerror(errno.EPERM).lower(), "")
    assert not caught.value.retryable


def test_records_of_another_user_of_this_machine_are_named_as_such(local, monkeypatch):
    local.create("job/1.attempt", b"{}")

    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", denied)
    with pytest.raises(ClaidConfigurationError, match="Check the path and permissions"):
        local.get("job/1.attempt")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ClaidConfigurationError, match=r"another OS user's.* without run_as_user"):
        local.get("job/1.attempt")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENAMETOOLONG])
def test_what_no_waiting_mends_is_not_tried_again(local, monkeypatch, code):
    local.create("job/0.intent", b"x")

    def fails(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", fails)
    with pytest.raises(ClaidConfigurationError, match="records_path"):
        local.create("job/1.intent", b"x")


def test_a_bucket_that_is_not_there_needs_a_person(bucket):
    objects = open_objects(parse_target("s3://nowhere/records/", "my_aws"))
    with pytest.raises(ClaidConfigurationError, match="records_path"):
        objects.create("job/1.intent", b"x")


def test_a_submission_is_read_as_it_was_written(records):
    assert records.read(1) is None
    assert records.claim(INTENT)
    assert (records.read(1).intent, records.read(1).state) == (INTENT, "open")
    records.finish(1, RESULT)
    (read,) = history(records)
    assert (read.intent, read.result, read.where) == (INTENT, RESULT, records.where(1))


def test_a_claim_is_made_once_and_known_again_by_its_token(records):
    assert records.claim(INTENT)
    assert records.claim(INTENT)
    assert not records.claim(replace(INTENT, token="theirs"))
    assert records.read(1).intent.token == "mine"


def test_an_end_that_is_there_is_left_if_so_wanted(records):
    records.claim(INTENT)
    done = replace(RESULT, outcome="done", billed="yes")
    records.finish(1, done)
    records.finish(1, RESULT, unless_ended=True)
    assert records.read(1).result == done
    records.finish(1, RESULT)
    assert records.read(1).result == RESULT


def test_the_end_of_an_earlier_intent_is_no_end(records):
    records.claim(INTENT)
    records.finish(1, replace(RESULT, token="earlier"))
    assert records.read(1).state == "open"
    records.finish(1, RESULT, unless_ended=True)
    assert records.read(1).result == RESULT


def test_the_records_of_all_jobs_are_listed(objects, records):
    other = replace(INTENT, identity=replace(IDENTITY, map_index=4))
    records.claim(INTENT)
    ObjectRecords(objects, other.identity.key()).claim(other)
    found = sorted(all_submissions(objects), key=lambda each: each.intent.identity.map_index)
    assert [each.intent for each in found] == [INTENT, other]
    assert {each.intent.identity.map_index for each in all_submissions(objects)} == {3, 4}


def test_a_store_that_overwrites_silently_is_refused(objects, monkeypatch):
    monkeypatch.setattr(objects, "create", lambda name, data: objects.put(name, data) or True)
    for _ in range(2):
        with pytest.raises(ClaidConfigurationError, match="records_path") as caught:
            ObjectRecords(objects, IDENTITY.key()).claim(INTENT)
        assert "overwrites" in str(caught.value)
        assert objects.uri in str(caught.value)


BUSY, FAULT = StoreBusyError("busy"), ClaidConfigurationError("records_path", "x", "y")


@pytest.mark.parametrize(
    ("ends", "created", "proven"),
    [
        ([True, False], True, True),
        ([False, True], True, True),
        ([False, False], False, False),
        ([True, BUSY], True, False),
        ([FAULT, True], True, False),
        ([BUSY, False], False, False),
        ([BUSY, FAULT], BUSY, False),
    ],
)
def test_what_two_creates_tell(local, monkeypatch, ends, created, proven):
    monkeypatch.setattr(exclusive, "twice", lambda _: ends)
    try:
        assert objects_module.create_proven(local, "job/1", b"x") == created
    except StoreBusyError as busy:
        assert busy is created
    assert (local.uri in objects_module._proven) == proven


@pytest.mark.parametrize("scheme", ["memory", "sftp", "smb", "webhdfs", "dropbox", "ftp", "local", "s3"])
def test_a_file_system_that_is_not_known_to_create_exclusively_is_refused(monkeypatch, scheme):
    """Whatever its scheme: `s3` may be registered to another class."""
    from fsspec.implementations.memory import MemoryFileSystem

    class S3FileSystem(MemoryFileSystem):
        protocol = scheme

    S3FileSystem.__module__ = "s3fs.core"
    monkeypatch.setattr(
        "airflow.providers.common.compat.sdk.ObjectStoragePath",
        lambda uri, conn_id: SimpleNamespace(fs=S3FileSystem(), path="bucket/records"),
    )
    with pytest.raises(ClaidConfigurationError, match="not known to create exclusively") as caught:
        open_objects(parse_target(f"{scheme}://bucket/records/", None))
    for part in ("records_path", f"{scheme}://bucket/records/", "s3fs", "gcsfs", "adlfs", "file://"):
        assert part in str(caught.value)


def test_neither_is_a_class_that_is_made_from_a_known_one():
    from s3fs.core import S3FileSystem

    exclusive.require_atomic(S3FileSystem, "s3://bucket/", "records_path")
    with pytest.raises(ClaidConfigurationError):
        exclusive.require_atomic(type("Mine", (S3FileSystem,), {}), "s3://bucket/", "records_path")


def test_a_store_is_put_to_the_proof_once(objects, records, monkeypatch):
    created, create = [], objects.create
    monkeypatch.setattr(objects, "create", lambda *given: created.append(given[0]) or create(*given))
    for number in (1, 2):
        records.claim(replace(INTENT, number=number))
    key = IDENTITY.key()
    assert created == [f"{key}/1.intent", f"{key}/1.intent", f"{key}/2.intent"]


def test_a_record_that_is_there_and_may_not_be_read_is_no_permission(objects, records, monkeypatch):
    records.claim(INTENT)
    monkeypatch.setattr(objects, "get", lambda _: None)
    with pytest.raises(ClaidRecordsError, match="needs the rights"):
        records.claim(replace(INTENT, token="theirs"))
