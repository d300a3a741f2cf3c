"""Records in Airflow's task state store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_claid.api.errors import ClaidRecordsError
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.records.state import StateStore, TaskStateRecords
from airflow_provider_claid.delivery.records.store import history
from airflow_provider_claid.delivery.records.submission import Intent, Result
from airflow_provider_claid.delivery.store_errors import StoreBusyError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REQUEST = check_request("a red bicycle", 2, 5.0, None)
INTENT = Intent(
    Identity("dag", "run", "task"), 1, 1, 0, "mine", "print", REQUEST, None, NOW, NOW + timedelta(seconds=90)
)
RESULT = Result("mine", "done", "yes", NOW, "req")


class Store:
    """A task state store in memory."""

    def __init__(self):
        self.values, self.retentions = {}, []

    def get(self, key, default=None):
        return self.values.get(key, default)

    def set(self, key, value, *, retention=None):
        self.retentions.append(retention)
        self.values[key] = value


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def records(store):
    return TaskStateRecords(StateStore(store))


def test_a_submission_is_read_as_it_was_written(records):
    assert records.read(1) is None
    assert records.claim(INTENT)
    assert records.read(1).state == "open"
    records.finish(1, RESULT)
    (read,) = history(records)
    assert (read.intent, read.result) == (INTENT, RESULT)
    assert read.where == "the key claid_submission_1 of the task state store"


def test_records_never_expire(records, store):
    sdk = pytest.importorskip("airflow.sdk")
    if not hasattr(sdk, "NEVER_EXPIRE"):
        pytest.skip("This Airflow has no task state store")
    records.claim(INTENT)
    records.finish(1, RESULT)
    assert len(store.retentions) == 2
    assert all(retention is sdk.NEVER_EXPIRE for retention in store.retentions)


def test_a_taken_number_is_not_claimed(records, store):
    assert records.claim(INTENT)
    kept = dict(store.values)
    assert not records.claim(replace(INTENT, token="theirs"))
    assert store.values == kept
    assert records.claim(replace(INTENT, number=2))


def test_a_claim_that_was_kept_though_it_failed_is_this_attempts_own(records, store):
    def kept_and_failed(key, value, *, retention=None):
        store.values[key] = value
        raise RuntimeError("gateway timeout")

    store.set = kept_and_failed
    with pytest.raises(StoreBusyError):
        records.claim(INTENT)
    assert records.claim(INTENT)
    assert not records.claim(replace(INTENT, token="theirs"))


def test_an_end_that_is_there_is_left_if_so_wanted(records):
    records.claim(INTENT)
    lost = replace(RESULT, outcome="unknown", billed="unknown")
    records.finish(1, RESULT)
    records.finish(1, lost, unless_ended=True)
    assert records.read(1).result == RESULT
    records.finish(1, lost)
    assert records.read(1).result == lost


def test_an_end_without_its_beginning_is_not_written_and_does_not_count_as_recorded(records, store):
    with pytest.raises(ClaidRecordsError, match="claid_submission_1 of the task state store is gone"):
        records.finish(1, RESULT)
    records.finish(1, RESULT, unless_ended=True)
    assert store.values == {}


@pytest.mark.parametrize("value", ["text", 7, [], {}, {"intent": None}, {"intent": {"schema": 99}}, {"result": {}}])
def test_a_value_that_cannot_be_read_is_no_permission(records, store, value):
    store.values["claid_submission_1"] = value
    with pytest.raises(ClaidRecordsError, match="the key claid_submission_1 of the task state store cannot be read"):
        records.read(1)
    assert not records.claim(INTENT)


@pytest.mark.parametrize(("broken", "calls"), [("get", ("claim", "read", "finish")), ("set", ("claim",))])
def test_a_store_that_fails_may_pass(records, monkeypatch, broken, calls):
    def fail(*_, **__):
        raise RuntimeError("API server gone")

    monkeypatch.setattr(Store, broken, fail)
    arguments = {"claim": (INTENT,), "read": (1,), "finish": (1, RESULT)}
    for call in calls:
        with pytest.raises(StoreBusyError, match="RuntimeError: API server gone"):
            getattr(records, call)(*arguments[call])


def test_what_was_copied_where_is_kept_with_the_result(records):
    assert records.fenced
    records.claim(INTENT)
    told = replace(RESULT, copies={"sku-1.png": "ab"})
    records.finish(1, told)
    assert records.read(1).result == told


def test_half_a_surrogate_pair_is_recorded_as_something_that_a_database_takes(records, store):
    records.claim(INTENT)
    records.finish(1, replace(RESULT, message="a \udc80 of a file name"))
    assert records.read(1).result.message == "a ? of a file name"
