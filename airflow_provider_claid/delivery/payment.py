"""A job paid once: what is recorded is used, what was lost is looked for, and only then something is sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from airflow_provider_claid.api.bill import current_bill
from airflow_provider_claid.api.errors import (
    ClaidAnswerLostError,
    ClaidError,
    ClaidLostAnswerError,
    ClaidRecordsError,
    ClaidUnknownOutcomeError,
)
from airflow_provider_claid.delivery import clock
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.generate import LONGEST_PAUSE, GenerateResult, generate
from airflow_provider_claid.delivery.records.decision import Lost, Use
from airflow_provider_claid.delivery.records.ledger import IntentTakenError, Ledger
from airflow_provider_claid.delivery.records.store import history
from airflow_provider_claid.delivery.records.submission import Intent, Result, Submission
from airflow_provider_claid.delivery.stop import Stop
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.delivery.watching.watch import Watch

log = logging.getLogger(__name__)

LOOK_EVERY = 2.0
"""Seconds between two looks for the pictures of a lost answer."""

CLOCKS_DIFFER = timedelta(seconds=60)
"""By how much the clocks of a worker and a store may differ where nothing but that is to be allowed for."""

FolderWatch = Callable[[str, int, datetime | None], Watch]
"""Makes the watch over a `storage://` folder: its URI, how many pictures, and since when."""


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
            _note(found.submission)
            if adopted := await _search(ledger, found, search):
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


async def recorded(ledger: Ledger, event: Mapping[str, Any]) -> Paid:
    """
    Return what a trigger paid for, from the record its event names, or from the event if that could not be written.

    Never sends. Raises `ClaidNotSentError` while the store fails.
    """
    number = event["number"]
    found = next((each for each in await ledger.history() if each.intent.number == number), None)
    unkept = Result.from_json(event["answer"]) if "answer" in event else None
    if found is not None and unkept is not None:
        found = replace(found, result=unkept)
    if found is None or not found.delivered:
        message = f"The record {ledger.records.where(number)} of what was paid is gone. Nothing was sent again"
        raise ClaidRecordsError(message)
    return replace(_recorded(found, event["times"]), reused=event["reused"], unkept=unkept)


async def _after_loss(ledger: Ledger, error: ClaidError, search: Search | None) -> Paid:
    """Look for the pictures of the submission that this attempt has just lost; raise what a retry may do."""
    lost = ledger.last
    if lost is None:
        raise error
    if adopted := await _search(ledger, Lost(lost, own=True, next=None), search):
        return adopted
    how = f"Its record is {lost.where}"
    if ledger.spare > 0:
        message = f"{error.message} {how}; a retry may send {ledger.spare} more"
        raise ClaidLostAnswerError(message, billed=error.billed, status=error.status, request_id=error.request_id)
    error.message = f"{error.message} {how}: {_permission(lost, ledger)}"
    raise error


async def _search(ledger: Ledger, lost: Lost, search: Search | None) -> Paid | None:
    """Look into the output folder for the pictures of a lost answer; adopt them if they are surely those."""
    intent = lost.submission.intent
    if not lost.own or search is None or intent.output is None or lost.submission.result is None:
        return None
    until = lost.submission.result.at + timedelta(seconds=search.seconds)
    try:
        earlier = await ledger.history() if intent.number > 1 else []
        lost_before = [each for each in earlier if each.state == "unknown" and each.number < intent.number]
        if not await _is_alone(ledger, intent, until):
            return None
        known = {image.uri for each in earlier if each.result for image in each.result.images}
        uris = await _found(search, lost.submission, until, known)
        # Again: a job that has come to the folder meanwhile has recorded that before its pictures came.
        if uris is None or not await _is_alone(ledger, intent, until):
            return None
    except ClaidError as fault:
        log.warning("The output folder could not be searched: %s", fault)
        return None
    log.info("The answer was lost; its %d pictures were found in %s.", len(uris), intent.output)
    adopted = await ledger.adopt(lost.submission, uris)
    times = 1 + sum(each.intent.first == intent.first for each in lost_before)
    return replace(_recorded(adopted, times), unkept=ledger.unkept)


async def _found(search: Search, lost: Submission, until: datetime, known: Collection[str | None]) -> list[str] | None:
    """Look until the pictures are all there, without those of earlier answers, which may have come late."""
    intent = lost.intent
    count = intent.request.options.number_of_images
    # In a folder of its own only a record that was deleted can have left pictures: by then long ago.
    since = intent.at - CLOCKS_DIFFER if intent.owns_folder else intent.at
    watch = search.watch(str(intent.output), count, since)
    while True:
        report = await watch.look()
        delivered = [uri for uri in report.delivered if uri not in known]
        if len(delivered) == count:
            return delivered
        log.info("Looking for the pictures of a lost answer: %s", report.summary())
        if len(delivered) > count or clock.now() >= until:
            return None
        await asyncio.sleep(LOOK_EVERY)


async def _is_alone(ledger: Ledger, intent: Intent, until: datetime) -> bool:
    """Tell whether pictures in the folder can only be this submission's; asks again while the records are busy."""
    while not intent.owns_folder:
        try:
            if not await in_thread(_is_shared, ledger, intent):
                return True
        except StoreBusyError as busy:
            reason = f"the records of other jobs cannot be read now ({busy})"
        else:
            log.warning("Pictures in %s may be another job's; take own_folder=True to be sure.", intent.output)
            return False
        log.warning("The output folder %s is not searched: %s", intent.output, reason)
        if clock.now() >= until:
            return False
        await asyncio.sleep(LOOK_EVERY)
    return True


def _is_shared(ledger: Ledger, intent: Intent) -> bool:
    """
    Tell whether pictures of another job, or of another wish of this task, may be in the folder. Blocks.

    True where that cannot be told.
    """
    others = ledger.records.others()
    if others is None:
        return True
    # Of an earlier answer the pictures are known; a later wish is another attempt's.
    wishes = (
        each
        for each in history(ledger.records)
        if each.intent.request != intent.request and (each.state == "unknown" or each.number > intent.number)
    )
    # Folders below are searched too.
    return any((each.intent.output or "").startswith(str(intent.output)) for each in chain(wishes, others))


def _recorded(submission: Submission, times: int) -> Paid:
    result = submission.result
    if result is None:
        raise ValueError("an open submission has no result")
    _note(submission)
    intent = submission.intent
    answer = GenerateResult(intent.request.input, result.images, result.request_id, None, result.at)
    return Paid(answer, times, reused=True, number=intent.number)


def _note(submission: Submission) -> None:
    """Let the open bill know of what an earlier attempt paid, so that no error of this one says that nothing was."""
    result = submission.result
    request_id, images = (result.request_id, result.images) if result else (None, ())
    receipt = f"Request {request_id} made {[image.uri for image in images]}." if images else ""
    current_bill().found(submission.billed, receipt, request_id)


def _used_up(found: Lost, ledger: Ledger) -> ClaidUnknownOutcomeError:
    intent, result = found.submission.intent, found.submission.result
    said = f" ({result.message})" if result and result.message else ""
    request_id = result.request_id if result else None
    message = (
        f"Submission {intent.number} of this task was sent at {intent.at:%Y-%m-%d %H:%M:%S} UTC and its outcome is "
        f"unknown{said}: up to {intent.credits} credits may have been billed. Nothing was sent now, because "
        f"max_submissions={ledger.asked.max_submissions}. Its record is {found.submission.where}: "
        f"{_permission(found.submission, ledger)}"
    )
    billed = result.billed if result else "unknown"
    return ClaidUnknownOutcomeError(message, billed=billed, request_id=request_id)


def _permission(lost: Submission, ledger: Ledger) -> str:
    folder = f", after a look into {lost.intent.output}" if lost.intent.output else ""
    removal = f"delete it{folder}, or " if ledger.records.removable else ""
    return f"to permit one more submission, {removal}raise max_submissions, and clear the task"
