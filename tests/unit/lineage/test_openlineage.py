"""OpenLineage's own extractor asks the operator."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset
from airflow.utils.state import TaskInstanceState

from airflow_provider_claid.lineage import Delivery, operator_lineage
from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator

RUN = SimpleNamespace(run_id="r")


@pytest.fixture
def extract():
    manager = pytest.importorskip("airflow.providers.openlineage.extractors.manager")

    def ask(operator, state=TaskInstanceState.SUCCESS):
        return manager.ExtractorManager().extract_metadata(RUN, operator, state, task_instance=None)

    return ask


def operator(delivery=None):
    with DAG("d", schedule=None):
        made = ClaidGenerateImageOperator(task_id="t", prompt="a red bicycle", outlets=[Asset("s3://declared/x/")])
    made._delivery = delivery
    return made


def names(datasets):
    return [(dataset.namespace, dataset.name) for dataset in datasets]


def test_folders_are_outputs_with_the_number_of_their_pictures(extract):
    found = extract(operator(Delivery({}, {"s3://bucket/a/": 2, "file:///b/": 1}, ("s3://bucket/prompts.csv",))))
    assert names(found.outputs) == [("s3://bucket", "a"), ("file", "/b")]
    assert [dataset.outputFacets["outputStatistics"].fileCount for dataset in found.outputs] == [2, 1]
    assert names(found.inputs) == [("s3://bucket", "prompts.csv")]


@pytest.mark.parametrize("state", [TaskInstanceState.RUNNING, TaskInstanceState.FAILED, TaskInstanceState.SUCCESS])
def test_before_and_without_a_delivery_only_the_declared_outlets_are_known(extract, state, caplog):
    found = extract(operator(), state)
    assert (names(found.outputs), found.inputs) == ([("s3://declared", "x")], [])
    assert "non-valid" not in caplog.text


def test_temporary_addresses_are_no_dataset(extract):
    assert names(extract(operator(Delivery({"uris": ["https://x/1.png"]}, {}))).outputs) == [("s3://declared", "x")]


def test_nothing_delivered_is_an_empty_answer():
    pytest.importorskip("airflow.providers.openlineage")
    assert operator_lineage(None).outputs == []


def test_without_being_asked_nothing_of_openlineage_is_loaded():
    code = "import sys, airflow_provider_claid.lineage; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "airflow_provider_claid.lineage" in loaded
    assert not loaded & {"openlineage", "airflow.providers.openlineage.extractors"}
