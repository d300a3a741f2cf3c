"""A function that fails, or returns something of another kind, in one of several tries."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_claid import exceptions
from airflow_provider_claid.decorators.claid import ClaidImagesDecoratedOperator
from airflow_provider_claid.delivery import pictures, sync
from airflow_provider_claid.delivery.checks import parse_target
from airflow_provider_claid.delivery.records.objects import LocalObjects
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from tests.unit.delivery.records.test_task_state import Store

pytestmark = pytest.mark.usefixtures("claid_connection")

PROMPT = "a red bicycle"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(pictures, "FIRST_PAUSE", 0.01)


@pytest.fixture
def tries(tmp_path):
    """Execute the tries of a task, each with what its function returns or raises; return the last one's end."""
    (tmp_path / "records").mkdir()

    def run(*values, cleared=False, recorded=True, store=None, last=None, **more):
        for number, value in enumerate(values, 1):
            sync.close()

            def function(value=value):
                if isinstance(value, Exception):
                    raise value
                return value

            where = {"records_path": f"file://{tmp_path}/records/"} if recorded else {}
            task = ClaidImagesDecoratedOperator(
                task_id="t", python_callable=function, save_to=f"file://{tmp_path}/images/", **where, **more
            )
            for name, argument in (last or {}).items() if number == len(values) else ():
                setattr(task, name, argument)
            most = 1 + number if cleared and number == len(values) else 2
            ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, max_tries=most, try_number=number)
            ti.stats_tags, ti.xcom_push = {}, lambda key, value: None
            try:
                end = task.execute({"ti": ti, "task": SimpleNamespace(retries=2), "task_state_store": store})
            except Exception as fault:  # noqa: BLE001 - Airflow takes any
                end = fault
        return end

    return run


def posts(sandbox):
    return sandbox.report()["totals"]["posts"]


def test_a_try_in_which_the_function_failed_leaves_its_mark(sandbox, tries):
    assert len(tries(RuntimeError("no answer"), PROMPT)) == 1
    assert posts(sandbox) == 1


@pytest.mark.parametrize("recorded", [True, False])
def test_so_does_one_that_was_to_return_a_list(sandbox, tries, recorded):
    assert tries(RuntimeError("no answer"), [PROMPT], recorded=recorded)["delivered"] == 1
    assert posts(sandbox) == 1


@pytest.mark.parametrize("value", [PROMPT, [PROMPT]])
def test_where_airflow_keeps_what_it_is_told_it_leaves_none(sandbox, tries, value):
    end = tries(RuntimeError("no answer"), RuntimeError("no answer"), value, recorded=False, store=Store())
    assert not isinstance(end, Exception)
    assert posts(sandbox) == 1


@pytest.mark.parametrize(
    ("value", "last"),
    [
        (5.5, {}),
        ({"prompt": ""}, {}),
        (PROMPT, {"claid_conn_id": "gone"}),
        (PROMPT, {"filename": "a/b"}),
        (PROMPT, {"save_to": "file:///proc/x/"}),
    ],
)
def test_a_retry_that_cannot_begin_says_what_was_billed(sandbox, tries, value, last):
    sandbox.fault("picture", "status", status=500, times=4)
    refused = tries(PROMPT, value, last=last)
    assert isinstance(refused, exceptions.ClaidInputError)
    assert refused.billed == "yes"
    assert refused.request_id is not None
    assert "Nothing was sent" not in str(refused)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_retry_with_a_list_takes_the_one_recorded_image(sandbox, tries, recorded):
    sandbox.fault("picture", "status", status=500, times=4)
    store = None if recorded else Store()
    assert len(tries(PROMPT, [PROMPT, "a blue one"], recorded=recorded, store=store)) == 1
    assert posts(sandbox) == 1


@pytest.mark.parametrize("recorded", [True, False])
def test_the_recorded_image_does_not_get_the_id_of_another_prompt(sandbox, tries, recorded):
    """A function that takes from a queue, say."""
    sandbox.fault("picture", "status", status=500, times=4)
    values = [{"prompt": PROMPT, "id": "bicycle"}, {"prompt": "a blue boat", "id": "boat"}]
    (uri,) = tries(*values, recorded=recorded, store=None if recorded else Store())
    assert "boat" not in uri
    assert posts(sandbox) == 1


def test_a_person_who_clears_the_task_gets_the_list(sandbox, tries):
    assert tries(PROMPT, [PROMPT, "a blue one"], cleared=True)["delivered"] == 2
    assert posts(sandbox) == 3


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("reuse", [True, False])
def test_a_retry_with_one_prompt_after_a_list_is_refused(sandbox, tries, reuse, recorded):
    sandbox.fault("picture", "status", status=500, times=4)
    refused = tries([PROMPT], PROMPT, reuse=reuse, recorded=recorded)
    assert isinstance(refused, exceptions.ClaidInputError)
    assert refused.billed == "unknown" and "reuse=False" in str(refused)
    assert posts(sandbox) == 1


def test_a_list_whose_records_fail_just_then_says_what_was_billed(sandbox, tries, monkeypatch):
    sandbox.fault("picture", "status", status=500, times=4)
    asked, get = [], LocalObjects.get

    def fails(objects, name):
        asked.append(name)
        if asked.count(name) == 3 and name.endswith("/1.intent"):
            raise StoreBusyError("the records are away")
        return get(objects, name)

    tries(PROMPT)
    monkeypatch.setattr(LocalObjects, "get", fails)
    refused = tries(RuntimeError("not again"), [PROMPT, "a blue one"])
    assert isinstance(refused, exceptions.ClaidNotSentError)
    assert refused.billed != "no"
    assert posts(sandbox) == 1


def test_a_person_who_clears_a_list_gets_one_prompt_anew(sandbox, tries):
    assert len(tries([PROMPT], PROMPT, cleared=True, reuse=False, recorded=False)) == 1
    assert posts(sandbox) == 2


@pytest.mark.parametrize(
    ("first", "recorded", "store"),
    [([PROMPT], True, False), ([PROMPT], False, False), ([PROMPT], False, True), (PROMPT, False, True)],
)
def test_a_retry_that_returns_no_prompt_does_not_say_that_nothing_was_sent(sandbox, tries, first, recorded, store):
    sandbox.fault("picture", "status", status=500, times=4)
    refused = tries(first, 5.5, recorded=recorded, store=Store() if store else None)
    assert isinstance(refused, exceptions.ClaidInputError)
    assert refused.billed == "unknown"
    assert "Nothing was sent" not in str(refused)


def test_a_first_try_that_returns_no_prompt_has_sent_nothing(tries):
    assert str(tries(5.5)).endswith("Nothing was sent.")


def test_one_prompt_is_tried_again_where_no_records_can_be(sandbox, tries, monkeypatch):
    """A store without an exclusive create takes images, and no records: no list has begun there."""
    refuse = "airflow_provider_claid.delivery.records.exclusive.require_atomic"
    fault = exceptions.ClaidConfigurationError("records_path", "a store", "another", "")

    def refused(*_):
        raise fault

    monkeypatch.setattr(refuse, refused)
    monkeypatch.setattr(ClaidImagesDecoratedOperator, "_connected_target", lambda self: parse_target("s3://b/", None))
    monkeypatch.setattr("airflow_provider_claid.delivery.job.opened", nowhere)
    sandbox.fault("generate", "status", status=402)
    assert len(tries(PROMPT, PROMPT, recorded=False)) == 1


async def nowhere(job):
    return None
