from airflow.sdk import DAG

from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator

with DAG("picture"):
    ClaidGenerateImageOperator(
        task_id="generate",
        prompt="{{ dag_run.conf['prompt'] }}",
        save_to="{{ dag_run.conf['save_to'] }}",
        filename="picture",
    )
