"""One picture for each prompt of the run's configuration, all waited for in the triggerer."""

from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator

with DAG("deferred_pictures"):

    @task
    def prompts(**context):
        return context["dag_run"].conf["prompts"]

    ClaidGenerateImageOperator.partial(
        task_id="generate",
        save_to="{{ dag_run.conf['folder'] }}pictures/",
        records_path="{{ dag_run.conf['folder'] }}records/",
        deferrable=True,
        retries=3,
        retry_delay=timedelta(seconds=1),
    ).expand(prompt=prompts())
