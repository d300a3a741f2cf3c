"""
Run the quickstart Dag for real, in an AIRFLOW_HOME of its own, and show its pictures.

Real are the database, the Dag processor, the task runner, the HTTP requests and the files. Without CLAID_API_KEY
the requests go to a sandbox on this machine; with it, to Claid, where the run costs three credits.
"""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".demo"
PICTURES = HOME / "pictures"
DAG_ID = "claid_quickstart"


def main() -> None:
    """Prepare, run, show, stop."""
    started = time.monotonic()
    PICTURES.mkdir(parents=True, exist_ok=True)
    key = os.environ.get("CLAID_API_KEY", "").strip()
    print(f"Claid.ai quickstart: {'the real API, three credits' if key else 'a sandbox on this machine'}", flush=True)
    with real_api(key) if key else sandbox() as connection:
        environment = airflow_environment(connection)
        step("Creating Airflow's database", [sys.executable, "-m", "airflow", "db", "migrate"], environment)
        processor = [sys.executable, "-m", "airflow", "dag-processor", "--num-runs", "1"]
        step("Reading the Dag with the Dag processor", processor, environment)
        step("Running the Dag: three prompts, three pictures", [sys.executable, __file__, "--run"], environment)
    rows = json.loads((HOME / "rows.json").read_text())
    print()
    for row in rows:
        print(f"  {row['uri']}\n      {row['prompt']}")
        print(f"      {row['width']}x{row['height']} pixels, {row['bytes']:,} bytes, {row['credits']} credit")
    print(
        f"\n  {len(rows)} pictures, {sum(row['credits'] for row in rows)} credits, {time.monotonic() - started:.0f} s"
    )
    print(f"  Contact sheet: {contact_sheet(rows)}\n")


def airflow_environment(connection: dict[str, object]) -> dict[str, str]:
    """Return the environment of an Airflow that knows this demo and nothing else."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "CLAID_API_KEY"))}
    return inherited | {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW_CONN_CLAID_DEFAULT": json.dumps(connection),
        "CLAID_QUICKSTART_FOLDER": f"file://{PICTURES}/",
    }


@contextmanager
def real_api(key: str) -> Iterator[dict[str, object]]:
    """Yield a connection to Claid."""
    yield {"conn_type": "claid", "password": key}


@contextmanager
def sandbox() -> Iterator[dict[str, object]]:
    """Start a sandbox on a free port, yield a connection to it, and stop it."""
    from airflow_provider_claid.sandbox.server import SandboxServer

    with SandboxServer(latency=(0.5, 1.5)) as server:
        print(f"  sandbox at {server.url}", flush=True)
        yield {"conn_type": "claid", "host": server.url, "password": "sandbox-key"}


def step(title: str, command: list[str], environment: dict[str, str]) -> None:
    """Run one step with its output in a log, and a line that says what it is and how long it took."""
    print(f"  {title} ...", end="", flush=True)
    started = time.monotonic()
    log = HOME / "demo.log"
    with log.open("ab") as output:
        done = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, check=False)
    if done.returncode:
        print(" failed", flush=True)
        sys.stdout.write("\n".join(log.read_text(errors="replace").splitlines()[-40:]) + "\n")
        sys.exit(f"{title} failed; the whole log is {log}")
    print(f" {time.monotonic() - started:.0f} s", flush=True)


def run_dag() -> None:
    """Run the Dag as the Dag processor stored it, and write down what its last task returned."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.serialized_dag import SerializedDagModel

    if not SerializedDagModel.has_dag(DAG_ID):
        sys.exit(f"The Dag processor did not store {DAG_ID}.")
    bag = DagBag(ROOT / "dags" / f"{DAG_ID}.py", bundle_path=ROOT / "dags", bundle_name="dags-folder")
    if bag.import_errors:
        sys.exit(f"Import errors: {bag.import_errors}")
    run = bag.dags[DAG_ID].test()
    if run.state != "success":
        sys.exit(f"The Dag run ended as {run.state}.")
    rows = run.get_task_instance("report").xcom_pull("report")
    (HOME / "rows.json").write_text(json.dumps(rows))


def contact_sheet(rows: list[dict[str, object]]) -> Path:
    """Write a page with a thumbnail of each picture."""
    from PIL import Image

    figures = []
    for row in rows:
        picture = Path(str(row["uri"]).removeprefix("file://"))
        thumbnail = PICTURES / "thumbnails" / f"{picture.stem}.webp"
        thumbnail.parent.mkdir(exist_ok=True)
        with Image.open(picture) as image:
            image.thumbnail((384, 384))
            image.save(thumbnail)
        caption = f"{html.escape(str(row['prompt']))}<br>{row['width']}x{row['height']}, {row['credits']} credit"
        figures.append(
            f'<figure><a href="{quote(picture.name)}"><img src="thumbnails/{quote(thumbnail.name)}" alt=""></a>'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    page = PICTURES / "index.html"
    page.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Claid.ai quickstart</title><style>"
        "body{font:16px/1.5 system-ui,sans-serif;margin:2rem;background:#f6f5fa;color:#222}"
        "main{display:flex;flex-wrap:wrap;gap:1.5rem}figure{margin:0;width:384px}img{border-radius:12px;display:block}"
        "figcaption{margin-top:.5rem}</style><h1>Claid.ai quickstart</h1><main>" + "".join(figures) + "</main></html>\n"
    )
    return page


if __name__ == "__main__":
    if sys.argv[1:] == ["--run"]:
        run_dag()
    else:
        main()
