"""A real Airflow for the tests of this folder, with its Dags and plugins and a sandbox of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from airflow_provider_claid.sandbox.server import SandboxServer
from tests.conftest import KEY, REPOSITORY
from tests.services.airflow import RunningAirflow

HERE = Path(__file__).parent


@pytest.fixture(scope="package")
def running_sandbox(storage_folder):
    with SandboxServer(latency=0, per_second=None, per_minute=None, seed=1, folder=storage_folder) as server:
        yield server


@pytest.fixture(scope="package")
def storage_folder(tmp_path_factory):
    """Where the sandbox's storage `my-storage` writes."""
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="package")
def running_airflow(running_sandbox, storage_folder, rgw, tmp_path_factory):
    """
    An Airflow whose connection `claid_default` points to `running_sandbox`, in effect unpaced.

    Its `aws_default` is the gateway, where the example Dag watches `s3://deliveries/run/`. It ends with this folder's
    tests: its looks would be among the requests that later tests count.
    """
    home = tmp_path_factory.mktemp("airflow")
    for folder in ("dags", "plugins"):
        shutil.copytree(HERE / folder, home / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "dags" / "claid_on_delivery.py", home / "dags")
    rgw.client().create_bucket(Bucket="deliveries")
    extra = {"requests_per_second": 10_000, "requests_per_minute": 1_000_000, "request_timeout": 5}
    extra["storages"] = {"my-storage": f"file://{storage_folder}/"}
    connection = {"conn_type": "claid", "host": running_sandbox.url, "password": KEY, "extra": extra}
    environment = {
        "AIRFLOW__CLAID__PACING_DIR": str(home / "pacing"),
        "AIRFLOW_CONN_CLAID_DEFAULT": json.dumps(connection),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(rgw.airflow_connection()),
        "AWS_EC2_METADATA_DISABLED": "true",
        "CLAID_DELIVERY_FOLDER": "s3://deliveries/run/",
        "WATCHED_FILE": str(home / "watched.txt"),
    }
    with RunningAirflow(home, home / "dags", environment) as airflow:
        yield airflow


@pytest.fixture(autouse=True)
def _everything_runs_again(request):
    """Start what a test has left dead, after all that it has changed is undone."""
    airflow = request.getfixturevalue("running_airflow") if "running_airflow" in request.fixturenames else None
    yield
    for component in airflow.dead() if airflow else ():
        airflow.start(component)
