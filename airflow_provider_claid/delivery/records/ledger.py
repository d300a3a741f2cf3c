"""The record of one attempt at a job: claims before a request leaves, notes what became of it, and what may follow."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TypeVar, TypeVarTuple

from airflow_provider_claid.api.answers import Answer
from airflow_provider_claid.api.bill import current_bill
from airflow_provider_claid.api.errors import ClaidError, ClaidInputError, ClaidNotSentError
from airflow_provider_claid.api.models import MAX_OUTPUT, GeneratedImage, GenerateRequest
from airflow_provider_claid.delivery import clock
from airflow_provider_claid.delivery.departure import Door
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.records.decision import (
    Asked,
    Await,
    Lost,
    Send,
    Superseded,
    Use,
    decide,
    is_new_wish,
)
from airflow_provider_claid.delivery.records.store import Records, history
from airflow_provider_claid.delivery.records.submission import Intent, Outcome, Result, Submission, latest, receipt_of
from airflow_provider_claid.delivery.store_errors import StoreBusyError, may_be_back
from airflow_provider_claid.delivery.threads import in_thread

log = logging.getLogger(__name__)

SEND_WITHIN = 30.0
"""Seconds from the intent in which its request may leave; a later one needs an intent of its own."""

SPARE = 60.0
"""Seconds beyond the request's own timeout after which whoever waits for the result gives it up."""

STEP_SECONDS = 30.0
"""Seconds that one step of the record store may take."""

KEEP_TRYING = 20.0
"""Seconds for which a result that cannot be written down is tried again: the answer is paid for."""

WITHDRAW_WITHIN = 3.0
"""Seconds for which an interrupted claim is waited for, to be taken back."""

LOOK_EVERY = 1.0

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class IntentTakenError(Exception):
    """Another attempt has written an intent of this number: nothing was sent, and what it says counts."""


@dataclass(frozen=True)
class Terms:
    """Of the request: the seconds that its answer may take, and whether it gets a folder of its own."""

    timeout: float
    own_folder: bool = False


class Ledger:
    """What one attempt knows of its job's records, and writes into them."""

    def __init__(self, records: Records, identity: Identity, asked: Asked, terms: Terms) -> None:
        self.records = records
        self.identity = identity
        self.asked = asked
        self._terms = terms
        # One for the attempt: a claim that is tried again after a store's bad answer is known by it.
        self._token = uuid.uuid4().hex
        self._next = Send(1, 1, asked.request, asked.fingerprint, asked.max_submissions - 1)
        self._begun: dict[int, float] = {}
        self._warned = False
        self._copies: dict[int, dict[str, str]] = {}
        self.last: Submission | None = None
        """The submission that this attempt has made last, as it ended."""
        self.unkept: Result | None = None
        """How the last one ended, if the store did not take it."""

    @property
    def request(self) -> GenerateRequest:
        """The request that would be sent next."""
        return self._next.request

    @property
    def times(self) -> int:
        """How often the job may have been paid for once the next submission is."""
        return self._next.times

    @property
    def spare(self) -> int:
        """How many submissions are allowed after the next one."""
        return self._next.spare

    async def look(self) -> Use | Lost | None:
        """
        Read what is recorded; None: a submission may be sent. Waits for one of another attempt that is on its way.

        Raises `ClaidNotSentError` while the store fails, `ClaidRecordsError` for what cannot be read.
        """
        while True:
            found = await self.history()
            if found and is_new_wish(found, self.asked):
                # What was paid for another wish is no part of what this one costs.
                current_bill().earlier.clear()
            plan = decide(found, self.asked)
            if isinstance(plan, Await):
                await self._wait_for(plan.submission)
            elif isinstance(plan, Superseded):
                message = f"A later attempt of this task has begun ({plan.submission.where}); this one sends nothing"
                raise ClaidNotSentError(message)
            elif isinstance(plan, Send):
                self.go_on(plan)
                return None
            else:
                if isinstance(plan, Use):
                    self._warn(plan.overruled)
                return plan

    def go_on(self, plan: Send) -> None:
        """Let the next submission be this one."""
        self._warn(plan.overruled)
        self._next = plan

    async def take(self, submission: Submission) -> None:
        """Note that this attempt hands these pictures on: from now on they are what its generation asked for."""
        if submission.result is not None and self.asked.generation > submission.generation:
            taken = replace(submission.result, generation=self.asked.generation)
            await self._step(self.records.finish, submission.number, taken)

    async def history(self) -> list[Submission]:
        """Read all submissions of the job."""
        return await self._step(lambda: list(history(self.records)))

    async def is_overtaken(self, number: int) -> bool:
        """Tell whether another wish of this task has been recorded since this submission; False if nobody can tell."""
        try:
            found = await self.history()
        except ClaidError:
            return False
        first = next((each.intent.first for each in found if each.number == number), None)
        return first is not None and latest(found).intent.first != first

    async def note_copies(self, number: int, copies: Mapping[str, str]) -> None:
        """Add files to the copies of a submission: the SHA-256 by name. Raises `ClaidError`."""
        # Kept here too, for a result that is written down later, and because another attempt may write its own over it.
        self._copies.setdefault(number, {}).update(copies)
        found = await self._step(self.records.read, number)
        if found is not None and found.result is not None:
            await self._step(self.records.finish, number, self._with_copies(number, found.result))

    def _with_copies(self, number: int, result: Result) -> Result:
        return replace(result, copies={**result.copies, **self._copies.get(number, {})})

    async def copies(self, number: int) -> Mapping[str, str]:
        """Return the copies of a submission; none where that cannot be read, which only costs a download."""
        with suppress(ClaidError):
            found = await self._step(self.records.read, number)
            copies = found.result.copies if found is not None and found.result is not None else {}
            self._copies.setdefault(number, {}).update(copies)
            return copies
        return {}

    async def keep(self, number: int, result: Result) -> bool:
        """Write down how a submission ended that the store did not take before; return whether it has it now."""
        with suppress(ClaidError):
            found = await self._step(self.records.read, number)
            if found is None or found.intent.token != result.token:
                return False
            if not found.delivered:
                await self._step(self.records.finish, number, self._with_copies(number, result))
            self.unkept = None
            return True
        return False

    async def submit(self, send: Callable[[GenerateRequest, Door], Awaitable[Answer]], door: Door) -> Answer:
        """
        Claim, send through the door, and note what became of it; raises what `send` raises.

        Raises `IntentTakenError` if another attempt came first, `ClaidNotSentError` if the store fails.
        """
        intent = await self._claim(door)
        try:
            answer = await send(intent.sent, door)
        except BaseException as cause:
            await self._note_failure(intent, door, cause)
            raise
        else:
            await self._note_answer(intent, answer)
        finally:
            door.settled()
        return answer

    async def adopt(self, submission: Submission, uris: list[str]) -> Submission:
        """Note that the pictures of a lost answer were found, and where."""
        images = tuple(GeneratedImage(object_uri=uri) for uri in uris)
        request_id = submission.result.request_id if submission.result else None
        result = replace(self._result("adopted", request_id, images), token=submission.intent.token)
        await self._end(submission.intent, result, KEEP_TRYING)
        return replace(submission, result=result)

    async def _end(self, intent: Intent, result: Result, patience: float) -> None:
        """Write down how a submission ended, trying for so many seconds; `unkept` tells whether that went well."""
        where = self.records.where(intent.number)
        self.last = Submission(intent, result, where)
        _log(self.last)
        try:
            await self._keep(intent, result, patience)
        except BaseException:
            # Interrupted meanwhile: once more, or what is known of the bill would be said to be unknown.
            await self._keep(intent, result, patience=0.0)
            raise

    async def _keep(self, intent: Intent, result: Result, patience: float) -> None:
        kept = await self._written(intent, result, patience)
        self.unkept = None if kept else result
        if result.outcome == "done":
            current_bill().protected = kept

    async def _written(self, intent: Intent, result: Result, patience: float) -> bool:
        loop, finish = asyncio.get_running_loop(), partial(self.records.finish, intent.number, result)
        give_up = loop.time() + patience
        while True:
            try:
                # A write that came late, of this attempt or of a slow one, must not replace what was found meanwhile.
                await self._step(partial(finish, unless_ended=result.outcome == "unknown"))
            except ClaidError as fault:
                # The place was good when the intent was written.
                if loop.time() > give_up or not (fault.retryable or may_be_back(fault)):
                    said = f"{fault.message.rstrip('.')}. {receipt_of(result)}".rstrip()
                    log.error("How submission %d ended is not recorded: %s", intent.number, said)  # noqa: TRY400
                    return False
                await asyncio.sleep(LOOK_EVERY)
            else:
                return True

    async def _claim(self, door: Door) -> Intent:
        plan, loop = self._next, asyncio.get_running_loop()
        # From before the first try: the stored intent may be as old as that.
        begun = self._begun.setdefault(plan.number, loop.time())
        now = clock.now() - timedelta(seconds=loop.time() - begun)
        intent = Intent(
            identity=self.identity,
            number=plan.number,
            first=plan.first,
            generation=self.asked.generation,
            token=self._token,
            fingerprint=plan.fingerprint,
            request=plan.request,
            output=self._output(plan),
            at=now,
            lost_at=now + timedelta(seconds=self._terms.timeout + SPARE),
        )
        if not await self._claimed(intent):
            raise IntentTakenError
        door.close_at(begun + SEND_WITHIN)
        current_bill().protected = plan.spare > 0
        return intent

    async def _claimed(self, intent: Intent) -> bool:
        claim = asyncio.ensure_future(self._step(self.records.claim, intent))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            # It goes on in its thread, and would be waited for, and count as unknown, though nothing is sent for it.
            await asyncio.wait({claim}, timeout=WITHDRAW_WITHIN)
            await self._withdraw(intent)
            raise

    async def _withdraw(self, intent: Intent) -> None:
        with suppress(ClaidError):
            found = await self._step(self.records.read, intent.number)
            if found is not None and found.intent.token == intent.token and found.result is None:
                message = "The task was stopped before its request left"
                result = Result(intent.token, "unbilled", "no", clock.now(), message=message)
                await self._end(intent, result, patience=0.0)

    def _output(self, plan: Send) -> str | None:
        """
        Return the folder that Claid is given: with `own_folder`, one that no other request has ever been given.

        Its name ends in a random part, because two deployments may have jobs of one name and one bucket.
        """
        output = plan.request.output
        if output is None or not self._terms.own_folder:
            return output
        own = f"{output}{self.identity.key()}-{plan.number}-{self._token[:12]}/"
        if len(own) > MAX_OUTPUT:
            came, accepted = f"{len(output)} characters", f"at most {MAX_OUTPUT - 60} with own_folder"
            raise ClaidInputError("output_folder", came, accepted)
        return own

    async def _note_answer(self, intent: Intent, answer: Answer) -> None:
        await self._end(intent, self._result("done", answer.request_id, answer.response.output or ()), KEEP_TRYING)

    async def _note_failure(self, intent: Intent, door: Door, cause: BaseException) -> None:
        of_claid = cause if isinstance(cause, ClaidError) else None
        billed = of_claid.billed if of_claid else "unknown" if door.passed else "no"
        outcome: Outcome = "unbilled" if billed == "no" else "unknown"
        result = self._result(outcome, of_claid.request_id if of_claid else None)
        message = of_claid.message if of_claid else f"{type(cause).__name__}: {cause}".removesuffix(": ")
        if outcome == "unbilled":
            self._next = replace(self._next, number=intent.number + 1)
        patience = KEEP_TRYING if isinstance(cause, Exception) else 0.0
        await self._end(intent, replace(result, billed=billed, message=message), patience)

    def _result(self, outcome: Outcome, request_id: str | None, images: tuple[GeneratedImage, ...] = ()) -> Result:
        return Result(self._token, outcome, "yes", clock.now(), request_id, images)

    async def _wait_for(self, submission: Submission) -> None:
        """Wait for the result of another attempt, until it can come no more; then note that it is lost."""
        intent = submission.intent
        number, lost_at = intent.number, intent.lost_at
        # Nothing that an earlier attempt learns can be written down any more; only its request may be under way.
        idle = self.records.fenced and self.asked.max_submissions <= 1
        # Not longer than a request can take that leaves now: the clock of that attempt may have been ahead.
        loop = asyncio.get_running_loop()
        until = loop.time() + (lost_at - intent.at).total_seconds()
        if not idle and clock.now() < lost_at:
            log.info("Submission %d is under way in another attempt, or lost: waiting until %s.", number, lost_at)
        while not idle and clock.now() < lost_at and loop.time() < until:
            await asyncio.sleep(LOOK_EVERY)
            found = await self._step(self.records.read, number)
            if found is None or found.result is not None:
                return
        message = "the attempt that began it ended without an answer"
        lost = Result(intent.token, "unknown", "unknown", clock.now(), message=message)
        await self._step(lambda: self.records.finish(number, lost, unless_ended=True))
        _log(Submission(intent, lost, submission.where))

    def _warn(self, overruled: bool) -> None:
        if overruled and not self._warned:
            self._warned = True
            log.warning(
                "A template renders to another request than at the first attempt of this task. The recorded one "
                "counts, or the retry would pay again. Clear the task to have the new one."
            )

    async def _step(self, step: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        try:
            async with asyncio.timeout(STEP_SECONDS):
                return await in_thread(step, *arguments)
        except (StoreBusyError, TimeoutError) as cause:
            reason = str(cause) or f"it did not answer within {STEP_SECONDS:g} s"
            raise ClaidNotSentError(f"The records of this task cannot be used now: {reason}") from cause


def _log(made: Submission) -> None:
    """Say what a submission cost: the line that answers "what did I pay for?"."""
    if made.result:
        log.info(
            "Submission %d of job %s: %s, request %s, %d credits (billed: %s). Record: %s",
            made.intent.number,
            made.intent.identity.key(),
            made.result.outcome,
            made.result.request_id,
            made.credits,
            made.result.billed,
            made.where,
        )
