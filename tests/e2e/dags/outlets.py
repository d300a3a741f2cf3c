"""One task of the operator whose outlets are an asset, a reference to one, an alias, and what is neither."""

import json
import os
from datetime import datetime, timedelta

from airflow.providers.common.compat.lineage.entities import User
from airflow.providers.common.compat.sdk import DAG, Asset, AssetAlias

from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator

ARGUMENTS = json.loads(os.environ.get("TEST_ARGUMENTS", '{"prompt": "a red bicycle"}'))

with DAG("outlets", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    ClaidGenerateImageOperator(
        task_id="generate",
        outlets=[
            Asset("pictures", extra={"kept": "apart"}),
            Asset.ref(name="pictures by name"),
            AssetAlias("folders"),
            User(email="owner@example.com"),
        ],
        retries=2,
        retry_delay=timedelta(0),
        **ARGUMENTS,
    )

with DAG("owner_of_the_referenced_asset", schedule=[Asset("pictures by name")], start_date=datetime(2026, 1, 1)):
    pass
