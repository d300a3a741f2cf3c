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
    ClaidRecordsError,
)
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.checks import Target, check_request
from airflow_provider_claid.delivery.job import ImageJob, collect, deliverable, run
from airflow_provider_claid.delivery.payment import Search
from airflow_provider_claid.delivery.records.decision import Asked
from airflow_provider_claid.delivery.records.ledger import Ledger, Terms
from airflow_provider_claid.delivery.records.submission import fingerprint
from airflow_provider_claid.delivery.stop import Stop
from tests.simulation.checks import ATTEMPT, Checks
from tests.simulation.deferred import trigger
from tests.simulation.jobs import Job
from tests.simulation.world import Process

CONNECTION = "claid_default"


@dataclass(frozen=True)
class Means:
    """What an attempt works with: its process, and what Airflow's connections would tell."""

    process: Process
    account: Account
    search: Search | None
    target: Target | None


class Attempt:
    """One attempt of a task; one that is `deferred` pays only, and hands its event on."""

    def __init__(self, job: Job, means: Means, number: int, *, deferred: bool = False) -> None:
        self.job = job
        self.means = means
        self.process = means.process
        self.name = f"{job.name}.{number}"
        self.epoch, self.reuse = job.epoch, job.reuse
        # Every other try sees another rendering, if it drifts at all.
        self.prompt = f"{job.prompt}, rendered {number % 2}" if job.wishes.drifts else job.prompt
        self.deferred = deferred
        self.deadline: float | None = None
        self.must_not_pay = job.is_settled(self.epoch)
        self.event: Mapping[str, Any] | None = None
        self.ended = False
        self.error: BaseException | None = None
        self.result: Any = None
        self.uris: list[str] = []
        self.begun_at = 0.0
        self.bill = Bill()
        self.stop = Stop()
        self.ledger = self._ledger()
        self.task: asyncio.Task[None] | None = None

    def collector(self, means: Means) -> Attempt:
        """Return what brings home what this one has paid for."""
        other = Attempt(self.job, means, 0)
        other.name = f"{self.name} home"
        other.epoch, other.reuse, other.prompt = self.epoch, self.reuse, self.prompt
        other.event, other.must_not_pay = self.event, True
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
        if isinstance(self.error, ClaidRecordsError) and self.job.fenced and self is not self.job.attempts[-1]:
            return False
        if isinstance(self.error, ClaidRecordsError | ClaidConfigurationError | ClaidInputError):
            return True
        return not isinstance(self.error, ClaidError | asyncio.CancelledError)

    def _ledger(self) -> Ledger:
        # As hooks.order.Order does, which needs Airflow.
        endpoint = self.means.account.endpoint
        wish = fingerprint(self._request(), CONNECTION, endpoint.base_url)
        asked = Asked(self.epoch, wish, self._request(), self.reuse, self.job.wishes.max_submissions)
        return Ledger(self.job.records(), self.job.identity, asked, Terms(endpoint.timeout, self.job.wishes.own_folder))

    def _request(self) -> Any:
        return check_request(self.prompt, self.job.wishes.images, 5.0, self.job.wishes.output)

    async def _work(self, checks: Checks, done: Callable[[Attempt], None]) -> None:
        try:
            with opened_bill() as self.bill:
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
            first_try=len(self.job.attempts) == 1,
        )
        return await (run(job) if self.event is None else collect(job, self.event))
