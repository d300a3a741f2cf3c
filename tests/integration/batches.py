"""Attempts at batches in processes of their own, and what their manifests and a sandbox say of them afterwards."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.sandbox.server import SandboxServer
from tests.conftest import KEY
from tests.integration.told import NEVER, Told

PROMPTS = 24


class Attempts(Told):
    """Attempts at batches."""

    def make(self, run, prompts, arguments, seconds=NEVER, trouble=0.0):
        """Make one attempt; return how it ended and how long it took."""
        wish = {"run": run, "prompts": prompts, "arguments": arguments, "seconds": seconds, "trouble": trouble}
        return self.tell(json.dumps(wish))


@pytest.fixture
def server(tmp_path):
    fields = {"latency": (0.1, 0.3), "per_second": None, "per_minute": None, "plain": True, "seed": 1}
    with SandboxServer(folder=tmp_path / "storage", **fields) as sandbox:
        yield sandbox


@pytest.fixture
def attempts(server, bucket, tmp_path):
    extra = {"requests_per_second": 40, "requests_per_minute": 10_000, "request_timeout": 2}
    extra["storages"] = {"my-storage": f"file://{tmp_path}/storage/"}
    connection = {"conn_type": "claid", "host": server.url, "password": KEY, "extra": extra}
    environment = os.environ | {
        "AIRFLOW_CONN_CLAID_DEFAULT": json.dumps(connection),
        "AIRFLOW__CLAID__RECORDS_PATH": f"file://{tmp_path}/records/",
        "AIRFLOW__CLAID__PACING_DIR": str(tmp_path / "pacing"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
    }
    (tmp_path / "records").mkdir()
    with (tmp_path / "attempts.log").open("w") as log:
        running = Attempts("batch_attempts.py", environment, log)
        yield running
        running.close()


def prompts_of(run):
    return [f"picture {number} of {run}" for number in range(PROMPTS)]


def manifest_of(run, folder, bucket=None):
    """Read the lines of a run's manifest, of which there must be one for each prompt, in order."""
    uri = f"{folder}/claid-{Identity('shop', run, 'batch').key()}.jsonl"
    lines = [json.loads(line) for line in content_of(uri, bucket).splitlines()]
    assert [line["index"] for line in lines] == list(range(PROMPTS))
    return lines


def content_of(uri, bucket):
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(parts.path).read_bytes()
    return bucket.get_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"))["Body"].read()


def billed_for(server):
    """How many credits each prompt has cost, and that the counts of the sandbox agree."""
    report = server.report()
    billed = Counter()
    for request in report["requests"]:
        if request["prompt"]:
            billed[request["prompt"]] += request["credits"]
    assert billed.total() == report["totals"]["credits"]
    return billed


def require_readable(lines, bucket=None):
    """Read every picture that the manifest hands on, each another one, and count them."""
    uris = [uri for line in lines if line["outcome"] == "delivered" for uri in line["uris"]]
    assert len(set(uris)) == len(uris)
    for uri in uris:
        with Image.open(BytesIO(content_of(uri, bucket))) as picture:
            picture.load()
    return len(uris)
