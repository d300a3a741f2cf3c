"""Which place of records counts."""

from __future__ import annotations

import pytest

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.hooks.records import records_uri


def test_the_argument_comes_before_the_configuration(monkeypatch):
    assert records_uri(None) is None
    monkeypatch.setenv("AIRFLOW__CLAID__RECORDS_PATH", "s3://all/records/")
    assert records_uri(None) == "s3://all/records/"
    assert records_uri("s3://one/records/") == "s3://one/records/"


def test_an_empty_argument_is_not_taken_for_none():
    with pytest.raises(ClaidInputError, match="records_path: got ''"):
        records_uri("")
