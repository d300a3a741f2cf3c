"""Intents and results of a batch's items, and places for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_claid.api.models import GeneratedImage
from airflow_provider_claid.delivery import backoff
from airflow_provider_claid.delivery.batch.endings import Line
from airflow_provider_claid.delivery.batch.entries import Entry
from airflow_provider_claid.delivery.checks import check_request, parse_target
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.records.submission import Intent, Result

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REQUEST = check_request("a red bicycle é", 2, 5.0, None)
PRINT = "a" * 32
IMAGE = GeneratedImage(tmp_url="https://pictures.test/1.png", width=1024)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(backoff, "STORE_PAUSE", 0.001)


def intent(item=0, number=1, token="mine"):
    identity = Identity("shop", "monday", "batch", -1, item)
    lost_at = NOW + timedelta(seconds=90)
    return Entry(item, number, Intent(identity, number, 1, 0, token, "print", REQUEST, None, NOW, lost_at))


def result(item=0, number=1, token="mine", outcome="done"):
    billed = {"done": "yes", "adopted": "yes", "unknown": "unknown", "unbilled": "no"}[outcome]
    images = (IMAGE,) if billed == "yes" else ()
    return Entry(item, number, None, Result(token, outcome, billed, NOW, "req", images))


def line(index, outcome="delivered", seconds=0.0, **changes):
    at = NOW + timedelta(seconds=seconds)
    values = {"id": None, "prompt": f"prompt {index} é\u2028", "uris": (f"file:///{index}.png",), "credits": 1}
    return Line(index=index, outcome=outcome, at=at, **values | changes)


def target(folder, name="batch"):
    if not (folder / name).exists():
        (folder / name).mkdir()
    return parse_target(f"file://{folder}/{name}/", None)


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path):
    """A folder of this machine, or one in a bucket."""
    if request.param == "file":
        return target(tmp_path)
    request.getfixturevalue("bucket")
    return parse_target(f"s3://pictures/{tmp_path.name}/", "my_aws")
