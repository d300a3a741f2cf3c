"""The quickstart is killed at moments that a seed chooses, and run again: it never pays twice. `make kills`: 50."""

from __future__ import annotations

import json
import os
import random
import sys
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_claid.sandbox.server import SandboxServer
from tests.conftest import KEY
from tests.integration.told import NEVER, Told

pytestmark = pytest.mark.timeout(900)

KILLS = int(os.environ.get("KILLS", "15"))


class Quickstart(Told):
    """Runs of the quickstart."""

    def run(self, number, seconds=NEVER):
        """Run it with the date of this number, for so many seconds; return its state and how long it took."""
        date = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)
        return self.tell(f"{date.isoformat()} {seconds}")


@pytest.fixture
def server():
    with SandboxServer(latency=0.3, per_second=None, per_minute=None, seed=1) as sandbox:
        yield sandbox


@pytest.fixture
def quickstart(server, dags_folder, tmp_path):
    extra = {"requests_per_second": 100, "requests_per_minute": 10_000, "request_timeout": 3}
    connection = {"conn_type": "claid", "host": server.url, "password": KEY, "extra": extra}
    environment = os.environ | {
        "AIRFLOW_CONN_CLAID_DEFAULT": json.dumps(connection),
        "AIRFLOW__CLAID__RECORDS_PATH": f"file://{tmp_path}/records/",
        "AIRFLOW__CLAID__PACING_DIR": str(tmp_path / "pacing"),
        "CLAID_QUICKSTART_FOLDER": f"file://{tmp_path}/pictures/",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    (tmp_path / "records").mkdir()
    with (tmp_path / "quickstart.log").open("w") as log:
        running = Quickstart("quickstart.py", environment, log)
        yield running
        running.close()


def test_kills_each_followed_by_a_rerun_never_raise_what_is_billed(quickstart, server):
    state, whole = quickstart.run(0)
    assert state == "success"
    ended = {"killed": 0, "success": 0, "failed": 0}
    for seed in range(1, KILLS + 1):
        server.reset()
        first, _ = quickstart.run(seed, random.Random(seed).uniform(0.05, 1.0) * whole)
        again, _ = quickstart.run(seed)
        billed = server.report()["totals"]["credits"]
        assert billed <= 3, f"seed {seed}: {first}, then {again}: {billed} credits for three pictures"
        assert billed == 3 or again == "failed", f"seed {seed}: {again} with {billed} credits"
        ended["killed"] += first == "killed"
        ended[again] += 1
    print(ended)
    # Kills that come too late or too early to strike anything would prove little.
    assert ended["killed"] > KILLS // 2
    assert ended["success"] > 0
