"""Bad arguments are named at Dag parse where they are literals, and before anything is sent where they are not."""

from __future__ import annotations

import math

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_provider_claid.exceptions import ClaidInputError
from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator

GOOD = {"task_id": "t", "prompt": "a red bicycle"}
SAVE = {"save_to": "file:///tmp/x/"}
RECORDS = {"records_path": "s3://bucket/records/"}
FOLDER = "storage://my-storage/catalogue/"

BAD = [
    ("prompt", {"prompt": "ab"}, "3 to 1024 characters"),
    ("prompt", {"prompt": "x" * 1025}, "3 to 1024 characters"),
    ("prompt", {"prompt": ["a red bicycle"]}, "billed character by character"),
    ("prompt", {"prompt": 42}, "got '42' (2 characters)"),
    ("prompt", {"prompt": True}, "a text"),
    ("prompt", {"prompt": 4.2e16}, "lost digits"),
    ("prompt", {"prompt": None}, "a text"),
    ("prompt", {"prompt": " \u3000 "}, "that can be seen"),
    ("prompt", {"prompt": "\u200b" * 3}, "that can be seen"),
    ("prompt", {"prompt": "\0\0\0"}, "U+0000 as character 1"),
    ("prompt", {"prompt": "a red\x1b[0m bicycle"}, "U+001B as character 6"),
    ("number_of_images", {"number_of_images": 0}, "1 to 4"),
    ("number_of_images", {"number_of_images": 5}, "1 to 4"),
    ("number_of_images", {"number_of_images": "5"}, "1 to 4"),
    ("number_of_images", {"number_of_images": "two"}, "1 to 4"),
    ("number_of_images", {"number_of_images": True}, "1 to 4"),
    ("number_of_images", {"number_of_images": 1.5}, "1 to 4"),
    ("guidance_scale", {"guidance_scale": 0.99}, "from 1 up to"),
    ("guidance_scale", {"guidance_scale": 50}, "from 1 up to"),
    ("guidance_scale", {"guidance_scale": "50.0"}, "from 1 up to"),
    ("guidance_scale", {"guidance_scale": math.nan}, "from 1 up to"),
    ("guidance_scale", {"guidance_scale": "nan"}, "from 1 up to"),
    ("guidance_scale", {"guidance_scale": False}, "from 1 up to"),
    ("output_folder", {"output_folder": "s3://bucket/folder/"}, "storage://name/folder/"),
    ("output_folder", {"output_folder": "storage:///folder/"}, "storage://name/folder/"),
    ("output_folder", {"output_folder": "storage://name/folder"}, "final slash"),
    ("output_folder", {"output_folder": "storage://name"}, "final slash"),
    ("output_folder", {"output_folder": f"storage://name/{'x' * 4090}/"}, "4096"),
    ("save_to", {"save_to": "file:///tmp/x/", "output_folder": FOLDER}, "one of the two"),
    ("save_to", {"save_to": "bucket/folder/"}, "Begin with a scheme"),
    ("save_to", {"save_to": "/tmp/folder/"}, "file:///path/"),
    ("save_to", {"save_to": "https://example.com/"}, "cannot be written"),
    ("save_to", {"save_to": FOLDER}, "output_folder"),
    ("save_to", {"save_to": "s3:///folder/"}, "bucket is missing"),
    ("save_to", {"save_to": "file://folder/"}, "three slashes"),
    ("save_to", {"save_to": "s3://bucket/?x=1"}, "Leave out"),
    ("save_to", {"save_to": "s3://one@bucket/", "storage_conn_id": "two"}, "leave one out"),
    ("save_to", {"save_to": 7}, "URI of a folder"),
    ("save_to", {"save_to": True}, "URI of a folder"),
    ("filename", {"filename": "../escape", **SAVE}, "U+002E (FULL STOP), character 1"),
    ("filename", {"filename": "a/b", **SAVE}, "save_to"),
    ("filename", {"filename": "x" * 240, **SAVE}, "at most 239 bytes"),
    ("filename", {"filename": ".png", **SAVE}, "a picture's end only"),
    ("filename", {"filename": "商" * 80, **SAVE}, "It has 240 bytes"),
    ("filename", {"filename": "x" * 150, "save_to": f"s3://bucket/{'y' * 900}/"}, "at most 107 bytes in s3://bucket"),
    ("filename", {"filename": "sku"}, "without save_to"),
    ("save_to", {"save_to": f"s3://bucket/{'x' * 1000}/"}, "at most 960 bytes"),
    ("save_to", {"save_to": ""}, "got nothing"),
    ("output_folder", {"output_folder": ""}, "got nothing"),
    ("save_to", {"save_to": "s3://[bad/"}, "Invalid IPv6"),
    ("save_to", {"save_to": "s3://AKIA:hunter2@bucket/"}, "credentials (not shown)"),
    ("multiple_outputs", {"multiple_outputs": True}, "returns one list"),
    ("on_filtered", {"on_filtered": "ignore"}, "'fail' or 'skip' or 'keep'"),
    ("object_tags", {"object_tags": True}, "together with save_to"),
    ("object_tags", {"object_tags": True, "output_folder": FOLDER}, "written by Claid"),
    ("object_tags", {"object_tags": "yes", **SAVE}, "False, or True"),
    ("deferrable", {"deferrable": True}, "without records"),
    ("deferrable", {"deferrable": "yes", **RECORDS}, "True, False or None"),
    ("max_submissions", {"max_submissions": 0}, "at least 1"),
    ("max_submissions", {"max_submissions": True}, "at least 1"),
    ("max_submissions", {"max_submissions": "2"}, "at least 1"),
    ("records_path", {"records_path": "records/"}, "Begin with a scheme"),
    ("records_path", {"records_path": "storage://name/records/"}, "URI of a folder"),
    ("records_path", {"records_path": "s3://AKIA:hunter2@bucket/"}, "credentials (not shown)"),
    ("reuse", {"reuse": None}, "True or False"),
    ("own_folder", {"own_folder": True}, "together with output_folder"),
    ("output_folder", {"own_folder": True, "output_folder": f"storage://n/{'x' * 4050}/"}, "at most 4048"),
    ("own_folder", {"own_folder": 1.5, "output_folder": FOLDER}, "False, or True"),
    ("reconcile_timeout", {"reconcile_timeout": -1}, "seconds from 0"),
    ("reconcile_timeout", {"reconcile_timeout": math.nan}, "seconds from 0"),
    ("reconcile_timeout", {"reconcile_timeout": "60"}, "seconds from 0"),
]


@pytest.mark.parametrize(("field", "arguments", "says"), BAD)
def test_a_bad_literal_is_named_at_parse(field, arguments, says):
    with pytest.raises(ClaidInputError) as caught:
        ClaidGenerateImageOperator(**{**GOOD, **arguments})
    assert caught.value.field == field
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "Nothing was sent." in str(caught.value)
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": "{{ x }}"},
        {"number_of_images": "{{ 2 }}"},
        {"number_of_images": " 2 "},
        {"guidance_scale": "{{ params.scale }}"},
        {"guidance_scale": "7.5"},
        {"guidance_scale": 49},
        {"output_folder": "{% if True %}storage://x/{% endif %}"},
        {"output_folder": "storage://my storage/ünïcode + 100% more/"},
        {"output_folder": "storage://name/"},
        {"save_to": "{{ folder }}", "output_folder": "{{ other }}"},
        {"save_to": "s3://bucket"},
        {"save_to": "s3://my_conn@bucket/folder/", "storage_conn_id": "my_conn"},
        {"filename": "{{ sku }}"},
        {"filename": "SKU 42+é", **SAVE},
        {"filename": "हिन्दी", **SAVE},
        {"filename": 42, **SAVE},
        {"prompt": 12345},
        {"prompt": "a\tred\r\nbicycle"},
        {"object_tags": True, **SAVE},
        {"object_tags": True, "save_to": "{{ folder }}"},
        {"deferrable": False},
        {"deferrable": True, **RECORDS},
        {"max_submissions": 3, "reuse": False, "reconcile_timeout": 0, **RECORDS},
        {"own_folder": True, "output_folder": "{{ folder }}", "records_path": "{{ records }}"},
    ],
)
def test_templates_and_good_literals_are_left_alone_at_parse(arguments):
    assert ClaidGenerateImageOperator(**{**GOOD, **arguments}).task_id == "t"


def test_output_stays_airflows_own_reference():
    with DAG("d", schedule=None):
        operator = ClaidGenerateImageOperator(**GOOD)
    assert operator.output.operator is operator
