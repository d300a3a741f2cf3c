"""The product's trigger, with an account and records of the simulation."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from typing import Any

from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.payment import Paid, Search, pay
from airflow_provider_claid.delivery.records.ledger import Ledger


@cache
def module() -> Any:
    """Import the product's trigger, and so Airflow, which writes into its home."""
    if "airflow" not in sys.modules:
        os.environ["AIRFLOW_HOME"] = home = tempfile.mkdtemp(prefix="claid-simulation-")
        maker = os.getpid()
        atexit.register(lambda: os.getpid() == maker and shutil.rmtree(home, ignore_errors=True))
    from airflow_provider_claid.triggers import generate

    return generate


def trigger(account: Account, ledger: Ledger, search: Search | None, deadline: float | None) -> Any:
    """Return a trigger that pays for this job."""

    class Trigger(module().ClaidGenerateTrigger):  # type: ignore[misc]
        async def _pay(self) -> Paid:
            return await pay(account, ledger, search=search, stop=self._stop)

    return Trigger(order={}, records_path="", deadline=deadline)
