from airflow.sdk import DAG, task

with DAG("trivial"):

    @task
    def doubled(**context):
        return 2 * context["dag_run"].conf.get("number", 1)

    doubled()
