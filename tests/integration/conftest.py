"""Real stores, started when first asked for. A missing one skips its tests; where CI is set, it fails them."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import pytest

from tests.dag_runs import dag, dags_folder, log_text
from tests.services.azurite import Azurite
from tests.services.postgres import PostgresServer
from tests.services.processes import ServiceMissingError
from tests.services.redis import RedisServer
from tests.services.rgw import RadosGateway

__all__ = ["dag", "dags_folder", "log_text"]

SECONDS = 900


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS))


def started(service):
    try:
        service.start()
    except ServiceMissingError as cause:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(cause))
    return service


@pytest.fixture(scope="session")
def rgw():
    """A running `RadosGateway`."""
    gateway = started(RadosGateway())
    yield gateway
    gateway.stop()


@pytest.fixture
def rgw_bucket(rgw, monkeypatch):
    """The name of a bucket that this test has for itself, and Airflow's connection `rgw` to its owner."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AIRFLOW_CONN_RGW", json.dumps(rgw.airflow_connection()))
    name, client = f"test-{uuid.uuid4().hex}", rgw.client()
    client.create_bucket(Bucket=name)
    yield name
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        if keys := [{"Key": entry["Key"]} for entry in page.get("Contents", ())]:
            client.delete_objects(Bucket=name, Delete={"Objects": keys})


@pytest.fixture(scope="session")
def redis_server():
    """A running `RedisServer`; who breaks it takes one of its own."""
    server = started(RedisServer())
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server():
    """A running `PostgresServer`; who breaks it takes one of its own."""
    server = started(PostgresServer({"fsync": "off"}))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def azurite():
    """A running `Azurite`."""
    emulator = started(Azurite())
    yield emulator
    emulator.stop()


@pytest.fixture
def azure_container(azurite, monkeypatch):
    """The name of a container that this test has for itself, and Airflow's connection `azurite` to its account."""
    monkeypatch.setenv("AIRFLOW_CONN_AZURITE", json.dumps(azurite.airflow_connection()))
    name = f"test-{uuid.uuid4().hex}"
    container = azurite.make_container(name)
    yield name
    container.delete_container()
