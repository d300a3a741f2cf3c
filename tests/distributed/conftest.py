"""One deployment for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed.deployment import deployment
from tests.integration.conftest import postgres_server, redis_server

__all__ = ["postgres_server", "redis_server"]


@pytest.fixture(scope="session")
def deployed(tmp_path_factory, redis_server, postgres_server):
    """A running `Deployment`."""
    dags = (Path(__file__).parent / "dags").glob("*.py")
    with deployment(tmp_path_factory.mktemp("deployment"), redis_server, postgres_server, *dags) as running:
        yield running


@pytest.fixture
def workers(deployed):
    """The deployment with all its workers, and a sandbox that has counted nothing yet."""
    deployed.reset()
    yield deployed
    for component in deployed.airflow.dead():
        deployed.airflow.start(component)
