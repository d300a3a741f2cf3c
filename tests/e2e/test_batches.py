"""Batches run by Airflow's own task runner: their prompts from other tasks, mapped, tried again, and linked to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_claid.links.claid import ClaidManifestLink

pytestmark = pytest.mark.usefixtures("claid_connection")
MADE = ["a red bicycle {{ ds }}", {"prompt": "a blue {{ 6 * 7 }} bicycle", "id": "blue"}]


@pytest.fixture
def run(dag, monkeypatch, tmp_path):
    arguments = {"save_to": f"file://{tmp_path}/pictures/{{{{ ti.task_id }}}}/"}
    monkeypatch.setenv("TEST_BATCH", json.dumps(arguments))
    monkeypatch.setenv("TEST_PROMPTS", json.dumps(MADE))
    return dag("batches").test


def prompts_in(result):
    path = Path(result["manifest"].removeprefix("file://"))
    return [json.loads(line)["prompt"] for line in path.read_text().splitlines()]


def test_prompts_of_other_tasks_are_resolved_and_not_rendered(run, sandbox, tmp_path):
    # The first request fails in a way that a retry mends.
    sandbox.fault("picture", "zero", times=4)
    finished = run()
    assert finished.state == "success"
    ti = finished.get_task_instance("made")
    result = ti.xcom_pull("made")
    assert (result, result["delivered"]) == (ti.xcom_pull("made", key="claid_result"), 2)
    assert prompts_in(result) == ["a red bicycle {{ ds }}", "a blue {{ 6 * 7 }} bicycle"]
    assert (tmp_path / "pictures" / "made" / "blue-1.png").exists()
    assert prompts_in(ti.xcom_pull("listed")) == ["a teapot 2", "a chair"]
    mapped = list(ti.xcom_pull("mapped"))
    assert [each["total"] for each in mapped] == [2, 1]
    assert [prompts_in(each) for each in mapped] == [["a table", "a bench"], ["a lamp"]]
    assert len({each["manifest"] for each in mapped}) == 2
    assert sandbox.report()["totals"]["credits"] == 8
    assert ti.xcom_pull("made", key=ClaidManifestLink().xcom_key) == result["manifest"]
