"""The path by which Airflow stores a trigger: the documented one, wherever its code is."""

from __future__ import annotations

DOCUMENTED = "airflow_provider_claid.triggers.claid"
"""The module from which users import the triggers; stored ones are found there for ever."""


def documented_path(trigger: object) -> str:
    """Return the path to serialize; a user's own subclass keeps its own."""
    kind = type(trigger)
    ours = kind.__module__.startswith("airflow_provider_claid.")
    return f"{DOCUMENTED if ours else kind.__module__}.{kind.__qualname__}"
