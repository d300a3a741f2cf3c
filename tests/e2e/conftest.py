"""Dags run by Airflow's own task runner."""

from tests.dag_runs import dag, dags_folder, log_text

__all__ = ["dag", "dags_folder", "log_text"]
