"""The attempts at a batch are numbered as they begin, and an earlier one finds out that it is not the latest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_claid.api.errors import ClaidBatchUnfinishedError, ClaidRecordsError
from airflow_provider_claid.delivery.batch import attempts
from airflow_provider_claid.delivery.batch.attempts import begin
from airflow_provider_claid.delivery.records.objects import open_objects
from airflow_provider_claid.delivery.store_errors import StoreBusyError


@pytest.fixture
def objects(place):
    return open_objects(place)


def test_numbers_grow_from_one_and_are_written_down(objects):
    assert [begin(objects, "key").number for _ in range(20)] == list(range(1, 21))
    assert begin(objects, "other").number == 1
    assert {name for name in objects.names() if name.startswith("other/")} == {"other/attempts/000001"}


def test_those_that_begin_at_once_get_numbers_of_their_own(objects):
    with ThreadPoolExecutor(6) as pool:
        begun = list(pool.map(lambda _: begin(objects, "key"), range(6)))
    assert sorted(each.number for each in begun) == list(range(1, 7))
    latest = max(begun, key=lambda each: each.number)
    for each in begun:
        if each is latest:
            each.require_latest()
        else:
            with pytest.raises(ClaidBatchUnfinishedError):
                each.require_latest()


def test_an_earlier_one_finds_out_and_knows_it_from_then_on(objects, monkeypatch):
    first = begin(objects, "key")
    first.require_latest()
    begin(objects, "key")
    assert not first.overtaken
    with pytest.raises(ClaidBatchUnfinishedError, match="key/attempts/000002") as caught:
        first.require_latest()
    assert caught.value.retryable
    assert first.overtaken
    monkeypatch.setattr(objects, "get", lambda _: None)
    with pytest.raises(ClaidBatchUnfinishedError):
        first.go_on()


def test_the_store_is_asked_every_few_seconds_and_before_anything_is_overwritten(objects, monkeypatch):
    attempt, asked, get = begin(objects, "key"), [], objects.get
    monkeypatch.setattr(objects, "get", lambda name: asked.append(name) or get(name))
    monkeypatch.setattr(attempts, "ASK_EVERY", 1e9)
    for _ in range(100):
        attempt.go_on()
    assert asked == []
    attempt.require_latest()
    assert asked == ["key/attempts/000002"]
    monkeypatch.setattr(attempts, "ASK_EVERY", -1.0)
    attempt.go_on()
    assert len(asked) == 2


def test_a_create_that_was_carried_out_and_answered_badly_is_known_again(objects, monkeypatch):
    monkeypatch.setattr("airflow_provider_claid.delivery.backoff.STORE_PAUSE", 0.001)
    create, lost = objects.create, iter([True])

    def answered_badly(*given):
        made = create(*given)
        if made and next(lost, False):
            raise StoreBusyError("cut")
        return made

    monkeypatch.setattr(objects, "create", answered_badly)
    assert [begin(objects, "key").number for _ in range(2)] == [1, 2]


def test_a_number_that_is_there_and_may_not_be_read_is_an_error(objects, monkeypatch):
    begin(objects, "key")
    monkeypatch.setattr(objects, "get", lambda _: None)
    with pytest.raises(ClaidRecordsError, match="cannot be read"):
        begin(objects, "key")
