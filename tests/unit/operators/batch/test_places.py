"""Where a batch writes: folders that are lost, mounts that lack something, and a manifest that is read meanwhile."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import threading

import pytest

from airflow_provider_claid.delivery.batch import sinks
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.exceptions import ClaidConfigurationError
from tests.unit.delivery.test_files import failing
from tests.unit.operators.batch.conftest import path_of, prompts_of, require_pictures

NAME = f"claid-{Identity('shop', 'monday', 'batch').key()}.jsonl"


def test_records_in_a_folder_that_is_lost_send_nothing_and_make_nothing(task, tmp_path):
    arguments = {"records_path": f"file://{tmp_path}/mount/records/"}
    (tmp_path / "mount" / "records").mkdir(parents=True)
    task.run(prompts_of(2), **arguments)
    shutil.rmtree(tmp_path / "mount")
    error = task.fail(ClaidConfigurationError, prompts_of(2), **arguments)
    for part in ("records_path", f"file://{tmp_path}/mount/records/", "Mount it, or create it"):
        assert part in str(error)
    assert not error.retryable
    assert not (tmp_path / "mount").exists()
    assert task.posts() == 2


def test_records_below_the_pictures_are_made_there(task):
    task.run(prompts_of(2))
    assert stat.S_IMODE((task.folder / "claid-records").stat().st_mode) == 0o700


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_mount_without_hard_links_keeps_pictures_and_manifest_but_no_records(
    task, monkeypatch, bucket, tmp_path, code
):
    monkeypatch.setattr(os, "link", failing(code))
    error = task.fail(ClaidConfigurationError, prompts_of(2))
    for part in ("makes no hard links", "Set records_path to", f"file://{task.folder}/claid-records/"):
        assert part in str(error)
    assert task.posts() == 0
    task.number = 0
    result = task.run(prompts_of(2), records_path=f"s3://my_aws@pictures/{tmp_path.name}/records/")
    assert (result["delivered"], task.posts()) == (2, 2)
    require_pictures(task.manifest)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_mount_that_syncs_no_folders_does(task, monkeypatch, code):
    def is_folder(descriptor):
        return stat.S_ISDIR(os.fstat(descriptor).st_mode)

    monkeypatch.setattr(os, "fsync", failing(code, is_folder, os.fsync))
    assert task.run(prompts_of(2))["delivered"] == 2
    assert task.run(prompts_of(2))["delivered"] == task.posts() == 2


def test_a_second_run_of_a_finished_batch_does_not_touch_the_manifest(task):
    path = path_of(task.run(prompts_of(3))["manifest"])
    before = path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns
    task.run(prompts_of(3))
    task.epoch = 1
    task.run(prompts_of(3))
    assert (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_the_manifest_is_read_at_its_address_while_the_batch_runs(
    task, configure, bucket, tmp_path, monkeypatch, place
):
    monkeypatch.setattr(sinks, "EVERY", 0.2)
    configure(requests_per_second=10, requests_per_minute=10_000)
    prefix = tmp_path.name
    save_to = f"file://{task.folder}/" if place == "folder" else f"s3://my_aws@pictures/{prefix}/"

    def lines():
        if place == "folder":
            raw = (task.folder / NAME).read_bytes()
        else:
            raw = bucket.get_object(Bucket="pictures", Key=f"{prefix}/{NAME}")["Body"].read()
        return [json.loads(line) for line in raw.splitlines(keepends=True) if line.endswith(b"\n")]

    seen, ended = [], threading.Event()

    def run():
        try:
            task.run(prompts_of(40), save_to=save_to)
        finally:
            ended.set()

    running = threading.Thread(target=run)
    running.start()
    while not ended.wait(0.05):
        if task.posts():
            # It was there before the first request left.
            seen.append(len(lines()))
    running.join()
    assert seen == sorted(seen)
    assert any(0 < each < 40 for each in seen)
    assert [line["index"] for line in lines()] == list(range(40))
    assert task.result["manifest"].endswith(NAME)


def test_a_target_that_is_away_at_the_first_try_is_no_lost_place_at_the_second(task, bucket, tmp_path):
    records = tmp_path / "records"
    records.mkdir()
    places = {"save_to": "s3://my_aws@not-yet/x/", "records_path": f"file://{records}/"}
    task.fail(ClaidConfigurationError, prompts_of(2), **places)
    assert task.posts() == 0
    bucket.create_bucket(Bucket="not-yet")
    assert task.run(prompts_of(2), **places)["delivered"] == 2
