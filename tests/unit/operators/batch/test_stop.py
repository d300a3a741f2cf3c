"""Being stopped by Airflow 3: a SIGTERM, and five seconds later the end of the process."""

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

from airflow_provider_claid.exceptions import ClaidBatchError, ClaidBatchUnfinishedError
from tests.unit.operators.batch.conftest import add_up, prompts_of, require_pictures


def stop_after(task, posts, prompts, **arguments):
    """Run the batch in a process of its own, and stop it once so many requests have come; return what it said."""
    arguments = {"save_to": f"file://{task.folder}/", "prompts": prompts} | arguments
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("stopped.py")), json.dumps(arguments)],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    while task.posts() < posts:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    # What Airflow allows it, and a second for a busy machine.
    output, _ = process.communicate(timeout=6)
    (said,) = (line.removeprefix("ENDED ") for line in output.splitlines() if line.startswith("ENDED"))
    task.xcoms["claid_result"] = json.loads(said)["result"]
    return json.loads(said)


def lines_in(bucket, prefix):
    """The lines of a manifest at its address, in order."""
    body = bucket.get_object(Bucket="pictures", Key=f"{prefix}manifest.jsonl")["Body"].read()
    lines = [json.loads(line) for line in body.splitlines()]
    assert [line["index"] for line in lines] == sorted(line["index"] for line in lines)
    return lines


@pytest.fixture
def sluggish(sandbox, configure):
    """Every third prompt is answered too late, the others while answers are collected."""
    configure(requests_per_second=8, request_timeout=60)
    sandbox.change(latency=1.5)
    sandbox.fault("generate", "hang", seconds=20, times=None, match="late")
    return [f"{prompt}, late" if number % 3 == 2 else prompt for number, prompt in enumerate(prompts_of(60))]


def require_stopped(task, said):
    """Check that nothing left after the signal, and that all that had left is accounted for; return how many hung."""
    posts = [each["wall"] for each in task.report()["requests"] if each["method"] == "POST"]
    # At eight a second, thirty more would have left by the end.
    assert max(posts) < said["at"] + 0.5
    # Of Airflow it gets 5 s; a machine under load is slower in all.
    assert said["took"] < 30
    assert said["kind"] == ClaidBatchUnfinishedError.__name__
    late = sum("late" in prompt for prompt in task.prompts_sent())
    assert (task.result["delivered"], task.result["unknown"]) == (len(posts) - late, late)
    assert (task.result["not_started"], add_up(task.result)) == (60 - len(posts), 60)
    return late


def test_nothing_leaves_any_more_answers_are_collected_and_the_rest_is_unknown(
    task, sandbox, configure, bucket, sluggish
):
    """With the records and the manifest in a bucket, where each write takes longer."""
    prefix = f"{task.folder.parent.name}/"
    manifest_path = f"s3://my_aws@pictures/{prefix}manifest.jsonl"
    arguments = {"records_path": f"s3://my_aws@pictures/{prefix}records/", "manifest_path": manifest_path}
    late = require_stopped(task, stop_after(task, 9, sluggish, **arguments))
    lines = lines_in(bucket, prefix)
    assert Counter(line["outcome"] for line in lines) == {
        name: task.result[name] for name in ("delivered", "unknown", "not_started")
    }
    unknown = {line["prompt"]: line["error"]["billed"] for line in lines if line["outcome"] == "unknown"}
    assert set(unknown.values()) == {"unknown"}
    assert set(unknown) == {prompt for prompt in task.prompts_sent() if "late" in prompt}
    require_pictures([line for line in lines if line["outcome"] == "delivered"])
    sandbox.clear_faults()
    sandbox.change(latency=0)
    configure()
    task.fail(ClaidBatchError, sluggish, **arguments)
    assert Counter(task.prompts_sent()) == Counter(sluggish)
    assert (task.result["delivered"], task.result["unknown"]) == (60 - late, late)
