"""Every store of a schedule, for the one suite that all of them must pass."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from airflow_provider_claid.pacing.sqlite import SQLiteStore
from airflow_provider_claid.pacing.store import MemoryStore


@pytest.fixture
def pacing_dir(tmp_path):
    folder = tmp_path / "pacing"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(params=["memory", "sqlite"])
def store(request, pacing_dir):
    return MemoryStore() if request.param == "memory" else SQLiteStore(pacing_dir, "account")


@pytest.fixture
def near_midnight(monkeypatch):
    """A function that sets the wall clock to so many seconds after midnight, from where it goes on."""
    real, midnight = time.monotonic, datetime(2026, 3, 1, tzinfo=UTC).timestamp()

    def set_clock(seconds):
        started = real()
        monkeypatch.setattr(time, "time", lambda: midnight + seconds + real() - started)

    set_clock(-0.5)
    return set_clock


def spent(store):
    """Return the credits of each day, and how many send times are booked."""
    days, bookings = store._step(lambda schedule, _, budget: (dict(budget.days), len(schedule.bookings)), budgeted=True)
    return {day: credits for day, credits in days.items() if credits}, bookings


def today(store):
    return sum(spent(store)[0].values())
