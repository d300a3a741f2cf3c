"""Places on real servers."""

from __future__ import annotations

import json
import uuid
from contextlib import contextmanager

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_claid.hooks.place import place_from
from airflow_provider_claid.pacing.shared import SharedStore
from airflow_provider_claid.pacing.store import ScheduleStore
from tests.integration.conftest import started
from tests.pacing_stores import Where
from tests.unit.pacing.conftest import near_midnight as near_midnight_here
from tests.unit.pacing.conftest import store

__all__ = ["near_midnight_here", "store"]


def place_of(connection):
    """Return the place that the fields of an Airflow connection name."""
    return place_from(Connection(conn_id="shared", **(connection | {"extra": json.dumps(connection["extra"])})))


@contextmanager
def running(server):
    """Run a server that a test may break."""
    started(server)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["redis", "postgres"])
def place(request):
    server = request.getfixturevalue(f"{request.param}_server")
    return place_of(server.airflow_connection())


@pytest.fixture
def where(place):
    """An account of this test."""
    return Where(uuid.uuid4().hex, place=place)


@pytest.fixture
def shared_where(where):
    return where


@pytest.fixture
def near_midnight(near_midnight_here, monkeypatch):
    # The servers' clocks cannot be set: the moments of their bookings are taken for those of the clock that can be.
    monkeypatch.setattr(SharedStore, "_wall", ScheduleStore._wall)
    return near_midnight_here
