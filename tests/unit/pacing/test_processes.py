"""Processes that share an account share its pace, against a server that counts exactly."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from airflow_provider_claid.sandbox.server import SandboxServer

CLIENT = """
import asyncio, sys
from pathlib import Path
from airflow_provider_claid.api.endpoint import Endpoint
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.generate import generate
from airflow_provider_claid.pacing.schedule import Pace

url, folder, count = sys.argv[1:]
account = Account("shared", Endpoint("sandbox-key", url), Pace(20, 600), Path(folder))

async def main():
    request = check_request("a red bicycle", 1, 5.0, None)
    results = await asyncio.gather(*(generate(account, request) for _ in range(int(count))))
    print(len(results))

asyncio.run(main())
"""


@pytest.mark.parametrize("window", ["sliding", "fixed"])
def test_four_processes_are_never_refused(pacing_dir, window):
    with SandboxServer(latency=(0.1, 0.5), per_second=20, per_minute=600, window=window, seed=3) as server:
        command = [sys.executable, "-c", CLIENT, server.url, str(pacing_dir), "25"]
        clients = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
        done = [json.loads(client.communicate(timeout=60)[0]) for client in clients]
        totals = server.report()["totals"]
    assert done == [25] * 4
    assert totals["accepted"] == 100
    # None on a quiet machine; a stalled one may be late now and then. Without a common schedule it is some 200.
    assert totals["refused"]["total"] <= 10
