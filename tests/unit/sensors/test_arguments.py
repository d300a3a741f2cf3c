"""What the sensor accepts: refused by name while the Dag is parsed, where it is known there."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_claid.exceptions import ClaidInputError
from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator
from airflow_provider_claid.sensors.claid import SHORTEST_INTERVAL, ClaidImageSensor

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
