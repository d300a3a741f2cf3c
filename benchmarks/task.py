"""What a task of the operator costs beyond a bare `@task` that waits as long: CPU and memory of the worker's child."""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.sandbox import KEY, sandbox
from benchmarks.table import show

LATENCY = "0.5"
LIMIT = 900
BUCKET = "benchmark"
GOALS = {"output_folder": "150 ms, 40 MB", "file": "150 ms, 40 MB", "s3": "120 MB"}


def main() -> None:
    """Measure in one worker and print the table."""
    with (
        tempfile.TemporaryDirectory(prefix="claid-benchmark-") as home,
        sandbox("--latency", LATENCY) as url,
        s3() as store,
    ):
        out = Path(home) / "out.json"
        command = [sys.executable, "-m", "benchmarks.worker", str(out)]
        variables = environment(Path(home), url, store)
        subprocess.run(command, env=variables, check=True, timeout=LIMIT, stdout=subprocess.DEVNULL)
        found = json.loads(out.read_text())
    repeats = sum(1 for one in found if one["task"] == "sleep" and one["imported"])
    show(
        "Overhead of a task over a bare @task",
        ("worker has imported the operator", "task", "CPU ms", "**over bare**", "peak RSS MB", "**over bare**",
         "private MB at its end", "**over bare**", "new modules", "of the AWS SDK", "goal"),
        [row for imported in (False, True) for row in rows([one for one in found if one["imported"] == imported])],
        f"Medians of {repeats} tasks, each in a child that a warm worker forks; the sandbox takes {LATENCY} s.",
        "CPU: user and system of the child, from the fork to its end, with parsing the Dag file. Private: memory that "
        "the child shares with nobody.",
    )  # fmt: skip


def rows(found: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    """Turn the figures of one kind of worker into rows; the bare task is the first."""
    medians = {
        task: {
            name: statistics.median(one[name] for one in found if one["task"] == task)
            for name in ("cpu", "peak", "private", "modules")
        }
        for task in dict.fromkeys(one["task"] for one in found)
    }
    bare, answers = medians["sleep"], []
    for task, median in medians.items():
        cells: list[object] = ["yes" if found[0]["imported"] else "no", task]
        for name in ("cpu", "peak", "private"):
            cells += [f"{median[name]:.0f}", "-" if task == "sleep" else f"**{median[name] - bare[name]:.0f}**"]
        sdks = sorted({sdk for one in found if one["task"] == task for sdk in one["sdks"]})
        answers.append((*cells, f"{median['modules']:.0f}", ", ".join(sdks) or "nothing", GOALS.get(task, "")))
    return answers


def environment(home: Path, url: str, store: str) -> dict[str, str]:
    """Return the environment of an Airflow that knows this measurement and nothing else."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    aws = {"endpoint_url": store, "region_name": "us-east-1"}
    return inherited | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__CLAID__PACING_DIR": str(home / "pacing"),
        "AIRFLOW_CONN_CLAID_DEFAULT": json.dumps({"conn_type": "claid", "host": url, "password": KEY}),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(
            {"conn_type": "aws", "login": "not-a-key", "password": "not-a-secret", "extra": aws}
        ),
        "BENCHMARK_LATENCY": LATENCY,
        "BENCHMARK_FOLDER": f"file://{home}/pictures/",
        "BENCHMARK_BUCKET": f"s3://{BUCKET}/pictures/",
    }


@contextmanager
def s3() -> Iterator[str]:
    """Start moto's S3 in a process of its own, with an empty bucket; yield its address."""
    context = multiprocessing.get_context("spawn")
    addresses = context.Queue()
    process = context.Process(target=_serve, args=(addresses,), daemon=True)
    process.start()
    try:
        url = addresses.get(timeout=60)
        httpx.put(f"{url}/{BUCKET}", timeout=30).raise_for_status()
        yield url
    finally:
        process.terminate()
        process.join(10)


def _serve(addresses: Any) -> None:
    import logging
    import threading

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    addresses.put("http://{}:{}".format(*server.get_host_and_port()))
    threading.Event().wait()


if __name__ == "__main__":
    main()
