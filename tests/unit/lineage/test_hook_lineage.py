"""Hook lineage by Airflow's own collector, with and without a plugin that reads it, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PLUGIN = """
from airflow.providers.common.compat.sdk import AirflowPlugin, HookLineageReader

class Reads(AirflowPlugin):
    name = "reads"
    hook_lineage_readers = [HookLineageReader]
"""
CODE = """
import json, sys
from airflow.providers.common.compat.sdk import BaseHook
from airflow_provider_claid.lineage import Delivery, record_hook_lineage

folders, sources, hook = json.loads(sys.argv[1]), tuple(json.loads(sys.argv[2])), BaseHook()
record_hook_lineage(hook, Delivery({}, folders, sources))
loaded = sorted({"boto3", "airflow.providers.amazon.aws.hooks.s3"} & set(sys.modules))

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
found = get_hook_lineage_collector().collected_assets
print(json.dumps({
    "inputs": [item.asset.uri for item in found.inputs],
    "outputs": [item.asset.uri for item in found.outputs],
    "by_the_hook": all(item.context is hook for item in found.inputs + found.outputs),
    "loaded": loaded,
}))
"""


@pytest.fixture
def recorded(tmp_path):
    def record(folders, sources=(), *, plugin=True):
        if plugin:
            (tmp_path / "reads.py").write_text(PLUGIN)
        environment = os.environ | {"AIRFLOW__CORE__PLUGINS_FOLDER": str(tmp_path), "OPENLINEAGE_DISABLED": "true"}
        command = [sys.executable, "-c", CODE, json.dumps(folders), json.dumps(sources)]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return record


def test_folders_are_outputs_and_files_of_prompts_are_inputs(recorded):
    folders = [
        "s3://bucket/x/",
        "file:///x/",
        "gs://bucket/x/",
        "storage://name/x/",
        "abfs://container/x/",
        "hdfs2://c/x/",
    ]
    found = recorded(dict.fromkeys(folders, 2), ["s3://bucket/prompts.csv"])
    assert found["outputs"] == [folder.rstrip("/") for folder in folders]
    assert found["inputs"] == ["s3://bucket/prompts.csv"]
    assert found["by_the_hook"]


def test_a_literal_prompt_is_no_input(recorded):
    assert recorded({"file:///x/": 1})["inputs"] == []


def test_where_nobody_reads_nothing_is_recorded_or_loaded(recorded):
    found = recorded({"s3://bucket/x/": 1}, plugin=False)
    assert (found["inputs"], found["outputs"], found["loaded"]) == ([], [], [])
