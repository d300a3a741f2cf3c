"""A Dag file pays little for the operator: few modules, and none of the heavy ones (design §5 row 4)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "boto3",
    "botocore",
    "s3fs",
    "aiobotocore",
    "fastapi",
    "PIL",
    "redis",
    "psycopg",
    "pyarrow",
    "uvicorn",
    "aiohttp",
}
CODE = """
import json, sys
import airflow
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def newly_imported(module):
    out = subprocess.run([sys.executable, "-c", CODE.format(module=module)], capture_output=True, text=True, check=True)
    return set(json.loads(out.stdout.splitlines()[-1]))


@pytest.mark.parametrize("kind", ["operators", "sensors"])
def test_the_operator_and_the_sensor_bring_few_modules_and_no_heavy_one(kind):
    new = newly_imported(f"airflow_provider_claid.{kind}.claid")
    assert f"airflow_provider_claid.{kind}.claid" in new
    assert len(new) <= 26
    assert not {name.partition(".")[0] for name in new} & HEAVY
    assert not any(name.startswith("airflow.providers.amazon") for name in new)


@pytest.mark.parametrize("kind", ["hooks", "triggers"])
def test_the_hook_and_the_triggers_bring_no_heavy_module(kind):
    new = newly_imported(f"airflow_provider_claid.{kind}.claid")
    assert not {name.partition(".")[0] for name in new} & HEAVY


def test_the_provider_info_imports_nothing_heavy():
    code = "import sys, airflow_provider_claid.get_provider_info; print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split())
    assert not loaded & {"airflow", "httpx", "pydantic", "asyncio"}
    assert {name for name in loaded if name.startswith("airflow_provider_claid")} == {
        "airflow_provider_claid",
        "airflow_provider_claid.get_provider_info",
    }
