"""Functions that return prompts, in Dags that Airflow's own task runner runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_provider_claid.exceptions import ClaidInputError

pytestmark = pytest.mark.usefixtures("claid_connection")


def totals(sandbox):
    return sandbox.report()["totals"]


@pytest.fixture
def decorated(dag, monkeypatch, tmp_path):
    """Run the Dag `decorated` with pictures in the test's own folder."""
    monkeypatch.setenv("CLAID_TEST_FOLDER", f"file://{tmp_path}/")
    (tmp_path / "records").mkdir()
    monkeypatch.setenv("AIRFLOW__CLAID__RECORDS_PATH", f"file://{tmp_path}/records/")
    return dag("decorated")


def read(uri):
    return [json.loads(line) for line in Path(uri.removeprefix("file://")).read_text().splitlines()]


@pytest.mark.parametrize("deferred", [False, True])
def test_what_a_function_returns_decides_between_one_and_many(sandbox, decorated, tmp_path, monkeypatch, deferred):
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", str(deferred))
    run = decorated.test()
    assert run.state == "success"

    def value(task_id, map_index=-1):
        return run.get_task_instance(task_id, map_index=map_index).xcom_pull(task_id, map_indexes=map_index)

    (uri,) = value("one")
    assert uri.startswith(f"file://{tmp_path}/")
    assert value("sized") == [f"file://{tmp_path}/boat-1.png", f"file://{tmp_path}/boat-2.png"]
    many = value("many")
    assert (many["total"], many["delivered"], many["credits"]) == (2, 2, 2)
    assert [line["uris"] for line in read(many["manifest"])] == [
        [f"file://{tmp_path}/cup-1.png"],
        [f"file://{tmp_path}/car-1.png"],
    ]
    single = value("single")
    assert (single["total"], read(single["manifest"])[0]["prompt"]) == (1, "only one for decorated")
    assert [len(value("mapped", map_index=index)) for index in (0, 1)] == [1, 1]
    assert totals(sandbox)["credits"] == 1 + 2 + 2 + 1 + 2
    prompts = [exchange["prompt"] for exchange in sandbox.report()["requests"]]
    assert "a red bicycle {{ which is data }}" in prompts


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "The value that wrong returned: got None"),
        ({"prompt": "a car", "size": 3}, "size"),
        ({"id": "a"}, "prompt"),
        ([], "an empty list"),
        (["a car", 7], "item 2: prompt: got '7'"),
        (["a car", ["a bus"]], "item 2: got ['a bus']"),
    ],
)
def test_what_is_no_prompt_is_refused_before_anything_is_sent(sandbox, tmp_path, value, says):
    from airflow_provider_claid.decorators.claid import claid_images_task

    def wrong():
        return value

    operator = claid_images_task(wrong, save_to=f"file://{tmp_path}/")().operator
    with pytest.raises(ClaidInputError, match=re.escape(says)):
        operator.execute({"ti": SimpleNamespace(dag_id="d", run_id="r", task_id="wrong", map_index=-1, max_tries=0)})
    assert totals(sandbox)["posts"] == 0


def test_a_return_type_of_dict_does_not_take_the_result_apart(sandbox, tmp_path):
    from airflow_provider_claid.decorators.claid import claid_images_task

    def typed() -> dict:
        return {"prompt": "a car"}

    assert claid_images_task(typed, save_to=f"file://{tmp_path}/")().operator.multiple_outputs is False
    with pytest.raises(ClaidInputError, match="multiple_outputs"):
        claid_images_task(typed, multiple_outputs=True, save_to=f"file://{tmp_path}/")()


def test_a_list_without_a_place_that_lasts_is_refused_before_anything_is_sent(sandbox):
    from airflow_provider_claid.decorators.claid import claid_images_task

    def many() -> list[str]:
        return ["a car", "a cup"]

    operator = claid_images_task(many)().operator
    with pytest.raises(ClaidInputError, match="save_to: got nothing, without output_folder"):
        operator.execute({"ti": SimpleNamespace(dag_id="d", run_id="r", task_id="many", map_index=-1, max_tries=0)})
    assert totals(sandbox)["posts"] == 0
