"""A real Airflow on this machine: SQLite, LocalExecutor, each component a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import psutil

from tests.services import sessions
from tests.services.airflow_rest import PASSWORD, USER, AirflowRest, wait_for
from tests.services.processes import HOST, Process, free_port

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
START_SECONDS = 600.0
STOP_SECONDS = 20.0

_TASK_TITLE = re.compile(r"^airflow worker -- ([0-9a-f]{8}-[0-9a-f-]{27})$")
# A log server listens on all addresses, and here the API server reads the log files itself.
_ARGUMENTS = {"scheduler": ["--skip-serve-logs"], "triggerer": ["--skip-serve-logs"]}

_QUICK = {
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
    # A task whose supervisor was killed is found by its missing heartbeats.
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "12",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
    # A file that is new or has changed is read at once; the others need no second reading.
    "DAG_PROCESSOR__REFRESH_INTERVAL": "1",
    "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
    "DAG_PROCESSOR__STALE_DAG_THRESHOLD": "600",
    "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    # On a busy machine a file takes a while to import, and a server to answer.
    "CORE__DAGBAG_IMPORT_TIMEOUT": "600",
    "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "600",
    "WORKERS__EXECUTION_API_TIMEOUT": "60",
    # The triggers of a triggerer that was killed go to the next one after this.
    "TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
}


@dataclass(frozen=True)
class TaskProcess:
    """A task that runs now: its process, and the executor's worker that supervises it unless that is dead."""

    ti_id: str
    pid: int
    supervisor: int | None

    def kill(self) -> None:
        """SIGKILL the task alone; its supervisor reports it."""
        os.kill(self.pid, signal.SIGKILL)

    def kill_supervisor(self) -> None:
        """SIGKILL the supervisor alone: Airflow believes the task dead, and the task goes on."""
        assert self.supervisor, "the supervisor is dead already"
        os.kill(self.supervisor, signal.SIGKILL)

    def kill_with_supervisor(self) -> None:
        """SIGKILL both, as a lost machine does: nobody is left to report it."""
        self.kill_supervisor()
        self.kill()


class RunningAirflow(AirflowRest):
    """
    An Airflow in `home` with the Dags of `dags`, for a `with` block.

    `environment` is added to an environment that has nothing of the caller's Airflow in it; plugins are read from
    `home / "plugins"`, the only folder that a triggerer imports from. Everything listens on 127.0.0.1 only.
    """

    executors: Sequence[str] = ("scheduler",)
    """The components that tasks run under."""

    python = sys.executable
    """The Python that has this Airflow."""

    def __init__(
        self,
        home: Path,
        dags: Path,
        environment: Mapping[str, str] | None = None,
        components: Sequence[str] = COMPONENTS,
        parallelism: int = 4,
    ) -> None:
        self.home, self.port = home, free_port()
        super().__init__(f"http://{HOST}:{self.port}")
        settings = _QUICK | self._settings(dags, parallelism)
        self.environment = clean_environment() | {
            "AIRFLOW_HOME": str(home),
            # Else Dags could import from the folder in which the tests were started.
            "PYTHONSAFEPATH": "1",
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
            **(environment or {}),
        }
        self._started: dict[str, datetime] = {}
        self._processes = {name: self._process(name) for name in components}

    def _settings(self, dags: Path, parallelism: int) -> dict[str, str]:
        silent_port = str(free_port())
        return {
            "CORE__DAGS_FOLDER": str(dags),
            "CORE__PLUGINS_FOLDER": str(self.home / "plugins"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": str(parallelism),
            "CORE__EXECUTION_API_SERVER_URL": f"{self.base_url}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db?timeout=120",
            "API__HOST": HOST,
            "API__PORT": str(self.port),
            "API__BASE_URL": self.base_url,
            "LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "LOGGING__COLORED_CONSOLE_LOG": "False",
            "LOGGING__WORKER_LOG_SERVER_PORT": silent_port,
            "LOGGING__TRIGGER_LOG_SERVER_PORT": silent_port,
        }

    def __enter__(self) -> Self:
        for folder in (self.home / "plugins", self.home / "components"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.home / "passwords.json").write_text(json.dumps({USER: PASSWORD}))
        self._guard = sessions.Guard()
        try:
            self._migrate()
            for component in self._processes:
                self._launch(component)
            for component in self._processes:
                self.wait_ready(component)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything at once: nobody reads what a graceful stop would still write."""
        for component in self._processes:
            self.kill(component)
        self._guard.close()

    def start(self, component: str) -> None:
        """Start a component that is not running; return once it is healthy."""
        self._launch(component)
        self.wait_ready(component)

    def stop(self, component: str, grace: float = STOP_SECONDS) -> None:
        """Stop a component as an operator does (SIGTERM); what is left of it after `grace` is killed."""
        process = self._processes[component]
        self.terminate(component)
        with suppress(TimeoutError):
            wait_for(lambda: not process.running, grace, f"{component} stopped")
        self.kill(component)

    def terminate(self, component: str) -> None:
        """Send SIGTERM and do not wait."""
        if self._processes[component].running:
            os.kill(self.pid(component), signal.SIGTERM)

    def kill(self, component: str) -> None:
        """SIGKILL a component and every process it has started, running tasks included."""
        process = self._processes[component]
        if process.pid is not None:
            sessions.kill(process.pid)
            process.stop()

    def restart(self, component: str) -> None:
        """Stop and start."""
        self.stop(component)
        self.start(component)

    def dead(self) -> list[str]:
        """Return the components that do not run."""
        return [component for component, process in self._processes.items() if not process.running]

    def pid(self, component: str) -> int:
        pid = self._processes[component].pid
        assert pid, f"{component} is not running"
        return pid

    def log(self, component: str) -> str:
        """Return what a component has printed, in all its lives."""
        return self._log_file(component).read_text(errors="replace")

    def task_processes(self, *components: str) -> list[TaskProcess]:
        """Return the tasks that run now under these components (all), also those whose supervisor was killed."""
        running = [name for name in components or self.executors if self._processes[name].running]
        members = {process.pid: process for name in running for process in sessions.members(self.pid(name))}
        found = []
        for pid, process in members.items():
            with suppress(psutil.Error, IndexError):
                if title := _TASK_TITLE.match(process.cmdline()[0]):
                    parent = process.ppid()
                    found.append(TaskProcess(title[1], pid, parent if parent in members else None))
        return found

    def task_process(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, timeout: float = 300
    ) -> TaskProcess:
        """Return the process of a task instance, once it runs."""

        def running() -> TaskProcess | None:
            ti = self.task_instance(dag_id, run_id, task_id, map_index)
            return next((process for process in self.task_processes() if process.ti_id == ti["id"]), None)

        return wait_for(running, timeout, f"a process of {dag_id}.{task_id}")

    def wait_ready(self, component: str, timeout: float = START_SECONDS) -> None:
        """Wait until a component is healthy; one that is not in time, or dies, is told with the end of its log."""

        def ready() -> bool:
            if not self._processes[component].running:
                raise RuntimeError(f"{component} has ended while starting:\n{self._tail(component)}")
            return self._is_healthy(component)

        try:
            wait_for(ready, timeout, f"{component} healthy")
        except TimeoutError as late:
            raise TimeoutError(f"{late}; health: {self.health()}; log:\n{self._tail(component)}") from None

    def _is_healthy(self, component: str) -> bool:
        health = self.health()
        if component == "api-server":
            return bool(health)
        name = component.replace("-", "_")
        state = health.get(name) or {}
        # A killed process leaves a heartbeat that looks healthy for a while: only one of this life counts.
        beat = state.get(f"latest_{name}_heartbeat")
        alive = beat is not None and datetime.fromisoformat(beat) > self._started[component]
        return alive and state["status"] == "healthy"

    def _migrate(self) -> None:
        command = [self.python, "-m", "airflow", "db", "migrate"]
        with self._log_file("db-migrate").open("ab") as log:
            done = subprocess.run(
                command, env=self.environment, stdout=log, stderr=subprocess.STDOUT, timeout=START_SECONDS, check=False
            )
        if done.returncode:
            raise RuntimeError(f"airflow db migrate failed:\n{self._tail('db-migrate')}")

    def _launch(self, component: str) -> None:
        self._started[component] = datetime.now(UTC)
        self._processes[component].start()
        self._guard.watch(self.pid(component))

    def _process(self, component: str) -> Process:
        """Return an Airflow command, which gets a session of its own, by which all that it starts is found."""
        command = [self.python, "-m", "airflow", *self._arguments(component)]
        return Process(command, self._log_file(component), self._environment_of(component))

    def _arguments(self, component: str) -> list[str]:
        return [component, *_ARGUMENTS.get(component, [])]

    def _environment_of(self, component: str) -> dict[str, str]:
        return self.environment

    def _log_file(self, component: str) -> Path:
        return self.home / "components" / f"{component}.log"

    def _tail(self, component: str) -> str:
        return "\n".join(self.log(component).splitlines()[-40:])


def clean_environment() -> dict[str, str]:
    """Return this process's environment without anything of its Airflow, and without proxies."""
    foreign = ("AIRFLOW", "_AIRFLOW", "CLAID", "PYTEST")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and not name.lower().endswith("_proxy")
    }
