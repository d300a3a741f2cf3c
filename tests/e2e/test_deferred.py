"""Deferred tasks: everything is settled before they pay, and what is settled is all that they deliver by."""

from __future__ import annotations

import json

import pytest
from airflow.sdk.definitions import dag as airflow_dag

pytestmark = pytest.mark.usefixtures("claid_connection")


@pytest.fixture
def variables(dags_folder):
    """Set Airflow's Variables, in its database; None deletes one."""
    from airflow.models import Variable

    def change(**values):
        for name, value in values.items():
            Variable.delete(name) if value is None else Variable.set(name, value)

    yield change
    change(claid=None)


@pytest.fixture
def between(monkeypatch):
    """Have something done between the end of a trigger and the return of its task."""

    def arrange(deed):
        run_trigger = airflow_dag._run_inline_trigger

        def run_and_do(*arguments):
            event = run_trigger(*arguments)
            deed()
            return event

        monkeypatch.setattr(airflow_dag, "_run_inline_trigger", run_and_do)

    return arrange


@pytest.fixture
def run_deferred(dag, monkeypatch, tmp_path):
    """Run a Dag of the tests with these arguments, deferred, with its records in the test's own folder."""

    def run(name="one_picture", **arguments):
        (tmp_path / "records").mkdir(exist_ok=True)
        given = {"prompt": "a red bicycle", "deferrable": True, "records_path": f"file://{tmp_path}/records/"}
        if name == "mapped":
            expanded = arguments.pop("expand")
            partial = {**given, **arguments}
            partial = {key: value for key, value in partial.items() if key not in expanded}
            monkeypatch.setenv("TEST_MAPPED", json.dumps({"partial": partial, "expand": expanded}))
        monkeypatch.setenv("TEST_ARGUMENTS", json.dumps({**given, **arguments}))
        finished = dag(name).test()
        return finished, [ti for ti in finished.get_task_instances() if ti.task_id == "generate"]

    return run


def posts(sandbox):
    return sandbox.report()["totals"]["posts"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"filename": "{{ 'a/b' }}"}, "filename: got 'a/b'"),
        ({"save_to": "s3://b/", "storage_conn_id": "no_such_connection"}, "no_such_connection"),
        ({"save_to": "s3://{{ 'no_such_connection' }}@b/"}, "no_such_connection"),
        ({"save_to": "s4://bucket/"}, "file system for"),
        ({"save_to": "file:///proc/no/such/"}, "file:///proc/no/such/"),
        ({"claid_conn_id": "no_such_connection"}, "claid_conn_id: got 'no_such_connection'"),
        ({"map_index_template": "{{ nope.x }}"}, "map_index_template"),
    ],
)
def test_what_delivery_needs_is_checked_before_anything_is_sent(
    sandbox, run_deferred, tmp_path, log_text, arguments, says
):
    run, (ti,) = run_deferred(**{"save_to": f"file://{tmp_path}/", **arguments})
    assert (run.state, ti.try_number, posts(sandbox)) == ("failed", 1, 0)
    text = log_text.text
    assert says in text
    assert "Pausing task as DEFERRED" not in text


@pytest.mark.parametrize("value", ["", "no/name", None])
def test_a_variable_that_changes_after_the_payment_loses_no_image(
    sandbox, run_deferred, variables, between, tmp_path, value
):
    variables(claid="sku")
    (tmp_path / "sku-records").mkdir()
    between(lambda: variables(claid=value))
    template = "{{ var.value.claid }}"
    run, (ti,) = run_deferred(
        prompt=f"a red {template}",
        filename=template,
        save_to=f"file://{tmp_path}/{template}/",
        records_path=f"file://{tmp_path}/{template}-records/",
        map_index_template=f"no. {template}",
    )
    assert (run.state, ti.try_number, posts(sandbox)) == ("success", 1, 1)
    assert ti.xcom_pull("generate") == [f"file://{tmp_path}/sku/sku-1.png"]
    assert (tmp_path / "sku" / "sku-1.png").exists()


def test_nor_in_mapped_tasks(sandbox, run_deferred, variables, between, tmp_path):
    variables(claid="sku")
    between(lambda: variables(claid=None))
    filename = "{{ var.value.claid }}-{{ ti.map_index }}"
    run, tasks = run_deferred("mapped", filename=filename, save_to=f"file://{tmp_path}/", expand={"prompt": ["a cup"]})
    assert (run.state, len(tasks), posts(sandbox)) == ("success", 1, 1)
    assert (tmp_path / "sku-0-1.png").exists()


def test_neither_does_a_claid_connection_or_a_configuration_that_is_gone(
    sandbox, run_deferred, between, monkeypatch, tmp_path
):
    def deed():
        monkeypatch.delenv("AIRFLOW_CONN_CLAID_DEFAULT")
        monkeypatch.delenv("AIRFLOW__CLAID__RECORDS_PATH")

    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    monkeypatch.setenv("AIRFLOW__CLAID__RECORDS_PATH", f"file://{tmp_path}/records/")
    between(deed)
    run, (ti,) = run_deferred(save_to=f"file://{tmp_path}/", deferrable=None, records_path=None)
    assert (run.state, ti.try_number, posts(sandbox)) == ("success", 1, 1)


@pytest.mark.parametrize("name", ["one_picture", "decorated_deferred"])
def test_a_record_that_is_gone_is_named_and_said_to_be_billed(
    sandbox, run_deferred, between, tmp_path, log_text, monkeypatch, name
):
    monkeypatch.setenv("CLAID_TEST_FOLDER", f"file://{tmp_path}/")
    between(lambda: [file.unlink() for file in (tmp_path / "records").glob("*/1.*") if "attempt" not in file.name])
    run, (ti,) = run_deferred(name, save_to=f"file://{tmp_path}/")
    assert (run.state, ti.try_number, posts(sandbox)) == ("failed", 1, 1)
    text = log_text.text
    assert "ClaidRecordsError" in text
    assert f"file://{tmp_path}/records/" in text
    assert "StopIteration" not in text


@pytest.mark.parametrize("deferrable", [False, True])
def test_images_that_are_all_black_and_to_be_skipped_skip_the_task(sandbox, run_deferred, tmp_path, deferrable):
    _, (ti,) = run_deferred(
        prompt="nsfw", number_of_images=2, save_to=f"file://{tmp_path}/", on_filtered="skip", deferrable=deferrable
    )
    assert (ti.state, ti.try_number, posts(sandbox)) == ("skipped", 1, 1)
    images = ti.xcom_pull("generate", key="claid_result")["images"]
    assert [image["filtered"] for image in images] == [True, True]
    assert ti.xcom_pull("generate") is None


def test_an_event_of_another_version_is_retried_and_pays_nothing(sandbox, run_deferred, between, monkeypatch, tmp_path):
    run_trigger, events = airflow_dag._run_inline_trigger, []

    def older(*arguments):
        event = run_trigger(*arguments)
        events.append(event)
        if len(events) == 1:
            del event.payload["order"]
        return event

    monkeypatch.setattr(airflow_dag, "_run_inline_trigger", older)
    run, (ti,) = run_deferred(save_to=f"file://{tmp_path}/")
    assert (run.state, ti.try_number, posts(sandbox)) == ("success", 2, 1)
