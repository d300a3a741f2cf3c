"""Airflows older than the one that the tests run in, each in a virtual environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
from filelock import FileLock

from tests.services.airflow import RunningAirflow
from tests.services.processes import HOST, REPOSITORY, ServiceMissingError

SERVICES = REPOSITORY / ".services"
INSTALL_SECONDS = 1800.0
COMMAND_SECONDS = 600.0


class VersionedAirflow(RunningAirflow):
    """An Airflow of some version, without a triggerer, and with what a test of clears asks for."""

    parts: Sequence[str] = ("api-server", "scheduler", "dag-processor")

    def __init__(self, home: Path, dags: Path, environment: Mapping[str, str], parallelism: int = 3) -> None:
        super().__init__(home, dags, environment, self.parts, parallelism)

    def _settings(self, dags: Path, parallelism: int) -> dict[str, str]:
        # Nothing dies here: what is silent for a while is on a busy machine.
        return super()._settings(dags, parallelism) | {
            "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "300",
            "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "300",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "600",
        }

    def command(self, *arguments: str) -> str:
        """Run an `airflow` command beside the running components; return what it printed."""
        done = subprocess.run(
            [self.python, "-m", "airflow", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"airflow {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def trigger_as(self, dag_id: str, run_id: str) -> None:
        """Start a run of this id, once the Dag is known."""
        self.wait_dag(dag_id)
        self.api("POST", f"dags/{dag_id}/dagRuns", json=self._new_run(run_id))

    def delete_run(self, dag_id: str, run_id: str) -> None:
        self.api("DELETE", f"dags/{dag_id}/dagRuns/{run_id}")

    def wait_retries(self, dag_id: str, task_id: str, retries: int, timeout: float = 300) -> None:
        """Wait until the stored Dag, by which a clear counts, has so many retries."""

        def stored() -> bool:
            return self.get(f"dags/{dag_id}/tasks/{task_id}")["retries"] == retries

        self.wait_for(stored, timeout, f"{dag_id}.{task_id} with {retries} retries")

    def _new_run(self, run_id: str) -> dict[str, Any]:
        return {"dag_run_id": run_id, "logical_date": None}


class Airflow33(VersionedAirflow):
    """The Airflow of this environment."""


class Airflow31(VersionedAirflow):
    """Airflow 3.1."""

    @property
    def python(self) -> str:
        return environment_of("3.1")


class Airflow211(VersionedAirflow):
    """Airflow 2.11, with a web server where newer ones have an API server; its scheduler reads the Dags."""

    version = "v1"
    parts = ("webserver", "scheduler")

    @property
    def python(self) -> str:
        return environment_of("2.11")

    def _settings(self, dags: Path, parallelism: int) -> dict[str, str]:
        return super()._settings(dags, parallelism) | {
            "API__AUTH_BACKENDS": "airflow.api.auth.backend.default",
            "SCHEDULER__DAG_DIR_LIST_INTERVAL": "1",
            "SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "300",
            "CORE__MIN_SERIALIZED_DAG_FETCH_INTERVAL": "0",
            "WEBSERVER__CONFIG_FILE": str(self.home / "webserver_config.py"),
            "WEBSERVER__WEB_SERVER_HOST": HOST,
            "WEBSERVER__WEB_SERVER_PORT": str(self.port),
            "WEBSERVER__WORKERS": "1",
            "WEBSERVER__WEB_SERVER_MASTER_TIMEOUT": "600",
            "WEBSERVER__WEB_SERVER_WORKER_TIMEOUT": "600",
            "CORE__DAG_FILE_PROCESSOR_TIMEOUT": "600",
        }

    def __enter__(self) -> Self:
        # It listens on this machine only, so it needs no users.
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "webserver_config.py").write_text('AUTH_ROLE_PUBLIC = "Admin"\n')
        # It refuses SQLite to the LocalExecutor, which newer ones allow.
        self.environment["_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK"] = "1"
        return super().__enter__()

    def health(self) -> dict[str, Any]:
        try:
            return self._http.get("/health", timeout=10).raise_for_status().json()
        except httpx.HTTPError:
            return {}

    def _is_healthy(self, component: str) -> bool:
        return bool(self.health()) if component == "webserver" else super()._is_healthy(component)

    def _credentials(self) -> dict[str, str]:
        return {}

    def _new_run(self, run_id: str) -> dict[str, Any]:
        return {"dag_run_id": run_id}


VERSIONS = {"2.11": Airflow211, "3.1": Airflow31, "3.3": Airflow33}


def environment_of(release: str) -> str:
    """
    Return the Python of an environment with this Airflow, our requirements for it and this project.

    It is made when first asked for, and again when the requirements change.
    """
    if release == "2.11" and sys.version_info >= (3, 13):
        raise ServiceMissingError("Airflow 2.11 needs Python 3.12 or older.")
    folder, requirements = SERVICES / f"airflow-{release}", REPOSITORY / "requirements" / f"airflow-{release}.txt"
    python, installed = folder / "bin" / "python", folder / "requirements.txt"
    SERVICES.mkdir(exist_ok=True)
    with FileLock(SERVICES / f"airflow-{release}.lock"):
        if not (installed.exists() and installed.read_bytes() == requirements.read_bytes()):
            _uv("venv", "--clear", "--python", sys.executable, str(folder))
            _uv("pip", "install", "--python", str(python), "-r", str(requirements))
            _uv("pip", "install", "--python", str(python), "--no-deps", "--editable", str(REPOSITORY))
            shutil.copy(requirements, installed)
    return str(python)


def _uv(*arguments: str) -> None:
    command = [sys.executable, "-m", "uv", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode:
        raise ServiceMissingError(f"{' '.join(command)} failed:\n{done.stderr}")
