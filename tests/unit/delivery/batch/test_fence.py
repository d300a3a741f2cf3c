"""An earlier attempt at a batch finds out that it is not the latest."""

from __future__ import annotations

import pytest

from airflow_provider_claid.api.errors import ClaidBatchUnfinishedError
from airflow_provider_claid.delivery.batch import fence
from airflow_provider_claid.delivery.batch.fence import Fence
from airflow_provider_claid.delivery.records import marks
from airflow_provider_claid.delivery.records.attempts import Try
from airflow_provider_claid.delivery.records.objects import open_objects


@pytest.fixture
def objects(place):
    return open_objects(place)


def begin(objects, key):
    return Fence(objects, key, marks.begin(objects, key, Try(1, 9, 9), lambda: None).number)


def test_an_earlier_one_finds_out_and_knows_it_from_then_on(objects, monkeypatch):
    first = begin(objects, "key")
    first.require_latest()
    begin(objects, "key")
    assert not first.overtaken
    with pytest.raises(ClaidBatchUnfinishedError, match=r"key/2\.attempt") as caught:
        first.require_latest()
    assert caught.value.retryable
    assert first.overtaken
    monkeypatch.setattr(objects, "get", lambda _: None)
    with pytest.raises(ClaidBatchUnfinishedError):
        first.go_on()


def test_the_store_is_asked_every_few_seconds_and_before_anything_is_overwritten(objects, monkeypatch):
    attempt, asked, get = begin(objects, "key"), [], objects.get
    monkeypatch.setattr(objects, "get", lambda name: asked.append(name) or get(name))
    monkeypatch.setattr(fence, "ASK_EVERY", 1e9)
    for _ in range(100):
        attempt.go_on()
    assert asked == []
    attempt.require_latest()
    assert asked == ["key/2.attempt"]
    monkeypatch.setattr(fence, "ASK_EVERY", -1.0)
    attempt.go_on()
    assert len(asked) == 2
