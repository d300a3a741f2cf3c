"""One attempt at a batch in a process of its own, which can be made to stand still; it prints how it ended."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace

from airflow_provider_claid.delivery.records import ledger
from airflow_provider_claid.exceptions import ClaidError
from airflow_provider_claid.operators.claid import ClaidGenerateBatchOperator

# Else the next attempt waits a minute more for what stands still here.
ledger.SPARE = 0.0


def main() -> None:
    """Run with the arguments that are on the command line."""
    operator = ClaidGenerateBatchOperator(task_id="batch", **json.loads(sys.argv[1]))
    xcoms = {}
    ti = SimpleNamespace(
        dag_id="shop", run_id="monday", task_id="batch", map_index=-1, max_tries=0, stats_tags={},
        xcom_push=lambda key, value: xcoms.update({key: value}),
    )  # fmt: skip
    kind, message = "success", ""
    try:
        operator.execute({"ti": ti})
    except ClaidError as error:
        kind, message = type(error).__name__, str(error)
    print("ENDED", json.dumps({"kind": kind, "message": message, "result": xcoms.get("claid_result")}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
