"""A Dag file pays little for the operator: few modules, and none of the heavy ones (design §5 row 4)."""

from __future__ import annotations

import json
import subprocess
import sys

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


def test_the_operator_brings_few_modules_and_no_heavy_one():
    new = newly_imported("airflow_provider_claid.operators.claid")
    assert "airflow_provider_claid.operators.claid" in new
    assert len(new) <= 25
    assert not {name.partition(".")[0] for name in new} & HEAVY
    assert not any(name.startswith("airflow.providers.amazon") for name in new)


def test_the_hook_brings_no_heavy_module():
    new = newly_imported("airflow_provider_claid.hooks.claid")
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
