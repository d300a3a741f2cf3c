"""Every store of a schedule, for the one suite that all of them must pass."""

from __future__ import annotations

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
