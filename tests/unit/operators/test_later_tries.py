"""A later try that ends before it reads its records knows, all the same, what earlier ones have paid."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from airflow_provider_claid import exceptions
from airflow_provider_claid.delivery import pictures, proof, sync
from airflow_provider_claid.delivery.records import ledger, objects
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator

pytestmark = pytest.mark.usefixtures("claid_connection")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(pictures, "FIRST_PAUSE", 0.01)


@pytest.fixture
def execute(tmp_path):
    """Execute a task as another process does; return its error."""
    (tmp_path / "records").mkdir()
    told = {"records_path": f"file://{tmp_path}/records/", "save_to": f"file://{tmp_path}/images/"}

    def run(number, most=2, **changes):
        sync.close()
        proof._proven.clear()
        task = ClaidGenerateImageOperator(task_id="t", prompt="a red bicycle", **told)
        for name, value in changes.items():
            setattr(task, name, value)
        ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, max_tries=most, try_number=number)
        ti.stats_tags, ti.xcom_push = {}, lambda key, value: None
        with pytest.raises(exceptions.ClaidError) as caught:
            task.execute({"ti": ti, "task": SimpleNamespace(retries=2)})
        return caught.value

    return run


@pytest.fixture
def request_id(sandbox, execute):
    """Pay for an image that cannot be fetched; return the id of the request."""
    sandbox.fault("picture", "status", status=500, times=None)
    error = execute(1)
    assert isinstance(error, exceptions.ClaidUndeliveredError)
    return error.request_id


@pytest.mark.parametrize(
    "change", [{"prompt": ""}, {"filename": "a/b"}, {"claid_conn_id": "gone"}, {"save_to": "file:///proc/x/"}]
)
def test_one_that_cannot_begin_says_what_was_billed(sandbox, execute, request_id, change):
    error = execute(2, **change)
    assert isinstance(error, exceptions.ClaidInputError)
    assert (error.billed, error.request_id) == ("yes", request_id)
    assert "Nothing was sent" not in str(error) and f"Request {request_id} made" in str(error)
    assert sandbox.report()["totals"]["posts"] == 1


@pytest.mark.parametrize("change", [{"prompt": "a blue boat"}, {"reuse": False}])
def test_one_that_is_refused_for_another_wish_says_of_that_one_that_it_was_not_billed(
    sandbox, execute, request_id, change
):
    sandbox.fault("generate", "status", status=402)
    error = execute(4, most=5, **change)
    assert (error.status, error.billed) == (402, "no")
    assert request_id not in str(error)


def test_one_that_is_refused_for_the_same_wish_says_what_was_billed(sandbox, execute, tmp_path):
    sandbox.fault("generate", "reset", when="after_billing")
    assert execute(1, max_submissions=2).billed == "unknown"
    sandbox.fault("generate", "status", status=402)
    assert execute(2, max_submissions=2).billed == "unknown"


def test_one_whose_records_fail_may_have_been_billed(execute, request_id, monkeypatch):
    def get(self, name):
        raise StoreBusyError("away")

    monkeypatch.setattr(objects.LocalObjects, "get", get)
    monkeypatch.setattr("airflow_provider_claid.delivery.backoff.STORE_PAUSE", 0.01)
    error = execute(2)
    assert isinstance(error, exceptions.ClaidNotSentError)
    assert error.billed == "unknown"


def test_one_whose_records_cannot_be_read_may_have_been_billed(execute, request_id, tmp_path):
    (intent,) = (tmp_path / "records").rglob("1.intent")
    intent.write_text("{}")
    assert execute(2).billed == "unknown"


def test_a_first_try_has_sent_nothing(execute):
    assert str(execute(1, prompt="")).endswith("Nothing was sent.")


def test_one_that_comes_when_the_address_is_dead_names_the_way_to_another_image(execute, request_id, tmp_path):
    (record,) = (tmp_path / "records").rglob("1.result")
    result = json.loads(record.read_text())
    record.write_text(json.dumps(result | {"at": "2026-01-02T03:04:05+00:00"}))
    error = execute(2)
    assert type(error) is exceptions.ClaidPictureError
    assert "clear the task with reuse=False to pay for another" in str(error)


def test_one_that_finds_an_intent_alone_does_not_say_that_it_was_sent(execute, request_id, tmp_path):
    next((tmp_path / "records").rglob("1.result")).unlink()
    (record,) = (tmp_path / "records").rglob("1.intent")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"lost_at": "2026-01-02T03:04:05+00:00"}))
    error = execute(2)
    assert type(error) is exceptions.ClaidUnknownOutcomeError
    assert "was begun at" in str(error) and "was sent at" not in str(error)


def test_one_finds_the_copy_of_an_answer_that_was_recorded_late(sandbox, tmp_path, monkeypatch):
    """The records were away when the answer came, and back when its image had been stored."""
    (tmp_path / "records").mkdir()
    puts, put = [], objects.LocalObjects.put

    def failing_once(self, name, data):
        puts.append(name)
        if len(puts) == 1:
            raise StoreBusyError("away")
        put(self, name, data)

    monkeypatch.setattr(ledger, "KEEP_TRYING", 0.0)
    monkeypatch.setattr(objects.LocalObjects, "put", failing_once)
    told = {"records_path": f"file://{tmp_path}/records/", "save_to": f"file://{tmp_path}/images/"}
    ends = []
    for number in (1, 2):
        sync.close()
        task = ClaidGenerateImageOperator(task_id="t", prompt="a red bicycle", **told)
        ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, max_tries=2, try_number=number)
        ti.stats_tags, ti.xcom_push = {}, lambda key, value: None
        ends.append(task.execute({"ti": ti, "task": SimpleNamespace(retries=2)}))
        sandbox.fault("picture", "status", status=404, times=None)
    assert ends[0] == ends[1]
