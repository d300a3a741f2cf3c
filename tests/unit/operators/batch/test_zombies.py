"""An attempt that stands still is taken for dead; when it goes on, the next one has brought the batch to its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from airflow_provider_claid.delivery.identity import Identity
from tests.conftest import REPOSITORY
from tests.unit.operators.batch.conftest import prompts_of

COUNT = 40
NAME = f"claid-{Identity('shop', 'monday', 'batch').key()}.jsonl"
PROGRAM = Path(__file__).with_name("zombie.py")


def start(arguments):
    path = os.pathsep.join([str(REPOSITORY), *sys.path])
    command = [sys.executable, str(PROGRAM), json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path})


def end_of(process):
    output, _ = process.communicate(timeout=100)
    (ended,) = (line for line in output.splitlines() if line.startswith("ENDED"))
    return json.loads(ended.removeprefix("ENDED "))


def when(process, condition):
    while not condition():
        assert process.poll() is None, end_of(process)
        time.sleep(0.02)


def stand_still(process):
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_a_zombie_changes_nothing_of_a_manifest_that_is_finished(task, configure, bucket, tmp_path, place):
    configure(requests_per_second=10, requests_per_minute=10_000, request_timeout=10)
    prefix = f"pictures/{tmp_path.name}"
    arguments = {"prompts": prompts_of(COUNT), "max_failed": COUNT, "save_to": f"file://{task.folder}/"}
    if place == "bucket":
        arguments |= {"save_to": f"s3://my_aws@{prefix}/"}

    def manifest():
        if place == "folder":
            return (task.folder / NAME).read_bytes()
        return bucket.get_object(Bucket="pictures", Key=f"{tmp_path.name}/{NAME}")["Body"].read()

    zombie = start(arguments)
    try:
        when(zombie, lambda: task.posts() >= COUNT // 4)
        stand_still(zombie)
        latest = end_of(start(arguments))
        finished = manifest()
        lines = [json.loads(line) for line in finished.splitlines()]
        assert [line["index"] for line in lines] == list(range(COUNT))
        assert latest["kind"] == "success"
        assert latest["result"]["delivered"] >= COUNT // 2, latest
        zombie.send_signal(signal.SIGCONT)
        ended = end_of(zombie)
    finally:
        zombie.kill()
    assert ended["kind"] == "ClaidBatchUnfinishedError"
    assert "A later attempt of this batch has begun" in ended["message"]
    # Its XCom would take the place of that of the attempt that counts.
    assert ended["result"] is None
    assert manifest() == finished
    # What had not left when it stood still may be missing; nothing is paid twice.
    assert set(Counter(task.prompts_sent()).values()) == {1}
    assert task.credits() <= COUNT
