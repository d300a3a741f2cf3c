"""An attempt of a task: on a worker, or in a triggerer and then on a worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from airflow_provider_claid.api.bill import Bill, opened_bill
from airflow_provider_claid.api.errors import (
    ClaidBudgetError,
    ClaidConfigurationError,
    ClaidError,
    ClaidInputError,
    ClaidNotSentError,
    ClaidRecordsError,
)
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.checks import Target, check_request
from airflow_provider_claid.delivery.job import ImageJob, collect, deliverable, run
from airflow_provider_claid.delivery.payment import Search
from airflow_provider_claid.delivery.records.attempts import Attempt as MarkedAttempt
from airflow_provider_claid.delivery.records.attempts import Try
from airflow_provider_claid.delivery.records.decision import Asked
from airflow_provider_claid.delivery.records.ledger import Ledger, Terms
from airflow_provider_claid.delivery.records.marks import begin, begin_in_state, tell, told_to
from airflow_provider_claid.delivery.records.state import StateStore, TaskStateRecords
from airflow_provider_claid.delivery.records.store import ObjectRecords, Records
from airflow_provider_claid.delivery.records.submission import fingerprint
from airflow_provider_claid.delivery.stop import Stop
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.delivery.threads import in_thread
from tests.simulation.checks import ATTEMPT, Checks
from tests.simulation.deferred import trigger
from tests.simulation.jobs import Job
from tests.simulation.storage import Store, objects_of
from tests.simulation.world import Process

CONNECTION = "claid_default"


@dataclass(frozen=True)
class Means:
    """What an attempt works with: its process, and what Airflow's connections would tell."""

    process: Process
    account: Account
    search: Search | None
    target: Target | None
    place: Store
    """Where this process finds the records: another one than the others, if the folder is not mounted here."""


class Attempt:
    """One attempt of a task; one that is `deferred` pays only, and hands its event on."""

    def __init__(self, job: Job, means: Means, number: int, *, deferred: bool = False) -> None:
        self.job = job
        self.means = means
        self.process = means.process
        self.name = f"{job.name}.{number}"
        self.cleared, self.reuse = job.cleared, job.reuse
        self.generation = -1
        self.told = job.next_try() if number else Try(0)
        # Every other try sees another rendering, if it drifts at all.
        self.prompt = f"{job.prompt}, rendered {number % 2}" if job.wishes.drifts else job.prompt
        self.deferred = deferred
        self.deadline: float | None = None
        self.is_lost = means.place is not job.place
        self.must_not_pay = self.is_lost
        self.event: Mapping[str, Any] | None = None
        self.ended = False
        self.error: BaseException | None = None
        self.result: Any = None
        self.uris: list[str] = []
        self.begun_at = 0.0
        self.bill = Bill()
        self.stop = Stop()
        self.ledger: Ledger | None = None
        self.attempt = MarkedAttempt()
        self.state = StateStore(job.state.accessor()) if job.state and number else None
        self.task: asyncio.Task[None] | None = None

    def collector(self, means: Means) -> Attempt:
        """Return what brings home what this one has paid for."""
        other = Attempt(self.job, means, 0)
        other.name = f"{self.name} home"
        other.cleared, other.reuse, other.prompt = self.cleared, self.reuse, self.prompt
        other.generation, other.attempt, other.event = self.generation, self.attempt, self.event
        other.must_not_pay, other.ledger = True, other._ledger()
        return other

    def start(self, checks: Checks, done: Callable[[Attempt], None]) -> None:
        """Begin in the event loop of its process."""
        self.begun_at = self.process.world.now
        context = copy_context()
        context.run(ATTEMPT.set, self)
        self.task = self.process.loop.create_task(self._work(checks, done), context=context)

    def is_surprising(self) -> bool:
        """Tell whether it failed in a way that no fault of the simulation explains."""
        if isinstance(self.error, ClaidBudgetError):
            return False
        # An answer that the event holds needs no records to be delivered.
        is_told = self.event is not None and "answer" in self.event
        if (self.is_lost and not is_told) or (self.ledger is None and isinstance(self.error, ClaidRecordsError)):
            # A later try that began before the first one had left its mark is refused, too, where nothing tells.
            return not isinstance(self.error, ClaidRecordsError | ClaidNotSentError | asyncio.CancelledError)
        if isinstance(self.error, ClaidRecordsError) and self.job.fenced and self is not self.job.attempts[-1]:
            return False
        if isinstance(self.error, ClaidRecordsError | ClaidConfigurationError | ClaidInputError):
            return True
        return not isinstance(self.error, ClaidError | asyncio.CancelledError)

    def _ledger(self) -> Ledger:
        # As hooks.order.Order does, which needs Airflow.
        endpoint = self.means.account.endpoint
        wish = fingerprint(self._request(), CONNECTION, endpoint.base_url)
        asked = Asked(self.generation, wish, self._request(), self.reuse, self.job.wishes.max_submissions)
        terms = Terms(endpoint.timeout, self.job.wishes.own_folder)
        return Ledger(self._records(), self.job.identity, asked, terms)

    def _records(self) -> Records:
        if self.job.fenced:
            return TaskStateRecords(self.state or StateStore(self.job.fenced.accessor()))
        return ObjectRecords(objects_of(self.means.place), self.job.key)

    def _begin(self) -> None:
        """Leave a mark, as hooks.records does, which needs Airflow."""
        try:
            if self.job.fenced and self.state:
                self.attempt = begin_in_state(self.state, self.told)
            else:
                objects = objects_of(self.means.place)
                self.attempt = begin(objects, self.job.key, self.told, told_to(self.state))
                tell(self.state, objects.uri)
        except StoreBusyError as busy:
            raise ClaidNotSentError(f"The records cannot be used now: {busy}") from busy

    def _request(self) -> Any:
        return check_request(self.prompt, self.job.wishes.images, 5.0, self.job.wishes.output)

    async def _work(self, checks: Checks, done: Callable[[Attempt], None]) -> None:
        try:
            with opened_bill() as self.bill:
                if self.event is None:
                    await in_thread(self._begin)
                    self.generation = self.attempt.generation
                    self.must_not_pay = self.is_lost or self.job.is_settled(self.generation)
                    self.ledger = self._ledger()
                    checks.begun(self)
                if self.deferred:
                    pays = trigger(self.means.account, self.ledger, self.means.search, self.deadline)
                    self.stop = pays._stop
                    self.event = json.loads(json.dumps(await pays._event()))
                    checks.deferred(self, self.event)
                else:
                    self.result = await self._deliver()
                    checks.succeeded(self, self.result, deliverable(self.result, "keep"))
        except BaseException as error:  # noqa: BLE001 - also a cancellation is looked at
            self.error = error
            checks.failed(self, error)
        finally:
            self.ended = True
            done(self)

    async def _deliver(self) -> Any:
        means = self.means
        job = ImageJob(
            means.account,
            self._request(),
            self.job.wishes.filename or self.job.key,
            means.target,
            ledger=self.ledger,
            search=means.search,
            stop=self.stop,
            first_try=self.attempt.number == 1,
        )
        return await (run(job) if self.event is None else collect(job, self.event))
