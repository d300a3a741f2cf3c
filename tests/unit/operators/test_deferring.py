"""What is proven on the worker before a task defers: the triggerer pays for nothing that cannot be delivered."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_claid.exceptions import ClaidConfigurationError
from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator


@pytest.fixture
def defer(claid_connection, bucket, tmp_path, monkeypatch):
    (tmp_path / "records").mkdir()
    extra = claid_connection["extra"] | {"storages": {"lost": "s3://no-such-bucket/", "shop": "s3://pictures/"}}
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(claid_connection | {"extra": extra}))
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, max_tries=0, stats_tags={})

    def execute(**arguments):
        operator = ClaidGenerateImageOperator(
            task_id="t",
            prompt="a red bicycle",
            deferrable=True,
            records_path=f"file://{tmp_path}/records/",
            **arguments,
        )
        return operator.execute({"ti": ti})

    return execute


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"save_to": "s3://my_aws@no-such-bucket/x/"}, "save_to"),
        ({"output_folder": "storage://lost/x/", "storage_conn_id": "my_aws"}, "on_filtered"),
    ],
)
def test_a_place_that_takes_or_shows_no_pictures_is_refused_before_it_defers(defer, arguments, part):
    with pytest.raises(ClaidConfigurationError, match=part):
        defer(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"save_to": "s3://my_aws@pictures/x/"},
        {"output_folder": "storage://shop/x/", "storage_conn_id": "my_aws"},
        {"output_folder": "storage://lost/x/", "storage_conn_id": "my_aws", "on_filtered": "keep"},
    ],
)
def test_what_is_proven_defers(defer, arguments):
    with pytest.raises(TaskDeferred):
        defer(**arguments)
