"""A job paid once: what is recorded is used, what was lost is looked for, and only then something is sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from airflow_provider_claid.api.bill import current_bill
from airflow_provider_claid.api.errors import (
    ClaidAnswerLostError,
    ClaidError,
    ClaidLostAnswerError,
    ClaidRecordsError,
    ClaidUnknownOutcomeError,
)
from airflow_provider_claid.api.models import GenerateRequest
from airflow_provider_claid.delivery import clock
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.generate import LONGEST_PAUSE, GenerateResult, generate
from airflow_provider_claid.delivery.records.decision import Lost, Use
from airflow_provider_claid.delivery.records.ledger import IntentTakenError, Ledger
from airflow_provider_claid.delivery.records.submission import Result, Submission, note, note_result
from airflow_provider_claid.delivery.stop import Stop
from airflow_provider_claid.delivery.watching.watch import Watch

log = logging.getLogger(__name__)

LOOK_EVERY = 2.0
"""Seconds between two looks for the pictures of a lost answer."""

FolderWatch = Callable[[str, int], Watch]
"""Makes the watch over a `storage://` folder, by its URI and how many pictures it is to hold."""


@dataclass(frozen=True)
class Search:
    """How pictures of a lost answer are looked for in the folder that Claid was given, and for how many seconds."""

    watch: FolderWatch
    seconds: float


@dataclass(frozen=True)
class Paid:
    """
    What was paid for: Claid's answer, how often it may have been paid, and whether that was before this attempt.

    `number` is that of the submission; `unkept` is the result that the record store did not take.
    """

    result: GenerateResult
    times: int = 1
    reused: bool = False
    number: int | None = None
    unkept: Result | None = None


async def pay(
    account: Account,
    ledger: Ledger,
    *,
    search: Search | None = None,
    stop: Stop | None = None,
    patience: float = LONGEST_PAUSE,
    first_try: bool = False,
) -> Paid:
    """
    Return the pictures of a job, from its record or by a submission of its own; costs 1 credit each at most once.

    `first_try`: nothing is recorded, most likely, so the claim is the first look (two steps of the store less).
    Raises a kind of `ClaidError`; `ClaidLostAnswerError` where the outcome is unknown and another submission allowed.
    """
    found = None if first_try else await ledger.look()
    while True:
        if isinstance(found, Use):
            log.info("The pictures are paid for already: %s", found.submission.where)
            await ledger.take(found.submission)
            return _recorded(found.submission, found.times)
        if isinstance(found, Lost):
            note(found.submission)
            if adopted := await _search_all(ledger, found, search):
                return adopted
            if found.next is None:
                raise _used_up(found, ledger)
            ledger.go_on(found.next)
        try:
            result = await generate(account, ledger.request, ledger, stop=stop, patience=patience)
        except IntentTakenError:
            found = await ledger.look()
        except (ClaidUnknownOutcomeError, ClaidAnswerLostError) as error:
            return await _after_loss(ledger, error, search)
        else:
            last = ledger.last
            return Paid(result, ledger.times, number=last.number if last else None, unkept=ledger.unkept)


async def recorded(ledger: Ledger | None, event: Mapping[str, Any], request: GenerateRequest) -> Paid:
    """
    Return what a trigger paid for, from the record its event names, or from the event if that could not be written.

    An answer that came by the event alone is all there is of it: it needs no record, and is written down now if that
    can be done. Never sends. Raises `ClaidNotSentError` while the store fails.
    """
    number = event["number"]
    if "answer" in event:
        answer = Result.from_json(event["answer"])
        note_result(answer)
        current_bill().alone = True
        kept = ledger is not None and await ledger.keep(number, answer)
        current_bill().alone = not kept
        told = GenerateResult(request.input, answer.images, answer.request_id, None, answer.at)
        return Paid(told, event["times"], event["reused"], number, None if kept else answer)
    if ledger is None:
        raise ValueError("nothing is recorded without a ledger")
    found = next((each for each in await ledger.history() if each.intent.number == number), None)
    if found is None or not found.delivered:
        message = f"The record {ledger.records.where(number)} of what was paid is gone. Nothing was sent again"
        raise ClaidRecordsError(message)
    return replace(_recorded(found, event["times"]), reused=event["reused"])


async def _after_loss(ledger: Ledger, error: ClaidError, search: Search | None) -> Paid:
    """Look for the pictures of the submission that this attempt has just lost; raise what a retry may do."""
    lost = ledger.last
    if lost is None:
        raise error
    if adopted := await _search_all(ledger, Lost(lost, own=True, next=None), search):
        return adopted
    how = f"{error.message.rstrip('.')}. Its record is {lost.where}"
    if ledger.spare > 0:
        message = f"{how}; a retry may send {ledger.spare} more"
        raise ClaidLostAnswerError(message, billed=error.billed, status=error.status, request_id=error.request_id)
    error.message = f"{how}: {_permission(lost, ledger)}"
    raise error


async def _search_all(ledger: Ledger, lost: Lost, search: Search | None) -> Paid | None:
    """Look for the pictures of this submission, then for those of the same wish that were lost before."""
    if adopted := await _search(ledger, lost, search):
        return adopted
    if not lost.own or search is None:
        return None
    for each in reversed(await _other_losses(ledger, lost.submission)):
        if adopted := await _search(ledger, Lost(each, own=lost.own, next=None), search):
            return adopted
    return None


async def _search(ledger: Ledger, lost: Lost, search: Search | None) -> Paid | None:
    """
    Look for the pictures of a lost answer, and adopt them.

    Only in a folder that no other request was given: elsewhere nothing proves whose pictures are there.
    """
    intent = lost.submission.intent
    if not lost.own or search is None or not intent.owns_folder or lost.submission.result is None:
        return None
    try:
        uris = await _found(search, lost.submission)
        if uris is None:
            return None
    except ClaidError as fault:
        log.warning("The output folder could not be searched: %s", fault)
        return None
    adopted = await ledger.adopt(lost.submission, uris)
    unkept = ledger.unkept
    log.info("The answer was lost; its %d pictures were found in %s.", len(uris), intent.output)
    times = 1 + len(await _other_losses(ledger, lost.submission))
    return replace(_recorded(adopted, times), unkept=unkept)


async def _other_losses(ledger: Ledger, lost: Submission) -> list[Submission]:
    """Return the other lost submissions of a wish; none while the store fails, which loses nothing that was found."""
    with suppress(ClaidError):
        return [
            each
            for each in await ledger.history()
            if each.state == "unknown" and each.number != lost.number and each.intent.first == lost.intent.first
        ]
    return []


async def _found(search: Search, lost: Submission) -> list[str] | None:
    """Look until the pictures are all there, for as long as the search may take since the loss."""
    count, until = lost.intent.request.options.number_of_images, timedelta(seconds=search.seconds)
    watch = search.watch(str(lost.intent.output), count)
    # Nor longer than that from now: the loss may have been noted by a clock that was ahead.
    loop = asyncio.get_running_loop()
    give_up = loop.time() + search.seconds
    while True:
        report = await watch.look()
        if len(report.delivered) == count:
            return list(report.delivered)
        log.info("Looking for the pictures of a lost answer: %s", report.summary())
        is_over = lost.result is None or clock.now() >= lost.result.at + until or loop.time() >= give_up
        if len(report.delivered) > count or is_over:
            return None
        await asyncio.sleep(LOOK_EVERY)


def _recorded(submission: Submission, times: int) -> Paid:
    result = submission.result
    if result is None:
        raise ValueError("an open submission has no result")
    note(submission)
    intent = submission.intent
    answer = GenerateResult(intent.request.input, result.images, result.request_id, None, result.at)
    return Paid(answer, times, reused=True, number=intent.number)


def _used_up(found: Lost, ledger: Ledger) -> ClaidUnknownOutcomeError:
    intent, result = found.submission.intent, found.submission.result
    said = f" ({result.message})" if result and result.message else ""
    request_id = result.request_id if result else None
    billed = result.billed if result else "unknown"
    cost = "credits were billed" if billed == "yes" else "credits may have been billed"
    message = (
        f"Submission {intent.number} of this task was begun at {intent.at:%Y-%m-%d %H:%M:%S} UTC and its outcome is "
        f"unknown{said}: up to {intent.credits} {cost} for it. Nothing was sent now, because "
        f"max_submissions={ledger.asked.max_submissions}. Its record is {found.submission.where}: "
        f"{_permission(found.submission, ledger)}"
    )
    return ClaidUnknownOutcomeError(message, billed=billed, request_id=request_id)


def _permission(lost: Submission, ledger: Ledger) -> str:
    folder = f", after a look into {lost.intent.output}" if lost.intent.output else ""
    removal = f", or delete it{folder}," if ledger.records.removable else ""
    return f"to permit one more submission, raise max_submissions{removal} and clear the task"
