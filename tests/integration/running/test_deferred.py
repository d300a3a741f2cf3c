"""Pictures paid for in a running triggerer, which is stopped and killed while their requests are under way."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)

DAG_ID = "paid_deferred"


@pytest.fixture
def run(running_airflow, running_sandbox, tmp_path):
    """A run of the Dag whose four requests are under way: the sandbox takes its time for them."""
    running_sandbox.reset()
    running_sandbox.change(latency=4.0)
    (tmp_path / "records").mkdir()
    conf = {"folder": f"file://{tmp_path}/pictures/", "records": f"file://{tmp_path}/records/"}
    yield running_airflow.trigger(DAG_ID, conf)
    running_sandbox.change(latency=0)


def posts(sandbox):
    return sandbox.report()["totals"]["posts"]


def results(airflow, run):
    return [airflow.xcom(DAG_ID, run, "generate", key="claid_result", map_index=index) for index in range(4)]


def delivered(airflow, run):
    uris = [uri for index in range(4) for uri in airflow.xcom(DAG_ID, run, "generate", map_index=index)]
    return len({Path(uri.removeprefix("file://")).read_bytes() for uri in uris})


def test_a_triggerer_that_is_stopped_records_what_is_under_way(running_airflow, running_sandbox, run):
    running_airflow.wait_for(lambda: posts(running_sandbox) == 4, 120, "four requests")
    running_airflow.stop("triggerer")
    running_airflow.start("triggerer")
    assert running_airflow.wait_run(DAG_ID, run) == "success"
    assert (posts(running_sandbox), delivered(running_airflow, run)) == (4, 4)
    assert [result["reused"] for result in results(running_airflow, run)] == [True] * 4


def test_a_triggerer_that_is_killed_leaves_what_it_had_not_recorded_as_unknown(running_airflow, running_sandbox, run):
    running_airflow.wait_for(lambda: posts(running_sandbox) == 4, 120, "four requests")
    running_airflow.kill("triggerer")
    running_airflow.start("triggerer")
    # The new one waits until no answer can come any more: the timeout of 5 s and a minute.
    assert running_airflow.wait_run(DAG_ID, run, timeout=200) == "failed"
    assert posts(running_sandbox) == 4
    log = running_airflow.task_log(DAG_ID, run, "generate", map_index=0)
    assert "up to 1 credits may have been billed" in log


def test_deferred_and_undisturbed_each_is_paid_once(running_airflow, running_sandbox, run):
    assert running_airflow.wait_run(DAG_ID, run) == "success"
    assert (posts(running_sandbox), delivered(running_airflow, run)) == (4, 4)
    assert [result["reused"] for result in results(running_airflow, run)] == [False] * 4
