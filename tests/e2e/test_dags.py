"""Dags run by Airflow's own task runner, against the sandbox: what is in XCom, in storage, on the bill, in the log."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_provider_claid.delivery import generate as generate_module
from airflow_provider_claid.links.claid import ClaidPictureLink
from tests.conftest import KEY

pytestmark = pytest.mark.usefixtures("claid_connection")


@pytest.fixture
def run_one(dag, monkeypatch):
    """Run the Dag `one_picture` with these arguments; return the run and its task instance."""

    def run(**arguments):
        monkeypatch.setenv("TEST_ARGUMENTS", json.dumps({"prompt": "a red bicycle", **arguments}))
        finished = dag("one_picture").test()
        return finished, finished.get_task_instance("generate")

    return run


@pytest.fixture
def run_with_outlets(dag, monkeypatch):
    """Run the Dag `outlets` with these arguments; return the run and its events in Airflow's database."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    def run(**arguments):
        monkeypatch.setenv("TEST_ARGUMENTS", json.dumps({"prompt": "a red bicycle", **arguments}))
        finished = dag("outlets").test()
        with create_session() as session:
            rows = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == finished.run_id)).all()
            return finished, [(row.asset.name, row.extra, [alias.name for alias in row.source_aliases]) for row in rows]

    return run


def totals(sandbox):
    return sandbox.report()["totals"]


def result_of(ti):
    return ti.xcom_pull("generate", key="claid_result")


def test_the_quickstart_stores_three_pictures_and_reports_them(sandbox, dag, monkeypatch, tmp_path):
    monkeypatch.setenv("CLAID_QUICKSTART_FOLDER", f"file://{tmp_path}/")
    run = dag("claid_quickstart").test()
    assert run.state == "success"
    rows = run.get_task_instance("report").xcom_pull("report")
    assert [Path(row["uri"].removeprefix("file://")).exists() for row in rows] == [True] * 3
    assert {row["width"] for row in rows} == {1024}
    assert totals(sandbox)["credits"] == 3


def test_save_to_returns_uris_and_a_plain_result(sandbox, run_one, tmp_path):
    run, ti = run_one(
        number_of_images="2", save_to=f"file://{tmp_path}/{{{{ ds_nodash | default('x') }}}}/", filename="sku"
    )
    assert run.state == "success"
    uris = ti.xcom_pull("generate")
    assert [uri.rsplit("/", 1)[1] for uri in uris] == ["sku-1.png", "sku-2.png"]
    result = result_of(ti)
    assert json.loads(json.dumps(result)) == result
    assert [image["uri"] for image in result["images"]] == uris
    assert (result["credits"], result["submissions"], result["reused"], result["storage_conn_id"]) == (
        2,
        1,
        False,
        None,
    )
    assert result["request_id"]
    assert result["images"][0]["filtered"] is False
    assert totals(sandbox)["credits"] == 2


@pytest.mark.parametrize("arguments", [{}, {"storage_conn_id": "my_aws"}])
def test_save_to_s3_by_a_named_connection_or_the_schemes_default(sandbox, run_one, bucket, monkeypatch, arguments):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", os.environ["AIRFLOW_CONN_MY_AWS"])
    run, ti = run_one(save_to="s3://pictures/{{ run_id | length }}/", filename="sku", **arguments)
    assert run.state == "success"
    (uri,) = ti.xcom_pull("generate")
    key = uri.removeprefix("s3://pictures/")
    assert bucket.head_object(Bucket="pictures", Key=key)["ContentType"] == "image/png"
    assert result_of(ti)["storage_conn_id"] == arguments.get("storage_conn_id", "aws_default")
    assert ti.xcom_pull("generate", key=ClaidPictureLink().xcom_key).startswith("https://s3.console.aws.amazon.com/")


def test_output_folder_leaves_the_pictures_with_claid(sandbox, run_one):
    run, ti = run_one(output_folder="storage://my-storage/run/")
    assert run.state == "success"
    (uri,) = ti.xcom_pull("generate")
    assert Path(uri.removeprefix("file://")).read_bytes().startswith(b"\x89PNG")
    assert result_of(ti)["images"][0]["expires_at"] is None
    assert totals(sandbox)["downloads"] == 0


def test_neither_warns_and_gives_addresses_that_expire(run_one, log_text):
    _, ti = run_one()
    assert result_of(ti)["images"][0]["expires_at"] == result_of(ti)["expires_at"] is not None
    assert "die in 24 hours" in log_text.text


def test_the_link_opens_the_first_picture(run_one):
    _, ti = run_one()
    assert ti.xcom_pull("generate", key=ClaidPictureLink().xcom_key) == ti.xcom_pull("generate")[0]


PAID_OR_PERMANENT = [
    {"kind": "status", "status": 400},
    {"kind": "status", "status": 401},
    {"kind": "status", "status": 402},
    {"kind": "status", "status": 403},
    {"kind": "status", "status": 422},
    {"kind": "status", "status": 500},
    {"kind": "reset", "when": "after_billing"},
    {"kind": "cut"},
    {"kind": "empty_output"},
]


@pytest.mark.parametrize("fault", PAID_OR_PERMANENT)
def test_airflow_retries_neither_what_is_permanent_nor_what_may_be_paid(sandbox, run_one, fault):
    sandbox.fault("generate", times=None, **fault)
    run, ti = run_one()
    assert (run.state, ti.state, ti.try_number) == ("failed", "failed", 1)
    assert totals(sandbox)["posts"] == 1


@pytest.mark.parametrize("fault", PAID_OR_PERMANENT[:-1])
def test_nor_through_the_hook_in_a_task_with_retries(sandbox, dag, fault):
    sandbox.fault("generate", times=None, **fault)
    run = dag("hook_in_a_task").test()
    assert (run.state, run.get_task_instance("generate").try_number) == ("failed", 1)
    assert totals(sandbox)["posts"] == 1


def test_airflow_retries_what_was_surely_not_billed(sandbox, run_one, monkeypatch):
    monkeypatch.setattr(generate_module, "MAX_TRIES", 1)
    sandbox.fault("generate", "status", status=429, times=2)
    run, ti = run_one()
    assert (run.state, ti.try_number) == ("success", 3)
    assert totals(sandbox)["credits"] == 1


def test_a_black_picture_fails_after_all_is_stored_and_in_xcom(sandbox, run_one, tmp_path):
    run, ti = run_one(prompt="nsfw", number_of_images=2, save_to=f"file://{tmp_path}/")
    assert (run.state, ti.try_number) == ("failed", 1)
    assert [image["filtered"] for image in result_of(ti)["images"]] == [True, True]
    assert len(list(tmp_path.glob("*.png"))) == 2
    assert totals(sandbox)["posts"] == 1


def test_a_black_picture_may_be_kept(run_one, tmp_path):
    run, ti = run_one(prompt="nsfw", save_to=f"file://{tmp_path}/", on_filtered="keep")
    assert run.state == "success"
    assert len(ti.xcom_pull("generate")) == 1


def test_a_picture_that_cannot_be_fetched_is_copied_by_the_retry_which_pays_nothing(
    sandbox, run_one, tmp_path, monkeypatch
):
    monkeypatch.setattr("airflow_provider_claid.delivery.pictures.MAX_TRIES", 1)
    sandbox.fault("picture", "truncated", times=1)
    run, ti = run_one(number_of_images=2, save_to=f"file://{tmp_path}/")
    assert (run.state, ti.try_number) == ("success", 2)
    assert (result_of(ti)["reused"], result_of(ti)["submissions"]) == (True, 1)
    assert len(list(tmp_path.glob("*.png"))) == 2
    assert totals(sandbox)["posts"] == 1


def test_a_picture_that_cannot_be_fetched_fails_once_without_records_and_keeps_the_good_one(
    sandbox, run_one, tmp_path, monkeypatch
):
    monkeypatch.setenv("AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS", "True")
    monkeypatch.setattr("airflow_provider_claid.delivery.pictures.MAX_TRIES", 1)
    sandbox.fault("picture", "truncated", times=1)
    run, ti = run_one(number_of_images=2, save_to=f"file://{tmp_path}/")
    assert (run.state, ti.try_number) == ("failed", 1)
    images = result_of(ti)["images"]
    assert sum(1 for image in images if image["error"]) == 1
    assert len(list(tmp_path.glob("*.png"))) == 1
    assert totals(sandbox)["posts"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"prompt": "{{ 'ab' }}"}, "prompt: got 'ab'"),
        ({"number_of_images": "{{ 9 }}"}, "number_of_images: got 9"),
        ({"output_folder": "{{ 'storage://x' }}"}, "output_folder: got 'storage://x'"),
        ({"save_to": "{{ 'bucket/' }}"}, "Begin with a scheme"),
        ({"save_to": "{{ 's3://b/' }}", "storage_conn_id": "no_such_connection"}, "no_such_connection"),
        ({"save_to": "{{ 's3://no_such_connection@b/' }}"}, "no_such_connection"),
        ({"save_to": "s4://bucket/"}, "file system for"),
        ({"map_index_template": "{{ nope.x }}"}, "map_index_template: got '{{ nope.x }}'"),
        ({"save_to": "{{ '' }}"}, "save_to: got nothing"),
        ({"storage_conn_id": "no_such_connection"}, "no_such_connection"),
        ({"claid_conn_id": "no_such_connection"}, "claid_conn_id: got 'no_such_connection'"),
    ],
)
def test_what_rendering_reveals_is_refused_before_anything_is_sent(sandbox, run_one, log_text, arguments, says):
    run, ti = run_one(**arguments)
    assert (run.state, ti.try_number) == ("failed", 1)
    assert says in log_text.text
    assert totals(sandbox)["posts"] == 0


def test_the_configurations_default_of_deferring_runs_on_the_worker(sandbox, run_one, monkeypatch, log_text):
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    run, _ = run_one()
    assert run.state == "success"
    assert "runs on the worker" in log_text.text


@pytest.mark.parametrize("configured", ["argument", "configuration"])
def test_deferred_the_trigger_pays_and_the_worker_copies(sandbox, run_one, tmp_path, monkeypatch, configured):
    records = f"file://{tmp_path}/records/"
    (tmp_path / "records").mkdir()
    if configured == "configuration":
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
        monkeypatch.setenv("AIRFLOW__CLAID__RECORDS_PATH", records)
        arguments = {}
    else:
        arguments = {"deferrable": True, "records_path": records}
    run, ti = run_one(number_of_images=2, save_to=f"file://{tmp_path}/", filename="sku", **arguments)
    assert run.state == "success"
    assert ti.xcom_pull("generate") == [f"file://{tmp_path}/sku-{number}.png" for number in (1, 2)]
    assert (result_of(ti)["reused"], result_of(ti)["submissions"], result_of(ti)["credits"]) == (False, 1, 2)
    assert totals(sandbox)["posts"] == 1
    assert {file.name for file in (tmp_path / "records").rglob("*") if file.is_file()} == {
        "1.attempt",
        "1.intent",
        "1.result",
    }


def test_what_fails_in_the_trigger_fails_the_task_as_on_a_worker(sandbox, run_one, tmp_path, log_text):
    sandbox.fault("generate", "status", status=402, times=None)
    (tmp_path / "records").mkdir()
    run, ti = run_one(deferrable=True, records_path=f"file://{tmp_path}/records/")
    assert (run.state, ti.try_number) == ("failed", 1)
    assert "ClaidCreditsError" in log_text.text
    assert totals(sandbox)["posts"] == 1


def test_an_execution_timeout_after_the_request_left_is_not_retried(
    sandbox, run_one, log_text, claid_connection, monkeypatch
):
    def strike():
        while not totals(sandbox)["posts"]:
            time.sleep(0.05)
        # Airflow's timeout is an alarm: it rings now, however long this machine took to come here.
        os.kill(os.getpid(), signal.SIGALRM)

    patient = claid_connection | {"extra": claid_connection["extra"] | {"request_timeout": 60}}
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(patient))
    sandbox.fault("generate", "hang", seconds=60, times=None)
    threading.Thread(target=strike, daemon=True).start()
    run, ti = run_one(execution_timeout=3600)
    assert (run.state, ti.try_number) == ("failed", 1)
    assert "may have been billed" in log_text.text
    assert totals(sandbox)["posts"] == 1


def test_an_xcom_that_fails_after_the_payment_is_retried_for_nothing(sandbox, run_one, monkeypatch):
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def fails(*_, **__):
        raise RuntimeError("the API server is away")

    monkeypatch.setattr(RuntimeTaskInstance, "xcom_push", fails)
    run, ti = run_one()
    assert (run.state, ti.try_number) == ("failed", 3)
    assert totals(sandbox)["posts"] == 1


def test_without_records_an_xcom_that_fails_after_the_payment_is_not_retried(sandbox, run_one, monkeypatch, log_text):
    monkeypatch.setenv("AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS", "True")
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def fails(*_, **__):
        raise RuntimeError("the API server is away")

    monkeypatch.setattr(RuntimeTaskInstance, "xcom_push", fails)
    run, ti = run_one()
    assert (run.state, ti.try_number) == ("failed", 1)
    assert "RuntimeError after the request left" in log_text.text
    assert f"{sandbox.url}/tmp/" in log_text.text
    assert totals(sandbox)["posts"] == 1


def test_an_execution_timeout_before_the_request_left_is_retried(sandbox, run_one, monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_CLAID_DEFAULT",
        json.dumps({"conn_type": "claid", "host": sandbox.url, "password": KEY, "extra": {"requests_per_minute": 1,
                    "account": "slow"}}),
    )  # fmt: skip
    run_one()
    run, ti = run_one(execution_timeout=1)
    assert (run.state, ti.try_number) == ("failed", 3)
    assert totals(sandbox)["posts"] == 1


@pytest.mark.parametrize("kind", ["status", "fine"])
def test_the_key_is_in_no_log_and_no_xcom(sandbox, run_one, log_text, kind, tmp_path):
    if kind == "status":
        sandbox.fault("generate", "status", status=422, echo_key=True, times=None)
    _, ti = run_one(save_to=f"file://{tmp_path}/")
    # Airflow's own supervisor prints the message by which it learns what to mask, at DEBUG.
    assert any("httpcore" in record.name for record in log_text.records)
    lines = [line for line in log_text.text.splitlines() if "MaskSecret" not in line]
    assert not [line for line in lines if KEY in line]
    assert KEY not in json.dumps(result_of(ti) or {})


def test_outlets_tell_what_was_delivered(sandbox, run_with_outlets, tmp_path):
    run, events = run_with_outlets(number_of_images=2, save_to=f"file://{tmp_path}/", filename="sku")
    ti = run.get_task_instance("generate")
    extra = {
        "uris": [f"file://{tmp_path}/sku-{number}.png" for number in (1, 2)],
        "credits": 2,
        "request_id": result_of(ti)["request_id"],
        "prompt_sha256": hashlib.sha256(b"a red bicycle").hexdigest(),
    }
    assert ti.xcom_pull("generate") == extra["uris"]
    assert sorted(events) == [
        (f"file://{tmp_path}/", extra, ["folders"]),
        ("pictures", extra, []),
        ("pictures by name", extra, []),
    ]


def test_temporary_addresses_are_announced_but_are_in_no_folder(run_with_outlets):
    run, events = run_with_outlets()
    assert {name for name, _, _ in events} == {"pictures", "pictures by name"}
    assert all(extra["uris"] == run.get_task_instance("generate").xcom_pull("generate") for _, extra, _ in events)


@pytest.mark.parametrize("fault", ["black", "lost"])
def test_a_job_that_failed_announces_nothing(sandbox, run_with_outlets, tmp_path, fault):
    if fault == "lost":
        sandbox.fault("generate", "reset", when="after_billing", times=None)
    run, events = run_with_outlets(prompt="nsfw", save_to=f"file://{tmp_path}/")
    assert (run.state, events) == ("failed", [])
    assert totals(sandbox)["posts"] == 1


def test_what_cannot_be_announced_is_a_warning_and_the_paid_task_succeeds(
    sandbox, run_with_outlets, tmp_path, log_text
):
    # Airflow takes asset URIs of 1500 characters at most.
    folder = "/".join([str(tmp_path), *["x" * 200] * 8])
    run, events = run_with_outlets(save_to=f"file://{folder}/")
    ti = run.get_task_instance("generate")
    assert (run.state, ti.try_number) == ("success", 1)
    assert {name for name, _, _ in events} == {"pictures", "pictures by name"}
    assert "The event of outlet 'folders' could not be recorded: ValueError" in log_text.text
    assert totals(sandbox)["posts"] == 1


def test_no_uri_that_is_handed_on_holds_the_connection_id(run_with_outlets, bucket):
    run, events = run_with_outlets(save_to="s3://my_aws@pictures/apart/", filename="sku")
    ti = run.get_task_instance("generate")
    result = result_of(ti)
    assert result.pop("storage_conn_id") == "my_aws"
    link = ti.xcom_pull("generate", key=ClaidPictureLink().xcom_key)
    assert ti.xcom_pull("generate") == ["s3://pictures/apart/sku-1.png"]
    assert "s3://pictures/apart/" in {name for name, _, _ in events}
    assert "my_aws" not in json.dumps([result, link, events, ti.xcom_pull("generate")])


def test_copies_in_s3_tell_their_task_by_tags_if_asked(run_one, bucket):
    where = {"save_to": "s3://pictures/tagged/", "storage_conn_id": "my_aws"}
    run, _ = run_one(**where, filename="with", object_tags=True)
    run_one(**where, filename="without")
    tags = {name: bucket.get_object_tagging(Bucket="pictures", Key=f"tagged/{name}-1.png")["TagSet"]
            for name in ("with", "without")}  # fmt: skip
    expected = {"dag_id": "one_picture", "run_id": run.run_id, "task_id": "generate"}
    assert {tag["Key"]: tag["Value"] for tag in tags["with"]} == expected
    assert tags["without"] == []
