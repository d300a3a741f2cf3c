"""The right to write is proven before anything is paid, and again after a store has said no."""

from __future__ import annotations

import errno
import logging
import os
import socket
from pathlib import Path

import pytest

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidNotSentError
from airflow_provider_claid.delivery import files, proof
from airflow_provider_claid.delivery import job as job_module
from airflow_provider_claid.delivery.checks import check_request, parse_target
from airflow_provider_claid.delivery.job import ImageJob
from airflow_provider_claid.delivery.mark import Mark
from airflow_provider_claid.delivery.proof import CHECK
from airflow_provider_claid.delivery.storage import open_folder
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.delivery.sync import run

BY = Mark("task", "request", "picture-1", "0" * 64)


@pytest.fixture(autouse=True)
def _nothing_proven(monkeypatch):
    monkeypatch.setattr(proof, "_proven", {})


@pytest.fixture
def target(guard, tmp_path):
    return parse_target(f"s3://pictures/{tmp_path.name}/", guard.conn_id)


def refusal(account, target, kind=ClaidConfigurationError):
    """Return the error of a job that must not pay."""
    with pytest.raises(kind) as caught:
        run(job_module.run(ImageJob(account, check_request("a red bicycle", 1, 5.0, None), "x", target)))
    assert caught.value.billed == "no"
    return caught.value


def posts(sandbox):
    return sandbox.report()["totals"]["posts"]


def test_a_bucket_that_is_not_there_costs_nothing(sandbox, account, guard):
    error = refusal(account, parse_target("s3://no-such-bucket/x/", guard.conn_id))
    assert all(part in str(error) for part in ("save_to", "s3://no-such-bucket/x/", guard.conn_id, "Create the bucket"))
    assert posts(sandbox) == 0


def test_a_denied_put_costs_nothing(sandbox, account, guard, target):
    guard.denies = lambda request: request["REQUEST_METHOD"] == "PUT"
    error = refusal(account, target)
    assert all(part in str(error) for part in ("save_to", target.uri, guard.conn_id, "PutObject"))
    assert not error.retryable
    assert posts(sandbox) == 0


def test_an_endpoint_that_is_not_there_costs_nothing_and_may_come_back(sandbox, account, guard, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        guard.url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("AIRFLOW_CONN_AWAY", guard.connection())
    error = refusal(account, parse_target("s3://pictures/x/", "away"), ClaidNotSentError)
    assert all(part in str(error) for part in ("save_to", "s3://pictures/x/", "'away'"))
    assert error.retryable
    assert posts(sandbox) == 0


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
@pytest.mark.parametrize("part", [CHECK, "x-1.png"])
def test_a_put_that_meets_another_one_is_tried_again(sandbox, account, guard, target, part, code):
    left = iter((True, True))
    guard.denies = lambda request: (
        request["REQUEST_METHOD"] == "PUT" and part in request["PATH_INFO"] and next(left, False)
    )
    guard.denial = "409 Conflict", code
    (picture,) = run(
        job_module.run(ImageJob(account, check_request("a red bicycle", 1, 5.0, None), "x", target))
    ).pictures
    assert (picture.uri, picture.error, posts(sandbox)) == (f"{target.uri}x-1.png", None, 1)


def test_a_target_is_proven_once_in_a_process_and_nothing_is_left_behind(bucket, guard, target):
    for _ in range(3):
        open_folder(target)
    assert (guard.asked("PUT", CHECK), guard.asked("DELETE", CHECK)) == (2, 1)
    assert "Contents" not in bucket.list_objects_v2(Bucket="pictures", Prefix=target.uri.removeprefix("s3://pictures/"))


def test_it_is_proven_again_once_the_store_has_said_no(guard, target):
    folder = open_folder(target)
    guard.denies = lambda request: request["REQUEST_METHOD"] == "PUT"
    with pytest.raises(ClaidConfigurationError, match="PutObject") as caught:
        folder.publish("1.png", b"picture", "image/png", BY)
    assert f"{target.uri}1.png" in str(caught.value)
    assert not folder.is_proven
    with pytest.raises(ClaidConfigurationError, match="PutObject"):
        folder.prove()
    with pytest.raises(ClaidConfigurationError, match="PutObject"):
        open_folder(target)
    guard.denies = lambda request: False
    folder.prove()
    assert folder.is_proven
    assert folder.publish("1.png", b"picture", "image/png", BY) == f"{target.uri}1.png"


def test_who_may_not_delete_leaves_one_hidden_object_and_is_told_so(bucket, guard, target, caplog):
    caplog.set_level(logging.INFO)
    guard.denies = lambda request: request["REQUEST_METHOD"] == "DELETE"
    for _ in range(2):
        proof._proven.clear()
        assert open_folder(target).is_proven
    prefix = target.uri.removeprefix("s3://pictures/")
    (left,) = bucket.list_objects_v2(Bucket="pictures", Prefix=prefix)["Contents"]
    assert left["Key"] == f"{prefix}{CHECK}"
    assert "is left behind" in caplog.text


def test_who_may_create_and_neither_overwrite_nor_delete_may_write(bucket, guard, target):
    bucket.put_object(Bucket="pictures", Key=target.uri.removeprefix("s3://pictures/") + CHECK, Body=b"x")

    def overwrites(request):
        key = request["PATH_INFO"].removeprefix("/pictures/")
        return request["REQUEST_METHOD"] in {"DELETE", "PUT"} and key in {
            each["Key"] for each in bucket.list_objects_v2(Bucket="pictures").get("Contents", ())
        }

    guard.denies = overwrites
    folder = open_folder(target)
    assert folder.publish("1.png", b"picture", "image/png", BY)


@pytest.mark.parametrize("overlooks", [False, True])
def test_a_taken_name_is_left_alone_also_by_a_store_that_knows_no_conditions(bucket, guard, target, overlooks):
    guard.overlooks_conditions = overlooks
    folder = open_folder(target)
    assert folder.publish("1.png", b"first", "image/png", BY) == f"{target.uri}1.png"
    assert folder.publish("1.png", b"second", "image/png", BY) is None
    assert (folder.read("1.png"), folder.mark("1.png")) == (b"first", BY)
    assert folder.publish("1.png", b"third", "image/png", BY, over=True)
    assert folder.read("1.png") == b"third"
    assert (folder.read("2.png"), folder.mark("2.png")) == (None, None)


def test_an_object_of_somebody_else_is_there_and_tells_nothing(bucket, target):
    folder = open_folder(target)
    bucket.put_object(Bucket="pictures", Key=target.uri.removeprefix("s3://pictures/") + "1.png", Body=b"theirs")
    assert folder.mark("1.png") == Mark()
    assert folder.publish("1.png", b"ours", "image/png", BY) is None


class TestOnThisMachine:
    @pytest.fixture
    def target(self, tmp_path):
        return parse_target(f"file://{tmp_path}/a/b/", None)

    def test_the_folder_is_made_and_nothing_is_left_in_it(self, target, tmp_path):
        assert open_folder(target).is_proven
        assert os.listdir(tmp_path / "a" / "b") == []

    @pytest.mark.parametrize(
        ("code", "says"),
        [
            (errno.ENOSPC, "no space"),
            (errno.EDQUOT, "quota"),
            (errno.EROFS, "for reading only"),
            (errno.EACCES, "may not be used"),
            (errno.EPERM, "may not be used"),
        ],
    )
    def test_what_a_person_must_mend_costs_nothing(self, sandbox, account, target, monkeypatch, code, says):
        def fail(*_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fail)
        error = refusal(account, target)
        assert all(part in str(error) for part in ("save_to", target.uri, says))
        assert posts(sandbox) == 0

    def test_a_failing_disk_may_pass(self, sandbox, account, target, monkeypatch):
        def fail(*_):
            raise OSError(errno.EIO, "input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        assert target.uri in str(refusal(account, target, ClaidNotSentError))
        assert posts(sandbox) == 0

    def test_it_is_proven_anew_at_each_opening(self, target, tmp_path):
        open_folder(target)
        (tmp_path / "a" / "b").rmdir()
        open_folder(target)
        assert (tmp_path / "a" / "b").is_dir()

    @pytest.mark.parametrize("links", [True, False])
    def test_a_taken_name_is_left_alone_also_without_hard_links(self, target, tmp_path, monkeypatch, links):
        def refuse(*_, **__):
            raise OSError(errno.EPERM, "Operation not permitted")

        if not links:
            monkeypatch.setattr(os, "link", refuse)
        folder = open_folder(target)
        assert folder.publish("1.png", b"first", "image/png", BY) == f"{target.uri}1.png"
        assert folder.publish("1.png", b"second", "image/png", BY) is None
        assert folder.read("1.png") == b"first"
        assert folder.publish("1.png", b"third", "image/png", BY, over=True)
        assert (folder.read("1.png"), folder.read("2.png"), folder.mark("2.png")) == (b"third", None, None)
        assert os.listdir(tmp_path / "a" / "b") == ["1.png"]

    def test_a_file_and_its_folder_are_synced(self, target, monkeypatch):
        folder, synced = open_folder(target), []
        monkeypatch.setattr(files, "sync_folder", synced.append)
        folder.publish("1.png", b"picture", "image/png", BY)
        assert [str(path) for path in synced] == [target.uri.removeprefix("file://").rstrip("/")]

    def test_a_name_counts_in_bytes_and_only_the_final_one(self, target):
        folder = open_folder(target)
        name = "é" * 125 + "1.png"
        assert len(name.encode()) == 255
        assert folder.publish(name, b"picture", "image/png", BY)
        with pytest.raises(ClaidConfigurationError, match="longer than its disk takes"):
            folder.publish(f"x{name}", b"picture", "image/png", BY)

    def test_a_folder_that_has_gone_is_named(self, target, tmp_path):
        folder = open_folder(target)
        Path(tmp_path, "a", "b").rmdir()
        with pytest.raises(ClaidConfigurationError, match="Make the folder"):
            folder.publish("1.png", b"picture", "image/png", BY)
        assert not folder.is_proven

    def test_a_disk_that_fails_for_a_while_says_so(self, target, monkeypatch):
        def fail(*_):
            raise OSError(errno.EIO, "input/output error")

        folder = open_folder(target)
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StoreBusyError, match="Try again"):
            folder.publish("1.png", b"picture", "image/png", BY)
        assert not folder.is_proven
