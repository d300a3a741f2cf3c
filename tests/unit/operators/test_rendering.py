"""Texts stay texts where templates are native, and path objects are taken wherever a URI is: at parse and in a run."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, ObjectStoragePath, task, task_group
from upath import UPath

from airflow_provider_claid.exceptions import ClaidInputError
from airflow_provider_claid.hooks.claid import ClaidHook
from airflow_provider_claid.operators.arguments import settle, target_of
from airflow_provider_claid.operators.claid import ClaidGenerateBatchOperator, ClaidGenerateImageOperator

SAVE = {"save_to": "file:///tmp/x/"}
CONTEXT = {"ti": SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1, max_tries=0)}


def rendered(kind=ClaidGenerateImageOperator, native=True, values=None, **arguments):
    with DAG("d", schedule=None, render_template_as_native_obj=native):
        operator = kind(task_id="t", **arguments)
    operator.render_template_fields({"params": values or {}})
    settle(operator)
    return operator


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("42", "42"),
        ("042", "042"),
        ("1e5", "1e5"),
        ("42e15", "42e15"),
        ("4.20", "4.20"),
        ("2026_01_01", "2026_01_01"),
        ("0x10", "0x10"),
        ("1,2", "1,2"),
        ("[1, 2]", "[1, 2]"),
        ("'quoted'", "'quoted'"),
        ("True", "True"),
        ("None", "None"),
        (42, "42"),
        (42.0, "42"),
        (Decimal("42.00"), "42"),
        (True, True),
        (None, None),
        ([1], [1]),
        (4.2e16, 4.2e16),
    ],
)
def test_what_is_rendered_natively_is_the_text_that_it_was(value, text):
    operator = rendered(prompt="{{ params.x }}", filename="{{ params.x }}", values={"x": value}, **SAVE)
    assert (operator.prompt, operator.filename) == (text, text)
    joined = rendered(prompt="{{ params.x }}{{ '' }}", values={"x": value}).prompt
    assert joined == str(value)


def test_other_templates_of_a_native_dag_are_as_airflow_makes_them():
    operator = rendered(
        ClaidGenerateBatchOperator,
        prompts="{{ params.prompts }}",
        max_failed="{{ params.x }}",
        number_of_images="{{ '2' }}",
        **SAVE,
        values={"x": "0.5", "prompts": [1234, "a red bicycle"]},
    )
    assert (operator.prompts, operator.max_failed, operator.number_of_images) == ([1234, "a red bicycle"], 0.5, 2)
    assert rendered(prompt="a {{ 'red' }} bicycle", filename="{% if False %}x{% endif %}", **SAVE).filename is None


@pytest.mark.parametrize("native", [True, False])
def test_all_texts_are_settled(native):
    texts = {"records_path": "file:///{{ params.x }}/", "claid_conn_id": "{{ params.x }}", "storage_conn_id": "7"}
    operator = rendered(prompt="{{ params.x }}", native=native, values={"x": "123"}, **SAVE, **texts)
    found = [operator.prompt, operator.records_path, operator.claid_conn_id, operator.storage_conn_id]
    assert found == ["123", "file:///123/", "123", "7"]


def test_a_prompt_of_a_lost_number_or_of_none_is_refused():
    for value, says in ((4.2e16, "lost digits"), (None, "a text of 3 to 1024"), (True, "a text of 3 to 1024")):
        operator = rendered(prompt="{{ params.x }}", values={"x": value})
        with pytest.raises(ClaidInputError, match=says):
            operator.execute(CONTEXT)


PATHS = [
    (Path("/tmp/x"), "file:///tmp/x/", None),
    (UPath("s3://bucket/folder"), "s3://bucket/folder/", None),
    (ObjectStoragePath("s3://bucket/folder", conn_id="my_aws"), "s3://bucket/folder/", "my_aws"),
    (ObjectStoragePath("s3://my_aws@bucket/folder/"), "s3://bucket/folder/", "my_aws"),
    (ObjectStoragePath("file:///tmp/x"), "file:///tmp/x/", None),
]


@pytest.mark.parametrize("path", [each for each, *_ in PATHS])
@pytest.mark.parametrize("native", [True, False])
def test_path_objects_are_accepted_wherever_a_uri_is(path, native):
    text = rendered(
        ClaidGenerateBatchOperator,
        native,
        prompts=path / "prompts.csv",
        save_to=path,
        records_path=path / "records",
        manifest_path=path / "{{ params.x }}.jsonl",
        values={"x": "monday"},
    )
    assert [type(getattr(text, name)) for name in ("prompts", "save_to", "records_path", "manifest_path")] == [str] * 4
    assert text.manifest_path.endswith("/monday.jsonl")
    assert text.prompts.endswith("/prompts.csv")


@pytest.mark.parametrize(("path", "uri", "conn_id"), PATHS)
def test_the_connection_of_a_path_counts(path, uri, conn_id):
    operator = rendered(prompt="a red bicycle", save_to=path)
    target = target_of(operator)
    assert (target.uri, target.conn_id) == (uri, conn_id)
    native = rendered(prompt="a red bicycle", save_to="{{ params.x }}", values={"x": path})
    assert target_of(native) == target


def test_paths_are_refused_at_parse_as_uris_are():
    for arguments, says in (
        ({"save_to": Path("folder")}, "relative path"),
        ({"save_to": UPath("s3://bucket/x", key="secret")}, "storage options"),
        ({"save_to": ObjectStoragePath("s3://one@bucket/"), "storage_conn_id": "two"}, "leave one out"),
        ({"output_folder": Path("/tmp/x")}, "storage://name/folder/"),
        ({"records_path": Path("records")}, "records_path: got the relative path"),
    ):
        with pytest.raises(AirflowFailException, match=says):
            ClaidGenerateImageOperator(task_id="t", prompt="a red bicycle", **arguments)


def test_a_dag_with_path_objects_is_serialised():
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("d", schedule=None) as dag:
        paths = {"save_to": ObjectStoragePath("s3://my_aws@bucket/x/"), "records_path": Path("/tmp/records")}
        ClaidGenerateBatchOperator(task_id="t", prompts=Path("/tmp/prompts.csv"), **paths)
    (task,) = DagSerialization.to_dict(dag)["dag"]["tasks"]
    found = json.loads(json.dumps(task))["__var"]
    assert found["save_to"] == "s3://my_aws@bucket/x"
    assert (found["prompts"], found["records_path"]) == ("file:///tmp/prompts.csv", "file:///tmp/records")


def test_the_hook_takes_numbers_and_refuses_what_shows_nothing(sandbox, claid_connection):
    hook = ClaidHook()
    for prompt in ("   ", "\0\0\0", "\u200b\u200b\u200b", "\u3164\u3164\u3164", "a\0b"):
        with pytest.raises(ClaidInputError, match="prompt: got "):
            hook.generate(prompt)
    assert sandbox.report()["totals"]["posts"] == 0
    hook.generate(20260101)
    assert [each["prompt"] for each in sandbox.report()["requests"]] == ["20260101"]


GAPS = [
    {"prompt": "photo of a {{ params.x }} bicycle"},
    {"prompt": "a bicycle", "save_to": "file:///tmp/{{ params.x }}/"},
    {"prompt": "a bicycle", "filename": "bicycle-{{ params.x }}", **SAVE},
]


@pytest.mark.parametrize("arguments", GAPS)
@pytest.mark.parametrize("native", [True, False])
def test_a_none_within_a_text_is_refused_before_anything_is_paid(sandbox, claid_connection, native, arguments):
    operator = rendered(native=native, values={"x": None}, **arguments)
    with pytest.raises(ClaidInputError, match="an expression gives None"):
        operator.execute(CONTEXT)
    assert sandbox.report()["totals"]["posts"] == 0


def test_a_text_that_is_none_and_nothing_else_is_no_prompt(sandbox, claid_connection):
    for native, says in ((False, "an expression gives None"), (True, "a text of 3 to 1024")):
        with pytest.raises(ClaidInputError, match=says):
            rendered(native=native, prompt="{{ params.x }}", values={"x": None}).execute(CONTEXT)
    found = rendered(native=False, prompt="a {{ params.x or 'red' }}{{ none or '' }} None", values={"x": None})
    found._check_rendered()
    assert found.prompt == "a red None"


def test_a_batch_refuses_a_folder_of_none(sandbox, claid_connection, tmp_path):
    kind, folder = ClaidGenerateBatchOperator, f"file://{tmp_path}/{{{{ params.x }}}}/"
    operator = rendered(kind, native=False, prompts=["a red bicycle"], save_to=folder, values={"x": None})
    with pytest.raises(ClaidInputError, match=r"save_to: got .* an expression gives None"):
        operator.execute(CONTEXT)


def names_of_values():
    """What f-strings make of references to values that only a run has."""
    found = []
    with DAG("d", schedule=None) as dag:

        @task
        def named():
            return "shoe"

        @task_group
        def each(sku):
            found.append(f"{sku}")
            named.override(task_id="again")()

        name = named()
        each.expand(sku=["shoe", "bag"])
        found += [f"{name}", f"{name.map(str)}", f"{[name]}", f"{dag.param('colour', 'red')}", f"{name.operator}"]
    return found


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("value", [["red", "blue"], {"colour": "red"}, (), b"red"])
def test_a_list_that_a_template_writes_into_a_text_is_refused(sandbox, native, value):
    """What a task returned, pulled by a template (airflow #11983): "photo of ['red', 'blue']" would be billed."""
    operator = rendered(native=native, prompt="photo of {{ params.x }} on white", values={"x": value})
    with pytest.raises(ClaidInputError, match=r"prompt: got .* an expression gives .*expand"):
        operator.execute(CONTEXT)
    named = rendered(native=native, prompt="a {{ params.x | join(' and ') }} bicycle", values={"x": ["red", "blue"]})
    named._check_rendered()
    assert named.prompt == "a red and blue bicycle"


@pytest.mark.parametrize("name", names_of_values(), ids=lambda value: type(value).__name__)
def test_the_name_of_a_value_is_refused_where_the_value_was_meant(sandbox, claid_connection, tmp_path, name):
    with pytest.raises(ClaidInputError, match="prompt: got the name of a value"):
        ClaidHook().generate(f"photo of {name} on white")
    operator = rendered(ClaidGenerateBatchOperator, prompts=[f"photo of {name}"], save_to=f"file://{tmp_path}/")
    with pytest.raises(ClaidInputError, match="the name of a value"):
        operator.execute(CONTEXT)
    if "{{" not in name:
        for arguments in ({"prompt": f"photo of {name}"}, {"prompt": "a bag", "save_to": f"s3://bucket/{name}/"}):
            with pytest.raises(AirflowFailException, match="the name of a value"):
                ClaidGenerateImageOperator(task_id="t", **arguments)
    assert sandbox.report()["totals"]["posts"] == 0


@pytest.mark.parametrize("name", ["save_to", "output_folder"])
def test_a_place_that_comes_to_none_is_refused_instead_of_paid_for_without_one(
    sandbox, claid_connection, monkeypatch, name
):
    with DAG("d", schedule=None):
        earlier = ClaidGenerateImageOperator(task_id="earlier", prompt="a red bicycle").output
        later = ClaidGenerateImageOperator(task_id="t", prompt="a red bicycle", **{name: earlier})
    monkeypatch.setattr(type(earlier), "resolve", lambda *arguments: None)
    later.render_template_fields({})
    for operator in (later, rendered(prompt="a red bicycle", values={"x": None}, **{name: "{{ params.x }}"})):
        with pytest.raises(ClaidInputError, match=f"{name}: got None"):
            operator.execute(CONTEXT)
    assert sandbox.report()["totals"]["posts"] == 0
    both = {"save_to": "file:///tmp/x/", "output_folder": "storage://my-storage/x/"} | {name: "{{ params.x }}"}
    rendered(prompt="a red bicycle", values={"x": None}, **both)._check_rendered()


def test_an_address_as_azure_writes_it_is_no_connection():
    own = "abfss://pictures@acme.dfs.core.windows.net/x/"
    prompts = own.replace("/x/", "/x.csv")
    for kind, arguments in (
        (ClaidGenerateImageOperator, {"prompt": "a bag", "save_to": own}),
        (ClaidGenerateBatchOperator, {"prompts": prompts, **SAVE}),
    ):
        with pytest.raises(AirflowFailException, match=r"goes into the Airflow connection: abfss://pictures/x"):
            kind(task_id="t", **arguments)
    operator = ClaidGenerateImageOperator(task_id="t", prompt="a bag", save_to="abfs://my_azure@pictures/x/")
    assert target_of(operator).conn_id == "my_azure"
