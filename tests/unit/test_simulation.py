"""The simulation finds nothing in the product, finds what is put into it, and repeats itself."""

from __future__ import annotations

import gc
import json
import logging
import subprocess
import sys
from collections import Counter
from contextlib import suppress

import pytest

from airflow_provider_claid.api import client
from airflow_provider_claid.api.outcome import of_silence
from airflow_provider_claid.delivery import pictures, publishing
from airflow_provider_claid.delivery.departure import Door
from airflow_provider_claid.delivery.object_folder import ObjectFolder
from airflow_provider_claid.delivery.records import attempts, ledger, marks
from airflow_provider_claid.delivery.records.decision import Await, Send, decide
from airflow_provider_claid.delivery.records.ledger import Ledger
from airflow_provider_claid.delivery.records.store import ObjectRecords
from airflow_provider_claid.delivery.records.submission import Intent
from airflow_provider_claid.pacing.budget import Budget
from airflow_provider_claid.pacing.pacer import Pacer
from airflow_provider_claid.pacing.schedule import Pace, Schedule
from airflow_provider_claid.pacing.slot import Slot
from tests.simulation.__main__ import MUST_HAPPEN, missing
from tests.simulation.runs import simulate

SEEDS = 400
CAUGHT_WITHIN = 1_000


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()
    logging.disable(logging.NOTSET)


def test_no_seed_breaks_an_invariant():
    outcomes = [simulate(seed) for seed in range(SEEDS)]
    assert [(outcome.seed, outcome.faults) for outcome in outcomes if outcome.faults] == []
    counted = sum((outcome.counters for outcome in outcomes), Counter())
    assert missing(counted + Counter(runs=1_000)) == []


def test_what_never_happens_is_told():
    assert missing(Counter(runs=1_000)) == list(MUST_HAPPEN)
    assert missing(Counter(runs=999)) == []


def test_a_seed_repeats_itself_whatever_the_process():
    told = [[], []]
    for each in told:
        simulate(2, each.append)
    assert told[0] == told[1]
    command = [sys.executable, "-m", "tests.simulation", "--seed", "2", "--verbose"]
    outputs = {subprocess.check_output(command, env={"PYTHONHASHSEED": seed}, text=True) for seed in ("1", "2")}
    assert len(outputs) == 1


def sends_though_another_is_under_way(history, asked):
    plan = decide(history, asked)
    if not isinstance(plan, Await):
        return plan
    last = history[-1].intent
    return Send(last.number + 1, last.first, last.request, last.fingerprint)


def claims_without_writing(records, intent):
    return True


def claims_what_is_taken(records, intent):
    records._objects.put(records._name(intent.number, "intent"), json.dumps(intent.to_json()).encode())
    return True


async def does_not_wait(self, submission):
    message = "it was not waited for"
    lost = ledger.Result(submission.intent.token, "unknown", "unknown", ledger.clock.now(), message=message)
    await self._step(lambda: self.records.finish(submission.number, lost, unless_ended=True))


async def leaves_at_once(slot):
    slot.passed = True


async def leaves_unless_stopped(door):
    await door._slot.wait()
    door.passed = door._stop.under_way = True


note_failure, finish = Ledger._note_failure, ObjectRecords.finish


async def says_that_nothing_was_billed(self, intent, door, cause):
    door.passed = False
    with suppress(AttributeError):
        cause.billed = "no"
    await note_failure(self, intent, door, cause)


def forgets(records, number, result, *, unless_ended=False):
    finish(records, number, result)


def publishes_nothing(folder, name, *_, **__):
    return folder.uri(name)


def books_without_the_minute(pacer, instead_of, spread, spend):
    pace = Pace(pacer.pace.per_second, 1_000)
    return pacer._store.book(pace, instead_of=instead_of, spread=spread, spend=spend)


def spends(budget, day, spend):
    budget.days[day] = 0


SABOTAGE = {
    "a request leaves without a record": (ObjectRecords, "claim", claims_without_writing),
    "a record is claimed that is taken": (ObjectRecords, "claim", claims_what_is_taken),
    "another attempt is not minded": (ledger, "decide", sends_though_another_is_under_way),
    "another attempt is not waited for": (Ledger, "_wait_for", does_not_wait),
    "a request leaves after its record was given up": (Door, "wait", leaves_unless_stopped),
    "an unknown outcome counts as not sent": (client, "of_silence", lambda sent: of_silence(sent=False)),
    "a loss is recorded as unbilled": (Ledger, "_note_failure", says_that_nothing_was_billed),
    "the pace is not kept": (Slot, "wait", leaves_at_once),
    "the spacing is too narrow": (Schedule, "spacing", lambda self, pace: 0.9 / pace.per_second),
    "the minute is not kept": (Pacer, "book", books_without_the_minute),
    "the budget is not kept": (Budget, "book", spends),
    "pictures of others are adopted": (Intent, "owns_folder", True),
    "a place that is lost is not minded": (marks, "is_lost", lambda *_: False),
    "a person's clearing is taken for a retry": (attempts, "relation_of", lambda *_: "retry"),
    "a retry is taken for a person's clearing": (attempts, "relation_of", lambda *_: "cleared"),
    "an end is written over a better one": (ObjectRecords, "finish", forgets),
    "a picture is not stored": (ObjectFolder, "publish", publishes_nothing),
    "what stands under a name is taken for the picture": (publishing, "whose", lambda *_: "same"),
    "half a picture is stored": (pictures, "check", lambda *_, **__: pictures.Header("PNG", 8, 8)),
}


@pytest.mark.parametrize("what", SABOTAGE)
def test_what_is_broken_on_purpose_is_found(monkeypatch, what):
    monkeypatch.setattr(*SABOTAGE[what])
    assert any(simulate(seed).faults for seed in range(CAUGHT_WITHIN)), f"{what}, and nobody saw it"
