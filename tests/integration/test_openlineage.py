"""OpenLineage's own extractor and listener ask the operator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.utils.state import TaskInstanceState

from airflow_provider_claid.lineage import Delivery, operator_lineage
from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator

pytestmark = pytest.mark.usefixtures("claid_connection")

RUN = SimpleNamespace(run_id="r")


@pytest.fixture
def extract():
    def ask(operator, state=TaskInstanceState.SUCCESS):
        return ExtractorManager().extract_metadata(RUN, operator, state, task_instance=None)

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
    assert operator_lineage(None).outputs == []


RUN_DAG = """
import sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag

file = Path(sys.argv[1])
DagBag(file, bundle_path=file.parent, bundle_name="dags-folder").dags[file.stem].test()
"""


@pytest.mark.parametrize("prompt", ["a red bicycle", "nsfw"])
def test_openlineage_gets_the_folder_of_the_pictures_from_its_own_listener(dags_folder, bucket, tmp_path, prompt):
    log = tmp_path / "events.jsonl"
    transport = {"type": "file", "log_file_path": str(log), "append": True}
    arguments = {"prompt": prompt, "number_of_images": 2, "save_to": "s3://my_aws@pictures/x/", "filename": "sku"}
    environment = os.environ | {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "TEST_ARGUMENTS": json.dumps(arguments),
    }
    command = [sys.executable, "-c", RUN_DAG, str(dags_folder / "outlets.py")]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    (end,) = [
        event for event in events if event["eventType"] in ("COMPLETE", "FAIL") and ".generate" in event["job"]["name"]
    ]
    folders = [
        (dataset["namespace"], dataset["name"], dataset["outputFacets"]["outputStatistics"]["fileCount"])
        for dataset in end["outputs"]
        if dataset.get("outputFacets")
    ]
    assert folders == ([("s3://pictures", "x", 2)] if end["eventType"] == "COMPLETE" else [])
    assert (end["eventType"], end["inputs"]) == ("FAIL" if prompt == "nsfw" else "COMPLETE", [])
    assert "my_aws@" not in json.dumps([end["outputs"], end["inputs"]])
