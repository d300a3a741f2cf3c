"""What a Dag file pays for importing an operator, after `import airflow`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from benchmarks.table import show

REPEATS = 5
OPERATORS = {
    "airflow_provider_claid: ClaidGenerateImageOperator": "airflow_provider_claid.operators.claid",
    "standard: PythonOperator": "airflow.providers.standard.operators.python",
    "http: HttpOperator": "airflow.providers.http.operators.http",
    "amazon: S3KeySensor": "airflow.providers.amazon.aws.sensors.s3",
}
CODE = """
import json, sys, time
import airflow
before = set(sys.modules)
started = time.process_time()
import {module}
taken = time.process_time() - started
print(json.dumps([taken * 1000, len(set(sys.modules) - before)]))
"""


def main() -> None:
    """Import each operator in fresh processes, in turns, and print the table."""
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in OPERATORS}
    for _ in range(REPEATS):
        for name, module in OPERATORS.items():
            found[name].append(measured(module))
    cpu = {name: statistics.median(taken for taken, _ in runs) for name, runs in found.items()}
    ours = next(iter(cpu.values()))
    rows = [
        (name, f"{cpu[name]:.0f}", statistics.median(count for _, count in runs), f"{cpu[name] / ours:.1f}")
        for name, runs in found.items()
    ]
    show(
        "Import of an operator",
        ("operator", "CPU ms", "new modules", "CPU, times ours"),
        rows,
        f"Median of {REPEATS} fresh processes, after `import airflow`; goal: at most 40 ms and 25 modules.",
    )


def measured(module: str) -> tuple[float, int]:
    """Return the CPU milliseconds and the number of new modules of one import in a fresh process."""
    command = [sys.executable, "-c", CODE.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    taken, modules = json.loads(done.stdout.splitlines()[-1])
    return taken, modules


if __name__ == "__main__":
    main()
