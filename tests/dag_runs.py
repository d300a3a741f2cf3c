"""A real Airflow for tests that run Dags: its database made once, Dags in its Dags folder, its own task runner."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

OWN_DAGS = REPOSITORY / "tests" / "e2e" / "dags"


@pytest.fixture(scope="session")
def dags_folder():
    folder = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    folder.mkdir(exist_ok=True)
    for file in [*OWN_DAGS.glob("*.py"), *(REPOSITORY / "dags").glob("*.py")]:
        shutil.copy(file, folder)
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True, timeout=600)
    return folder


@pytest.fixture
def dag(dags_folder):
    """Return a function that reads a Dag file anew, as the Dag processor does, and returns its Dag."""
    from airflow.dag_processing.dagbag import DagBag

    def load(name):
        bag = DagBag(dags_folder / f"{name}.py", bundle_path=dags_folder, bundle_name="dags-folder")
        assert bag.import_errors == {}
        return bag.dags[name]

    return load


class Logs:
    """All that was logged: by ordinary loggers, and by Airflow's task runner, which prints."""

    def __init__(self, caplog, capsys):
        self._caplog, self._capsys = caplog, capsys

    @property
    def records(self):
        return self._caplog.records

    @property
    def text(self):
        return self._caplog.text + self._capsys.readouterr().out


@pytest.fixture
def log_text(caplog, capsys):
    caplog.set_level(logging.DEBUG)
    return Logs(caplog, capsys)
