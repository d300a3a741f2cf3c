"""An Airflow deployment of one run: its workers and triggerer, the account they share, the stores they use."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx

from airflow_provider_claid.api import client
from airflow_provider_claid.api.endpoint import Endpoint
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.checks import parse_target
from airflow_provider_claid.delivery.payment import Search
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.delivery.watching.report import Report
from airflow_provider_claid.pacing import pacer
from airflow_provider_claid.pacing.fallback import FallbackStore
from tests.simulation.attempts import Means
from tests.simulation.checks import Checks
from tests.simulation.jobs import Job
from tests.simulation.pacing import SharedSchedule
from tests.simulation.scenario import Scenario, Wishes
from tests.simulation.server import BUCKET, FOLDER, Server, picture
from tests.simulation.storage import Object, Store
from tests.simulation.transport import Transport
from tests.simulation.world import Process, World

ACCOUNT = "simulated"
SKEW = 5.0
"""Seconds by which a process's clock is wrong at most."""


class Deployment:
    """Where attempts run, and what they use."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        weather = scenario.weather
        self.store = Store(world, weather.store)
        self.server = Server(world, self.store, scenario.pace, weather.server)
        self.checks = Checks(world, self.store, self.server, scenario)
        self._world = world
        self._scenario = scenario
        self._schedule = SharedSchedule(world, weather.pacing)
        self._spare = SharedSchedule(world)
        self._numbers = itertools.count(1)
        self._worker: Process | None = None
        self._triggerer: Process | None = None
        self._book_others()

    def _book_others(self) -> None:
        """Let others have used the account in the last minute."""
        schedule, pace = self._schedule.schedule, self._scenario.pace
        spacing = schedule.spacing(pace)
        count = min(self._scenario.booked, pace.per_minute, int(59.0 / spacing))
        for number in range(count):
            self.server.arrivals.append(schedule.book(self._world.now - spacing * (count - number), pace))

    def job(self, wishes: Wishes) -> Job:
        """Make a job, and perhaps pictures of an earlier run where its own will go."""
        job = Job(self._world, wishes, self.store, self._scenario.weather.store)
        if job.fenced:
            job.fenced.on_record = self.checks.record
        if wishes.save and wishes.stale:
            before = self.store.clock() - timedelta(hours=1)
            for number in range(1, wishes.images + 1):
                path = f"copies/{wishes.filename or job.key}-{number}.png"
                self.store.objects[path] = Object(picture("yesterday"), before)
        self.checks.jobs.append(job)
        return job

    def means(self, job: Job, *, deferred: bool = False) -> Means:
        """Return what an attempt of this job works with: in a new process, or in one that others use too."""
        process = self._in_triggerer() if deferred else self._in_worker()
        endpoint = Endpoint("key", "https://api.test", job.wishes.timeout)
        scenario = self._scenario
        account = Account(ACCOUNT, endpoint, scenario.pace, Path(process.name), scenario.daily_credits)
        search = None
        if job.wishes.output is not None:
            search = Search(partial(Look, self.store), job.wishes.search_seconds)
        target = parse_target("s3://copies/", None) if job.wishes.save else None
        # A host on which the folder of the records is not mounted, or another one is.
        is_used = any(each.ledger for each in job.attempts)
        elsewhere = is_used and not job.fenced and self._world.chance(scenario.weather.lost)
        place = Store(self._world, scenario.weather.store) if elsewhere else self.store
        return Means(process, account, search, target, place)

    def _in_worker(self) -> Process:
        if self._worker is None or not self._worker.lives or not self._scenario.shared_process:
            self._worker = self._process("worker")
        return self._worker

    def _in_triggerer(self) -> Process:
        if self._triggerer is None or not self._triggerer.lives:
            self._triggerer = self._process("triggerer")
        return self._triggerer

    def _process(self, kind: str) -> Process:
        skew = (2 * self._world.random.random() - 1) * SKEW
        process = Process(self._world, f"{kind}{next(self._numbers)}", skew)
        pacer._stores[ACCOUNT, Path(process.name), None] = FallbackStore(self._schedule, self._spare)
        transport = Transport(process, self.server, self.checks, self._scenario.weather.network)
        client._clients[process.loop] = httpx.AsyncClient(transport=transport, trust_env=False)
        return process

    def close(self) -> None:
        """Forget its processes."""
        for process in self._world.processes:
            client._clients.pop(process.loop, None)
            pacer._pacers.pop(process.loop, None)
            pacer._stores.pop((ACCOUNT, Path(process.name), None), None)


class Look:
    """The watch over a connected folder."""

    def __init__(self, store: Store, folder: str, count: int) -> None:
        self._store = store
        self._folder = f"{BUCKET}{folder.removeprefix(FOLDER)}"
        self._report = Report(count, where=folder)

    async def look(self) -> Report:
        """Look once; what may pass is in the report."""
        try:
            paths = await in_thread(self._store.listed, self._folder)
        except OSError as fault:
            return replace(self._report, missing={self._folder: str(fault)})
        return replace(self._report, delivered=tuple(f"s3://{path}" for path in paths))
