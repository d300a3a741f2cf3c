"""Whether mapped tasks have file names of their own, as far as the Dag tells, before anything is sent."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, task, task_group

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator
from airflow_provider_claid.operators.mapping import require_own_name

SAVE = "file:///tmp/x/"
PROMPTS = ["a red bicycle", "a teapot"]


def is_refused(dag, **own):
    """Tell whether the first task of the mapping is refused; `own` is what its arguments are once rendered."""
    operator = SimpleNamespace(**{"save_to": SAVE, "filename": "a", **own}, get_template_env=dag.get_template_env)
    (task_id,) = [name for name in dag.task_ids if name.endswith("generate")]
    try:
        require_own_name(operator, {"dag": dag, "ti": SimpleNamespace(task_id=task_id, map_index=0)})
    except ClaidInputError as error:
        assert error.field == "filename"
        assert "{{ ti.map_index }}" in error.message
        return True
    return False


def new_dag():
    return DAG("d", schedule=None, start_date=datetime(2026, 1, 1))


def expanded(partial, expansion):
    arguments = partial if "save_to" in expansion else {"save_to": SAVE, **partial}
    with new_dag() as dag:
        ClaidGenerateImageOperator.partial(task_id="generate", **arguments).expand(**expansion)
    return dag


def by_rows(partial, *rows):
    with new_dag() as dag:
        ClaidGenerateImageOperator.partial(task_id="generate", **{"save_to": SAVE, **partial}).expand_kwargs(rows)
    return dag


def by_rows_of_a_task(partial):
    with new_dag() as dag:

        @task
        def rows():
            return []

        ClaidGenerateImageOperator.partial(task_id="generate", **{"save_to": SAVE, **partial}).expand_kwargs(rows())
    return dag


def grouped(**arguments):
    with new_dag() as dag:

        @task_group
        def each(prompt):
            ClaidGenerateImageOperator(task_id="generate", prompt=prompt, **{"save_to": SAVE, **arguments})

        each.expand(prompt=PROMPTS)
    return dag


@pytest.mark.parametrize(
    "shared",
    [
        {"filename": "a"},
        {"filename": "a.png"},
        {"filename": "{{ ds_nodash }}-{{ params.sku }}"},
        {"filename": "{{ var.value.name }}"},
        {"filename": "{{ run_id | length }}", "save_to": "{{ dag_run.conf['folder'] }}"},
        {"filename": "{% set x = ds %}{{ x }}"},
        {"filename": "a", "save_to": Path("/tmp/x")},
        {"filename": "a", "save_to": ObjectStoragePath("file:///tmp/x/")},
        {"save_to": SAVE, "default_args": {"filename": "a"}},
    ],
)
def test_one_place_for_all_is_refused(shared):
    assert is_refused(expanded(shared, {"prompt": PROMPTS}))
    assert is_refused(by_rows(shared, {"prompt": PROMPTS[0]}, {"prompt": PROMPTS[1]}))
    if "params" not in str(shared):
        assert is_refused(by_rows_of_a_task(shared)) or "default_args" in shared


@pytest.mark.parametrize(
    "own",
    [
        {"filename": "a-{{ ti.map_index }}"},
        {"filename": "a-{{ task_instance.map_index }}"},
        {"filename": "{{ task.prompt | length }}"},
        {"filename": "{{ macros.uuid.uuid4() }}"},
        {"filename": "{{ my_macro() }}"},
        {"filename": "a", "save_to": "file:///tmp/{{ ti.map_index }}/"},
        {"filename": "a", "save_to": ObjectStoragePath("file:///tmp/{{ ti.map_index }}/")},
    ],
)
def test_what_differs_from_task_to_task_is_left_alone(own):
    assert not is_refused(expanded(own, {"prompt": PROMPTS}))
    assert not is_refused(by_rows(own, {"prompt": PROMPTS[0]}, {"prompt": PROMPTS[1]}))
    assert not is_refused(by_rows_of_a_task(own))
    assert not is_refused(grouped(**own))


def test_in_a_mapped_task_group_one_place_is_refused():
    assert is_refused(grouped(filename="a"))
    assert is_refused(grouped(filename="{{ ds }}"))


def test_parameters_are_each_tasks_own_where_they_are_expanded():
    named = {"filename": "{{ params.sku }}"}
    assert not is_refused(expanded({**named, "prompt": "a cup"}, {"params": [{"sku": "a"}, {"sku": "b"}]}))
    assert not is_refused(by_rows_of_a_task(named))
    assert is_refused(expanded(named, {"prompt": PROMPTS}))


@pytest.mark.parametrize(
    ("expansion", "refused"),
    [
        ({"filename": ["a", "b"], "prompt": ["a cup"]}, False),
        ({"filename": ["a", "b"], "prompt": PROMPTS}, True),
        ({"filename": ["a", "b"], "save_to": [SAVE, "file:///tmp/y/"], "prompt": ["a cup"]}, False),
        ({"filename": ["a", "a"], "save_to": [SAVE], "prompt": ["a cup"]}, True),
        ({"filename": ["a", "a.png"], "prompt": ["a cup"]}, True),
        ({"filename": ["a", "{{ ti.map_index }}"], "prompt": PROMPTS}, False),
        ({"save_to": [SAVE, "file:///tmp/x"], "filename": ["a"], "prompt": ["a cup"]}, True),
    ],
)
def test_expand_makes_every_combination_of_its_lists(expansion, refused):
    assert is_refused(expanded({}, expansion)) == refused


def test_values_of_another_task_count_as_each_tasks_own_but_for_combinations():
    def values_of_a_task(values, **partial):
        with new_dag() as dag:

            @task
            def names():
                return values

            output = names()
            ClaidGenerateImageOperator.partial(task_id="generate", save_to=SAVE, prompt="a cup", **partial).expand(
                filename=output
            )
        return dag

    assert not is_refused(values_of_a_task(["a", "b"]))


@pytest.mark.parametrize(
    ("rows", "refused"),
    [
        ([{"filename": "a"}, {"filename": "b"}], False),
        ([{"filename": "a"}, {"filename": "b"}, {"filename": "a.png"}], True),
        ([{"filename": "a"}, {"filename": "a", "prompt": "another"}], True),
        ([{"filename": "{{ ti.map_index }}"}, {"filename": "{{ ti.map_index }}"}], False),
        ([{"filename": "{{ ds }}"}, {"filename": "{{ ds }}"}], True),
    ],
)
def test_rows_that_the_dag_tells_are_compared(rows, refused):
    assert is_refused(by_rows({}, *({"prompt": "a cup", **row} for row in rows))) == refused


def test_rows_with_folders_of_their_own():
    rows = [{"prompt": "a cup", "filename": "a", "save_to": f"file:///tmp/{name}/"} for name in "xy"]
    with new_dag() as dag:
        ClaidGenerateImageOperator.partial(task_id="generate").expand_kwargs(rows)
    assert not is_refused(dag)


def test_a_task_that_is_not_mapped_or_has_no_name_is_left_alone():
    with new_dag() as dag:
        ClaidGenerateImageOperator(task_id="generate", prompt="a cup", filename="a", save_to=SAVE)
    operator = dag.get_task("generate")
    for map_index in (-1, None):
        require_own_name(operator, {"dag": dag, "ti": SimpleNamespace(task_id="generate", map_index=map_index)})
    require_own_name(operator, {"ti": SimpleNamespace(task_id="generate", map_index=0)})
