"""The schedule that all processes of a run share, as a store whose steps take time and fail."""

from __future__ import annotations

from typing import TypeVar

from airflow_provider_claid.pacing.budget import Budget
from airflow_provider_claid.pacing.schedule import Schedule
from airflow_provider_claid.pacing.store import Change, ScheduleStore, StoreError
from tests.simulation.world import World

T = TypeVar("T")


class SharedSchedule(ScheduleStore):
    """One schedule, one budget; a share of `trouble` of the steps fails, before or after it was carried out."""

    def __init__(self, world: World, trouble: float = 0.0) -> None:
        self.schedule = Schedule()
        self.budget = Budget()
        self._world = world
        self._trouble = trouble

    def _step(self, change: Change[T], *, budgeted: bool = False) -> T:
        fault = self._world.random.choice(("before", "after")) if self._world.chance(self._trouble) else None
        self._sleep()
        if fault == "before":
            self._fail()
        schedule, budget = self.schedule.copy(), self.budget.copy()
        result = change(schedule, self._world.now, budget)
        self.schedule = schedule
        if budgeted:
            self.budget = budget
        self._sleep()
        if fault == "after":
            self._fail()
        return result

    def _sleep(self) -> None:
        dice = self._world.random
        if self._world.thread:
            self._world.thread.sleep(dice.random() * (2.0 if self._world.chance(0.02) else 0.002))

    def _fail(self) -> None:
        self._world.counters["pacing_faults"] += 1
        raise StoreError("the schedule cannot be used now")
