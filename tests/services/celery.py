"""An Airflow of many machines on this one: PostgreSQL, Redis and Celery workers that share nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.services.airflow import COMPONENTS, RunningAirflow

WORKERS = ("worker-1", "worker-2")

_SETTINGS = {
    "CORE__EXECUTOR": "CeleryExecutor",
    "CELERY__SYNC_PARALLELISM": "1",
    # A message that a lost worker took comes back after this: longer than any task, which would else run twice.
    "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "3600",
    # With two cores for all of it, one that is only late must not be taken for dead.
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "60",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "60",
    # What a lost worker had taken and not begun is queued again.
    "SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
}


class CeleryAirflow(RunningAirflow):
    """
    A `RunningAirflow` with the CeleryExecutor: `broker` and `database` are URLs of a Redis and of a PostgreSQL.

    Each worker is a component of its own, to be killed with all its tasks as a lost machine. `concurrency` is how many
    tasks a worker runs at once. Each worker, and the triggerer, has a pacing folder of its own, as hosts have.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        broker: str,
        database: str,
        environment: Mapping[str, str] | None = None,
        workers: Sequence[str] = WORKERS,
        concurrency: int = 2,
    ) -> None:
        self.executors, self._broker = tuple(workers), broker
        settings = _SETTINGS | {
            "CELERY__BROKER_URL": broker,
            "CELERY__RESULT_BACKEND": f"db+{database}",
            "CELERY__WORKER_CONCURRENCY": str(concurrency),
            "DATABASE__SQL_ALCHEMY_CONN": database,
        }
        named = {f"AIRFLOW__{name}": value for name, value in settings.items()}
        components = (*COMPONENTS, *workers)
        super().__init__(home, dags, named | dict(environment or {}), components, parallelism=32)

    def _arguments(self, component: str) -> list[str]:
        if component not in self.executors:
            return super()._arguments(component)
        return ["celery", "worker", "--celery-hostname", component, "--skip-serve-logs"]

    def _environment_of(self, component: str) -> dict[str, str]:
        return {"AIRFLOW__CLAID__PACING_DIR": str(self.home / "pacing" / component)} | self.environment

    def _is_healthy(self, component: str) -> bool:
        if component not in self.executors:
            return super()._is_healthy(component)
        return bool(self._celery.control.ping(destination=[f"celery@{component}"], timeout=1))

    @cached_property
    def _celery(self) -> Any:
        from celery import Celery

        return Celery(broker=self._broker)
