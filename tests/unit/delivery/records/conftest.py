"""A job over real sockets, and its records in a folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_provider_claid.delivery import clock, payment, sync
from airflow_provider_claid.delivery import generate as generate_module
from airflow_provider_claid.delivery.checks import check_request, parse_target
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.payment import pay
from airflow_provider_claid.delivery.records import ledger as ledger_module
from airflow_provider_claid.delivery.records.objects import open_objects
from airflow_provider_claid.delivery.records.store import ObjectRecords, history
from airflow_provider_claid.delivery.records.submission import Intent
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.hooks.order import Order

IDENTITY = Identity("shop", "monday", "bicycle")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(generate_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(ledger_module, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(payment, "LOOK_EVERY", 0.02)


class Job:
    """A task instance: each `pay` is an attempt of it."""

    def __init__(self, sandbox, account, place, identity=IDENTITY):
        self.sandbox, self.account, self.identity = sandbox, account, identity
        place.mkdir(exist_ok=True)
        self.records = ObjectRecords(open_objects(parse_target(f"file://{place}/", None)), identity.key())
        self.folder = place / identity.key()

    def order(self, prompt="a red bicycle", epoch=0, output=None, **rules):
        return Order(self.identity, epoch, check_request(prompt, 2, 5.0, output), "claid_default", **rules)

    def pay(self, prompt="a red bicycle", epoch=0, *, output=None, first_try=False, **rules):
        order = self.order(prompt, epoch, output, **rules)
        ledger = order.ledger(self.account, self.records)
        return sync.run(pay(self.account, ledger, search=order.search(), first_try=first_try))

    def states(self):
        return [submission.state for submission in history(self.records)]

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())

    def posts(self):
        return self.sandbox.report()["totals"]["posts"]

    def credits(self):
        return self.sandbox.report()["totals"]["credits"]

    def intent(self, token="another", age=0.0, **changes):
        order, now = self.order(), clock.now() - timedelta(seconds=age)
        asked = order.ledger(self.account, self.records).asked
        lost_at = now + timedelta(seconds=60)
        intent = Intent(self.identity, 1, 1, 0, token, asked.fingerprint, order.request, None, now, lost_at)
        return replace(intent, **changes)


@pytest.fixture
def job(sandbox, account, tmp_path):
    return Job(sandbox, account, tmp_path / "records")


def lose(sandbox, **options):
    sandbox.fault("generate", "reset", when="after_billing", **options)


def failing(*_):
    raise StoreBusyError("the disk is on fire")


@pytest.fixture
def storing(sandbox, account, claid_connection, monkeypatch, tmp_path):
    """A job whose pictures Claid puts into a folder that the connection maps to this machine."""
    root = sandbox_root(sandbox, account, tmp_path)
    extra = claid_connection["extra"] | {"storages": {"my-storage": f"file://{root}/"}}
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(claid_connection | {"extra": extra}))
    job = Job(sandbox, account, tmp_path / "records")
    # What an earlier test has lost may be written at any time.
    job.output, job.out = f"storage://my-storage/{tmp_path.name}/", root / tmp_path.name
    yield job
    shutil.rmtree(job.out, ignore_errors=True)


def sandbox_root(sandbox, account, tmp_path):
    request = check_request("where", 1, 5.0, "storage://my-storage/where/")
    (image,) = sync.run(generate_module.generate(account, request)).images
    sandbox.reset()
    return Path(urlsplit(image.uri).path).parents[1]
