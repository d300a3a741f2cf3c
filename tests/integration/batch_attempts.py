"""
Makes an attempt at a batch for each line that it reads, in a process of its own that is killed after some seconds.

A line is JSON: `run` names the task instance, `prompts` and `arguments` are the operator's, `seconds` is when to kill,
`trouble` the share of all steps of its stores that fail. It answers with `success`, `retry` (Airflow would try again),
`failed` or `killed`, and the seconds it took.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from types import SimpleNamespace

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_claid.delivery import backoff
from airflow_provider_claid.delivery.batch import writer
from airflow_provider_claid.delivery.records import ledger, objects
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.operators.claid import ClaidGenerateBatchOperator

# Else an attempt waits a minute more for what a killed one has left open, and hardly settles anything.
ledger.SPARE = 1.0
writer.SETTLE_EVERY = 0.2
backoff.STORE_PAUSE = 0.02
STATES = {0: "success", 1 << 8: "retry", 2 << 8: "failed", int(signal.SIGKILL): "killed"}


def main() -> None:
    """Serve until the input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            attempt(**json.loads(line))
        state = STATES[os.waitpid(child, 0)[1]]
        print(f"ENDED {state} {time.monotonic() - started:.2f}", flush=True)


def attempt(run, prompts, arguments, seconds, trouble=0.0):
    threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    disturb(trouble)
    operator = ClaidGenerateBatchOperator(task_id="batch", prompts=prompts, **arguments)
    ti = SimpleNamespace(
        dag_id="shop", run_id=run, task_id="batch", map_index=-1, max_tries=3, stats_tags={},
        xcom_push=lambda key, value: json.dumps(value),
    )  # fmt: skip
    try:
        operator.execute({"ti": ti})
    except AirflowFailException as error:
        print("FAILED", run, type(error).__name__, error, flush=True, file=sys.stderr)
        os._exit(2)
    except Exception as error:  # noqa: BLE001 - Airflow tries again, whatever it was
        print("RETRY", run, type(error).__name__, error, flush=True, file=sys.stderr)
        os._exit(1)
    os._exit(0)


def disturb(share):
    """Let so many steps of the stores fail, every other one of them after it was carried out."""
    luck = random.Random()

    def troubled(step):
        def taken(*given):
            if luck.random() < share:
                if luck.random() < 0.5:
                    step(*given)
                raise StoreBusyError("the disk is on fire")
            return step(*given)

        return taken

    steps = {objects.LocalObjects: "create put get", objects.StoreObjects: "create put get upload download"}
    for kind, names in steps.items():
        for name in names.split():
            setattr(kind, name, troubled(getattr(kind, name)))


if __name__ == "__main__":
    main()
