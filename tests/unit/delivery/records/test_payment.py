"""A job over real sockets with its records in a folder: paid once, whatever a retry, a crash or a rival does."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_provider_claid.api.errors import (
    ClaidConfigurationError,
    ClaidLostAnswerError,
    ClaidNotSentError,
    ClaidRateLimitError,
    ClaidRecordsError,
    ClaidUnknownOutcomeError,
    ClaidValidationError,
)
from airflow_provider_claid.api.models import GeneratedImage
from airflow_provider_claid.delivery import clock, payment, sync
from airflow_provider_claid.delivery import generate as generate_module
from airflow_provider_claid.delivery import job as job_module
from airflow_provider_claid.delivery.checks import parse_target
from airflow_provider_claid.delivery.job import ImageJob, run
from airflow_provider_claid.delivery.payment import pay
from airflow_provider_claid.delivery.records import ledger as ledger_module
from airflow_provider_claid.delivery.records.objects import LocalObjects
from airflow_provider_claid.delivery.records.store import history
from airflow_provider_claid.delivery.records.submission import Result
from airflow_provider_claid.delivery.stop import Stop
from airflow_provider_claid.exceptions import airflow_errors
from tests.unit.delivery.records.conftest import IDENTITY, Job, failing, lose


@pytest.mark.parametrize("first_try", [False, True])
def test_a_first_job_is_recorded_before_and_after_and_billed_once(job, first_try):
    paid = job.pay(first_try=first_try)
    assert (paid.times, paid.reused, paid.number, paid.unkept) == (1, False, 1, None)
    assert job.names() == ["1.intent", "1.result"]
    assert (job.posts(), job.credits()) == (1, 2)
    (submission,) = history(job.records)
    assert (submission.state, submission.billed, submission.credits) == ("done", "yes", 2)
    assert submission.result.images == paid.result.images
    assert submission.result.request_id == paid.result.request_id


def test_the_intent_is_there_before_the_request_leaves(job, monkeypatch):
    seen, claim = [], job.records.claim
    monkeypatch.setattr(job.records, "claim", lambda intent: (claim(intent), seen.append(job.posts()))[0])
    job.pay()
    assert seen == [0]


@pytest.mark.parametrize("first_try", [False, True])
def test_a_second_attempt_takes_the_recorded_pictures(job, first_try):
    first, second = job.pay(), job.pay(first_try=first_try)
    assert (second.reused, second.times, second.number) == (True, 1, 1)
    assert second.result.images == first.result.images
    assert job.posts() == 1


def test_a_template_that_renders_anew_at_a_retry_pays_nothing(job, caplog):
    job.pay()
    assert job.pay("a blue bicycle").result.prompt == "a red bicycle"
    assert job.posts() == 1
    assert "A template renders to another request" in caplog.text


def test_a_template_that_rendered_anew_when_nothing_was_billed_is_a_new_wish_once_the_task_is_cleared(job, sandbox):
    sandbox.fault("generate", "status", status=422)
    with pytest.raises(ClaidValidationError):
        job.pay()
    assert job.pay("a blue bicycle").result.prompt == "a red bicycle"
    assert job.pay("a red bicycle", generation=1).reused
    assert job.pay("a blue bicycle", generation=2).result.prompt == "a blue bicycle"
    assert job.states() == ["unbilled", "done", "done"]


def test_a_cleared_task_uses_what_is_unchanged(job):
    job.pay()
    assert job.pay(generation=1).reused
    assert job.posts() == 1


def test_a_retry_after_that_pays_nothing_either_though_its_template_renders_anew(job):
    job.pay()
    job.pay(generation=1)
    assert job.pay("a blue bicycle", generation=1).result.prompt == "a red bicycle"
    assert job.posts() == 1


def test_a_cleared_task_with_another_prompt_pays_again(job):
    job.pay()
    again = job.pay("a blue bicycle", generation=1)
    assert (again.number, again.times, again.reused) == (2, 1, False)
    assert job.pay("a blue bicycle", generation=1).result.images == again.result.images
    assert (job.posts(), job.states()) == (2, ["done", "done"])


def test_without_reuse_a_cleared_task_pays_again_and_its_retry_does_not(job):
    job.pay(reuse=False)
    assert job.pay(reuse=False).reused
    assert job.posts() == 1
    assert job.pay(generation=1, reuse=False).number == 2
    assert job.pay(generation=1, reuse=False).reused
    assert job.posts() == 2


def test_other_map_indexes_have_records_of_their_own(job, sandbox, account, tmp_path):
    job.pay()
    other = Job(sandbox, account, tmp_path / "records", replace(IDENTITY, map_index=1))
    assert not other.pay().reused
    assert job.posts() == 2


def test_a_lost_answer_names_its_record_and_no_attempt_sends_again(job, sandbox):
    lose(sandbox)
    for generation in (0, 0, 1):
        with pytest.raises(ClaidUnknownOutcomeError) as caught:
            job.pay(generation=generation)
        assert type(caught.value) is ClaidUnknownOutcomeError
        assert f"{job.folder}/1.intent" in str(caught.value)
        assert caught.value.billed == "unknown"
    assert (job.posts(), job.states()) == (1, ["unknown"])


def test_a_fault_after_pictures_were_found_recorded_says_that_they_are_paid(job):
    paid = job.pay()
    with pytest.raises(ClaidConfigurationError) as caught, airflow_errors():
        deliver_to_nowhere(job)
    assert (caught.value.billed, caught.value.request_id) == ("yes", paid.result.request_id)
    assert paid.result.images[0].uri in str(caught.value) and "Nothing was sent" not in str(caught.value)


def test_a_fault_after_a_lost_answer_says_that_it_may_have_been_billed(job, sandbox):
    lose(sandbox)
    with pytest.raises(ClaidLostAnswerError):
        job.pay(max_submissions=2)
    sandbox.fault("generate", "status", status=422)
    with pytest.raises(ClaidValidationError, match="may have been billed"), airflow_errors():
        job.pay(max_submissions=2)


def deliver_to_nowhere(job):
    job.pay()
    raise ClaidConfigurationError("save_to", "'x'", "a folder")


def test_a_changed_prompt_does_not_get_round_a_lost_answer(job, sandbox):
    lose(sandbox)
    for prompt, generation in (("a red bicycle", 0), ("a blue bicycle", 1)):
        with pytest.raises(ClaidUnknownOutcomeError):
            job.pay(prompt, generation)
    assert job.posts() == 1


def test_max_submissions_allows_one_more_and_no_third(job, sandbox):
    lose(sandbox, times=None)
    with pytest.raises(ClaidLostAnswerError, match="a retry may send 1 more"):
        job.pay(max_submissions=2)
    for _ in range(2):
        with pytest.raises(ClaidUnknownOutcomeError) as caught:
            job.pay(max_submissions=2)
        assert not caught.value.retryable
    assert (job.posts(), job.states()) == (2, ["unknown", "unknown"])


def test_the_submission_after_a_lost_one_says_that_it_is_the_second(job, sandbox):
    lose(sandbox)
    with pytest.raises(ClaidLostAnswerError):
        job.pay(max_submissions=2)
    again, reused = job.pay(max_submissions=2), job.pay(max_submissions=2)
    assert [(paid.number, paid.times, paid.reused) for paid in (again, reused)] == [(2, 2, False), (2, 2, True)]
    assert job.posts() == 2


def test_deleting_the_intent_permits_one_more(job, sandbox):
    lose(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError):
        job.pay()
    (job.folder / "1.intent").unlink()
    assert job.names() == ["1.result"]
    assert job.pay().number == 1
    assert job.pay().reused
    assert job.posts() == 2


def test_deleting_an_intent_hides_no_later_one(job, sandbox):
    lose(sandbox)
    with pytest.raises(ClaidLostAnswerError):
        job.pay(max_submissions=2)
    paid = job.pay(max_submissions=2)
    (job.folder / "1.intent").unlink()
    again = job.pay(generation=1, max_submissions=2)
    assert (again.number, again.reused, again.result.images) == (2, True, paid.result.images)
    other = job.pay("a blue boat", generation=2)
    assert other.number == 3
    assert job.pay("a blue boat", generation=2).result.images == other.result.images
    assert job.posts() == 3


def test_a_result_left_behind_counts_for_no_later_intent(job):
    job.pay()
    (job.folder / "1.intent").unlink()
    assert job.records.claim(job.intent())
    assert job.states() == ["open"]


def test_a_refusal_is_recorded_as_unbilled_and_followed_by_another_submission(job, sandbox):
    sandbox.fault("generate", "status", status=429, body="html")
    assert job.pay().number == 2
    assert job.states() == ["unbilled", "done"]
    assert job.credits() == 2
    assert job.pay().number == 2


def test_refusals_do_not_use_up_submissions(job, sandbox):
    sandbox.fault("generate", "status", status=429, body="html", times=generate_module.MAX_TRIES)
    with pytest.raises(ClaidRateLimitError):
        job.pay()
    assert job.states() == ["unbilled"] * generate_module.MAX_TRIES
    assert job.pay().times == 1


def finish(job, outcome, images=()):
    billed = {"done": "yes", "unbilled": "no"}[outcome]
    job.records.finish(1, Result("another", outcome, billed, clock.now(), "req", images))


def test_the_result_of_another_attempt_is_waited_for(job, sandbox, account, tmp_path):
    images = Job(sandbox, account, tmp_path / "elsewhere").pay().result.images
    job.records.claim(job.intent())
    threading.Timer(0.2, finish, (job, "done", images)).start()
    paid = job.pay()
    assert (paid.reused, paid.result.images, paid.result.request_id) == (True, images, "req")
    assert job.posts() == 1


def test_another_attempt_that_was_refused_is_followed(job):
    job.records.claim(job.intent())
    threading.Timer(0.2, finish, (job, "unbilled")).start()
    assert (job.pay().number, job.posts()) == (2, 1)


def test_an_intent_that_vanishes_while_it_is_waited_for_permits_a_submission(job):
    job.records.claim(job.intent())
    threading.Timer(0.2, (job.folder / "1.intent").unlink).start()
    assert (job.pay().number, job.posts()) == (1, 1)


def test_an_attempt_that_never_ended_is_given_up_and_nothing_is_sent(job):
    job.records.claim(job.intent(age=61))
    with pytest.raises(ClaidUnknownOutcomeError, match="ended without an answer"):
        job.pay()
    assert (job.posts(), job.states()) == (0, ["unknown"])


def test_an_attempt_whose_clock_was_ahead_is_waited_for_no_longer_than_its_request_can_take(job):
    intent = job.intent(age=-86_400)
    job.records.claim(replace(intent, lost_at=intent.at + timedelta(seconds=0.2)))
    ledger = job.order().ledger(job.account, job.records)
    with pytest.raises(ClaidUnknownOutcomeError, match="ended without an answer"):
        sync.run(asyncio.wait_for(pay(job.account, ledger), 20))
    assert (job.posts(), job.states()) == (0, ["unknown"])


def test_an_attempt_that_never_ended_counts_as_one_submission(job):
    job.records.claim(job.intent(age=61))
    assert (job.pay(max_submissions=2).number, job.posts()) == (2, 1)


def with_schema(path, schema):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": schema}))


@pytest.mark.parametrize("name", ["1.intent", "1.result"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"\xff\x00garbage"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"[]"),
        lambda path: path.write_bytes(b"null"),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: with_schema(path, 99),
    ],
    ids=["garbage", "empty", "list", "null", "cut", "schema 99"],
)
def test_a_record_that_cannot_be_read_is_no_permission(job, name, spoil):
    job.pay()
    spoil(job.folder / name)
    for first_try in (False, True):
        with pytest.raises(ClaidRecordsError, match=r"1\.intent cannot be read"):
            job.pay("a blue bicycle", generation=1, first_try=first_try)
    assert job.posts() == 1


def test_a_field_of_a_later_version_is_read_over(job):
    job.pay()
    path = job.folder / "1.intent"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"later": 1}))
    assert job.pay().reused


@pytest.mark.parametrize("prompt", ["a red bicycle", "a blue bicycle"])
def test_an_attempt_that_was_superseded_sends_nothing(job, prompt):
    job.pay(generation=1)
    with pytest.raises(ClaidNotSentError, match="A later attempt of this task has begun"):
        job.pay(prompt, generation=0)
    assert job.posts() == 1


@pytest.mark.parametrize("first_try", [False, True])
def test_attempts_at_once_are_billed_once(job, sandbox, first_try):
    sandbox.change(latency=0.2)
    together = threading.Barrier(4)

    def attempt(_):
        together.wait(60)
        try:
            return job.pay(first_try=first_try)
        finally:
            sync.close()

    with ThreadPoolExecutor(4) as pool:
        paid = list(pool.map(attempt, range(4)))
    assert len({one.result.images for one in paid}) == 1
    assert sorted(one.reused for one in paid) == [False, True, True, True]
    assert (job.posts(), job.credits()) == (1, 2)


def test_a_cancelled_request_is_recorded_as_unknown(job, sandbox):
    sandbox.fault("generate", "hang", seconds=20)

    async def cancelled():
        task = asyncio.create_task(pay(job.account, job.order().ledger(job.account, job.records)))
        while job.posts() == 0:
            await asyncio.sleep(0.02)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        sync.run(cancelled())
    assert job.states() == ["unknown"]
    with pytest.raises(ClaidUnknownOutcomeError, match="CancelledError"):
        job.pay()
    assert job.posts() == 1


def test_an_interrupted_claim_is_taken_back(job, monkeypatch):
    claim, begun = job.records.claim, []

    def slow(intent):
        begun.append(intent)
        time.sleep(0.3)
        return claim(intent)

    async def interrupted():
        task = asyncio.create_task(pay(job.account, job.order().ledger(job.account, job.records), first_try=True))
        while not begun:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with monkeypatch.context() as patched:
        patched.setattr(job.records, "claim", slow)
        sync.run(interrupted())
    assert (job.states(), job.posts()) == (["unbilled"], 0)
    assert job.pay().number == 2


def test_a_store_that_fails_before_the_claim_lets_nothing_leave(job, monkeypatch):
    monkeypatch.setattr(generate_module, "MAX_TRIES", 2)
    monkeypatch.setattr(LocalObjects, "create", failing)
    for first_try in (False, True):
        with pytest.raises(ClaidNotSentError, match="cannot be used now"):
            job.pay(first_try=first_try)
    assert job.posts() == 0


def test_a_result_that_is_refused_for_a_while_is_written_at_last(job, monkeypatch):
    put, fails = LocalObjects.put, iter([True, True, False])
    monkeypatch.setattr(LocalObjects, "put", lambda *given: failing() if next(fails) else put(*given))
    assert job.pay().unkept is None
    assert job.states() == ["done"]


def test_a_result_that_cannot_be_written_is_handed_on(job, monkeypatch):
    monkeypatch.setattr(LocalObjects, "put", failing)
    monkeypatch.setattr(ledger_module, "KEEP_TRYING", 0.1)
    paid = job.pay()
    assert paid.unkept.images == paid.result.images
    assert (job.states(), job.posts()) == (["open"], 1)


@pytest.fixture
def told():
    """An answer that came by an event alone, and the event."""
    image = GeneratedImage(tmp_url="https://pictures.test/1.png")
    answer = Result("another", "done", "yes", clock.now(), "r1", (image,))
    return answer, {"number": 1, "times": 1, "reused": False, "answer": answer.to_json()}


def paid_as_told(job, event, *, recorded=True):
    order = job.order()
    return sync.run(
        payment.recorded(order.ledger(job.account, job.records) if recorded else None, event, order.request)
    )


def test_an_answer_that_came_by_an_event_alone_is_recorded_when_the_store_takes_it(job, told):
    answer, event = told
    job.records.claim(job.intent())
    paid = paid_as_told(job, event)
    assert (paid.result.images, paid.unkept) == (answer.images, None)
    assert job.states() == ["done"]


@pytest.mark.parametrize("recorded", [True, False])
def test_it_needs_no_record(job, told, monkeypatch, recorded):
    answer, event = told
    job.records.claim(job.intent())
    monkeypatch.setattr(LocalObjects, "get", failing)
    paid = paid_as_told(job, event, recorded=recorded)
    assert (paid.result.images, paid.unkept) == (answer.images, answer)


def test_it_is_not_written_into_the_record_of_another_request(job, told):
    answer, event = told
    job.records.claim(job.intent(token="a later one"))
    assert paid_as_told(job, event).unkept == answer
    assert job.states() == ["open"]


def test_copies_outlive_another_attempt_that_writes_what_it_read_before(job, monkeypatch):
    paid, stale = job.pay(), job.records.read(1)
    ours, others = (job.order().ledger(job.account, job.records) for _ in range(2))
    sync.run(ours.note_copies(paid.number, {"a-1.png": "1"}))
    with monkeypatch.context() as patched:
        patched.setattr(job.records, "read", lambda number: stale)
        sync.run(others.note_copies(paid.number, {"a-2.png": "2"}))
    sync.run(ours.note_copies(paid.number, {"a-3.png": "3"}))
    assert job.records.read(1).result.copies == {"a-1.png": "1", "a-2.png": "2", "a-3.png": "3"}


def test_a_claim_that_came_through_and_was_answered_badly_is_sent_once(job, monkeypatch):
    create, lost = LocalObjects.create, iter([True])

    def answered_badly(*given):
        done = create(*given)
        return failing() if next(lost, False) else done

    monkeypatch.setattr(LocalObjects, "create", answered_badly)
    assert (job.pay().number, job.posts()) == (1, 1)
    assert job.names() == ["1.intent", "1.result"]


def test_a_loss_that_is_written_down_late_replaces_nothing_that_was_found_meanwhile(job, sandbox, monkeypatch):
    put, create = LocalObjects.put, LocalObjects.create

    def adopted_first(objects, name, data):
        if name.endswith(".result"):
            found = json.loads(data) | {"outcome": "adopted", "billed": "yes"}
            put(objects, name, json.dumps(found).encode())
        return create(objects, name, data)

    monkeypatch.setattr(LocalObjects, "create", adopted_first)
    lose(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError):
        job.pay()
    assert job.states() == ["adopted"]


def test_another_picture_of_the_same_name_is_not_taken_for_the_one_that_was_paid(job, tmp_path):
    job.pay()
    target = parse_target(f"file://{tmp_path}/copies/", None)
    (tmp_path / "copies").mkdir()

    def deliver():
        order = job.order()
        ledger = order.ledger(job.account, job.records)
        result = sync.run(run(ImageJob(job.account, order.request, "sku", target, ledger=ledger)))
        assert result.reused
        return [Path(urlsplit(picture.uri).path) for picture in result.pictures]

    first, second = deliver()
    right, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    again, same = deliver()
    assert (again.read_bytes(), same) == (right, second)
    assert first.read_bytes() == other
    changed = again.stat().st_mtime_ns
    assert deliver() == [again, second]
    assert again.stat().st_mtime_ns == changed


@pytest.mark.parametrize("stopped", [False, True])
def test_an_interruption_while_an_end_is_written_down_does_not_lose_it(job, monkeypatch, stopped):
    finish, tries, go = job.records.finish, [], threading.Event()

    def slow_at_first(*arguments, **options):
        tries.append(arguments)
        if len(tries) == 1:
            go.wait(60)
        finish(*arguments, **options)

    monkeypatch.setattr(job.records, "finish", slow_at_first)

    async def interrupted():
        ledger, stop = job.order().ledger(job.account, job.records), Stop()
        stop.asked = stopped
        task = asyncio.create_task(pay(job.account, ledger, stop=stop, first_try=True))
        while not tries:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Before the first write has come to its end: whoever was interrupted tells at once what was billed.
        states = job.states()
        go.set()
        return states

    assert sync.run(interrupted()) == ["unbilled" if stopped else "done"]
    assert job.pay().reused is not stopped
    assert job.posts() == 1


@pytest.mark.parametrize("overtaken", [False, True])
def test_a_copy_that_took_long_is_not_put_over_the_pictures_of_a_later_wish(job, tmp_path, monkeypatch, overtaken):
    monkeypatch.setattr(job_module, "FRESH_SECONDS", 0.0)
    target = parse_target(f"file://{tmp_path}/copies/", None)
    download = job_module.fetch

    async def slowly(*arguments, **options):
        fetched = await download(*arguments, **options)
        if overtaken:
            await asyncio.to_thread(job.pay, "a green car", 1)
        return fetched

    monkeypatch.setattr(job_module, "fetch", slowly)
    order = job.order()
    made = ImageJob(job.account, order.request, "sku", target, ledger=order.ledger(job.account, job.records))
    errors = {picture.error for picture in sync.run(run(made)).pictures}
    assert errors == ({"a later attempt asked for another picture of this name"} if overtaken else {None})
    assert len(list((tmp_path / "copies").iterdir())) == (0 if overtaken else 2)
