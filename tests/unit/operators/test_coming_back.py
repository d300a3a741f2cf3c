"""A task that comes back from its trigger: it delivers by the order in the event, and every error says: billed."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_claid import exceptions
from airflow_provider_claid.delivery import sync
from airflow_provider_claid.delivery.checks import check_request, parse_target
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.records import ledger
from airflow_provider_claid.delivery.records.objects import LocalObjects
from airflow_provider_claid.delivery.storage import LocalFolder
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.hooks.order import Order
from airflow_provider_claid.hooks.records import begin
from airflow_provider_claid.operators.base import comes_back
from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator
from airflow_provider_claid.triggers.claid import ClaidGenerateTrigger

pytestmark = pytest.mark.usefixtures("claid_connection")

IDENTITY = Identity("d", "r", "t")


@pytest.fixture
def paid(sandbox, tmp_path):
    """Pay as a trigger does; return the event."""

    def pay(prompt="a red bicycle", save_to=None, **rules):
        target = parse_target(save_to or f"file://{tmp_path}/", None)
        request = check_request(prompt, 1, 5.0, None)
        order = Order(IDENTITY, 0, request, "claid_default", name="sku", target=target, base_url=sandbox.url, **rules)

        async def event_of(trigger):
            async for event in trigger.run():
                return json.loads(json.dumps(event.payload))
            return None

        (tmp_path / "records").mkdir()
        begin({"ti": SimpleNamespace(try_number=1, max_tries=0)}, f"file://{tmp_path}/records/", IDENTITY)
        trigger = ClaidGenerateTrigger(order=order.to_json(), records_path=f"file://{tmp_path}/records/")
        return sync.run(event_of(trigger))

    return pay


@pytest.fixture
def context():
    xcoms = {}
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, max_tries=0, stats_tags={}, xcoms=xcoms)
    ti.xcom_push = lambda key, value: xcoms.update({key: value})
    return {"ti": ti}


def operator():
    """Return a task none of whose own arguments could be used any more."""
    return ClaidGenerateImageOperator(
        task_id="t", prompt="{{ gone }}", filename="{{ gone }}", save_to="{{ gone }}", claid_conn_id="{{ gone }}"
    )


def come_back(context, event):
    sync.close()
    return operator().execute_complete(context, event)


def test_it_needs_nothing_but_the_event(paid, context, tmp_path, monkeypatch):
    event = paid()
    monkeypatch.delenv("AIRFLOW_CONN_CLAID_DEFAULT")
    assert come_back(context, event) == [f"file://{tmp_path}/sku-1.png"]
    assert (tmp_path / "sku-1.png").exists()


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"target": {"uri": "s3://b/", "scheme": "s3", "conn_id": "gone"}}, None, ""),
        ({"target": {"uri": "s4://b/", "scheme": "s4", "conn_id": None}}, exceptions.ClaidInputError, "s4://b/"),
        ({"colour": "red"}, exceptions.ClaidUndeliveredError, "of another version"),
        ({"request": None}, exceptions.ClaidUndeliveredError, "of another version"),
        ({"identity": {"dag_id": "x", "run_id": "r", "task_id": "t"}}, exceptions.ClaidRecordsError, "/records/"),
    ],
)
def test_whatever_goes_wrong_it_was_billed(paid, context, change, kind, says):
    event = paid()
    event["order"] |= change
    with pytest.raises(kind or exceptions.ClaidError) as caught:
        come_back(context, event)
    assert caught.value.billed == "yes"
    assert says in str(caught.value)


def test_records_that_fail_now_are_read_by_a_retry(paid, context, monkeypatch):
    event = paid()

    def busy(self, *target, **rules):
        raise StoreBusyError("away")

    monkeypatch.setattr(LocalObjects, "__init__", busy)
    with pytest.raises(exceptions.ClaidNotSentError) as caught:
        come_back(context, event)
    assert caught.value.billed == "yes"


def test_black_images_that_are_to_be_skipped_skip_the_task_when_the_result_is_told(paid, context, tmp_path):
    event = paid("nsfw", on_filtered="skip")
    with pytest.raises(AirflowSkipException):
        come_back(context, event)
    assert [image["filtered"] for image in context["ti"].xcoms["claid_result"]["images"]] == [True]
    assert (tmp_path / "sku-1.png").exists()


@pytest.mark.parametrize("on_filtered", ["fail", "keep"])
def test_black_images_that_are_not_to_be_skipped_do_not(paid, context, on_filtered):
    event = paid("nsfw", on_filtered=on_filtered)
    if on_filtered == "keep":
        assert len(come_back(context, event)) == 1
    else:
        with pytest.raises(exceptions.ClaidContentFilteredError):
            come_back(context, event)


@pytest.mark.parametrize(
    ("ti", "expected"),
    [
        (SimpleNamespace(next_method="execute_complete"), True),
        (SimpleNamespace(next_method=None), False),
        (SimpleNamespace(), False),
        (SimpleNamespace(_ti_context_from_server=SimpleNamespace(next_method="execute_complete")), True),
        (SimpleNamespace(_ti_context_from_server=SimpleNamespace(next_method=None)), False),
    ],
)
def test_whether_a_task_comes_back(ti, expected):
    assert comes_back({"ti": ti}) is expected


def test_a_field_that_cannot_be_rendered_stays_as_it_is_only_when_the_task_comes_back(caplog):
    each = operator()
    back = {"ti": SimpleNamespace(next_method="execute_complete")}
    assert each.render_template(["{{ 1 / 0 }}", "{{ 2 }}"], back) == ["{{ 1 / 0 }}", "2"]
    assert "ZeroDivisionError" in caplog.text
    with pytest.raises(ZeroDivisionError):
        each.render_template("{{ 1 / 0 }}", {"ti": SimpleNamespace(next_method=None)})


def test_a_folder_for_each_job_needs_records(sandbox, context):
    each = ClaidGenerateImageOperator(
        task_id="t", prompt="a red bicycle", output_folder="storage://my-storage/x/", own_folder=True
    )
    with pytest.raises(exceptions.ClaidInputError, match="own_folder: got True, without records"):
        each.execute(context | {"ti": SimpleNamespace(**vars(context["ti"]), try_number=1)})
    assert sandbox.report()["totals"]["posts"] == 0


def busy(self, *given, **rules):
    raise StoreBusyError("away")


@pytest.fixture
def unkept(paid, monkeypatch):
    """Return a function that pays in a trigger whose records do not take the answer, and returns its event."""

    def pay():
        monkeypatch.setattr(ledger, "KEEP_TRYING", 0.0)
        with monkeypatch.context() as patched:
            patched.setattr(LocalObjects, "put", busy)
            return paid()

    return pay


@pytest.mark.parametrize("method", ["get", "__init__"])
def test_an_answer_that_the_records_did_not_take_is_delivered_while_they_still_fail(
    unkept, context, tmp_path, monkeypatch, method
):
    event = unkept()
    assert event["answer"]["outcome"] == "done"
    with monkeypatch.context() as patched:
        patched.setattr(LocalObjects, method, busy)
        assert come_back(context, event) == [f"file://{tmp_path}/sku-1.png"]


def test_it_is_recorded_before_its_place_is_asked(unkept, context, tmp_path):
    event = unkept()
    event["order"]["target"]["uri"] = "file:///proc/x/"
    with pytest.raises(exceptions.ClaidConfigurationError):
        come_back(context, event)
    (result,) = (tmp_path / "records").rglob("1.result")
    assert json.loads(result.read_text())["outcome"] == "done"


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("fault", ["place", "wrong place", "xcom"])
def test_an_answer_that_is_recorded_nowhere_is_left_to_no_retry(unkept, context, monkeypatch, fault, kept):
    def fails(key, value):
        raise RuntimeError("no XCom now")

    event = unkept()
    if fault == "place":
        monkeypatch.setattr(LocalFolder, "_prove", busy)
    elif fault == "xcom":
        context["ti"].xcom_push = fails
    else:
        event["order"]["target"]["uri"] = "file:///proc/x/"
    if not kept:
        monkeypatch.setattr(LocalObjects, "get", busy)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - Airflow takes any
        come_back(context, event)
    assert isinstance(caught.value, AirflowFailException) is (not kept or fault == "wrong place")
    if not kept:
        assert caught.value.billed == "yes"
        assert event["answer"]["images"][0]["tmp_url"] in str(caught.value)
