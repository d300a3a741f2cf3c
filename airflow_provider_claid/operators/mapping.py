"""What tells the files of mapped tasks apart: under a name that several share, each overwrites the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.checks import check_name

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_claid.operators.image import ClaidGenerateImageOperator

PLACE = ("save_to", "filename")
"""The arguments that say where a copy goes."""

_OF_THE_RUN = frozenset(
    {
        "conn", "dag", "dag_run", "data_interval_end", "data_interval_start", "ds", "ds_nodash", "execution_date",
        "inlets", "logical_date", "outlets", "partition_date", "partition_key", "run_id", "test_mode",
        "triggering_asset_events", "triggering_dataset_events", "ts", "ts_nodash", "ts_nodash_with_tz", "var",
    }
)  # fmt: skip
"""What a template may name and still render alike in every mapped task of a run."""


def require_own_name(operator: ClaidGenerateImageOperator, context: Context) -> None:
    """Raise `ClaidInputError` for a mapped task whose copies have the names of another task of the same mapping."""
    declared, index = declared_task(context), getattr(context["ti"], "map_index", None)
    if not operator.filename or declared is None or index is None or index < 0:
        return
    given: Any = vars(declared)
    if is_mapped_operator(declared):
        given = {**(declared.partial_kwargs.get("default_args") or {}), **declared.partial_kwargs}
    place = MappedPlace(
        {name: given.get(name) for name in PLACE},
        getattr(getattr(declared, "expand_input", None), "value", None) or {},
        int(index),
        {name: getattr(operator, name) for name in PLACE},
        operator.get_template_env(),
    )
    if place.is_shared(context):
        came, accepted = f"{operator.filename!r:.80}, as in other mapped tasks", "a name for each mapped task"
        fix = "They would overwrite each other: add {{ ti.map_index }} to it, or to save_to."
        raise ClaidInputError("filename", came, accepted, fix)


def declared_task(context: Context) -> Any:
    """Return the task as the Dag declares it, neither mapped nor rendered; None outside of a Dag."""
    dag = context.get("dag")
    return dag.get_task(context["ti"].task_id) if dag is not None else None


def is_mapped_operator(declared: Any) -> bool:
    """Tell whether a task was made by `expand` or `expand_kwargs`; one in a mapped task group was not."""
    return hasattr(declared, "partial_kwargs")


@dataclass(frozen=True)
class MappedPlace:
    """
    Where the mapped task of an `index` puts its copies, as far as the Dag tells.

    `common` is what all tasks are given, as written, and `own` what this one has, rendered. `expansion` is the mapping
    of `expand`, the rows of `expand_kwargs`, or the output of a task, whose values are taken for each task's own.
    """

    common: Mapping[str, Any]
    expansion: Any
    index: int
    own: Mapping[str, Any]
    environment: jinja2.Environment

    def is_shared(self, context: Context) -> bool:
        """Tell whether another task of the mapping has the same place."""
        if isinstance(self.expansion, Mapping):
            return self._tasks_here(self.expansion, context) > 1
        if isinstance(self.expansion, Sequence):
            return self._rows_alike(self.expansion) > 1
        return not any(value is None or self._varies(value) for value in self.common.values())

    def _tasks_here(self, lists: Mapping[str, Any], context: Context) -> float:
        """Return how many tasks have this place; `expand` makes one of every combination of its lists."""
        counts: list[float] = []
        for name in PLACE:
            values = lists.get(name, [self.common[name]])
            literal = isinstance(values, Sequence)
            if literal and any(map(self._varies, values)):
                return 1
            counts.append(max(1, sum(_alike(name, value, self.own[name]) for value in values)) if literal else 1)
        if lists.keys().isdisjoint(PLACE):
            return inf
        return prod(counts) * prod(_length(values, context) for name, values in lists.items() if name not in PLACE)

    def _rows_alike(self, rows: Sequence[Any]) -> int:
        """Return how many rows of `expand_kwargs` have this place, of those that are written in the Dag."""
        places = [{**self.common, **row} for row in rows if isinstance(row, Mapping)]
        mine = rows[self.index]
        if not isinstance(mine, Mapping) or any(self._varies({**self.common, **mine}.get(name)) for name in PLACE):
            return 1
        mine = {**self.common, **mine}
        return sum(all(_alike(name, place.get(name), mine.get(name)) for name in PLACE) for place in places)

    def _may_expand(self, name: str) -> bool:
        """Tell whether the tasks may be given different values of this argument."""
        if isinstance(self.expansion, Mapping):
            return name in self.expansion
        return not isinstance(self.expansion, Sequence) or any(name in row for row in self.expansion)

    def _varies(self, value: Any) -> bool:
        """Tell whether a value may differ from mapped task to mapped task."""
        from jinja2 import TemplateSyntaxError, meta

        if not isinstance(value, str | PurePath) and (callable(value) or hasattr(value, "iter_references")):
            return True
        alike = _OF_THE_RUN if self._may_expand("params") else _OF_THE_RUN | {"params"}
        try:
            return not meta.find_undeclared_variables(self.environment.parse(str(value))) <= alike
        except TemplateSyntaxError:
            return False


def _alike(name: str, one: Any, other: Any) -> bool:
    """Tell whether two values of an argument are one place: neither `.png` nor a final slash makes a difference."""
    return _bare(name, one) == _bare(name, other)


def _bare(name: str, value: Any) -> str:
    if name == "save_to":
        return str(value).rstrip("/")
    try:
        return check_name(value)
    except ClaidInputError:
        return str(value)


def _length(values: Any, context: Context) -> int:
    return len(values.resolve(context) if hasattr(values, "iter_references") else values)
