"""The batch operator over real sockets: each `Task.run` is an attempt of the same task instance."""

from __future__ import annotations

import json
import shutil
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from PIL import Image

from airflow_provider_claid.delivery import generate as generate_module
from airflow_provider_claid.delivery import payment, pictures
from airflow_provider_claid.delivery.records import ledger
from airflow_provider_claid.operators.claid import ClaidGenerateBatchOperator
from airflow_provider_claid.sandbox.server import SandboxServer
from tests.unit.delivery.records.conftest import sandbox_root


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(generate_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(pictures, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(ledger, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(payment, "LOOK_EVERY", 0.02)


@pytest.fixture(scope="session")
def _sandbox():
    """Many pictures are asked for here, and nobody looks at them."""
    with SandboxServer(latency=0, per_second=None, per_minute=None, plain=True, seed=1) as server:
        yield server


class TaskInstance(SimpleNamespace):
    """What the operator uses of a task instance."""

    def xcom_push(self, key, value):
        self.xcoms[key] = json.loads(json.dumps(value))


class Task:
    """A task instance with prompts, and where its pictures go."""

    def __init__(self, sandbox, folder):
        self.sandbox, self.folder = sandbox, folder
        self.xcoms = {}
        self.number, self.epoch = 0, 0
        self.operator = None
        self.context = {}

    def attempt(self, prompts, **arguments):
        self.number += 1
        if "output_folder" not in arguments:
            arguments = {"save_to": f"file://{self.folder}/"} | arguments
        self.operator = ClaidGenerateBatchOperator(task_id="batch", prompts=prompts, **arguments)
        ti = TaskInstance(
            dag_id="shop", run_id="monday", task_id="batch", map_index=-1, try_number=self.number,
            max_tries=self.epoch, stats_tags={}, xcoms=self.xcoms,
        )  # fmt: skip
        return partial(self.operator.execute, {"ti": ti, **self.context})

    def run(self, prompts, **arguments):
        return self.attempt(prompts, **arguments)()

    def fail(self, kind, prompts, **arguments):
        """Make an attempt that raises exactly this; return the error."""
        with pytest.raises(kind) as caught:
            self.run(prompts, **arguments)
        assert type(caught.value) is kind
        return caught.value

    @property
    def result(self):
        return self.xcoms["claid_result"]

    @property
    def manifest(self):
        return read_manifest(self.result["manifest"])

    @property
    def outcomes(self):
        return [line["outcome"] for line in self.manifest]

    def report(self):
        return self.sandbox.report()

    def credits(self):
        return self.report()["totals"]["credits"]

    def posts(self):
        return self.report()["totals"]["posts"]

    def prompts_sent(self):
        return [request["prompt"] for request in self.report()["requests"] if request["method"] == "POST"]


def path_of(uri):
    return Path(urlsplit(uri).path)


def read_manifest(uri):
    return [json.loads(line) for line in path_of(uri).read_text().splitlines()]


def prompts_of(count):
    return [f"picture number {number}" for number in range(count)]


def require_pictures(lines, count=1):
    """Read every picture of these lines, of which each has so many, all different ones."""
    uris = [uri for line in lines for uri in line["uris"]]
    assert len(set(uris)) == len(uris) == count * len(lines)
    for uri in uris:
        with Image.open(BytesIO(path_of(uri).read_bytes())) as picture:
            picture.load()


def add_up(result):
    return sum(result[ending] for ending in ("delivered", "filtered", "failed", "unknown", "not_started"))


@pytest.fixture
def task(sandbox, claid_connection, tmp_path):
    return Task(sandbox, tmp_path / "pictures")


@pytest.fixture
def configure(claid_connection, monkeypatch):
    """Return a function that puts more into the connection's extra."""

    def change(**extra):
        value = claid_connection | {"extra": claid_connection["extra"] | extra}
        monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(value))

    return change


@pytest.fixture
def storing(task, sandbox, account, configure, tmp_path):
    """A task whose pictures Claid puts into a folder that the connection maps to this machine."""
    root = sandbox_root(sandbox, account, tmp_path)
    configure(storages={"my-storage": f"file://{root}/"})
    (tmp_path / "records").mkdir()
    task.arguments = {
        "output_folder": f"storage://my-storage/{tmp_path.name}/",
        "records_path": f"file://{tmp_path}/records/",
    }
    yield task
    shutil.rmtree(root / tmp_path.name, ignore_errors=True)
