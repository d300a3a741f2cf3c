"""The generating trigger: it pays once however often it runs, and outlives its own cancellation."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_provider_claid.api.errors import ClaidNotSentError
from airflow_provider_claid.delivery import payment, sync
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.records import ledger
from airflow_provider_claid.delivery.records.store import ObjectRecords
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.hooks.claid import ClaidHook
from airflow_provider_claid.hooks.order import Order
from airflow_provider_claid.hooks.records import begin
from airflow_provider_claid.triggers import generate
from airflow_provider_claid.triggers.claid import ClaidGenerateTrigger
from tests.conftest import KEY

pytestmark = pytest.mark.usefixtures("claid_connection")

IDENTITY = Identity("dag", "run", "task")


@pytest.fixture
def records(tmp_path):
    (tmp_path / "records").mkdir()
    for task in ("task", "first"):
        mark(f"file://{tmp_path}/records/", Identity("dag", "run", task))
    return f"file://{tmp_path}/records/"


def mark(records, identity):
    """Leave the mark of an attempt, as the worker does before it defers."""
    ti = SimpleNamespace(try_number=1, max_tries=0)
    begin({"ti": ti}, records, identity)


def order(prompt="a red bicycle", identity=IDENTITY, **changes):
    return Order(identity, 0, check_request(prompt, 1, 5.0, None), "claid_default", **changes)


def trigger(records, deadline=None, **changes):
    return ClaidGenerateTrigger(order=order(**changes).to_json(), records_path=records, deadline=deadline)


async def event_of(each):
    async for event in each.run():
        return event.payload
    return None


def run(*triggers):
    async def all_of_them():
        return await asyncio.gather(*map(event_of, triggers))

    return sync.run(all_of_them())


def posts(sandbox):
    return sandbox.report()["totals"]["posts"]


def outcomes(records):
    return [each["outcome"] for each in ClaidHook().submissions("dag", "run", "task", records_path=records)]


def test_it_tells_of_what_it_paid_in_one_small_event(sandbox, records):
    (event,) = run(trigger(records))
    paid = {"status": "paid", "number": 1, "times": 1, "reused": False}
    assert event == paid | {"order": order().to_json(), "records_path": records}
    assert (posts(sandbox), outcomes(records)) == (1, ["done"])


def test_it_is_written_down_as_plain_json_without_the_key(records):
    path, arguments = trigger(records, deadline=12.5).serialize()
    assert path == "airflow_provider_claid.triggers.claid.ClaidGenerateTrigger"
    copy = ClaidGenerateTrigger(**json.loads(json.dumps(arguments)))
    assert copy.serialize() == (path, arguments)
    assert KEY not in json.dumps(arguments)


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        ({"colour": "red"}, "unknown arguments: colour"),
        ({"order": None}, "KeyError: 'identity'"),
        ({"order": {**order().to_json(), "colour": "red"}}, "colour"),
        ({"order": {name: value for name, value in order().to_json().items() if name != "generation"}}, "generation"),
        ({"order": {**order().to_json(), "request": {"input": ""}}}, "ValidationError"),
        ({"order": {**order().to_json(), "target": {"uri": "s3://b/"}}}, "scheme"),
        ({"order": "text"}, "TypeError"),
    ],
)
def test_one_that_another_version_stored_says_so_and_a_retry_reads_the_records(sandbox, records, stored, says):
    each = ClaidGenerateTrigger(**{**trigger(records).serialize()[1], **stored})
    (event,) = run(each)
    error = event["error"]
    assert (event["status"], error["kind"], error["billed"]) == ("failed", "ClaidLostAnswerError", "unknown")
    assert "another version of this provider" in error["message"]
    assert says in error["message"]
    assert posts(sandbox) == 0


def test_run_again_it_pays_nothing(sandbox, records):
    run(trigger(records))
    (event,) = run(trigger(records))
    assert (event["status"], event["number"], event["reused"]) == ("paid", 1, True)
    assert posts(sandbox) == 1


def test_run_twice_at_once_it_pays_once(sandbox, records):
    sandbox.change(latency=0.5)
    events = run(trigger(records), trigger(records))
    assert [event["status"] for event in events] == ["paid", "paid"]
    assert (posts(sandbox), outcomes(records)) == (1, ["done"])


PROCESS = """
import asyncio, json, sys
from airflow_provider_claid.triggers import generate
from airflow_provider_claid.triggers.claid import ClaidGenerateTrigger

async def main():
    async for event in ClaidGenerateTrigger(**json.loads(sys.argv[1])).run():
        print(json.dumps(event.payload))

asyncio.run(main())
"""


def test_run_twice_at_once_in_two_processes_it_pays_once(sandbox, records):
    sandbox.change(latency=2.0)
    command = [sys.executable, "-c", PROCESS, json.dumps(trigger(records).serialize()[1])]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    events = [json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) for process in processes]
    assert [event["status"] for event in events] == ["paid", "paid"]
    assert (posts(sandbox), outcomes(records)) == (1, ["done"])


async def when_sent(sandbox):
    while not await asyncio.to_thread(lambda: posts(sandbox)):
        await asyncio.sleep(0.02)


def test_cancelled_after_its_request_left_it_records_the_answer(sandbox, records):
    sandbox.change(latency=0.7)

    async def cancelled():
        task = asyncio.create_task(event_of(trigger(records)))
        await when_sent(sandbox)
        task.cancel("__airflow_user_action__")
        with pytest.raises(asyncio.CancelledError):
            await task

    sync.run(cancelled())
    assert outcomes(records) == ["done"]
    (event,) = run(trigger(records))
    assert (event["status"], event["reused"]) == ("paid", True)
    assert posts(sandbox) == 1


def test_a_triggerer_that_ends_lets_its_request_finish(sandbox, records):
    sandbox.change(latency=0.7)

    async def triggerer():
        task = asyncio.create_task(event_of(trigger(records)))
        await when_sent(sandbox)
        return task

    # asyncio.run cancels whatever still runs, as it does at the end of Airflow's own triggerer.
    task = asyncio.run(triggerer())
    assert task.cancelled()
    assert (posts(sandbox), outcomes(records)) == (1, ["done"])


def slow_connection(monkeypatch, value):
    value = value | {"extra": {"requests_per_minute": 1, "account": "slow", "request_timeout": 5}}
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(value))


def test_cancelled_before_its_turn_it_sends_nothing(sandbox, records, claid_connection, monkeypatch):
    slow_connection(monkeypatch, claid_connection)
    run(trigger(records, identity=Identity("dag", "run", "first")))

    async def cancelled():
        task = asyncio.create_task(event_of(trigger(records)))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = time.monotonic()
    sync.run(cancelled())
    assert time.monotonic() - started < 50
    assert (posts(sandbox), outcomes(records)) == (1, [])


def test_no_turn_before_the_deadline_is_a_failure_that_costs_nothing(sandbox, records, claid_connection, monkeypatch):
    slow_connection(monkeypatch, claid_connection)
    run(trigger(records, identity=Identity("dag", "run", "first")))
    (event,) = run(trigger(records, deadline=time.time() + 0.5))
    assert (event["status"], event["error"]["kind"], event["error"]["billed"]) == ("failed", "ClaidNotSentError", "no")
    assert posts(sandbox) == 1


def test_a_request_that_left_before_the_deadline_is_waited_for(sandbox, records):
    sandbox.change(latency=1.5)
    (event,) = run(trigger(records, deadline=time.time() + 0.7))
    assert (event["status"], outcomes(records)) == ("paid", ["done"])


@pytest.mark.parametrize("ends_after", [0, 0.5])
def test_a_deadline_during_the_search_hides_no_request_that_left(sandbox, records, monkeypatch, ends_after):
    async def endless(*_):
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(ends_after)

    monkeypatch.setattr(payment, "_search", endless)
    monkeypatch.setattr(generate, "GLANCE", 0.001)
    sandbox.fault("generate", "reset", when="after_billing")
    (event,) = run(trigger(records, deadline=time.time() + 0.7))
    error = event["error"]
    assert (event["status"], error["kind"], error["billed"]) == ("failed", "ClaidLostAnswerError", "unknown")
    assert (posts(sandbox), outcomes(records)) == (1, ["unknown"])
    sync.run(asyncio.sleep(ends_after))


def test_killed_by_a_person_it_lets_nothing_leave(sandbox, records):
    each = trigger(records)
    asyncio.run(each.on_kill())
    (event,) = run(each)
    assert (event["status"], event["error"]["kind"]) == ("failed", "ClaidNotSentError")
    assert (posts(sandbox), outcomes(records)) == (0, ["unbilled"])


def test_a_lost_answer_is_told_as_on_a_worker(sandbox, records):
    sandbox.fault("generate", "reset", when="after_billing")
    (event,) = run(trigger(records))
    assert (event["status"], event["error"]["kind"]) == ("failed", "ClaidUnknownOutcomeError")
    (event,) = run(trigger(records, max_submissions=2))
    assert (event["status"], event["number"], event["times"]) == ("paid", 2, 2)
    assert posts(sandbox) == 2


def test_an_answer_that_cannot_be_recorded_travels_in_the_event(sandbox, records, monkeypatch):
    monkeypatch.setattr(ledger, "KEEP_TRYING", 0.0)
    folder = Path(records.removeprefix("file://")) / IDENTITY.key()
    (folder / "1.result").mkdir(parents=True)
    (event,) = run(trigger(records))
    assert event["status"] == "paid"
    assert len(event["answer"]["images"]) == 1
    assert posts(sandbox) == 1


def test_begun_again_after_its_deadline_it_says_what_was_billed(sandbox, records):
    run(trigger(records, deadline=time.time() + 60))
    (event,) = run(trigger(records, deadline=time.time() - 1))
    assert (event["status"], event["error"]["billed"]) == ("failed", "yes")
    assert event["error"]["request_id"] in event["error"]["message"]
    assert posts(sandbox) == 1


def test_begun_again_while_its_records_fail_it_may_have_been_billed(sandbox, records, monkeypatch):
    def busy(self, name, *data):
        raise StoreBusyError("away")

    run(trigger(records))
    monkeypatch.setattr(payment, "generate", lambda *_, **__: ledger_fails())
    monkeypatch.setattr(ObjectRecords, "read", busy)
    (event,) = run(trigger(records))
    assert event["error"]["billed"] == "unknown"


async def ledger_fails():
    raise ClaidNotSentError("The records of this task cannot be used now: away")


@pytest.mark.parametrize(("prompt", "billed"), [("a red bicycle", "yes"), ("a blue boat", "no")])
def test_one_whose_turn_does_not_come_says_what_was_billed_for_its_own_wish(sandbox, records, prompt, billed):
    run(trigger(records))
    later = Order(IDENTITY, 1, check_request(prompt, 1, 5.0, None), "claid_default", base_url=sandbox.url)
    (event,) = run(ClaidGenerateTrigger(order=later.to_json(), records_path=records, deadline=0.0))
    assert (event["error"]["kind"], event["error"]["billed"]) == ("ClaidNotSentError", billed)
    assert posts(sandbox) == 1
