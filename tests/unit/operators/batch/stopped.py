"""One attempt at a batch, told to stop as Airflow 3 does it: SIGTERM calls `on_kill` and nothing else."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from types import SimpleNamespace

from airflow_provider_claid.exceptions import ClaidError
from airflow_provider_claid.operators.claid import ClaidGenerateBatchOperator


def main() -> None:
    """Run with the arguments that are on the command line, and say when it was stopped and how it ended."""
    operator = ClaidGenerateBatchOperator(task_id="batch", **json.loads(sys.argv[1]))
    stopped_at = []

    def stop(*_):
        stopped_at.append(time.time())
        operator.on_kill()

    signal.signal(signal.SIGTERM, stop)
    xcoms = {}
    ti = SimpleNamespace(
        dag_id="shop", run_id="monday", task_id="batch", map_index=-1, max_tries=0, stats_tags={},
        xcom_push=lambda key, value: xcoms.update({key: value}),
    )  # fmt: skip
    try:
        operator.execute({"ti": ti})
        kind = "success"
    except ClaidError as error:
        kind = type(error).__name__
    took = time.time() - stopped_at[0]
    print("ENDED", json.dumps({"kind": kind, "at": stopped_at[0], "took": took, "result": xcoms["claid_result"]}))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
