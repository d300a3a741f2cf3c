"""What the tests beside this one build on: a real Airflow runs Dags, and survives what is killed in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import KEY

pytestmark = pytest.mark.timeout(300)


def test_a_triggered_run_ends_and_its_xcom_is_read_back(running_airflow):
    run = running_airflow.trigger("trivial", {"number": 21})
    assert running_airflow.wait_run("trivial", run) == "success"
    assert running_airflow.xcom("trivial", run, "doubled") == 42
    assert running_airflow.xcom("trivial", run, "doubled", key="none") is None
    assert "Returned value was: 42" in running_airflow.task_log("trivial", run, "doubled")


def test_a_cleared_task_runs_again(running_airflow):
    run = running_airflow.trigger("trivial")
    running_airflow.wait_run("trivial", run)
    running_airflow.clear("trivial", run, "doubled")
    assert running_airflow.wait_run("trivial", run) == "success"
    assert running_airflow.task_instance("trivial", run, "doubled")["try_number"] == 2


def test_a_deferred_task_goes_through_the_triggerer(running_airflow):
    run = running_airflow.trigger("deferred", {"seconds": 1})
    deferred = running_airflow.wait_task("deferred", run, "wait", ["deferred"])
    assert deferred["trigger"]["classpath"].endswith("DateTimeTrigger")
    assert running_airflow.wait_run("deferred", run) == "success"
    assert running_airflow.xcom("deferred", run, "wait") == "resumed in try 1"
    assert "Trigger fired event" in running_airflow.task_log("deferred", run, "wait")


def test_a_picture_is_stored_and_billed_once(running_airflow, running_sandbox, tmp_path):
    running_sandbox.reset()
    run = running_airflow.trigger("picture", {"prompt": "a red bicycle", "save_to": f"file://{tmp_path}/"})
    assert running_airflow.wait_run("picture", run) == "success"
    (uri,) = running_airflow.xcom("picture", run, "generate")
    assert Path(uri.removeprefix("file://")).read_bytes().startswith(b"\x89PNG")
    assert running_airflow.xcom("picture", run, "generate", key="claid_result")["credits"] == 1
    totals = running_sandbox.report()["totals"]
    assert (totals["posts"], totals["credits"]) == (1, 1)
    assert KEY not in running_airflow.task_log("picture", run, "generate")


@pytest.fixture
def sleeping(running_airflow, tmp_path):
    """A run of the Dag `killed` whose only task sleeps in its first try, and the process of that."""
    mark = tmp_path / "asleep"
    run = running_airflow.trigger("killed", {"mark": str(mark)})
    running_airflow.wait_for(mark.exists, 120, "the task asleep")
    return run, running_airflow.task_process("killed", run, "sleeper")


def tries(airflow, run):
    return [(one["try_number"], one["state"]) for one in airflow.tries("killed", run, "sleeper")]


@pytest.mark.parametrize("how", ["kill", "kill_with_supervisor"])
def test_a_killed_task_is_tried_again(running_airflow, sleeping, how):
    run, process = sleeping
    getattr(process, how)()
    assert running_airflow.wait_run("killed", run) == "success"
    assert running_airflow.xcom("killed", run, "sleeper") == 2
    assert tries(running_airflow, run) == [(1, "failed"), (2, "success")]
    assert running_airflow.task_processes() == []


def test_a_task_outlives_its_supervisor_and_its_retry_runs_beside_it(running_airflow, sleeping):
    run, process = sleeping
    process.kill_supervisor()
    try:
        assert running_airflow.wait_run("killed", run) == "success"
        assert tries(running_airflow, run) == [(1, "failed"), (2, "success")]
        assert [(one.pid, one.supervisor) for one in running_airflow.task_processes()] == [(process.pid, None)]
    finally:
        process.kill()


def test_tasks_that_die_with_the_scheduler_are_tried_again(running_airflow, sleeping):
    run, _ = sleeping
    running_airflow.kill("scheduler")
    running_airflow.start("scheduler")
    assert running_airflow.wait_run("killed", run) == "success"
    assert tries(running_airflow, run) == [(1, "failed"), (2, "success")]


def test_a_deferred_task_survives_the_death_of_the_triggerer(running_airflow):
    run = running_airflow.trigger("deferred", {"seconds": 5})
    before = running_airflow.wait_for(lambda: triggerer_of(running_airflow, run), 120, "a triggerer has the trigger")
    running_airflow.kill("triggerer")
    running_airflow.start("triggerer")
    assert running_airflow.wait_run("deferred", run) == "success"
    log = running_airflow.task_log("deferred", run, "wait")
    assert int(re.findall(r"\.trigger\.(\d+)\.log", log)[-1]) > before
    assert log.count("Trigger fired event") == 1


def triggerer_of(airflow, run):
    trigger = airflow.task_instance("deferred", run, "wait")["trigger"]
    return trigger and trigger["triggerer_id"]


@pytest.fixture
def watched_file(running_airflow):
    """The file that the Dag `watched` watches."""
    return Path(running_airflow.environment["WATCHED_FILE"])


def test_an_asset_watcher_starts_its_dag_and_keeps_its_watermark(running_airflow, watched_file):
    """One test for a watermark's whole life, as the state store of an asset cannot begin anew."""
    add(watched_file, "one")
    assert seen_by_run(running_airflow, 1) == [{"from_trigger": True, "payload": {"line": "one", "number": 1}}]
    assert running_airflow.runs("watched")[0]["run_type"] == "asset_triggered"
    assert running_airflow.asset_state("lines") == {"lines_read": 1}

    running_airflow.restart("triggerer")
    running_airflow.wait_for(lambda: starts(watched_file) == [0, 1], 120, "the trigger started again")
    add(watched_file, "two")
    assert seen_by_run(running_airflow, 2) == [{"from_trigger": True, "payload": {"line": "two", "number": 2}}]

    add(watched_file, "raise")
    running_airflow.wait_for(lambda: starts(watched_file) == [0, 1, 3], 120, "the trigger that raised started again")
    add(watched_file, "three")
    assert seen_by_run(running_airflow, 3) == [{"from_trigger": True, "payload": {"line": "three", "number": 4}}]
    assert [event["extra"]["payload"]["number"] for event in running_airflow.asset_events("lines")] == [1, 2, 4]


def add(file, line):
    with file.open("a") as lines:
        lines.write(f"{line}\n")


def starts(file):
    """Return how many lines the trigger had read at each of its starts."""
    return [int(line) for line in Path(f"{file}.starts").read_text().splitlines()]


def seen_by_run(airflow, number):
    """Return the extras of the events that started the run of this number, once it has ended."""
    run, *_ = airflow.wait_for(lambda: airflow.runs("watched")[number - 1 :], 120, f"run {number} of watched")
    assert airflow.wait_run("watched", run["dag_run_id"]) == "success"
    return airflow.xcom("watched", run["dag_run_id"], "seen")


def test_a_component_that_cannot_start_is_told_with_its_log(running_airflow, monkeypatch):
    running_airflow.stop("triggerer")
    monkeypatch.setitem(running_airflow.environment, "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC", "often")
    with pytest.raises(RuntimeError, match=r"triggerer has ended while starting:[\s\S]*often"):
        running_airflow.start("triggerer")
