"""Bad arguments of a batch are named at Dag parse where they are literals, and before anything is sent where not."""

from __future__ import annotations

import math

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_provider_claid.exceptions import ClaidInputError
from airflow_provider_claid.operators.claid import ClaidGenerateBatchOperator
from tests.unit.operators.batch.conftest import prompts_of

GOOD = {"task_id": "t", "prompts": ["a red bicycle"], "save_to": "file:///tmp/x/"}
FOLDER = "storage://my-storage/catalogue/"

BAD = [
    ("prompts", {"prompts": "a red bicycle"}, "billed character by character"),
    ("prompts", {"prompts": "prompts.csv"}, "Begin with a scheme"),
    ("prompts", {"prompts": "s3://bucket/prompts.xlsx"}, "ends in .txt, .csv, .jsonl, .parquet"),
    ("prompts", {"prompts": "https://example.com/prompts.csv"}, "put the file into a bucket"),
    ("prompts", {"prompts": "s3://AKIA:hunter2@bucket/prompts.csv"}, "credentials (not shown)"),
    ("prompts", {"prompts": []}, "at least one prompt"),
    ("prompts", {"prompts": None}, "Put them into a list"),
    ("prompts", {"prompts": 7}, "Put them into a list"),
    ("prompts", {"prompts": b"a red bicycle"}, "Put them into a list"),
    ("prompts", {"prompts": {"prompt": "a red bicycle"}}, "Put them into a list"),
    ("save_to", {"save_to": None}, "a place that lasts"),
    ("save_to", {"save_to": "file:///tmp/x/", "output_folder": FOLDER}, "one of the two"),
    ("save_to", {"save_to": ""}, "got nothing"),
    ("on_bad_row", {"on_bad_row": "ignore"}, "'fail' or 'skip'"),
    ("deduplicate", {"deduplicate": "yes"}, "True or False"),
    ("deduplicate", {"deduplicate": None}, "True or False"),
    ("max_credits", {"max_credits": 0}, "a whole number from 1"),
    ("max_credits", {"max_credits": -5}, "a whole number from 1"),
    ("max_credits", {"max_credits": 1.5}, "a whole number from 1"),
    ("max_credits", {"max_credits": "100"}, "a whole number from 1"),
    ("max_credits", {"max_credits": True}, "a whole number from 1"),
    ("max_failed", {"max_failed": -1}, "a share of all below 1"),
    ("max_failed", {"max_failed": 1.0}, "a share of all below 1"),
    ("max_failed", {"max_failed": 2.5}, "a share of all below 1"),
    ("max_failed", {"max_failed": math.nan}, "a share of all below 1"),
    ("max_failed", {"max_failed": "10%"}, "a share of all below 1"),
    ("max_failed", {"max_failed": True}, "a share of all below 1"),
    ("max_failed", {"max_failed": None}, "a share of all below 1"),
    ("manifest_path", {"manifest_path": "s3://bucket/folder/"}, "the end .jsonl"),
    ("manifest_path", {"manifest_path": "s3://bucket/monday.json"}, "the end .jsonl"),
    ("manifest_path", {"manifest_path": "monday.jsonl"}, "the end .jsonl"),
    ("manifest_path", {"manifest_path": "s3://bucket/.jsonl"}, "letters with their marks"),
    ("manifest_path", {"manifest_path": "storage://name/monday.jsonl"}, "URI of a folder"),
    ("number_of_images", {"number_of_images": 5}, "1 to 4"),
    ("guidance_scale", {"guidance_scale": 50}, "from 1 up to"),
    ("on_filtered", {"on_filtered": "ignore"}, "'fail' or 'skip' or 'keep'"),
    ("max_submissions", {"max_submissions": 0}, "at least 1"),
    ("own_folder", {"own_folder": True}, "together with output_folder"),
    ("records_path", {"records_path": "records/"}, "Begin with a scheme"),
    ("reuse", {"reuse": None}, "True or False"),
]


@pytest.mark.parametrize(("name", "arguments", "part"), BAD)
def test_a_bad_argument_is_named_at_parse(name, arguments, part):
    with DAG("d"), pytest.raises(ClaidInputError) as caught:
        ClaidGenerateBatchOperator(**GOOD | arguments)
    text = str(caught.value)
    assert text.startswith(f"{name}: got ")
    assert part in text
    assert "hunter2" not in text
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompts": "{{ var.value.prompts }}"},
        {"prompts": "s3://bucket/{{ ds }}.csv"},
        {"prompts": ["ab", 7]},
        {"prompts": [{"prompt": "{{ x }}"}]},
        {"save_to": "{{ x }}", "manifest_path": "{{ y }}"},
        {"max_failed": 0.999},
        {"max_failed": 0.0},
        {"max_credits": None},
        {"save_to": None, "output_folder": FOLDER, "own_folder": True},
    ],
)
def test_what_may_still_be_right_is_left_for_the_run(arguments):
    with DAG("d"):
        ClaidGenerateBatchOperator(**GOOD | arguments)


@pytest.mark.parametrize(
    ("prompts", "part"),
    [
        (["ab"], "item 1: prompt"),
        ([7], "item 1: prompt: got '7' (1 characters)"),
        ([["a red bicycle"]], "item 1: got ['a red bicycle'] (list)"),
        ([{"promt": "a red bicycle"}], "Did you mean 'prompt'"),
        ([{"prompt": "a red bicycle", "id": "../x"}], "item 1: id"),
        ([{"prompt": "a red bicycle", "id": "x"}, {"prompt": "a teapot", "id": "X"}], "which item 1 has too"),
        ("file:///nowhere/prompts.txt", "which is not there"),
    ],
)
def test_prompts_are_all_checked_before_anything_is_sent(task, prompts, part):
    error = task.fail(ClaidInputError, prompts)
    assert str(error).startswith("prompts: got ")
    assert part in str(error)
    assert task.posts() == 0


def test_a_map_index_template_that_fails_is_found_before_anything_is_sent(task):
    attempt = task.attempt(prompts_of(2))
    task.operator.map_index_template = "{{ nothing.of.that }}"
    with pytest.raises(ClaidInputError, match="map_index_template"):
        attempt()
    assert task.posts() == 0
