"""Pictures of a lost answer, looked for in the output folder: adopted only if they are surely this job's."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_provider_claid.api.errors import (
    ClaidLostAnswerError,
    ClaidNotSentError,
    ClaidUnknownOutcomeError,
)
from airflow_provider_claid.delivery import payment, sync
from airflow_provider_claid.delivery.payment import pay
from airflow_provider_claid.delivery.records.ledger import Ledger
from airflow_provider_claid.delivery.records.store import history
from tests.unit.delivery.records.conftest import IDENTITY, Job, lose


def test_a_folder_of_its_own_is_recorded_and_used(storing):
    paid = storing.pay(output=storing.output, own_folder=True)
    (submission,) = history(storing.records)
    own = f"{IDENTITY.key()}-1-{submission.intent.token[:12]}"
    assert submission.intent.output == f"{storing.output}{own}/"
    assert all(f"/{own}/" in image.uri for image in paid.result.images)


def test_pictures_of_a_lost_answer_are_adopted(storing, sandbox):
    lose(sandbox)
    paid = storing.pay(output=storing.output, own_folder=True, reconcile_timeout=5)
    assert (paid.times, paid.reused, paid.number) == (1, True, 1)
    assert len({image.uri for image in paid.result.images}) == 2
    assert all(Path(urlsplit(image.uri).path).read_bytes().startswith(b"\x89PNG") for image in paid.result.images)
    assert (storing.states(), storing.posts(), storing.credits()) == (["adopted"], 1, 2)
    again = storing.pay(output=storing.output, own_folder=True)
    assert (again.result.images, storing.posts()) == (paid.result.images, 1)


def test_a_loss_noted_by_a_clock_that_was_ahead_is_looked_for_no_longer_than_another(storing, sandbox):
    lose_unmade(sandbox)
    wanted = {"output": storing.output, "own_folder": True, "reconcile_timeout": 0.1}
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay(**wanted)
    (lost,) = history(storing.records)
    storing.records.finish(1, replace(lost.result, at=lost.result.at + timedelta(days=1)))
    order = storing.order(**wanted)
    ledger = order.ledger(storing.account, storing.records)
    with pytest.raises(ClaidUnknownOutcomeError):
        sync.run(asyncio.wait_for(pay(storing.account, ledger, search=order.search()), 20))
    assert storing.posts() == 1


def test_in_a_folder_that_others_may_use_nothing_is_adopted(storing, sandbox):
    lose(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError, match=f"after a look into {storing.output}"):
        storing.pay(output=storing.output, reconcile_timeout=5)
    while len(list(storing.out.glob("*.png"))) < 2:
        time.sleep(0.01)
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay(output=storing.output, reconcile_timeout=5)
    assert storing.states() == ["unknown"]


def test_a_job_of_the_same_name_in_another_deployment_has_another_folder(storing, sandbox, account, tmp_path):
    other = Job(sandbox, account, tmp_path / "elsewhere")
    other.pay(output=storing.output, own_folder=True)
    lose_unmade(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay(output=storing.output, own_folder=True, reconcile_timeout=0)
    assert storing.states() == ["unknown"]


def test_more_pictures_than_asked_for_are_not_adopted(storing, sandbox):
    lose(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay(output=storing.output, own_folder=True, reconcile_timeout=0)
    while len(list(storing.out.glob("*/*.png"))) < 2:
        time.sleep(0.01)
    (own,) = storing.out.iterdir()
    shutil.copytree(own, own / "more")
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay(output=storing.output, own_folder=True, reconcile_timeout=5)
    assert storing.states() == ["unknown"]


def lose_unmade(sandbox):
    sandbox.fault("generate", "reset", when="before_billing")


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
    assert all(f"/{IDENTITY.key()}-2-" in image.uri for image in paid.result.images)


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


def test_pictures_of_a_record_that_was_deleted_are_not_adopted_from_the_folder_it_had(storing, sandbox):
    for image in storing.pay(output=storing.output, own_folder=True).result.images:
        os.utime(urlsplit(image.uri).path, (time.time() - 120,) * 2)
    shutil.rmtree(storing.folder)
    lose_unmade(sandbox)
    with pytest.raises(ClaidUnknownOutcomeError):
        storing.pay("a blue bicycle", generation=1, output=storing.output, own_folder=True, reconcile_timeout=0)
    assert storing.states() == ["unknown"]


@pytest.mark.parametrize("spare", [0, 1])
def test_pictures_of_an_earlier_lost_answer_are_found_too(storing, sandbox, monkeypatch, spare):
    terms = {"output": storing.output, "own_folder": True, "max_submissions": 2 + spare, "reconcile_timeout": 0}
    lose(sandbox)
    with monkeypatch.context() as patched:
        patched.setattr(payment, "_search", nothing_found)
        with pytest.raises(ClaidLostAnswerError):
            storing.pay(**terms)
        lose_unmade(sandbox)
        with pytest.raises((ClaidLostAnswerError, ClaidUnknownOutcomeError)):
            storing.pay(**terms)
    while len(list(storing.out.glob("*/*.png"))) < 2:
        time.sleep(0.01)
    posts = storing.posts()
    paid = storing.pay(**terms)
    assert (paid.reused, paid.number, paid.times) == (True, 1, 2)
    assert (storing.states(), storing.posts()) == (["adopted", "unknown"], posts)


def test_pictures_that_were_found_are_used_though_the_records_fail_just_then(storing, sandbox, monkeypatch):
    terms = {"output": storing.output, "own_folder": True, "max_submissions": 3}
    lose_unmade(sandbox)
    with pytest.raises(ClaidLostAnswerError):
        storing.pay(**terms, reconcile_timeout=0)
    lose(sandbox)
    adopt = Ledger.adopt

    async def adopt_and_fail(self, *given):
        adopted = await adopt(self, *given)
        monkeypatch.setattr(Ledger, "history", failing_history)
        return adopted

    monkeypatch.setattr(Ledger, "adopt", adopt_and_fail)
    paid = storing.pay(**terms, reconcile_timeout=5)
    assert (paid.reused, paid.number) == (True, 2)
    assert storing.states() == ["unknown", "adopted"]


async def failing_history(self):
    raise ClaidNotSentError("The records of this task cannot be used now: away")
