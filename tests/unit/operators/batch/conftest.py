"""The batch operator over real sockets: each `Task.run` is an attempt of the same task instance."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from airflow_provider_claid.delivery import generate as generate_module
from airflow_provider_claid.delivery import payment, pictures
from airflow_provider_claid.delivery.records import ledger
from airflow_provider_claid.operators.claid import ClaidGenerateBatchOperator


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(generate_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(pictures, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(ledger, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(payment, "LOOK_EVERY", 0.02)


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

    def attempt(self, prompts, **arguments):
        self.number += 1
        arguments = {"save_to": f"file://{self.folder}/"} | arguments
        self.operator = ClaidGenerateBatchOperator(task_id="batch", prompts=prompts, **arguments)
        ti = TaskInstance(
            dag_id="shop", run_id="monday", task_id="batch", map_index=-1, try_number=self.number,
            max_tries=self.epoch, stats_tags={}, xcoms=self.xcoms,
        )  # fmt: skip
        return lambda: self.operator.execute({"ti": ti})

    def run(self, prompts, **arguments):
        return self.attempt(prompts, **arguments)()

    @property
    def manifest(self):
        return read_manifest(self.xcoms["claid_result"]["manifest"])

    @property
    def outcomes(self):
        return [line["outcome"] for line in self.manifest]

    def credits(self):
        return self.sandbox.report()["totals"]["credits"]

    def posts(self):
        return self.sandbox.report()["totals"]["posts"]


def read_manifest(uri):
    return [json.loads(line) for line in Path(urlsplit(uri).path).read_text().splitlines()]


@pytest.fixture
def task(sandbox, claid_connection, tmp_path):
    return Task(sandbox, tmp_path / "pictures")


def prompts_of(count):
    return [f"picture number {number}" for number in range(count)]
