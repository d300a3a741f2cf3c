"""One picture by each way of delivery and each place of records; its first try kills itself where the run says."""

import os
import signal
from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator
from airflow_provider_claid.policies import ClaidRetryPolicy

WAYS = {
    "save_to": {"save_to": "{{ dag_run.conf['folder'] }}"},
    "output_folder": {"output_folder": "storage://my-storage/crashes/", "own_folder": True, "reconcile_timeout": 5},
    "neither": {},
}
PLACES = {"state_store": {}, "records_path": {"records_path": "{{ dag_run.conf['records'] }}"}}


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner, name):
    setattr(owner, name, die)


def after(owner, name):
    original = getattr(owner, name)

    def dies(*arguments, **named):
        original(*arguments, **named)
        die()

    setattr(owner, name, dies)


def doomed(context):
    """Patch this process, in its first try, so that it is killed at the point that the run names."""
    from airflow_provider_claid.delivery.departure import Door
    from airflow_provider_claid.delivery.records import ledger, state, store
    from airflow_provider_claid.delivery.storage import LocalFolder

    # Else the retry waits for a minute more before it gives up a record that was left open.
    ledger.SPARE = 2.0
    point = context["dag_run"].conf["kill"] if context["ti"].try_number == 1 else ""
    if point in {"before the intent", "after the intent"}:
        for records in (store.ObjectRecords, state.TaskStateRecords):
            (before if point.startswith("before") else after)(records, "claim")
    elif point == "after the first byte":
        after(Door, "sent")
    elif point == "after billing":
        original = Door.sent
        Door.sent = lambda door: (original(door), signal.setitimer(signal.ITIMER_REAL, 0.4))
        signal.signal(signal.SIGALRM, die)
    elif point == "after the answer":
        before(ledger.Ledger, "_end")
    elif point == "during the copy":
        before(LocalFolder, "publish")
    elif point == "before success":
        after(ClaidGenerateImageOperator, "_hand_over")


for way, where in WAYS.items():
    for place, records in PLACES.items():
        with DAG(f"paid_{way}_{place}"):
            ClaidGenerateImageOperator(
                task_id="generate",
                prompt="{{ dag_run.conf['prompt'] }}",
                retries=1,
                retry_delay=timedelta(seconds=1),
                pre_execute=doomed,
                **where,
                **records,
            )


with DAG("paid_deferred"):
    ClaidGenerateImageOperator.partial(
        task_id="generate",
        save_to="{{ dag_run.conf['folder'] }}",
        records_path="{{ dag_run.conf['records'] }}",
        deferrable=True,
        retries=1,
        retry_delay=timedelta(seconds=1),
    ).expand(prompt=[f"deferred {number}" for number in range(4)])

with DAG("paid_anew"):
    ClaidGenerateImageOperator(task_id="generate", prompt="{{ dag_run.conf['prompt'] }}", reuse=False)

with DAG("paid_by_policy"):
    ClaidGenerateImageOperator(
        task_id="generate",
        prompt="{{ dag_run.conf['prompt'] }}",
        retries=2,
        retry_delay=timedelta(hours=1),
        retry_policy=ClaidRetryPolicy(),
    )
