"""What the sensor accepts: refused by name while the Dag is parsed, where it is known there."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, ObjectStoragePath
from PIL import Image
from upath import UPath

from airflow_provider_claid.exceptions import ClaidInputError
from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator
from airflow_provider_claid.sensors.claid import SHORTEST_INTERVAL, ClaidImageSensor

_file = io.BytesIO()
Image.effect_noise((64, 48), 80).save(_file, "PNG")
PNG = _file.getvalue()

REFUSED = [
    ({}, "images: got neither images nor folder"),
    ({"images": ["s3://b/a.png"], "folder": "s3://b/"}, "images: got a value together with folder"),
    ({"images": []}, "images: got []"),
    ({"images": [[], []]}, "no picture at all"),
    ({"images": ""}, "images: got ''"),
    ({"images": "a.png"}, "images: got 'a.png'"),
    ({"images": "['s3://b/a.png']"}, "images=generate.output"),
    ({"images": [7]}, "images: got a value of type int"),
    ({"images": ["s4://b/a.png"]}, "images: got the scheme 's4'"),
    ({"images": ["s3://b/"]}, "The bucket or name is missing"),
    ({"images": ["s3://key:secret@b/a.png"]}, "an address with credentials (not shown)"),
    ({"images": ["https://me@claid.ai/a.png"]}, "an address with credentials (not shown)"),
    ({"images": ["file://host/a.png"]}, "three slashes"),
    ({"images": ["s3://b/a.png"], "expected_count": 1}, "expected_count: got 1 together with images"),
    ({"images": {"images": [{"uri": None}]}}, "a picture that was not delivered"),
    ({"images": {"images": [{"uri": "s3://b/a.png", "error": "it is cut"}]}}, "was not delivered: it is cut"),
    ({"folder": "s3://b/folder", "expected_count": 1}, "Add the final slash"),
    ({"folder": "/folder/", "expected_count": 1}, "folder: got '/folder/'"),
    ({"folder": "https://claid.ai/", "expected_count": 1}, "A web address cannot be listed"),
    ({"folder": "s3:///folder/", "expected_count": 1}, "The bucket or name is missing"),
    ({"folder": "ftp://b/", "expected_count": 1}, "folder: got the scheme 'ftp'"),
    ({"folder": "s3://b/"}, "expected_count: got None"),
    ({"folder": "s3://b/", "expected_count": 0}, "expected_count: got 0"),
    ({"folder": "s3://b/", "expected_count": "many"}, "expected_count: got 'many'"),
    ({"folder": "s3://b/", "expected_count": True}, "expected_count: got True"),
    ({"folder": "s3://b/", "expected_count": 1, "since": "yesterday"}, "since: got 'yesterday'"),
    ({"images": ["s3://b/a.png"], "verify": "some"}, "verify: got 'some'"),
    ({"images": ["s3://b/a.png"], "on_filtered": "drop"}, "on_filtered: got 'drop'"),
    ({"images": ["s3://b/a.png"], "min_bytes": 0}, "min_bytes: got 0"),
    ({"images": [Path("data/a.png")]}, "images: got the relative path 'data/a.png'"),
    ({"folder": Path("data"), "expected_count": 1}, "folder: got the relative path 'data'"),
    ({"folder": UPath("s3://b/f/", token="secret"), "expected_count": 1}, "a path with storage options (token)"),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSED)
def test_wrong_literals_are_refused_at_parse_by_name(arguments, says):
    with pytest.raises(ClaidInputError) as caught:
        ClaidImageSensor(task_id="wait", **arguments)
    assert says in str(caught.value)
    assert isinstance(caught.value, AirflowFailException)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"images": "{{ ti.xcom_pull('generate') }}"},
        {"images": ["{{ params.uri }}", "s3://b/a.png"]},
        {"folder": "{{ params.folder }}", "expected_count": "{{ params.count }}", "since": "{{ ts }}"},
        {"folder": "storage://my-storage/{{ ds }}/", "expected_count": "3"},
        {"images": ["storage://my-storage/a.png", "abfs://c/a.png", "gs://b/a.png", "https://claid.ai/a.png?x=1#2"]},
        {"images": ["s3://b/a b+ü%23#?.png", "s3://conn@b/a.png", "file:///a b.png"], "verify": "full"},
    ],
)
def test_templates_and_every_kind_of_address_are_accepted(arguments):
    ClaidImageSensor(task_id="wait", **arguments)


def test_the_operators_output_is_accepted_and_makes_the_sensor_depend_on_it():
    from airflow.providers.common.compat.sdk import DAG

    with DAG("d", schedule=None):
        generate = ClaidGenerateImageOperator.partial(task_id="generate").expand(prompt=["a bicycle", "a teapot"])
        wait = ClaidImageSensor(task_id="wait", images=generate.output)
    assert wait.upstream_task_ids == {"generate"}


def test_it_never_spins():
    assert ClaidImageSensor(task_id="wait", images="s3://b/a.png", poke_interval=0).poke_interval == SHORTEST_INTERVAL


def test_deferrable_follows_the_configuration(monkeypatch):
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    assert ClaidImageSensor(task_id="wait", images="s3://b/a.png").deferrable is True
    assert ClaidImageSensor(task_id="wait", images="s3://b/a.png", deferrable=False).deferrable is False


@pytest.mark.parametrize("kind", [Path, UPath, ObjectStoragePath])
def test_path_objects_are_their_uris_from_the_parse_on(kind, tmp_path):
    (tmp_path / "a b.png").write_bytes(PNG)
    uri = f"file://{tmp_path}/a b.png"
    listed = ClaidImageSensor(task_id="wait", images=[kind(tmp_path / "a b.png")])
    assert (listed.images, listed.poke({}).xcom_value) == ([uri], [uri])
    under = ClaidImageSensor(task_id="wait", folder=kind(tmp_path), expected_count=1)
    assert (under.folder, under.poke({}).xcom_value) == (f"file://{tmp_path}/", [uri])


def test_a_connection_in_a_path_object_is_the_one_to_use():
    sensor = ClaidImageSensor(task_id="wait", images=ObjectStoragePath("s3://no_such@bucket/a.png"))
    with pytest.raises(ClaidInputError, match="storage_conn_id: got 'no_such', which is not defined"):
        sensor.poke({})


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:9", "https://api.claid.ai"])
def test_a_file_that_only_claids_answer_names_is_read_with_a_sandbox_alone(monkeypatch, tmp_path, base_url):
    connection = {"conn_type": "claid", "password": "key", "host": base_url}
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(connection))
    (tmp_path / "a.png").write_bytes(PNG)
    image = {"uri": f"file://{tmp_path}/a.png", "width": 64, "height": 48, "mime": "image/png"}
    sensor = ClaidImageSensor(task_id="wait", images={"request_id": "r", "images": [image]})
    if base_url.startswith("http:"):
        assert sensor.poke({}).xcom_value == [image["uri"]]
        return
    with pytest.raises(ClaidInputError, match=r"images: got .*, as an address that Claid gave"):
        sensor.poke({})


STARTED = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize("name", ["start_date", "queued_at"])
@pytest.mark.parametrize("fixed", ["run_after", "data_interval_end"])
def test_a_run_that_is_cleared_finds_the_pictures_that_it_made_before(tmp_path, name, fixed):
    (tmp_path / "a.png").write_bytes(PNG)
    os.utime(tmp_path / "a.png", 2 * ((STARTED - timedelta(minutes=5)).timestamp(),))
    run = SimpleNamespace(**{name: STARTED, fixed: STARTED - timedelta(minutes=10)}, clear_number=1)
    context = {"dag_run": run, "ti": SimpleNamespace(try_number=2, start_date=STARTED, map_index=-1)}
    arguments = {"folder": f"file://{tmp_path}/", "expected_count": 1, "since": str(STARTED)}
    assert ClaidImageSensor(task_id="wait", **arguments).poke(context).is_done
    run.clear_number = 0
    context["ti"].try_number = 1
    assert not ClaidImageSensor(task_id="wait", **arguments).poke(context).is_done


def test_a_moment_that_a_person_chose_stays_in_a_cleared_run(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    os.utime(tmp_path / "a.png", 2 * ((STARTED - timedelta(minutes=5)).timestamp(),))
    run = SimpleNamespace(start_date=STARTED + timedelta(days=1), run_after=STARTED - timedelta(days=1), clear_number=3)
    sensor = ClaidImageSensor(task_id="wait", folder=f"file://{tmp_path}/", expected_count=1, since=STARTED)
    assert not sensor.poke({"dag_run": run}).is_done


def test_a_filter_that_renders_to_none_is_not_dropped(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    with DAG("d", schedule=None, render_template_as_native_obj=True):
        arguments = {"folder": f"file://{tmp_path}/", "expected_count": 1}
        sensor = ClaidImageSensor(task_id="wait", since="{{ dag_run.conf.get('from') }}", **arguments)
    context = {"dag_run": SimpleNamespace(conf={})}
    sensor.render_template_fields(context)
    with pytest.raises(AirflowFailException, match="since: got None from its template"):
        sensor.poke(context)
