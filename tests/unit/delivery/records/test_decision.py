"""What an attempt does, from what is written down: no history lets it pay twice unasked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.records.decision import Asked, Await, Lost, Send, Superseded, Use, decide
from airflow_provider_claid.delivery.records.submission import Intent, Result, Submission

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
IDENTITY = Identity("dag", "run", "task")


def request(prompt):
    return check_request(prompt, 2, 5.0, None)


def asks(prompt="aaa", generation=0, **options):
    return Asked(generation, prompt, request(prompt), **options)


def made(number, outcome, prompt="aaa", generation=0, first=1):
    intent = Intent(
        IDENTITY,
        number,
        first,
        generation,
        f"t{number}",
        prompt,
        request(prompt),
        None,
        NOW,
        NOW + timedelta(seconds=90),
    )
    billed = {"done": "yes", "adopted": "yes", "unbilled": "no"}.get(outcome, "unknown")
    result = None if outcome == "open" else Result(intent.token, outcome, billed, NOW)
    return Submission(intent, result)


def sends(number, first=1, prompt="aaa", spare=0, overruled=False, times=1):
    return Send(number, first, request(prompt), prompt, spare, overruled, times)


UNBILLED, LOST, DONE = made(1, "unbilled"), made(1, "unknown"), made(1, "done")


def taken(submission, generation):
    return replace(submission, result=replace(submission.result, generation=generation))


@pytest.mark.parametrize(
    ("history", "asked", "plan"),
    [
        ([], asks(), sends(1)),
        ([], asks(max_submissions=3), sends(1, spare=2)),
        ([made(1, "open")], asks(), Await(made(1, "open"))),
        ([made(1, "open")], asks("bbb", generation=5, max_submissions=9), Await(made(1, "open"))),
        ([made(1, "open"), made(2, "done")], asks(), Await(made(1, "open"))),
        ([UNBILLED], asks(), sends(2)),
        ([UNBILLED], asks("bbb"), sends(2, overruled=True)),
        ([UNBILLED], asks("bbb", generation=1), sends(2, first=2, prompt="bbb")),
        ([UNBILLED, made(2, "done")], asks(), Use(made(2, "done"), 1)),
        ([DONE], asks(), Use(DONE, 1)),
        ([made(1, "adopted")], asks(), Use(made(1, "adopted"), 1)),
        ([DONE], asks("bbb"), Use(DONE, 1, overruled=True)),
        ([DONE], asks(reuse=False), Use(DONE, 1)),
        ([DONE], asks(generation=1), Use(DONE, 1)),
        ([DONE], asks(generation=1, reuse=False), sends(2, first=2)),
        ([DONE], asks("bbb", generation=1), sends(2, first=2, prompt="bbb")),
        ([DONE, made(2, "done", "bbb", 1, 2)], asks("bbb", generation=1), Use(made(2, "done", "bbb", 1, 2), 1)),
        ([DONE, made(2, "unbilled", "bbb", 1, 2)], asks("bbb", generation=1), sends(3, first=2, prompt="bbb")),
        ([LOST], asks(), Lost(LOST, own=True, next=None)),
        ([LOST], asks(max_submissions=2), Lost(LOST, own=True, next=sends(2, times=2))),
        ([LOST], asks(max_submissions=3), Lost(LOST, own=True, next=sends(2, spare=1, times=2))),
        ([LOST], asks("bbb", max_submissions=2), Lost(LOST, own=True, next=sends(2, overruled=True, times=2))),
        ([LOST], asks(generation=1), Lost(LOST, own=True, next=None)),
        ([LOST], asks("bbb", generation=1), Lost(LOST, own=False, next=None)),
        ([LOST], asks("bbb", generation=1, max_submissions=2), sends(2, first=2, prompt="bbb")),
        ([LOST], asks(generation=1, reuse=False), Lost(LOST, own=False, next=None)),
        ([LOST, made(2, "done")], asks(), Use(made(2, "done"), 2)),
        ([made(1, "adopted"), made(2, "done")], asks(), Use(made(2, "done"), 2)),
        ([LOST, made(2, "unbilled")], asks(max_submissions=2), Lost(LOST, own=True, next=sends(3, times=2))),
        # A person has deleted the record of number 1, and a later wish has taken its number.
        (
            [made(1, "done", "bbb", 2), made(2, "done", "aaa", 1, 2)],
            asks("bbb", generation=2),
            Use(made(1, "done", "bbb", 2), 1),
        ),
        (
            [made(1, "done", "bbb", 2), made(2, "done", "aaa", 1, 2)],
            asks("ccc", generation=3),
            sends(3, first=3, prompt="ccc"),
        ),
        ([taken(DONE, 2)], asks("bbb", generation=2), Use(taken(DONE, 2), 1, overruled=True)),
        ([taken(DONE, 2)], asks("bbb", generation=3), sends(2, first=2, prompt="bbb")),
        ([taken(DONE, 2)], asks(generation=1), Superseded(taken(DONE, 2))),
        ([made(1, "done", generation=2)], asks(generation=1), Superseded(made(1, "done", generation=2))),
        (
            [made(1, "unknown", generation=2)],
            asks(generation=1, max_submissions=9),
            Superseded(made(1, "unknown", generation=2)),
        ),
    ],
)
def test_the_plan_of_each_history(history, asked, plan):
    assert decide(history, asked) == plan


STEPS = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from(["aaa", "bbb"]),
        st.booleans(),
        st.sampled_from(["done", "unknown", "unbilled"]),
        st.booleans(),
    ),
    max_size=12,
)
"""Attempts: whether a person cleared the task before, the prompt, reuse, the outcome, whether pictures were found."""


def followed(steps, allowed):
    """Carry plans out one after another, as `pay` does; yield the history before each, what was asked, and the plan."""
    history, generation = [], 0
    for cleared, prompt, reuse, outcome, found in steps:
        generation += cleared
        asked = asks(prompt, generation, reuse=reuse, max_submissions=allowed)
        plan = decide(history, asked)
        yield list(history), asked, plan
        if isinstance(plan, Lost):
            if plan.own and found:
                lost = plan.submission
                history[lost.number - 1] = Submission(lost.intent, Result(lost.intent.token, "adopted", "yes", NOW))
                continue
            plan = plan.next
        if isinstance(plan, Send):
            intent = made(plan.number, outcome, plan.request.input, generation, plan.first).intent
            history.append(made(plan.number, outcome, intent.request.input, generation, plan.first))


ALLOWED = st.integers(1, 3)


def send_of(plan):
    return plan if isinstance(plan, Send) else plan.next if isinstance(plan, Lost) else None


@given(STEPS, ALLOWED)
def test_what_may_have_been_paid_in_vain_never_exceeds_what_was_allowed(steps, allowed):
    for history, _, plan in followed([*steps, (False, "aaa", True, "done", False)], allowed):
        lost = sum(submission.state == "unknown" for submission in history)
        assert lost <= allowed
        if send := send_of(plan):
            assert lost + 1 + send.spare == allowed


@given(STEPS, ALLOWED)
def test_numbers_grow_by_one(steps, allowed):
    for history, _, plan in followed(steps, allowed):
        if send := send_of(plan):
            assert send.number == len(history) + 1
            assert send.first <= send.number


@given(STEPS, ALLOWED)
def test_the_same_generation_never_changes_the_request(steps, allowed):
    for history, asked, plan in followed(steps, allowed):
        if history and history[-1].intent.generation == asked.generation:
            assert not (send := send_of(plan)) or send.request == history[-1].intent.request
            assert not isinstance(plan, Use) or plan.submission.intent.request == history[-1].intent.request


@given(STEPS, ALLOWED)
def test_a_job_that_has_its_pictures_never_sends(steps, allowed):
    for history, asked, plan in followed(steps, allowed):
        if history and history[-1].delivered and history[-1].intent.generation == asked.generation:
            assert isinstance(plan, Use)
            assert plan.submission == history[-1]


@given(STEPS, ALLOWED, st.integers(0, 12), st.sampled_from(["aaa", "bbb"]), st.integers(0, 9))
def test_nothing_is_sent_while_a_submission_is_open(steps, allowed, position, prompt, generation):
    for history, _, _ in followed(steps, allowed):
        if position < len(history):
            history[position] = Submission(history[position].intent, None)
            assert decide(history, asks(prompt, generation, max_submissions=9)) == Await(history[position])


@given(STEPS, ALLOWED, st.booleans())
def test_an_attempt_that_was_superseded_does_nothing(steps, allowed, reuse):
    for history, _, _ in followed(steps, allowed):
        if history and history[-1].intent.generation:
            assert decide(history, asks(reuse=reuse, max_submissions=9)) == Superseded(history[-1])
