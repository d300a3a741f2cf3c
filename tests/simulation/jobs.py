"""A task instance and its attempts: retried, killed, cleared, duplicated, and what its records really say."""

from __future__ import annotations

import asyncio
import json
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
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.job import ImageJob, deliverable, run
from airflow_provider_claid.delivery.payment import Search
from airflow_provider_claid.delivery.records.decision import Asked
from airflow_provider_claid.delivery.records.ledger import Ledger, Terms
from airflow_provider_claid.delivery.records.submission import fingerprint
from airflow_provider_claid.delivery.stop import Stop
from tests.simulation.checks import ATTEMPT
from tests.simulation.scenario import Wishes
from tests.simulation.storage import RECORDS, Fenced, Store, fenced_records, object_records
from tests.simulation.world import Process, World

CONNECTION = "claid_default"


@dataclass(frozen=True)
class Record:
    """A submission as it is stored."""

    number: int
    body: dict[str, Any]
    result: dict[str, Any] | None

    @property
    def token(self) -> str:
        """Which attempt wrote it."""
        return str(self.body["token"])

    @property
    def token_and_number(self) -> tuple[str, int]:
        """What names it."""
        return self.token, self.number

    @property
    def state(self) -> str:
        """How it ended, as far as is recorded."""
        return str(self.result["outcome"]) if self.result else "open"


@dataclass(frozen=True)
class Chain:
    """Submissions that are for one wish: the number of the first of them, and the prompt."""

    number: int
    prompt: str
    epoch: int


class Job:
    """A task instance."""

    def __init__(self, world: World, wishes: Wishes, store: Store, trouble: float) -> None:
        self.name = wishes.name
        self.wishes = wishes
        self.identity = Identity("dag", "run", wishes.name)
        self.key = self.identity.key()
        self.allowed = wishes.max_submissions
        self.attempts: list[Attempt] = []
        self.epoch = 0
        self.prompt = f"{wishes.name} as it was first"
        self.reuse = True
        self.fenced = Fenced(world, trouble) if wishes.fenced else None
        self._store = store

    def records(self) -> Any:
        """Return the records as a new attempt gets them."""
        return fenced_records(self.fenced) if self.fenced else object_records(self._store, self.key)

    def history(self) -> list[Record]:
        """Return what is really recorded."""
        found = []
        while (record := self._record(len(found) + 1)) is not None:
            found.append(record)
        return found

    def _record(self, number: int) -> Record | None:
        if self.fenced:
            text = self.fenced.values.get(f"claid_submission_{number}")
            value = json.loads(text) if text else {}
            body, result = value.get("intent"), value.get("result")
        else:
            place = f"{RECORDS}/{self.key}/{number}"
            parts = (self._store.objects.get(f"{place}.{kind}") for kind in ("intent", "result"))
            body, result = (json.loads(part.data) if part else None for part in parts)
        if body is None:
            return None
        return Record(number, body, result if result and result["token"] == body["token"] else None)

    def chain(self, number: int) -> Chain:
        """Say which wish a submission is for, by the rules that users are told, whatever its record says."""
        chain = None
        by_token = {attempt.ledger._token: attempt for attempt in self.attempts if attempt.ledger}
        for record in self.history()[:number]:
            asked = by_token[record.token]
            if chain is None:
                chain = Chain(1, asked.prompt, asked.epoch)
            elif asked.epoch == chain.epoch or (asked.reuse and asked.prompt == chain.prompt):
                chain = Chain(chain.number, chain.prompt, asked.epoch)
            else:
                chain = Chain(record.number, asked.prompt, asked.epoch)
        assert chain is not None
        return chain

    def wish_of(self, attempt: Attempt) -> str:
        """Return what an attempt has to deliver: what the first submission of its epoch asked for."""
        history = self.history()
        of_epoch = [each for each in history if each.body["epoch"] == attempt.epoch]
        return self.chain(of_epoch[0].number).prompt if of_epoch else attempt.prompt


class Attempt:
    """One attempt of a task in a process of a worker."""

    def __init__(self, job: Job, process: Process, account: Any, search: Search | None, number: int) -> None:
        self.job = job
        self.process = process
        self.name = f"{job.name}.{number}"
        self.epoch, self.reuse = job.epoch, job.reuse
        self.prompt = f"{job.prompt}, at try {number}" if job.wishes.drifts else job.prompt
        self.sent = 0
        self.ended = False
        self.error: BaseException | None = None
        self.result: Any = None
        self.bill = Bill()
        self.stop = Stop()
        self.ledger = self._ledger(account)
        self._account = account
        self._search = search
        self.task: asyncio.Task[None] | None = None

    def start(self, target: Any, checks: Any, done: Any) -> None:
        """Begin in the event loop of its process."""
        context = copy_context()
        context.run(ATTEMPT.set, self)
        self.task = self.process.loop.create_task(self._work(target, checks, done), context=context)

    def is_surprising(self) -> bool:
        """Tell whether it failed in a way that no fault of the simulation explains."""
        if isinstance(self.error, ClaidBudgetError):
            return False
        if isinstance(self.error, ClaidRecordsError) and self.job.fenced and self is not self.job.attempts[-1]:
            return False
        if isinstance(self.error, ClaidRecordsError | ClaidConfigurationError | ClaidInputError):
            return True
        return not isinstance(self.error, ClaidError | asyncio.CancelledError)

    def _ledger(self, account: Any) -> Ledger:
        # As hooks.order.Order does, which needs Airflow.
        wish = fingerprint(self._request(), CONNECTION, account.endpoint.base_url)
        asked = Asked(self.epoch, wish, self._request(), self.reuse, self.job.wishes.max_submissions)
        terms = Terms(account.endpoint.timeout, self.job.wishes.own_folder)
        return Ledger(self.job.records(), self.job.identity, asked, terms)

    def _request(self) -> Any:
        return check_request(self.prompt, self.job.wishes.images, 5.0, self.job.wishes.output)

    async def _work(self, target: Any, checks: Any, done: Any) -> None:
        name = self.job.wishes.filename or self.job.key
        job = ImageJob(
            self._account,
            self._request(),
            name,
            target,
            ledger=self.ledger,
            search=self._search,
            stop=self.stop,
            first_try=len(self.job.attempts) == 1,
        )
        try:
            with opened_bill() as self.bill:
                self.result = await run(job)
                checks.succeeded(self, self.result, deliverable(self.result, "keep"))
        except BaseException as error:  # noqa: BLE001 - also a cancellation is looked at
            self.error = error
            checks.failed(self, error)
        finally:
            self.ended = True
            done(self)
