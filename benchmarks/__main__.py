"""`python -m benchmarks`: everything, one after another (about 50 minutes, most of it pacing in real time)."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version

from benchmarks import booking, client, imports, pacing, task
from benchmarks.table import load


def main() -> None:
    """Say on what this runs, then run everything."""
    names = ("apache-airflow", "httpx", "pyrate-limiter")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {versions}; load average {load()}")
    imports.main()
    task.main()
    client.main()
    booking.main()
    pacing.main([])


if __name__ == "__main__":
    main()
