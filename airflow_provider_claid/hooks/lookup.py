"""What to say of an Airflow connection that is not found."""

from __future__ import annotations

import os


def not_found(conn_id: str) -> str:
    """Return what came instead of a connection; Airflow itself takes one that it cannot read for none."""
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if variable in os.environ:
        return f"{conn_id!r}, which Airflow cannot read from {variable}: it must be JSON or a URI"
    return f"{conn_id!r}, which is not defined"
