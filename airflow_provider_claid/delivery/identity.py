"""What a job is called."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """
    What a job is called over all its tries: Dag, run, task and map index, never the try number.

    `item` is its place in a batch, from 0; None for a task's only job.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    item: int | None = None

    def key(self) -> str:
        """Return the job key, 20 hexadecimal digits, and behind them the place in a batch."""
        joined = "\0".join((self.dag_id, self.run_id, self.task_id, str(self.map_index)))
        digits = hashlib.sha256(joined.encode()).hexdigest()[:20]
        return digits if self.item is None else f"{digits}-{self.item:06d}"

    def tags(self) -> dict[str, str]:
        """Return the tags by which a stored picture tells its task; `map_index` is that of a mapped task."""
        tags = {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": self.task_id}
        return tags if self.map_index < 0 else tags | {"map_index": str(self.map_index)}
