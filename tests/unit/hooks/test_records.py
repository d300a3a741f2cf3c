"""Which place of records counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.records.attempts import relation_of
from airflow_provider_claid.hooks import records
from airflow_provider_claid.hooks.records import records_uri, try_of


def test_the_argument_comes_before_the_configuration(monkeypatch):
    assert records_uri(None) is None
    monkeypatch.setenv("AIRFLOW__CLAID__RECORDS_PATH", "s3://all/records/")
    assert records_uri(None) == "s3://all/records/"
    assert records_uri("s3://one/records/") == "s3://one/records/"


def test_an_empty_argument_is_not_taken_for_none():
    with pytest.raises(ClaidInputError, match="records_path: got ''"):
        records_uri("")


def test_a_dag_that_is_tested_again_for_the_same_date_is_begun_by_a_person(monkeypatch):
    day = datetime(2026, 11, 1, tzinfo=UTC)

    def begun(number, start=day):
        ti = SimpleNamespace(try_number=number, max_tries=2)
        run = SimpleNamespace(start_date=start, logical_date=day)
        return try_of({"ti": ti, "dag_run": run, "task": SimpleNamespace(retries=2)})

    first, second = begun(1), begun(2)
    assert relation_of(second, first) == "retry"
    monkeypatch.setattr(records, "_PROCESS_BEGUN", datetime.now(UTC) + timedelta(minutes=1))
    assert relation_of(begun(1), first) == relation_of(begun(1), second) == "cleared"
    # A run that the scheduler has started, whose task is delivered to two workers, is none.
    started = day + timedelta(hours=24, seconds=3)
    assert relation_of(begun(1, started), begun(1, started)) == "retry"
