"""What a batch may cost, and what makes it stop."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

from airflow_provider_claid.delivery.batch import run as run_module
from airflow_provider_claid.delivery.records.objects import LocalObjects
from airflow_provider_claid.delivery.storage import LocalFolder
from airflow_provider_claid.exceptions import (
    ClaidAuthenticationError,
    ClaidBatchError,
    ClaidBatchUnfinishedError,
    ClaidBudgetError,
    ClaidCreditsError,
    ClaidError,
    ClaidNotSentError,
    ClaidPermissionError,
)
from tests.unit.operators.batch.conftest import add_up, prompts_of, require_pictures


def test_max_credits_is_never_passed_and_used_up(task):
    error = task.fail(ClaidBudgetError, prompts_of(12), max_credits=7, number_of_images=2)
    assert isinstance(error, AirflowFailException)
    assert "max_credits: 6 of the 7 credits" in str(error)
    assert "Raise max_credits" in str(error)
    assert (task.credits(), task.result["credits"]) == (6, 6)
    assert (task.result["delivered"], task.result["not_started"], add_up(task.result)) == (3, 9, 12)


def test_max_credits_counts_all_attempts_and_can_be_raised(task):
    for _ in range(2):
        task.fail(ClaidBudgetError, prompts_of(6), max_credits=4)
        assert task.credits() == 4
    result = task.run(prompts_of(6), max_credits=6)
    assert (task.credits(), result["credits"], result["delivered"]) == (6, 6, 6)


def test_what_turns_out_to_cost_nothing_does_not_use_up_max_credits(task, sandbox):
    sandbox.fault("generate", "status", status=422, times=4)
    result = task.run(prompts_of(8), max_credits=4, max_failed=4)
    assert (result["delivered"], result["failed"], task.credits()) == (4, 4, 4)


def test_what_may_have_cost_uses_it_up(task, sandbox):
    sandbox.fault("generate", "reset", when="before_billing", times=2)
    task.fail(ClaidBudgetError, prompts_of(6), max_credits=4, max_failed=6)
    assert (task.result["unknown"], task.result["delivered"], task.result["credits"]) == (2, 2, 4)
    assert task.posts() == 4


def test_what_is_recorded_without_a_line_counts_for_max_credits(task, sandbox, tmp_path):
    """As after a kill: paid, and not in the manifest yet."""
    sandbox.fault("generate", "reset", when="after_billing", match="number 0")
    task.fail(ClaidBatchError, prompts_of(5), max_failed=0)
    next(task.folder.glob("*.jsonl")).unlink()
    # The first may be sent once more, but the four others are paid already.
    task.fail(ClaidBudgetError, prompts_of(5), max_credits=5, max_submissions=2)
    assert task.credits() == 5
    assert task.outcomes == ["unknown", *["delivered"] * 4]
    assert task.run(prompts_of(5), max_credits=6, max_submissions=2)["delivered"] == 5
    assert task.credits() == 6


def test_recopying_costs_nothing(task):
    task.run(prompts_of(3))
    next(task.folder.glob("*.jsonl")).unlink()
    assert task.run(prompts_of(3), max_credits=1)["delivered"] == 3


def test_daily_credits_stop_the_batch(task, configure):
    configure(daily_credits=3)
    error = task.fail(ClaidBudgetError, prompts_of(6))
    assert "daily_credits" in str(error)
    assert (task.credits(), task.result["delivered"], task.result["not_started"]) == (3, 3, 3)
    configure(daily_credits=6)
    assert task.run(prompts_of(6))["delivered"] == 6
    assert task.credits() == 6


@pytest.mark.parametrize(
    ("status", "kind"), [(401, ClaidAuthenticationError), (402, ClaidCreditsError), (403, ClaidPermissionError)]
)
def test_what_holds_for_all_stops_at_once(task, sandbox, configure, status, kind):
    configure(requests_per_second=20)
    sandbox.fault("generate", "status", status=status, times=None, after=3)
    error = task.fail(kind, prompts_of(16))
    assert "The batch stopped" in str(error)
    assert task.posts() <= 7
    assert (task.result["delivered"], task.credits(), add_up(task.result)) == (3, 3, 16)
    assert task.result["not_started"] >= 9
    require_pictures([line for line in task.manifest if line["outcome"] == "delivered"])
    sandbox.clear_faults()
    configure()
    assert task.run(prompts_of(16))["delivered"] == 16
    assert task.credits() == 16


def test_nothing_listens(task, configure, monkeypatch, claid_connection):
    import json
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = claid_connection | {"host": f"http://127.0.0.1:{taken.getsockname()[1]}"}
        monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(closed))
        error = task.fail(ClaidNotSentError, prompts_of(20))
    assert "The batch stopped" in str(error)
    assert (task.result["not_started"], task.result["credits"]) == (20, 0)


@pytest.mark.parametrize(("submissions", "kind"), [(1, ClaidBatchError), (2, ClaidBatchUnfinishedError)])
def test_ten_lost_in_a_row_stop_the_batch(task, sandbox, configure, submissions, kind):
    configure(requests_per_second=50)
    sandbox.change(latency=0.05)
    sandbox.fault("generate", "reset", when="after_billing", times=None)
    error = task.fail(kind, prompts_of(60), max_failed=60, max_submissions=submissions)
    assert "10 items in a row" in str(error)
    assert 10 <= task.posts() < 30
    assert task.result["unknown"] == task.posts() == task.credits()
    assert add_up(task.result) == 60


def test_a_fault_of_our_own_stops_the_batch_and_loses_nothing(task, monkeypatch):
    order = run_module.order

    async def broken(job):
        if job.request.input.endswith(" 2"):
            raise ZeroDivisionError("a bug")
        return await order(job)

    with monkeypatch.context() as patched:
        patched.setattr(run_module, "order", broken)
        with pytest.raises(ClaidError, match="ZeroDivisionError: a bug"):
            task.run(prompts_of(4))
    assert add_up(task.result) == 4
    assert task.run(prompts_of(4))["delivered"] == 4
    assert task.credits() == 4


class TestExecutionTimeout:
    """Airflow's timeout is raised by a signal handler, in whatever the main thread does then."""

    def timeout(self, task, prompts, when, **arguments):
        """Make an attempt that is timed out once this is true."""

        def strike(*_):
            raise AirflowTaskTimeout("Timeout")

        def wait():
            while not when():
                time.sleep(0.02)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

        before = signal.signal(signal.SIGALRM, strike)
        attempt, timer = task.attempt(prompts, **arguments), threading.Thread(target=wait)
        timer.start()
        try:
            with pytest.raises(AirflowTaskTimeout):
                attempt()
        finally:
            timer.join()
            signal.signal(signal.SIGALRM, before)

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch):
        monkeypatch.setattr(run_module, "COLLECT_SECONDS", 0.1)

    def test_answers_that_come_soon_are_taken(self, task, sandbox, configure, monkeypatch):
        monkeypatch.setattr(run_module, "COLLECT_SECONDS", 3.5)
        configure(requests_per_second=10)
        sandbox.change(latency=1.5)
        self.timeout(task, prompts_of(30), lambda: task.posts() >= 5)
        assert (task.result["unknown"], add_up(task.result)) == (0, 30)
        assert 5 <= task.result["delivered"] == task.result["credits"] == task.credits() < 15

    def test_what_is_under_way_is_unknown_and_the_rest_not_started(self, task, sandbox, configure):
        configure(requests_per_second=10)
        sandbox.fault("generate", "hang", seconds=20, times=None, after=2)

        def is_well_under_way():
            return (
                task.posts() >= 5 and sum(path.read_bytes().count(b"\n") for path in task.folder.glob("*.jsonl")) == 2
            )

        self.timeout(task, prompts_of(30), is_well_under_way)
        lost = task.result["unknown"]
        assert (task.result["delivered"], add_up(task.result)) == (2, 30)
        time.sleep(0.3)
        # One that was interrupted at the door may never have reached Claid: nobody can tell.
        assert lost - 1 <= task.posts() - 2 <= lost
        sandbox.clear_faults()
        configure()
        task.fail(ClaidBatchError, prompts_of(30))
        assert (task.result["delivered"], task.result["unknown"]) == (30 - lost, lost)
        assert 29 <= task.posts() == len(set(task.prompts_sent())) <= 30

    def test_while_pictures_are_copied_it_leaves_them_to_a_retry(self, task, monkeypatch):
        publish, copying = LocalFolder.publish, threading.Barrier(3)

        def slow(*given, **options):
            copying.wait(60)
            time.sleep(0.5)
            return publish(*given, **options)

        with monkeypatch.context() as patched:
            patched.setattr(LocalFolder, "publish", slow)
            self.timeout(task, prompts_of(2), lambda: copying.wait(60) >= 0)
        assert task.outcomes == ["failed"] * 2
        assert task.result["credits"] == task.credits() == 2
        assert {line["error"]["kind"] for line in task.manifest} == {"ClaidUndeliveredError"}
        assert task.run(prompts_of(2))["delivered"] == 2
        assert task.credits() == 2

    def test_in_the_middle_of_a_claim_it_leaves_nothing_that_would_be_waited_for(self, task, monkeypatch):
        create, claiming = LocalObjects.create, threading.Event()

        def slow(objects, name, data):
            if name.endswith("000001") and "attempts" not in name:
                claiming.set()
                time.sleep(0.5)
            return create(objects, name, data)

        with monkeypatch.context() as patched:
            patched.setattr(LocalObjects, "create", slow)
            self.timeout(task, prompts_of(4), claiming.is_set)
        assert (task.result["not_started"], task.posts()) == (4, 0)
        assert len(list((task.folder / "claid-records").glob("*/000002"))) == 1
        assert task.run(prompts_of(4))["delivered"] == 4

    @pytest.mark.parametrize("where", ["show", "order"])
    def test_wherever_it_strikes_it_is_heard(self, task, sandbox, monkeypatch, where):
        sandbox.fault("generate", "hang", seconds=20, times=None, after=2)
        struck = []

        def strike(*_):
            struck.append(where)
            raise AirflowTaskTimeout("Timeout")

        if where == "show":
            monkeypatch.setattr(run_module, "LOG_EVERY", 0.3)
            monkeypatch.setattr(run_module.Progress, "snapshot", lambda *given: None if struck else strike())
            monkeypatch.setattr("airflow_provider_claid.operators.batch.show", lambda *_, **__: None)
        else:
            order = run_module.order
            monkeypatch.setattr(run_module, "order", lambda job: strike() if len(struck) < 1 else order(job))
        with pytest.raises(AirflowTaskTimeout):
            task.run(prompts_of(5))
        assert add_up(task.result) == 5

    def test_in_a_callback_of_the_loop_too(self, task, sandbox, monkeypatch):
        import asyncio

        sandbox.fault("generate", "hang", seconds=20, times=None)
        order = run_module.order

        def strike():
            raise AirflowTaskTimeout("Timeout")

        async def with_a_callback(job):
            asyncio.get_running_loop().call_later(0.5, strike)
            return await order(job)

        monkeypatch.setattr(run_module, "order", with_a_callback)
        with pytest.raises(AirflowTaskTimeout):
            task.run(prompts_of(1))
        assert task.outcomes == ["unknown"]


@pytest.mark.parametrize(("sent", "billed"), [("nothing", "no"), ("some", "yes"), ("lost", "unknown")])
def test_an_error_of_a_batch_says_what_all_of_it_has_cost(task, sandbox, sent, billed):
    if sent == "lost":
        sandbox.fault("generate", "reset", when="after_billing", times=1)
    if sent == "nothing":
        sandbox.fault("generate", "status", status=401, times=None)
    kind = ClaidAuthenticationError if sent == "nothing" else ClaidBudgetError
    error = task.fail(kind, prompts_of(6), max_credits=3, max_failed=6)
    assert error.billed == billed
    # An item of a later attempt that costs nothing makes it no cheaper.
    sandbox.fault("generate", "status", status=401, times=None)
    again = task.fail(ClaidAuthenticationError, prompts_of(6), max_failed=6)
    assert (again.billed, "not billed" in str(again)) == (billed, billed == "no")


def test_a_batch_whose_requests_are_all_refused_was_not_billed(task, sandbox):
    sandbox.fault("generate", "status", status=422, times=None)
    error = task.fail(ClaidBatchError, prompts_of(3))
    assert "for 0 credits" in str(error)
    assert error.billed == "no"
