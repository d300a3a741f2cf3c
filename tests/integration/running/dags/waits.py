"""Sensors on the folder of the run's configuration, in the mode it names."""

from datetime import datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_claid.sensors.claid import ClaidImageSensor

COMMON = {
    "folder": "{{ dag_run.conf['folder'] }}",
    "expected_count": "{{ dag_run.conf['count'] }}",
    "poke_interval": 2,
}

for name, mode in {
    "waits_deferred": {"deferrable": True, "timeout": 90},
    "waits_rescheduled": {"mode": "reschedule", "deferrable": False, "timeout": 90},
    "waits_in_vain": {"deferrable": True, "timeout": 4},
}.items():
    with DAG(name, schedule=None, start_date=datetime(2026, 1, 1)) as dag:
        ClaidImageSensor(task_id="wait", **COMMON, **mode)
    globals()[name] = dag
