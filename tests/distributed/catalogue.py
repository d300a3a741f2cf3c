"""A run of the catalogue Dag, and what it has left behind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tests.distributed.deployment import Deployment

DAG = "claid_catalog"
PROMPTS, CHUNK = 2000, 500


@dataclass(frozen=True)
class Catalogue:
    """One run of a Dag over `prompts`, in chunks of 500, which writes below `folder`."""

    deployed: Deployment
    folder: Path
    prompts: list[str]
    run: str
    dag: str = DAG

    @property
    def chunks(self) -> int:
        return len(self.prompts) // CHUNK

    def wait(self, timeout: float) -> str:
        """Return the state in which the run ends."""
        return self.deployed.airflow.wait_run(self.dag, self.run, timeout)

    def report(self) -> dict[str, int]:
        """Return what the Dag's own report says."""
        return self.deployed.airflow.xcom(self.dag, self.run, "report")

    def results(self) -> list[dict[str, Any]]:
        """Return the counts and the manifest of each chunk."""
        pull = self.deployed.airflow.xcom
        return [pull(self.dag, self.run, "generate", "claid_result", number) for number in range(self.chunks)]

    def tries(self) -> list[int]:
        """Return how often each chunk was tried."""
        tasks = self.deployed.airflow.task_instances(self.dag, self.run)
        return [task["try_number"] for task in tasks if task["task_id"] == "generate"]

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of all manifests."""
        for result in self.results():
            yield from map(json.loads, path_of(result["manifest"]).read_text().splitlines())


def start(deployed: Deployment, name: str, dag: str = DAG, **params: Any) -> Catalogue:
    """Write a list of 2,000 prompts, and start a run of this Dag over it."""
    folder, prompts = deployed.folder / name, [f"{name} {number}" for number in range(PROMPTS)]
    folder.mkdir(parents=True)
    (folder / "prompts.txt").write_text("\n".join(prompts))
    places = {"prompts": (folder / "prompts.txt").as_uri(), "folder": f"{folder.as_uri()}/", "chunk": CHUNK}
    return Catalogue(deployed, folder, prompts, deployed.airflow.trigger(dag, places | params), dag)


def paid(deployed: Deployment, prefix: str = "") -> int:
    """Return how many prompts of this beginning are paid for; of the newest hundred, if there is a beginning."""
    seen = deployed.report(newest=100)
    if not prefix:
        return seen["totals"]["credits"]
    return sum(bool(each["credits"]) and each["prompt"].startswith(prefix) for each in seen["requests"])


def billed(deployed: Deployment) -> Counter[str]:
    """Return the credits that the sandbox has billed for each prompt."""
    credits: Counter[str] = Counter()
    for request in deployed.report()["requests"]:
        if request["credits"]:
            credits[request["prompt"]] += request["credits"]
    return credits


def is_readable(uri: str) -> bool:
    """Tell whether a picture is whole, to its last pixel."""
    with Image.open(path_of(uri)) as image:
        image.load()
        return image.size == (1024, 1024)


def path_of(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))
