"""What must hold at every moment and at the end of every run, judged by what the server and the stores really did."""

from __future__ import annotations

import json
from contextvars import ContextVar
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from airflow_provider_claid.delivery.records.ledger import SEND_WITHIN
from airflow_provider_claid.pacing.fallback import SHARE
from tests.simulation.server import BUCKET, Sending, Server
from tests.simulation.storage import Store
from tests.simulation.world import START, World

ATTEMPT: ContextVar[Any] = ContextVar("simulated_attempt")
CLOCKS_DIFFER = 10.0
"""Seconds by which the clocks of two processes differ at most."""


class Checks:
    """The invariants."""

    def __init__(self, world: World, store: Store, server: Server, scenario: Any) -> None:
        self.jobs: list[Any] = []
        self._world = world
        self._store = store
        self._server = server
        self._scenario = scenario
        server.on_bill = self._billed
        server.on_arrival = self._arrived
        store.on_record = self.record

    def begun(self, attempt: Any) -> None:
        """Check what an attempt has found out of what a person has done, once it has left its mark."""
        for other in attempt.job.attempts:
            if other is attempt or other.ledger is None:
                continue
            ours, theirs = (attempt.cleared, other.cleared), (attempt.generation, other.generation)
            if (ours[0] > ours[1], ours[0] == ours[1]) != (theirs[0] > theirs[1], theirs[0] == theirs[1]):
                self._world.fail(f"{attempt.name} is of generation {theirs[0]}, {other.name} of {theirs[1]}: {ours}")

    def sender(self) -> Any:
        """Return the attempt that is running."""
        return ATTEMPT.get()

    def leaves(self, sending: Sending) -> None:
        """Check a request at the moment its first byte leaves."""
        attempt, fail = sending.attempt, self._world.fail
        job, token = attempt.job, attempt.ledger._token
        self._world.tell(f"{attempt.name} sends {sending.prompt!r}")
        if attempt.must_not_pay:
            fail(f"{attempt.name} sent although the pictures of its generation were handed on")
        history = job.history()
        found = [each for each in history if each.token == token and each.number == attempt.ledger._next.number]
        # A later try of a fenced job that may send nothing any more does not wait for the end of this one.
        if not found or (found[0].result and not (job.fenced and job.allowed == 1)):
            fail(f"{attempt.name} sent without an open record of its own: {found}")
            return
        sending.intent = found[0]
        chain = job.chain(sending.intent.number)
        sending.chain = chain.number
        if sending.prompt != chain.prompt:
            fail(f"{attempt.name} sent {sending.prompt!r} where {chain.prompt!r} is recorded")
        late = self._store.clock() - datetime.fromisoformat(sending.intent.body["at"])
        if late > timedelta(seconds=SEND_WITHIN + CLOCKS_DIFFER):
            fail(f"{attempt.name} sent {late} after its record")
        # What it has given up itself did not leave, though another may have noted it as lost by now.
        lost = [each for each in history if each.state == "unknown" and each.token != token]
        if len(lost) >= job.wishes.max_submissions:
            fail(f"{attempt.name} sent although {len(lost)} submissions were lost")
        for other in self._server.sendings:
            if other.attempt.job is job and self._is_live(other):
                fail(f"{attempt.name} sent while the request of {other.attempt.name} was under way")

    def _is_live(self, sending: Sending) -> bool:
        """Tell whether a request may still be answered to somebody, or was left by a crash a short while ago."""
        if sending.ended:
            return False
        if not sending.process.dead:
            return sending.process.lives
        if any(
            each.state in {"done", "adopted"} and each.token_and_number == sending.intent.token_and_number
            for each in sending.attempt.job.history()
        ):
            return False
        lost_at = datetime.fromisoformat(sending.intent.body["lost_at"])
        return bool(self._store.clock() < lost_at - timedelta(seconds=CLOCKS_DIFFER))

    def ended(self, sending: Sending) -> None:
        """Note that the client knows how its request ended."""
        sending.ended = True

    def _billed(self, sending: Sending) -> None:
        job = sending.attempt.job
        of_chain = [each for each in self._paid(job) if each.chain == sending.chain]
        if len(of_chain) > job.allowed:
            who = [each.attempt.name for each in of_chain]
            self._world.fail(f"{job.name} was paid {len(of_chain)} times by {who}; {job.allowed} are allowed")

    def _paid(self, job: Any) -> list[Sending]:
        return [each for each in self._server.sendings if each.billed and each.attempt.job is job]

    def _arrived(self) -> None:
        pace, weather = self._scenario.pace, self._scenario.weather
        # While the shared schedule fails, a quarter of the pace may come on top of what was booked in it.
        more = SHARE if weather.pacing else 0.0
        for window, limit in ((1.0, pace.per_second), (60.0, pace.per_minute)):
            most = limit + ceil(more * limit)
            if (count := self._server.most_in(window)) > most:
                self._world.fail(f"{count} requests arrived within {window} s; the pace allows {most}")

    def record(self, path: str, old: bytes | None, new: bytes) -> None:
        """Check that no record loses what it knows."""
        before, after = _result(old), _result(new)
        if not before or not after or before["token"] != after["token"]:
            return
        if {before["outcome"]} <= {"done", "adopted"} and after["outcome"] not in {"done", "adopted"}:
            self._world.fail(f"{path} said {before['outcome']} and now says {after['outcome']}")

    def succeeded(self, attempt: Any, result: Any, uris: list[str]) -> None:
        """Check what an attempt returns, at that moment."""
        job, fail = attempt.job, self._world.fail
        self._world.tell(f"{attempt.name} succeeded with {uris}")
        done = [each for each in job.history() if each.state in {"done", "adopted"}]
        if result.recorded and not done:
            fail(f"{attempt.name} says that it is recorded, and {job.name} has no such record")
        if not uris:
            fail(f"{attempt.name} succeeded without a picture")
            return
        self._check_times(attempt, result, uris, done)
        attempt.uris = uris
        for uri in uris:
            sending = self._made(uri)
            if sending is None:
                fail(f"{attempt.name} returned {uri}, where no picture of ours is")
            elif sending.attempt.job is not job:
                fail(f"{attempt.name} returned {uri}, which was made for {sending.attempt.name}")
            elif attempt.cleared == job.cleared and sending.prompt not in job.wishes_of(attempt):
                fail(f"{attempt.name} returned {uri} of {sending.prompt!r}, wanted was {job.wishes_of(attempt)}")
        if result.recorded and (sending := self._made(uris[0])):
            job.taken.setdefault(attempt.generation, sending.prompt)

    def _check_times(self, attempt: Any, result: Any, uris: list[str], done: list[Any]) -> None:
        """Check how often an attempt says that its pictures may have been paid for."""
        job = attempt.job
        recorded = {each.token_and_number for each in job.history()}
        chain = job.chain(done[-1].number).number if done else 0
        if not result.recorded and (sending := self._made(uris[0])):
            # What could not be recorded is not what the records end with.
            chain = sending.chain
        # Not those of attempts that began meanwhile, or were deleted by a person.
        paid = [
            each
            for each in self._paid(job)
            if each.chain == chain and each.at < attempt.begun_at and each.intent.token_and_number in recorded
        ]
        if result.submissions < len(paid):
            self._world.fail(f"{attempt.name} was paid {len(paid)} times, and says {result.submissions}")

    def deferred(self, attempt: Any, event: Any) -> None:
        """Check what a trigger tells, at that moment."""
        self._world.tell(f"{attempt.name} tells {event}")
        kept = [each for each in attempt.job.history() if each.number == event["number"]]
        if not kept or (kept[0].state not in {"done", "adopted"} and "answer" not in event):
            self._world.fail(f"{attempt.name} tells of {event}, and recorded is {kept}")

    def _made(self, uri: str) -> Sending | None:
        """Return the request that made what can be read at this address now."""
        if uri.startswith("https:"):
            found = self._server.temporary.get(uri)
            return found.sending if found and self._world.now < found.expires_at + CLOCKS_DIFFER else None
        path = uri.removeprefix("s3://")
        if path.startswith(BUCKET):
            # Claid may still be writing it; that it comes is checked at the end.
            return self._server.lasting.get(path)
        stored = self._store.objects.get(path)
        return self._server.made.get(stored.data) if stored else None

    def failed(self, attempt: Any, error: BaseException) -> None:
        """Take note of how an attempt failed."""
        self._world.tell(f"{attempt.name} failed: {type(error).__name__}: {error}")

    def end(self) -> None:
        """Check what is left when nothing happens any more."""
        for job in self.jobs:
            self._check_records(job)
            self._check_copies(job)
            for attempt in (*job.attempts, *job.collectors):
                self._check_truth(attempt)
        if limit := self._scenario.daily_credits:
            self._check_budget(limit)

    def _check_copies(self, job: Any) -> None:
        """Check that what the last wish has brought home is still there."""
        latest = max(each.generation for each in job.attempts)
        for attempt in (*job.attempts, *job.collectors):
            for uri in attempt.uris if attempt.generation == latest else ():
                sending = self._made(uri)
                if uri.startswith("s3:") and (sending is None or sending.prompt not in job.wishes_of(attempt)):
                    self._world.fail(f"{attempt.name} returned {uri}, and something else is there now")

    def _check_truth(self, attempt: Any) -> None:
        if attempt.process.dead and not attempt.ended:
            return
        fail = self._world.fail
        if not attempt.ended:
            fail(f"{attempt.name} never ended")
        billed = any(each.billed and each.attempt is attempt for each in self._server.sendings)
        if billed and attempt.error is not None and getattr(attempt.error, "billed", "unknown") == "no":
            fail(f"{attempt.name} was billed and said that it was not: {attempt.error}")
        if billed and attempt.bill.billed == "no":
            fail(f"{attempt.name} was billed, and its bill says that it was not")
        if attempt.error is not None and attempt.is_surprising():
            fail(f"{attempt.name} failed in a way that nobody expects: {attempt.error!r}")

    def _check_records(self, job: Any) -> None:
        fail, sendings = self._world.fail, {each.intent.token_and_number: each for each in self._server.sendings}
        for each in job.history():
            sending = sendings.get(each.token_and_number)
            billed = sending is not None and sending.billed
            where = f"record {each.number} of {job.name}"
            if each.state in {"unbilled", "done"} and billed != (each.state == "done"):
                fail(f"{where} says {each.state}, and that is not so")
            if each.state in {"done", "adopted"}:
                self._check_pictures(job, each, where)

    def _check_pictures(self, job: Any, record: Any, where: str) -> None:
        made = [url for each in self._paid(job) if self._is_of(job, record, each) for url in each.pictures]
        for image in record.result["images"]:
            uri = image.get("object_uri") or image.get("tmp_url")
            known = uri in made if uri.startswith("https:") else self._of_storage(job, record, uri)
            if not known:
                self._world.fail(f"{where} says {record.state} with {uri}, which was not made for it")
            elif uri.startswith("s3:") and uri.removeprefix("s3://") not in self._store.objects:
                self._world.fail(f"{where} says {record.state} with {uri}, where nothing is")
        if not record.result["images"]:
            self._world.fail(f"{where} says {record.state} without a picture")

    def _of_storage(self, job: Any, record: Any, uri: str) -> bool:
        sending = self._server.lasting.get(uri.removeprefix("s3://"))
        return uri.startswith(f"s3://{BUCKET}") and sending is not None and self._is_of(job, record, sending)

    def _is_of(self, job: Any, record: Any, sending: Sending) -> bool:
        """Tell whether a request was for the same wish of the same job as a record."""
        return sending.attempt.job is job and bool(sending.prompt == record.body["request"]["input"])

    def _check_budget(self, limit: int) -> None:
        paid = [each for each in self._server.sendings if each.billed]
        credits = sum(len(each.pictures) for each in paid)
        # The day begins at noon of the run's clock.
        days = {int((each.at - START + 43_200.0) // 86_400.0) for each in paid}
        if credits > limit * len(days):
            self._world.fail(f"{credits} credits were spent on {len(days)} days; the limit is {limit} a day")


def _result(raw: bytes | None) -> Any:
    if raw is None:
        return None
    value = json.loads(raw)
    value = value.get("result") if "intent" in value else value
    return value if value and "outcome" in value else None
