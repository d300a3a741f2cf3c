from datetime import timedelta

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator


class Wait(BaseOperator):
    """Waits in the triggerer for the seconds that the run's conf names."""

    def execute(self, context):
        seconds = context["dag_run"].conf["seconds"]
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=seconds)), method_name="resume")

    def resume(self, context, event):
        return f"resumed in try {context['ti'].try_number}"


with DAG("deferred"):
    Wait(task_id="wait", retries=0)
