"""Attempts beside each other and after each other: a zombie, a person who clears, a policy that lets Airflow wait."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def start(running_airflow, running_sandbox, tmp_path):
    """Return a function that starts a run of a Dag; the sandbox takes its time for it."""
    running_sandbox.reset()
    running_sandbox.change(latency=3.0)
    (tmp_path / "records").mkdir()

    def trigger(dag_id):
        conf = {"prompt": "a red bicycle", "kill": "", "records": f"file://{tmp_path}/records/"}
        return running_airflow.trigger(dag_id, conf | {"folder": f"file://{tmp_path}/pictures/"})

    yield trigger
    running_sandbox.change(latency=0)


def posts(sandbox):
    return sandbox.report()["totals"]["posts"]


def result(airflow, dag_id, run):
    return airflow.xcom(dag_id, run, "generate", key="claid_result")


@pytest.mark.parametrize("place", ["records_path", "state_store"])
def test_a_zombie_beside_its_retry_is_the_only_one_that_pays(running_airflow, running_sandbox, start, place):
    dag_id = f"paid_save_to_{place}"
    run = start(dag_id)
    running_airflow.wait_for(lambda: posts(running_sandbox) == 1, 120, "the request")
    zombie = running_airflow.task_process(dag_id, run, "generate")
    zombie.kill_supervisor()
    state = running_airflow.wait_run(dag_id, run)
    assert posts(running_sandbox) == 1
    assert running_airflow.task_instance(dag_id, run, "generate")["try_number"] == 2
    if place == "records_path":
        assert state == "success"
        assert result(running_airflow, dag_id, run)["reused"] is True
    else:
        # What the zombie learns cannot be written into the store of a later try.
        assert state == "failed"
        assert "up to 1 credits may have been billed" in running_airflow.task_log(dag_id, run, "generate", 2)


@pytest.mark.parametrize("place", ["records_path", "state_store"])
def test_a_person_who_clears_a_finished_task_gets_its_pictures_for_nothing(
    running_airflow, running_sandbox, start, place
):
    dag_id = f"paid_save_to_{place}"
    run = start(dag_id)
    assert running_airflow.wait_run(dag_id, run) == "success"
    first = running_airflow.xcom(dag_id, run, "generate")
    running_airflow.clear(dag_id, run, "generate")
    assert running_airflow.wait_run(dag_id, run) == "success"
    assert running_airflow.xcom(dag_id, run, "generate") == first
    assert result(running_airflow, dag_id, run)["reused"] is True
    assert posts(running_sandbox) == 1


def test_a_person_who_clears_with_reuse_false_gets_new_pictures(running_airflow, running_sandbox, start):
    run = start("paid_anew")
    assert running_airflow.wait_run("paid_anew", run) == "success"
    running_airflow.clear("paid_anew", run, "generate")
    assert running_airflow.wait_run("paid_anew", run) == "success"
    assert result(running_airflow, "paid_anew", run)["reused"] is False
    assert posts(running_sandbox) == 2


def test_with_the_policy_a_refused_task_waits_without_a_slot_as_long_as_the_server_says(
    running_airflow, running_sandbox, start
):
    running_sandbox.fault("generate", "status", status=429, headers={"retry-after": "12"})
    run = start("paid_by_policy")
    running_airflow.wait_task("paid_by_policy", run, "generate", ["up_for_retry"])
    assert running_airflow.wait_run("paid_by_policy", run) == "success"
    assert (posts(running_sandbox), result(running_airflow, "paid_by_policy", run)["credits"]) == (2, 1)


def test_with_the_policy_what_may_have_been_billed_is_not_retried(running_airflow, running_sandbox, start):
    running_sandbox.fault("generate", "reset", when="after_billing")
    run = start("paid_by_policy")
    assert running_airflow.wait_run("paid_by_policy", run) == "failed"
    assert running_airflow.task_instance("paid_by_policy", run, "generate")["try_number"] == 1
    assert posts(running_sandbox) == 1
