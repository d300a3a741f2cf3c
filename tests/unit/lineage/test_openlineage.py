"""OpenLineage is loaded only by those who ask; how it asks is tested with the package itself, in tests/integration."""

from __future__ import annotations

import subprocess
import sys


def test_without_being_asked_nothing_of_openlineage_is_loaded():
    code = "import sys, airflow_provider_claid.lineage; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "airflow_provider_claid.lineage" in loaded
    assert not loaded & {"openlineage", "airflow.providers.openlineage.extractors"}
