"""
Runs the quickstart Dag once for each line that it reads, `date seconds`, in a process of its own that is killed then.

A date names a run: the same date again is the same run once more. It answers with the state of the run and how many
seconds it took; `killed` if it was.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag

from airflow_provider_claid.delivery.records import ledger

# Else a rerun waits for a minute more before it gives up a request that was left open.
ledger.SPARE = 2.0


def main() -> None:
    """Serve until the input ends."""
    file = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]) / "claid_quickstart.py"
    dag = DagBag(file, bundle_path=file.parent, bundle_name="dags-folder").dags["claid_quickstart"]
    print("ready", flush=True)
    for line in sys.stdin:
        date, seconds = line.split()
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            run(dag, datetime.fromisoformat(date), float(seconds))
        state = {0: "success", 1 << 8: "failed", int(signal.SIGKILL): "killed"}[os.waitpid(child, 0)[1]]
        print(f"ENDED {state} {time.monotonic() - started:.2f}", flush=True)


def run(dag, date: datetime, seconds: float) -> None:
    """Run the Dag, and kill this process after so many seconds."""
    timer = threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL))
    timer.start()
    ended = dag.test(run_after=date, logical_date=date)
    timer.cancel()
    os._exit(0 if ended.state == "success" else 1)


if __name__ == "__main__":
    main()
