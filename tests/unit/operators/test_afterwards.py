"""What Airflow does once a task has executed is proven before it is paid for, with the values that it will have."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, task
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.exceptions import ClaidCreditsError
from airflow_provider_claid.operators.afterwards import check_afterwards, label_fault
from airflow_provider_claid.operators.claid import ClaidGenerateBatchOperator, ClaidGenerateImageOperator


def declared(native=False, batch=False, **arguments):
    with DAG("d", schedule=None, start_date=datetime(2026, 1, 1), render_template_as_native_obj=native) as dag:
        if batch:
            ClaidGenerateBatchOperator(task_id="t", prompts=["a cup"], save_to="file:///tmp/x/", **arguments)
        else:
            ClaidGenerateImageOperator(task_id="t", prompt="a cup", **arguments)
    return dag


def context_of(dag, template=None, **more):
    ti = SimpleNamespace(task_id="t", map_index=0)
    return {"dag": dag, "ti": ti, "map_index_template": template, **more}


@pytest.mark.parametrize(
    ("template", "native", "says"),
    [
        ("{{ ti.map_index }}", True, "0 (int)"),
        ("{{ [ti.map_index] }}", True, "[0] (list)"),
        ("{{ none }}", True, "None (NoneType)"),
        ("{{ 2.5 }}", True, "2.5 (float)"),
        ("{{ true }}", True, "True (bool)"),
        ("{{ nothing.of.that }}", False, "UndefinedError"),
        ("{{ 1 / 0 }}", False, "ZeroDivisionError"),
        ("{% if %}", False, "TemplateSyntaxError"),
        ("{{ 'x' * 251 }}", False, "251 characters"),
        ("a\x00b", False, "no database"),
        ("a\ud800b", False, "no database"),
        (7, False, "fails with"),
        ("", True, "None (NoneType)"),
    ],
)
def test_a_label_that_airflow_fails_on_is_refused(template, native, says):
    dag = declared(native)
    with pytest.raises(ClaidInputError, match="map_index_template: got") as caught:
        check_afterwards(dag.get_task("t"), context_of(dag, template))
    assert says in caught.value.message


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(
    ("template", "more"),
    [(None, {}), ("no. {{ ti.map_index }}", {}), ("{{ name }}", {"name": "car"}), ("ü" * 250, {})],
)
def test_a_label_that_is_a_text_is_not(native, template, more):
    dag = declared(native)
    check_afterwards(dag.get_task("t"), context_of(dag, template, **more))


@given(st.one_of(st.text(max_size=300), st.integers(), st.none(), st.lists(st.integers())))
def test_what_passes_is_a_text_that_a_database_stores(value):
    dag = SimpleNamespace(get_template_env=lambda: SimpleNamespace(from_string=lambda _: Template(value)))
    if label_fault(None, {"dag": dag, "map_index_template": "any"}) is None:
        assert isinstance(value, str)
        assert "\0" not in value
        assert len(value) <= 250
        value.encode()


class Template(SimpleNamespace):
    """A template that renders to a value."""

    def __init__(self, value):
        super().__init__(render=lambda _: value)


def broken_while(work, operator, context):
    """Do the work of an operator, in which its label breaks."""
    with operator._working(context):
        context["name"] = SimpleNamespace()
        work()


@pytest.mark.parametrize("batch", [False, True])
def test_a_label_that_breaks_while_the_task_works_is_left_out_and_hides_no_error(caplog, batch):
    dag = declared(batch=batch)
    operator = dag.get_task("t")

    def fail():
        raise ClaidCreditsError("no credits")

    for work, error in ((lambda: None, None), (fail, ClaidCreditsError)):
        context = context_of(dag, "{{ name.upper() }}", name="car") | {
            "ti": SimpleNamespace(task_id="t", map_index=0, stats_tags={})
        }
        check_afterwards(operator, context)
        if error is None:
            broken_while(work, operator, context)
        else:
            with pytest.raises(error):
                broken_while(work, operator, context)
        assert context["map_index_template"] is None
    assert "map_index_template '{{ name.upper() }}' is left out" in caplog.text


@pytest.mark.parametrize("batch", [False, True])
def test_a_task_that_pushes_nothing_where_another_is_mapped_over_it_is_refused(batch):
    dag = declared(batch=batch, do_xcom_push=False)
    operator = dag.get_task("t")
    check_afterwards(operator, context_of(dag))
    with dag:

        @task
        def look(uri):
            return uri

        look.expand(uri=operator.output)
    with pytest.raises(ClaidInputError, match=r"do_xcom_push: got False.* look is mapped over"):
        check_afterwards(operator, context_of(dag))
    operator.do_xcom_push = True
    check_afterwards(operator, context_of(dag))
