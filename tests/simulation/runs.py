"""One seed from its beginning to its end."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.simulation.attempts import Attempt
from tests.simulation.deployment import Deployment
from tests.simulation.jobs import Job
from tests.simulation.patches import patched
from tests.simulation.scenario import Scenario, draw
from tests.simulation.world import START, World

HOUR = 3600.0
PERSON = 15.0
"""Seconds that a person needs at least to clear a task: longer than clocks differ."""
WAITED = 600.0
"""Seconds after the last request before a person permits another."""


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
    scenario = draw(world.random)
    world.tell(f"{scenario}")
    deployment = Deployment(world, scenario)
    run = Run(world, scenario, deployment)
    with patched(world, deployment.store):
        try:
            run.begin()
            world.run()
            if not world.faults:
                run.end()
        except Exception as error:  # noqa: BLE001 - a seed that breaks the simulation is to be looked at too
            world.fail(f"the simulation broke: {error!r} {traceback.format_exc()}")
        finally:
            world.end()
            deployment.close()
    world.counters["runs"] += 1
    return Outcome(seed, world.faults, world.counters, world.now - START, world.steps)


class Run:
    """The scheduler that begins attempts, what kills and cancels them, and the people who clear tasks."""

    def __init__(self, world: World, scenario: Scenario, deployment: Deployment) -> None:
        self._world = world
        self._dice = world.random
        self._scenario = scenario
        self._deployment = deployment

    def begin(self) -> None:
        """Begin every job."""
        for wishes in self._scenario.jobs:
            job = self._deployment.job(wishes)
            self._world.after(self._dice.random() * 3.0, partial(self._begin_attempt, job))

    def end(self) -> None:
        """Check what is left, and count."""
        checks, counters = self._deployment.checks, self._world.counters
        checks.end()
        for job in checks.jobs:
            for record in job.history():
                counters[f"recorded_{record.state}"] += 1
            for attempt in (*job.attempts, *job.collectors):
                counters["succeeded"] += attempt.result is not None and attempt.error is None
                counters["reused"] += attempt.result is not None and attempt.result.reused
                counters["errors"] += attempt.error is not None
                counters[type(attempt.error).__name__] += attempt.error is not None

    def _begin_attempt(self, job: Job) -> None:
        if len(job.attempts) >= job.wishes.attempts:
            return
        weather, counters = self._scenario.weather, self._world.counters
        means = self._deployment.means(job, deferred=job.wishes.deferred)
        attempt = Attempt(job, means, len(job.attempts) + 1, deferred=job.wishes.deferred)
        if attempt.deferred and self._world.chance(0.2):
            attempt.deadline = self._world.wall().timestamp() + self._dice.choice((10.0, 100.0)) * self._dice.random()
        job.attempts.append(attempt)
        counters["attempts"] += 1
        counters["fenced"] += job.fenced is not None
        counters["deferred"] += attempt.deferred
        counters["lost_places"] += attempt.is_lost
        self._start(attempt)
        if self._world.chance(weather.rivals):
            delay = self._dice.choice((0.0, 0.1, 5.0, 100.0)) * self._dice.random()
            self._world.after(delay, partial(self._rival, job))

    def _start(self, attempt: Attempt) -> None:
        """Start an attempt, and decide what is to become of it."""
        dice, weather, process = self._dice, self._scenario.weather, attempt.process
        self._world.tell(
            f"{attempt.name} begins in {process.name}, cleared {attempt.cleared} times, wants {attempt.prompt!r}"
        )
        attempt.start(self._deployment.checks, self._ended)
        process.on_death.append(partial(self._killed, attempt))
        if process.kill_at is None and self._world.chance(weather.kills):
            process.kill_at = process.handles + 1 + int(dice.choice((40, 120, 400)) * dice.random())
        if process.stop_at is None and self._world.chance(weather.stops):
            process.stop_at = (process.handles + 1 + int(150 * dice.random()), dice.choice((1.0, 40.0, 400.0)))
        if self._world.chance(weather.cancels):
            self._world.after(dice.choice((2.0, 30.0, 200.0)) * dice.random(), partial(self._cancel, attempt))

    def _cancel(self, attempt: Attempt) -> None:
        """Cancel an attempt as Airflow does, and kill its process if that does not end it."""
        if attempt.ended or attempt.process.dead or attempt.task is None:
            return
        self._world.counters["cancelled"] += 1
        self._world.tell(f"{attempt.name} is cancelled")
        attempt.stop.asked = self._world.chance(0.7)
        attempt.task.cancel()
        self._world.after(self._dice.choice((1.0, 60.0, 400.0)), partial(self._end_by_force, attempt))

    def _end_by_force(self, attempt: Attempt) -> None:
        if not attempt.ended:
            attempt.process.die()

    def _rival(self, job: Job) -> None:
        """Begin another attempt while one may be under way: it was thought dead, or two were started."""
        self._world.counters["zombies"] += self._is_busy(job)
        self._retry(job)

    def _is_busy(self, job: Job) -> bool:
        return any(not each.ended and not each.process.dead for each in (*job.attempts, *job.collectors))

    def _is_over(self, job: Job) -> bool:
        """Tell whether what is lost is lost: a person has waited, and looked into the folder."""
        sent = [each.at for each in self._deployment.server.sendings if each.attempt.job is job]
        return not self._is_busy(job) and self._world.now > max(sent, default=0.0) + WAITED

    def _killed(self, attempt: Attempt) -> None:
        if not attempt.ended:
            self._go_on(attempt.job, success=False)

    def _ended(self, attempt: Attempt) -> None:
        if attempt.deferred and attempt.event is not None:
            self._world.after(0.1 + 5.0 * self._dice.random(), partial(self._bring_home, attempt))
        else:
            self._world.after(0.0, partial(self._go_on, attempt.job, success=attempt.error is None))

    def _bring_home(self, attempt: Attempt) -> None:
        """Let a worker collect what a trigger has paid for."""
        collector = attempt.collector(self._deployment.means(attempt.job))
        attempt.job.collectors.append(collector)
        self._world.counters["collected"] += 1
        self._start(collector)

    def _go_on(self, job: Job, *, success: bool) -> None:
        """Retry what failed; now and then a person clears the task."""
        delay = self._dice.choice((0.5, 10.0, 300.0)) * self._dice.random()
        if self._dice.random() < 0.1:
            delay += WAITED
        if self._scenario.long_gaps:
            delay += self._dice.random() * 30 * HOUR
        if success or not job.has_retries or self._world.chance(0.2):
            self._world.after(delay + PERSON, partial(self._clear, job))
        else:
            self._world.after(delay, partial(self._retry, job))

    def _retry(self, job: Job) -> None:
        """Try again, unless another attempt has used the last retry meanwhile."""
        if job.has_retries:
            self._begin_attempt(job)

    def _clear(self, job: Job) -> None:
        """Clear a task as a person does: with another wish perhaps, or after permitting one more submission."""
        if len(job.attempts) >= job.wishes.attempts:
            return
        self._world.counters["cleared"] += 1
        history = job.history()
        if history and history[-1].state == "unknown" and self._is_over(job) and self._world.chance(0.5):
            self._world.counters["permitted"] += 1
            self._world.tell(f"submission {history[-1].number} of {job.name} is deleted")
            job.delete(history[-1].number)
        job.clear(self._dice.choice((0, 1, 3)))
        job.reuse = self._dice.random() < 0.7
        if self._dice.random() < 0.4:
            job.prompt = f"{job.name} as it was wished when cleared for the {job.cleared}. time"
        self._world.tell(f"{job.name} is cleared: {job.prompt!r}, reuse={job.reuse}")
        self._begin_attempt(job)
