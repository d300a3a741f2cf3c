"""What goes wrong around a batch costs nothing twice, and is told as it is."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_claid.api import answers
from airflow_provider_claid.api.errors import ErrorBody
from airflow_provider_claid.delivery.batch import run as run_module
from airflow_provider_claid.delivery.batch.entries import Entry
from airflow_provider_claid.delivery.batch.journal import Journal
from airflow_provider_claid.delivery.batch.writer import Writer
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.prompts.source import Source
from airflow_provider_claid.delivery.records import ledger
from airflow_provider_claid.delivery.records.submission import Intent
from airflow_provider_claid.delivery.storage import LocalFolder
from airflow_provider_claid.exceptions import (
    ClaidBatchError,
    ClaidBatchUnfinishedError,
    ClaidBudgetError,
    ClaidCreditsError,
    ClaidError,
    ClaidInputError,
)
from tests.unit.operators.batch.conftest import add_up, prompts_of


def test_a_batch_that_is_killed_does_not_say_that_its_credits_are_spent(task, configure):
    configure(requests_per_second=4)
    attempt = task.attempt(prompts_of(100), max_credits=40)
    timer = threading.Timer(1.5, task.operator.on_kill)
    timer.start()
    with pytest.raises(ClaidBatchUnfinishedError, match="was stopped before"):
        attempt()
    timer.join()
    assert 0 < task.result["credits"] == task.credits() < 40


def test_a_fault_of_the_prompts_lets_the_answers_that_are_on_their_way_come(task, sandbox, monkeypatch):
    sandbox.change(latency=0.5)
    monkeypatch.setattr(run_module, "AT_ONCE", 4)
    real, faults = Source.__iter__, [OSError("the disk is gone")]

    def breaks(source):
        for item in real(source):
            if item.index == 8 and faults:
                while task.posts() < 8:
                    time.sleep(0.02)
                raise faults.pop()
            yield item

    monkeypatch.setattr(Source, "__iter__", breaks)
    with pytest.raises(ClaidError, match="the disk is gone"):
        task.run(prompts_of(20))
    assert (task.result["delivered"], task.result["not_started"], task.credits()) == (8, 12, 8)


def test_what_was_paid_after_an_orderly_stop_is_not_told_as_not_started(task, sandbox, monkeypatch):
    async def dies(work):
        """End as a process that is killed before its lines are written."""

    prompts = prompts_of(30)
    sandbox.change(credits=0)
    task.fail(ClaidCreditsError, prompts)
    before = task.result["not_started"]
    sandbox.change(credits=None)
    with monkeypatch.context() as patch:
        patch.setattr(run_module._Run, "close", dies)
        patch.setattr(Writer, "add", lambda writer, line: None)
        with pytest.raises(ClaidError):
            task.run(prompts)
    assert before > 0
    assert task.credits() == 30
    attempt = task.attempt(prompts)
    task.operator.on_kill()
    with pytest.raises(ClaidError):
        attempt()
    assert (task.result["credits"], add_up(task.result), task.result["not_started"]) == (30, 30, 0)
    assert task.run(prompts)["delivered"] == task.credits() == 30


def test_half_a_character_in_a_refusal_harms_no_other_item(task, sandbox, monkeypatch):
    monkeypatch.setattr(answers, "parse_error_body", lambda body, key: ErrorBody(message="no \ud83d, please"))
    sandbox.fault("generate", "status", status=422, times=None, match="number 3")
    task.fail(ClaidBatchError, prompts_of(20))
    outcomes = Counter(line["outcome"] for line in task.manifest)
    assert outcomes["failed"] > 0
    assert outcomes["delivered"] == 20 - outcomes["failed"] == task.credits() == task.result["credits"]


def test_two_batches_that_begin_at_once_with_one_manifest_are_told_apart(task, tmp_path):
    barrier, errors, results = threading.Barrier(2), [], []

    def run(attempt):
        barrier.wait()
        try:
            results.append(attempt())
        except ClaidInputError as error:
            errors.append(str(error))

    # Each has records of its own, as mapped tasks have.
    places = [
        {"save_to": f"file://{tmp_path}/{name}/", "manifest_path": f"file://{tmp_path}/m.jsonl"} for name in ("a", "b")
    ]
    attempts = [
        task.attempt([f"{prompt} into {place['save_to']}" for prompt in prompts_of(3)], **place) for place in places
    ]
    for attempt in attempts:
        attempt.args[0]["ti"].try_number = 1
    threads = [threading.Thread(target=run, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(results), len(errors), task.credits()) == (1, 1, 3)
    assert errors[0].count("of fingerprint") == 2


def test_what_has_to_wait_for_a_dead_attempt_lets_the_rest_go_first(task, configure, monkeypatch):
    configure(requests_per_second=8, requests_per_minute=10_000, request_timeout=1)
    prompts, real = prompts_of(120), Journal.open
    lost_at = datetime.now(UTC) + timedelta(seconds=8)

    def leaves_open(journal, fingerprint, total, done):
        def leave(item):
            identity = Identity("shop", "monday", "batch", -1, item)
            request = check_request(prompts[item], 1, 5.0, None)
            journal.append(Entry(item, 1, intent=Intent(identity, 1, 1, 0, "t", "f", request, None, lost_at, lost_at)))

        real(journal, fingerprint, total, done)
        # All at once: they share segments.
        with ThreadPoolExecutor(110) as threads:
            list(threads.map(leave, range(110)))

    monkeypatch.setattr(Journal, "open", leaves_open)
    task.run(prompts, max_failed=110)
    first = min(each["wall"] for each in task.report()["requests"] if each["method"] == "POST")
    assert first < lost_at.timestamp() - 1
    assert (task.result["delivered"], task.result["unknown"]) == (10, 110)


def test_deduplicate_cannot_be_switched_on_where_something_is_paid(task, monkeypatch):
    def breaks(*_, **__):
        raise OSError("the disk is full")

    prompts = ["the same picture", "the same picture"]
    with monkeypatch.context() as patch:
        patch.setattr(LocalFolder, "publish", breaks)
        with pytest.raises(ClaidError):
            task.run(prompts)
    task.fail(ClaidInputError, prompts, deduplicate=True)
    assert task.run(prompts)["delivered"] == task.credits() == 2


@pytest.fixture
def volume(task, configure, tmp_path):
    """A volume for pictures, records and manifest; calling it takes it away until what it returns is called."""
    configure(request_timeout=2)
    (tmp_path / "disk").mkdir()
    (tmp_path / "mount").symlink_to(tmp_path / "disk")
    task.folder = tmp_path / "mount" / "pictures"

    def take_away():
        (tmp_path / "disk").rename(tmp_path / "away")
        return lambda: (tmp_path / "away").rename(tmp_path / "disk")

    return take_away


def away_during(task, volume, seconds):
    """Take the volume away once six requests are under way, for so many seconds."""

    def wait():
        while task.posts() < 6:
            time.sleep(0.01)
        bring_back = volume()
        time.sleep(seconds)
        bring_back()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_answers_that_come_while_the_volume_is_away_for_a_moment_are_kept(task, sandbox, volume):
    sandbox.change(latency=0.7)
    thread = away_during(task, volume, 4)
    with pytest.raises(ClaidError):
        task.run(prompts_of(6) + ["one more"] * 40)
    thread.join()
    paid = task.credits()
    assert paid >= 6
    assert task.result["unknown"] == 0
    sandbox.change(latency=0)
    result = task.run(prompts_of(6) + ["one more"] * 40)
    assert (result["delivered"], result["credits"], task.credits()) == (46, 46, 46)


def test_what_the_records_did_not_take_is_offered_again_at_the_end(task, sandbox, volume, monkeypatch):
    monkeypatch.setattr(ledger, "KEEP_TRYING", 0.0)
    monkeypatch.setattr(ledger, "SPARE", 1.0)
    sandbox.change(latency=0.7)
    thread = away_during(task, volume, 8)
    with pytest.raises(ClaidError):
        task.run(prompts_of(8))
    thread.join()
    failed = [line for line in task.manifest if line["credits"]]
    assert len(failed) == task.credits() >= 6
    # Nor does a line forget where the pictures are.
    assert all(line["images"][0]["uri"] and line["error"]["billed"] == "yes" for line in failed)
    sandbox.change(latency=0)
    result = task.run(prompts_of(8))
    assert (result["delivered"], result["credits"], task.credits()) == (8, 8, 8)


def test_so_is_what_came_after_an_orderly_stop(task, sandbox, volume, monkeypatch):
    monkeypatch.setattr(ledger, "SPARE", 1.0)
    sandbox.change(latency=1.5)
    thread = away_during(task, volume, 6)
    attempt = task.attempt(prompts_of(8))

    def stop():
        while task.posts() < 6:
            time.sleep(0.01)
        task.operator.on_kill()

    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(ClaidError):
        attempt()
    thread.join()
    stopping.join()
    paid = task.credits()
    assert paid >= 6
    sandbox.change(latency=0)
    result = task.run(prompts_of(8))
    assert (result["delivered"], result["credits"], task.credits()) == (8, 8, 8)


def test_what_may_not_have_been_billed_is_never_told_as_spent(task, sandbox, caplog):
    caplog.set_level("INFO")
    sandbox.fault("generate", "reset", when="before_billing", times=1)
    task.fail(ClaidBatchUnfinishedError, prompts_of(1), max_submissions=2)
    task.run(prompts_of(1), max_submissions=2)
    task.run(prompts_of(1), max_submissions=2)
    assert (task.result["credits"], task.credits()) == (2, 1)
    told = [record.getMessage() for record in caplog.records if "1 delivered of 1 items" in record.getMessage()]
    assert len(told) == 2 and all("for up to 2 credits" in each for each in told)


def test_what_may_not_have_been_billed_is_not_told_as_spent_of_max_credits(task, sandbox):
    sandbox.fault("generate", "reset", when="before_billing", times=1)
    error = task.fail(ClaidBudgetError, prompts_of(2), max_credits=1)
    assert "up to 1 of the 1 credits" in str(error) and task.credits() == 0
