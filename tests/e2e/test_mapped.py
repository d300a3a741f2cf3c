"""Mapped tasks: what tells their files apart, and the label that Airflow gives each once it has executed."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.usefixtures("claid_connection")

PROMPTS = ["a red bicycle", "a teapot"]


@pytest.fixture
def run_mapped(dag, monkeypatch):
    """Run the Dag `mapped`; return the run and its generating task instances, by map index."""

    def run(**wanted):
        monkeypatch.setenv("TEST_MAPPED", json.dumps(wanted))
        finished = dag("mapped").test()
        found = [ti for ti in finished.get_task_instances() if ti.task_id.endswith("generate")]
        return finished, sorted(found, key=lambda ti: ti.map_index)

    return run


def posts(sandbox):
    return sandbox.report()["totals"]["posts"]


def rows(**columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


SHARED = [
    {"partial": {"filename": "a"}, "expand": {"prompt": PROMPTS}},
    {"listed": {"prompt": PROMPTS, "filename": ["a", "b"]}},
    {"partial": {"filename": "a"}, "rows_of_a_task": rows(prompt=PROMPTS)},
    {"partial": {"filename": "a"}, "group": PROMPTS},
    {"partial": {"filename": "a"}, "decorated": ["car", "cup"]},
]


@pytest.mark.parametrize("wanted", SHARED)
def test_a_file_name_that_mapped_tasks_share_is_refused_before_anything_is_sent(
    sandbox, run_mapped, tmp_path, log_text, wanted
):
    partial = {"save_to": f"file://{tmp_path}/", **wanted.get("partial", {})}
    run, tasks = run_mapped(**{**wanted, "partial": partial})
    assert (run.state, posts(sandbox)) == ("failed", 0)
    assert {ti.try_number for ti in tasks} == {1}
    text = log_text.text
    assert "filename: got" in text
    assert "{{ ti.map_index }}" in text


OWN = [
    {"rows_of_a_task": rows(prompt=PROMPTS, filename=["a", "b"])},
    {"partial": {"prompt": PROMPTS[0]}, "listed": {"filename": ["a", "b"]}},
    {"partial": {"filename": "a-{{ task_instance.map_index }}"}, "group": PROMPTS},
    {"partial": {"filename": "a"}, "decorated": ["car", "cup"], "ids": True},
]


@pytest.mark.parametrize("wanted", OWN)
def test_mapped_tasks_whose_names_differ_store_all_their_images(sandbox, run_mapped, tmp_path, wanted):
    partial = {"save_to": f"file://{tmp_path}/", **wanted.get("partial", {})}
    run, tasks = run_mapped(**{**wanted, "partial": partial})
    assert (run.state, len(tasks), posts(sandbox)) == ("success", 2, 2)
    assert len(list(tmp_path.glob("*.png"))) == 2


LABELS = [
    ("{{ ti.map_index }}", True, "0 (int)"),
    ("{{ 1 / 0 }}", False, "ZeroDivisionError"),
    ("{{ 'x' * 251 }}", False, "251 characters"),
]


@pytest.mark.parametrize(("template", "native", "says"), LABELS)
def test_a_label_that_airflow_fails_on_is_refused_once_before_anything_is_sent(
    sandbox, run_mapped, log_text, template, native, says
):
    run, tasks = run_mapped(partial={"map_index_template": template}, expand={"prompt": PROMPTS}, native=native)
    assert (run.state, posts(sandbox)) == ("failed", 0)
    assert {ti.try_number for ti in tasks} == {1}
    text = log_text.text
    assert "map_index_template: got" in text
    assert says in text


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    "template", ["{{ name }}", "no. {{ ti.map_index }}", "{{ ti.xcom_pull(key='claid_result') and 1 / 0 }}"]
)
def test_the_label_may_name_the_functions_arguments_and_no_label_fails_a_paid_task(
    sandbox, run_mapped, tmp_path, deferrable, template
):
    (tmp_path / "records").mkdir()
    where = {"save_to": f"file://{tmp_path}/", "records_path": f"file://{tmp_path}/records/"}
    partial = {"map_index_template": template, "deferrable": deferrable, **where}
    run, tasks = run_mapped(partial={**partial, "task_id": "generate"}, decorated=["car", "cup"])
    assert (run.state, posts(sandbox)) == ("success", 2)
    labels = [ti.rendered_map_index for ti in tasks]
    expected = {"{{ name }}": ["car", "cup"], "no. {{ ti.map_index }}": ["no. 0", "no. 1"]}
    assert labels == expected.get(template, ["0", "1"])
