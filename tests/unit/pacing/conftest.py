"""Every store of a schedule, for the one suite that all of them must pass."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime

import pytest

from tests.pacing_stores import Where


@pytest.fixture
def pacing_dir(tmp_path):
    folder = tmp_path / "pacing"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(params=["memory", "sqlite"])
def where(request, pacing_dir):
    """An account of this test."""
    account = uuid.uuid4().hex
    return Where(account) if request.param == "memory" else Where(account, folder=pacing_dir)


@pytest.fixture(params=["sqlite"])
def shared_where(pacing_dir):
    """The same, where several processes can use it."""
    return Where("account", folder=pacing_dir)


@pytest.fixture
def store(where):
    return where.open()


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
