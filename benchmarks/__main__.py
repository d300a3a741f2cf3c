"""`python -m benchmarks`: everything, one after another (about 2 hours, most of it pacing in real time)."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

from benchmarks import (
    batch,
    booking,
    client,
    copies,
    deferred,
    imports,
    pacing,
    planning,
    records,
    sensing,
    task,
    triggerer,
    workers,
)
from benchmarks.table import load
from tests.services.processes import ServiceMissingError


def main() -> None:
    """Say on what this runs, then run everything."""
    names = (
        "apache-airflow",
        "httpx",
        "pyrate-limiter",
        "apache-airflow-providers-amazon",
        "boto3",
        "s3fs",
        "apache-airflow-providers-http",
    )
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {versions}; load average {load()}")
    imports.main()
    task.main()
    client.main()
    batch.main([])
    planning.main()
    booking.main()
    for measure in (sensing.main, copies.main, triggerer.main, records.main, partial(workers.main, [])):
        try:
            measure()
        except ServiceMissingError as missing:
            print(f"\nLeft out: {missing}")
    deferred.main()
    pacing.main([])


if __name__ == "__main__":
    main()
