"""A job over real sockets with its records in a folder: paid once, whatever a retry, a crash or a rival does."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_provider_claid.api.errors import (
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
from airflow_provider_claid.delivery.checks import check_request, parse_target
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.job import ImageJob, run
from airflow_provider_claid.delivery.payment import pay
from airflow_provider_claid.delivery.records import ledger as ledger_module
from airflow_provider_claid.delivery.records.objects import LocalObjects, open_objects
from airflow_provider_claid.delivery.records.store import ObjectRecords, history
from airflow_provider_claid.delivery.records.submission import Intent, Result
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.hooks.order import Order

IDENTITY = Identity("shop", "monday", "bicycle")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(generate_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(ledger_module, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(payment, "LOOK_EVERY", 0.02)


class Job:
    """A task instance: each `pay` is an attempt of it."""

    def __init__(self, sandbox, account, place, identity=IDENTITY):
        self.sandbox, self.account, self.identity = sandbox, account, identity
        self.records = ObjectRecords(open_objects(parse_target(f"file://{place}/", None)), identity.key())
        self.folder = place / identity.key()

    def order(self, prompt="a red bicycle", epoch=0, output=None, **rules):
        return Order(self.identity, epoch, check_request(prompt, 2, 5.0, output), "claid_default", **rules)

    def pay(self, prompt="a red bicycle", epoch=0, *, output=None, first_try=False, **rules):
        order = self.order(prompt, epoch, output, **rules)
        ledger = order.ledger(self.account, self.records)
        return sync.run(pay(self.account, ledger, search=order.search(), first_try=first_try))

    def states(self):
        return [submission.state for submission in history(self.records)]

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())

    def posts(self):
        return self.sandbox.report()["totals"]["posts"]

    def credits(self):
        return self.sandbox.report()["totals"]["credits"]

    def intent(self, token="another", age=0.0, **changes):
        order, now = self.order(), clock.now() - timedelta(seconds=age)
        asked = order.ledger(self.account, self.records).asked
        lost_at = now + timedelta(seconds=60)
        intent = Intent(self.identity, 1, 1, 0, token, asked.fingerprint, order.request, None, now, lost_at)
        return replace(intent, **changes)


@pytest.fixture
def job(sandbox, account, tmp_path):
    return Job(sandbox, account, tmp_path / "records")


def lose(sandbox, **options):
    sandbox.fault("generate", "reset", when="after_billing", **options)


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
    assert job.pay("a red bicycle", epoch=1).reused
    assert job.pay("a blue bicycle", epoch=2).result.prompt == "a blue bicycle"
    assert job.states() == ["unbilled", "done", "done"]


def test_a_cleared_task_uses_what_is_unchanged(job):
    job.pay()
    assert job.pay(epoch=1).reused
    assert job.posts() == 1


def test_a_retry_after_that_pays_nothing_either_though_its_template_renders_anew(job):
    job.pay()
    job.pay(epoch=1)
    assert job.pay("a blue bicycle", epoch=1).result.prompt == "a red bicycle"
    assert job.posts() == 1


def test_a_cleared_task_with_another_prompt_pays_again(job):
    job.pay()
    again = job.pay("a blue bicycle", epoch=1)
    assert (again.number, again.times, again.reused) == (2, 1, False)
    assert job.pay("a blue bicycle", epoch=1).result.images == again.result.images
    assert (job.posts(), job.states()) == (2, ["done", "done"])


def test_without_reuse_a_cleared_task_pays_again_and_its_retry_does_not(job):
    job.pay(reuse=False)
    assert job.pay(reuse=False).reused
    assert job.posts() == 1
    assert job.pay(epoch=1, reuse=False).number == 2
    assert job.pay(epoch=1, reuse=False).reused
    assert job.posts() == 2


def test_other_map_indexes_have_records_of_their_own(job, sandbox, account, tmp_path):
    job.pay()
    other = Job(sandbox, account, tmp_path / "records", replace(IDENTITY, map_index=1))
    assert not other.pay().reused
    assert job.posts() == 2


def test_a_lost_answer_names_its_record_and_no_attempt_sends_again(job, sandbox):
    lose(sandbox)
    for epoch in (0, 0, 1):
        with pytest.raises(ClaidUnknownOutcomeError) as caught:
            job.pay(epoch=epoch)
        assert type(caught.value) is ClaidUnknownOutcomeError
        assert f"{job.folder}/1.intent" in str(caught.value)
        assert caught.value.billed == "unknown"
    assert (job.posts(), job.states()) == (1, ["unknown"])


def test_a_changed_prompt_does_not_get_round_a_lost_answer(job, sandbox):
    lose(sandbox)
    for prompt, epoch in (("a red bicycle", 0), ("a blue bicycle", 1)):
        with pytest.raises(ClaidUnknownOutcomeError):
            job.pay(prompt, epoch)
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
            job.pay("a blue bicycle", epoch=1, first_try=first_try)
    assert job.posts() == 1


def test_a_field_of_a_later_version_is_read_over(job):
    job.pay()
    path = job.folder / "1.intent"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"later": 1}))
    assert job.pay().reused


@pytest.mark.parametrize("prompt", ["a red bicycle", "a blue bicycle"])
def test_an_attempt_that_was_superseded_sends_nothing(job, prompt):
    job.pay(epoch=1)
    with pytest.raises(ClaidNotSentError, match="A later attempt of this task has begun"):
        job.pay(prompt, epoch=0)
    assert job.posts() == 1


@pytest.mark.parametrize("first_try", [False, True])
def test_attempts_at_once_are_billed_once(job, sandbox, first_try):
    sandbox.change(latency=0.2)
    together = threading.Barrier(4)

    def attempt(_):
        together.wait(10)
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


def test_a_store_that_fails_before_the_claim_lets_nothing_leave(job, monkeypatch):
    monkeypatch.setattr(generate_module, "MAX_TRIES", 2)
    monkeypatch.setattr(LocalObjects, "create", failing)
    for first_try in (False, True):
        with pytest.raises(ClaidNotSentError, match="cannot be used now"):
            job.pay(first_try=first_try)
    assert job.posts() == 0


def failing(*_):
    raise StoreBusyError("the disk is on fire")


def test_a_result_that_is_refused_for_a_while_is_written_at_last(job, monkeypatch):
    put, fails = LocalObjects.put, iter([True, True, False])
    monkeypatch.setattr(LocalObjects, "put", lambda *given: failing() if next(fails) else put(*given))
    assert job.pay().unkept is None
    assert job.states() == ["done"]


def test_a_result_that_cannot_be_written_is_handed_on(job, monkeypatch):
    monkeypatch.setattr(LocalObjects, "put", failing)
    monkeypatch.setattr(ledger_module, "KEEP_TRYING", 0.1)
    monkeypatch.setattr(ledger_module.Ledger._end, "__defaults__", (0.1,))
    paid = job.pay()
    assert paid.unkept.images == paid.result.images
    assert (job.states(), job.posts()) == (["open"], 1)


def test_an_answer_that_came_by_an_event_alone_does_not_count_as_recorded(job):
    job.records.claim(job.intent())
    image = GeneratedImage(tmp_url="https://pictures.test/1.png")
    answer = Result("another", "done", "yes", clock.now(), "r1", (image,))
    event = {"number": 1, "times": 1, "reused": False, "answer": answer.to_json()}
    paid = sync.run(payment.recorded(job.order().ledger(job.account, job.records), event))
    assert (paid.result.images, paid.unkept) == ((image,), answer)


def test_pictures_of_a_record_that_was_deleted_are_not_adopted_from_the_folder_it_had(storing, sandbox):
    for image in storing.pay(output=storing.output, own_folder=True).result.images:
        os.utime(urlsplit(image.uri).path, (time.time() - 120,) * 2)
    shutil.rmtree(storing.folder)
    lose_unmade(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay("a blue bicycle", epoch=1, output=storing.output, own_folder=True, reconcile_timeout=0)
    assert storing.states() == ["unknown"]


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


def test_an_older_picture_of_the_same_name_is_not_taken_for_the_one_that_was_paid(job, tmp_path):
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
    right = first.read_bytes()
    first.write_bytes(second.read_bytes())
    os.utime(first, (time.time() - 3600,) * 2)
    assert deliver() == [first, second]
    assert first.read_bytes() == right
    changed = first.stat().st_mtime_ns
    deliver()
    assert first.stat().st_mtime_ns == changed


@pytest.fixture
def storing(sandbox, account, claid_connection, monkeypatch, tmp_path):
    """A job whose pictures Claid puts into a folder that the connection maps to this machine."""
    root = sandbox_root(sandbox, account, tmp_path)
    extra = claid_connection["extra"] | {"storages": {"my-storage": f"file://{root}/"}}
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(claid_connection | {"extra": extra}))
    job = Job(sandbox, account, tmp_path / "records")
    # What an earlier test has lost may be written at any time.
    job.output, job.out = f"storage://my-storage/{tmp_path.name}/", root / tmp_path.name
    yield job
    shutil.rmtree(job.out, ignore_errors=True)


def sandbox_root(sandbox, account, tmp_path):
    request = check_request("where", 1, 5.0, "storage://my-storage/where/")
    (image,) = sync.run(generate_module.generate(account, request)).images
    sandbox.reset()
    return Path(urlsplit(image.uri).path).parents[1]


def test_a_folder_of_its_own_is_recorded_and_used(storing):
    paid = storing.pay(output=storing.output, own_folder=True)
    (submission,) = history(storing.records)
    assert submission.intent.output == f"{storing.output}{IDENTITY.key()}/"
    assert all(f"/{IDENTITY.key()}/" in image.uri for image in paid.result.images)


@pytest.mark.parametrize("own_folder", [True, False])
def test_pictures_of_a_lost_answer_are_adopted(storing, sandbox, own_folder):
    lose(sandbox)
    paid = storing.pay(output=storing.output, own_folder=own_folder, reconcile_timeout=5)
    assert (paid.times, paid.reused, paid.number) == (1, True, 1)
    assert len({image.uri for image in paid.result.images}) == 2
    assert all(Path(urlsplit(image.uri).path).read_bytes().startswith(b"\x89PNG") for image in paid.result.images)
    assert (storing.states(), storing.posts(), storing.credits()) == (["adopted"], 1, 2)
    again = storing.pay(output=storing.output, own_folder=own_folder)
    assert (again.result.images, storing.posts()) == (paid.result.images, 1)


def test_in_a_folder_that_another_jobs_record_names_nothing_is_adopted(storing, sandbox, account, tmp_path, caplog):
    Job(sandbox, account, tmp_path / "records", replace(IDENTITY, task_id="car")).pay(output=storing.output)
    lose(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError, match=f"after a look into {storing.output}"):
        storing.pay(output=storing.output, reconcile_timeout=0)
    assert "take own_folder=True" in caplog.text
    assert storing.states() == ["unknown"]


def unrecorded(storing, account, tmp_path, age):
    """Put two pictures into the shared folder that no record here names, last modified `age` seconds ago."""
    images = Job(storing.sandbox, account, tmp_path / "elsewhere").pay(output=storing.output).result.images
    for image in images:
        os.utime(urlsplit(image.uri).path, (time.time() - age,) * 2)


def lose_unmade(sandbox):
    sandbox.fault("generate", "reset", when="before_billing")


def test_a_job_in_a_folder_below_shares_the_folder(storing, sandbox, account, tmp_path, caplog):
    Job(sandbox, account, tmp_path / "records", replace(IDENTITY, map_index=1)).pay(output=f"{storing.output}below/")
    lose(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay(output=storing.output, reconcile_timeout=0)
    assert "take own_folder=True" in caplog.text


def test_a_job_that_comes_to_the_folder_during_the_search_shares_it(storing, sandbox, account, tmp_path, monkeypatch):
    other, found = Job(sandbox, account, tmp_path / "records", replace(IDENTITY, map_index=1)), payment._found

    async def slowly(*given):
        other.records.claim(other.intent(output=storing.output))
        return await found(*given)

    monkeypatch.setattr(payment, "_found", slowly)
    lose(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay(output=storing.output, reconcile_timeout=5)
    assert storing.states() == ["unknown"]


def test_an_attempt_adopts_nothing_once_a_person_has_wished_for_something_else(storing, sandbox, monkeypatch):
    found = payment._found

    async def slowly(*given):
        wish = storing.order("a blue bicycle", 1, storing.output).request
        later = storing.intent("later", number=2, first=2, epoch=1, request=wish, output=storing.output)
        storing.records.claim(later)
        return await found(*given)

    monkeypatch.setattr(payment, "_found", slowly)
    lose(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay(output=storing.output, reconcile_timeout=5)
    assert storing.states() == ["unknown", "open"]


@pytest.mark.parametrize("times", [1, 1000])
def test_records_of_others_that_cannot_be_listed_for_a_while_are_asked_for_again(storing, sandbox, monkeypatch, times):
    names, fails = LocalObjects.names, iter([True] * times)
    monkeypatch.setattr(LocalObjects, "names", lambda *given: failing() if next(fails, False) else names(*given))
    lose(sandbox)
    if times == 1:
        assert storing.pay(output=storing.output, reconcile_timeout=5).reused
    else:
        with pytest.raises(ClaidUnknownOutcomeError):
            storing.pay(output=storing.output, reconcile_timeout=0)


def test_pictures_that_were_there_before_are_not_adopted(storing, sandbox, account, tmp_path):
    unrecorded(storing, account, tmp_path, age=5)
    lose_unmade(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay(output=storing.output, reconcile_timeout=0)
    assert storing.states() == ["unknown"]


def test_more_pictures_than_asked_for_are_not_adopted(storing, sandbox, account, tmp_path):
    unrecorded(storing, account, tmp_path, age=-5)
    shutil.copytree(storing.out, storing.out / "more")
    lose_unmade(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay(output=storing.output, reconcile_timeout=5)
    assert storing.states() == ["unknown"]


def test_late_pictures_of_an_earlier_answer_are_not_adopted(storing, sandbox):
    paid = storing.pay(output=storing.output)
    for image in paid.result.images:
        os.utime(urlsplit(image.uri).path, (time.time() + 5,) * 2)
    lose_unmade(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay("a blue bicycle", epoch=1, output=storing.output, reconcile_timeout=0)
    assert storing.states() == ["done", "unknown"]


def test_late_pictures_of_another_prompt_are_not_adopted(storing, sandbox, account, tmp_path):
    lose_unmade(sandbox)
    with pytest.raises(ClaidLostAnswerError):
        storing.pay(output=storing.output, max_submissions=2, reconcile_timeout=0)
    unrecorded(storing, account, tmp_path, age=-5)
    lose_unmade(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay("a blue bicycle", epoch=1, output=storing.output, max_submissions=2, reconcile_timeout=0)
    assert storing.states() == ["unknown", "unknown"]


def test_adopted_after_another_loss_says_that_it_may_be_paid_twice(storing, sandbox):
    terms = {"output": storing.output, "own_folder": True, "max_submissions": 2}
    lose_unmade(sandbox)
    with pytest.raises(ClaidLostAnswerError):
        storing.pay(**terms, reconcile_timeout=0)
    lose(sandbox)
    assert [storing.pay(**terms, reconcile_timeout=1.5 * (n == 1)).times for n in (1, 2)] == [2, 2]
    assert storing.states() == ["unknown", "adopted"]


def test_without_pictures_in_the_folder_a_retry_sends_only_what_is_allowed(storing, sandbox):
    sandbox.fault("generate", "reset", when="before_billing")
    with pytest.raises(ClaidLostAnswerError):
        storing.pay(output=storing.output, own_folder=True, max_submissions=2, reconcile_timeout=0)
    paid = storing.pay(output=storing.output, own_folder=True, max_submissions=2, reconcile_timeout=0)
    assert (paid.number, paid.reused, storing.credits()) == (2, False, 2)
    assert all(f"/{IDENTITY.key()}-2/" in image.uri for image in paid.result.images)


def test_pictures_that_appear_after_the_attempt_are_adopted_by_the_next(storing, sandbox, monkeypatch):
    lose(sandbox)
    search = payment._search
    monkeypatch.setattr(payment, "_search", nothing_found)
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay(output=storing.output, own_folder=True, reconcile_timeout=0)
    monkeypatch.setattr(payment, "_search", search)
    while len(list(storing.out.glob("*/*.png"))) < 2:
        time.sleep(0.01)
    assert storing.pay(output=storing.output, own_folder=True, reconcile_timeout=0).reused
    assert (storing.states(), storing.posts()) == (["adopted"], 1)


async def nothing_found(*_):
    return None


def test_a_folder_that_cannot_be_searched_leaves_the_outcome_unknown(storing, sandbox, monkeypatch, caplog):
    monkeypatch.delenv("AIRFLOW_CONN_CLAID_DEFAULT")
    lose(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError, match=r"1\.intent"):
        storing.pay(output=storing.output, own_folder=True)
    assert "could not be searched" in caplog.text
    assert storing.posts() == 1


def test_an_interruption_while_the_answer_is_written_down_does_not_lose_it(job, monkeypatch):
    finish, tries = job.records.finish, []

    def slow_at_first(*arguments, **options):
        tries.append(arguments)
        time.sleep(0.6 if len(tries) == 1 else 0.0)
        finish(*arguments, **options)

    monkeypatch.setattr(job.records, "finish", slow_at_first)

    async def interrupted():
        order = job.order()
        task = asyncio.create_task(pay(job.account, order.ledger(job.account, job.records), first_try=True))
        while not tries:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    sync.run(interrupted())
    assert job.states() == ["done"]
    assert job.pay().reused
    assert job.posts() == 1
