"""One seed from its beginning to its end."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
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
from tests.simulation.checks import Checks
from tests.simulation.jobs import Attempt, Job
from tests.simulation.pacing import SharedSchedule
from tests.simulation.patches import patched
from tests.simulation.scenario import draw
from tests.simulation.server import BUCKET, FOLDER, Server
from tests.simulation.storage import Store
from tests.simulation.transport import Transport
from tests.simulation.world import START, Process, World

ACCOUNT = "simulated"
HOUR = 3600.0
PERSON = 15.0
"""Seconds that a person needs at least to clear a task: longer than clocks differ."""


@dataclass(frozen=True)
class Outcome:
    """What came of a seed: what was wrong, and how often what happened."""

    seed: int
    faults: list[str]
    counters: Counter[str]
    virtual_seconds: float
    steps: int


def simulate(seed: int, tell: Callable[[str], None] | None = None) -> Outcome:
    """Run one seed."""
    world = World(seed, tell)
    try:
        run = Run(world)
        with patched(world, run.store):
            run.begin()
            world.run()
            if not world.faults:
                run.end()
            world.end()
    finally:
        world.end()
        for process in world.processes:
            client._clients.pop(process.loop, None)
            pacer._pacers.pop(process.loop, None)
        pacer._stores.clear()
    world.counters["runs"] += 1
    return Outcome(seed, world.faults, world.counters, world.now - START, world.steps)


class Run:
    """The world of a seed, and the people and schedulers in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.scenario = draw(world.random)
        world.tell(f"{self.scenario}")
        weather = self.scenario.weather
        self.store = Store(world, weather.store)
        self.server = Server(world, self.store, self.scenario.pace, weather.server)
        self.checks = Checks(world, self.store, self.server, self.scenario)
        self._schedule = SharedSchedule(world, weather.pacing)
        self._spare = SharedSchedule(world)
        self._processes = itertools.count(1)
        self._shared: Process | None = None
        self._book_others()

    def _book_others(self) -> None:
        """Let others have used the account in the last minute."""
        pace, count = self.scenario.pace, self.scenario.booked
        spacing = self._schedule.schedule.spacing(pace)
        count = min(count, pace.per_minute, int(59.0 / spacing))
        first = self.world.now - spacing * count
        for number in range(count):
            self._schedule.schedule.book(first + number * spacing, pace)
            self.server.arrivals.append(self._schedule.schedule.bookings[-1])

    def begin(self) -> None:
        """Begin every job."""
        for wishes in self.scenario.jobs:
            job = Job(self.world, wishes, self.store, self.scenario.weather.store)
            if job.fenced:
                job.fenced.on_record = self.checks.record
            self.checks.jobs.append(job)
            self.world.after(self.world.random.random() * 3.0, partial(self._attempt, job))

    def end(self) -> None:
        """Check what is left."""
        counters = self.world.counters
        self.checks.end()
        for job in self.checks.jobs:
            for record in job.history():
                counters[f"recorded_{record.state}"] += 1
            for attempt in job.attempts:
                counters["succeeded"] += attempt.result is not None and attempt.error is None
                counters["reused"] += attempt.result is not None and attempt.result.reused
                counters["errors"] += attempt.error is not None
                counters[type(attempt.error).__name__] += attempt.error is not None

    def _attempt(self, job: Job) -> None:
        """Begin an attempt, and decide what is to become of it."""
        dice, weather, world = self.world.random, self.scenario.weather, self.world
        process = self._process(job)
        number = len(job.attempts) + 1
        attempt = Attempt(job, process, self._account(job, process), self._search(job, process), number)
        job.attempts.append(attempt)
        world.counters["attempts"] += 1
        world.counters["fenced"] += job.fenced is not None
        world.tell(f"{attempt.name} begins in {process.name}, epoch {attempt.epoch}, wants {attempt.prompt!r}")
        target = parse_target("s3://copies/", None) if job.wishes.save else None
        attempt.start(target, self.checks, self._ended)
        if process.kill_at is None and world.chance(weather.kills):
            process.kill_at = process.handles + 1 + int(dice.choice((40, 120, 400)) * dice.random())
            process.on_death.append(partial(self._killed, attempt))
        if process.stop_at is None and world.chance(weather.stops):
            process.stop_at = (process.handles + 1 + int(150 * dice.random()), dice.choice((1.0, 40.0, 400.0)))
        if world.chance(weather.cancels):
            world.after(dice.choice((2.0, 30.0, 200.0)) * dice.random(), partial(self._cancel, attempt))
        if world.chance(weather.rivals) and len(job.attempts) < job.wishes.attempts:
            world.after(dice.choice((0.0, 0.1, 5.0, 100.0)) * dice.random(), partial(self._rival, job))

    def _process(self, job: Job) -> Process:
        dice = self.world.random
        if self._shared and self._shared.lives and self.scenario.shared_process:
            return self._shared
        skew = (dice.random() - 0.5) * 10.0
        self._shared = process = Process(self.world, f"process{next(self._processes)}", skew)
        folder = Path(process.name)
        pacer._stores[ACCOUNT, folder] = FallbackStore(self._schedule, self._spare)
        transport = Transport(process, self.server, self.checks, self.scenario.weather.network)
        client._clients[process.loop] = httpx.AsyncClient(transport=transport, trust_env=False)
        return process

    def _account(self, job: Job, process: Process) -> Account:
        endpoint = Endpoint("key", "https://api.test", job.wishes.timeout)
        return Account(ACCOUNT, endpoint, self.scenario.pace, Path(process.name), self.scenario.daily_credits)

    def _search(self, job: Job, process: Process) -> Search | None:
        if job.wishes.output is None:
            return None
        return Search(partial(Look, self.store), job.wishes.search_seconds)

    def _cancel(self, attempt: Attempt) -> None:
        """Cancel an attempt as Airflow does, and kill its process if that does not end it."""
        if attempt.ended or attempt.process.dead or attempt.task is None:
            return
        self.world.counters["cancelled"] += 1
        self.world.tell(f"{attempt.name} is cancelled")
        attempt.stop.asked = self.world.chance(0.7)
        attempt.task.cancel()
        self.world.after(self.world.random.choice((1.0, 60.0)), partial(self._end_by_force, attempt))

    def _end_by_force(self, attempt: Attempt) -> None:
        if not attempt.ended and not attempt.process.dead:
            attempt.process.die()
            self._killed(attempt)

    def _rival(self, job: Job) -> None:
        """Begin another attempt while one may be under way: it was thought dead, or two were started."""
        if len(job.attempts) < job.wishes.attempts:
            if any(not each.ended and each.process.lives for each in job.attempts):
                self.world.counters["zombies"] += 1
            self._attempt(job)

    def _killed(self, attempt: Attempt) -> None:
        if not attempt.ended:
            self._go_on(attempt.job, success=False)

    def _ended(self, attempt: Attempt) -> None:
        self.world.after(0.0, partial(self._go_on, attempt.job, success=attempt.error is None))

    def _go_on(self, job: Job, *, success: bool) -> None:
        """Retry what failed; now and then a person clears the task, with another wish perhaps."""
        dice, world = self.world.random, self.world
        if len(job.attempts) >= job.wishes.attempts:
            return
        delay = dice.choice((0.5, 10.0, 300.0)) * dice.random()
        if self.scenario.long_gaps:
            delay += dice.random() * 30 * HOUR
        if success or world.chance(0.2):
            world.after(delay + PERSON, partial(self._clear, job))
        else:
            world.after(delay, partial(self._retry, job))

    def _retry(self, job: Job) -> None:
        if len(job.attempts) < job.wishes.attempts:
            self._attempt(job)

    def _clear(self, job: Job) -> None:
        dice = self.world.random
        if len(job.attempts) >= job.wishes.attempts:
            return
        self.world.counters["cleared"] += 1
        job.epoch += 1
        job.reuse = dice.random() < 0.7
        if dice.random() < 0.4:
            job.prompt = f"{job.name} as it was wished in epoch {job.epoch}"
        self.world.tell(f"{job.name} is cleared: {job.prompt!r}, reuse={job.reuse}")
        self._attempt(job)


class Look:
    """The watch over a connected folder."""

    def __init__(self, store: Store, folder: str, count: int, since: datetime | None) -> None:
        self._store = store
        self._folder = f"{BUCKET}{folder.removeprefix(FOLDER)}"
        self._report = Report(count, where=folder)
        self._since = since.replace(microsecond=0) if since else None

    async def look(self) -> Report:
        """Look once; what may pass is in the report."""
        try:
            paths = await in_thread(self._store.listed, self._folder, self._since)
        except OSError as fault:
            return replace(self._report, missing={self._folder: str(fault)})
        return replace(self._report, delivered=tuple(f"s3://{path}" for path in paths))
