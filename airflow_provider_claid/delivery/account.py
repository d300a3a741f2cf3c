"""An account as a job needs it: where its API is, how fast it may be used, and where its schedule is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from airflow_provider_claid.api.endpoint import Endpoint
from airflow_provider_claid.pacing.place import Place
from airflow_provider_claid.pacing.schedule import Pace


@dataclass(frozen=True)
class Account:
    """
    A Claid account. `name` names its schedule: whatever uses the same name and `pacing_dir` shares one pace.

    That is one host; `pacing_place` is where several share it.
    `daily_credits` is what whatever shares that may spend in a UTC day; None: no limit.
    `storages` maps names of connected storages to `s3://bucket/prefix/` or `gs://…`, for keys without the scope.
    """

    name: str
    endpoint: Endpoint
    pace: Pace
    pacing_dir: Path
    daily_credits: int | None = None
    pacing_place: Place | None = None
    storages: Mapping[str, str] = field(default_factory=dict)
