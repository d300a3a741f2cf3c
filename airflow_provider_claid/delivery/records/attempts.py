"""
The attempts of a task, written down before anything else: which place the records are in, and what a person cleared.

An attempt that finds the marks of earlier ones is in the right place. One that should find some and finds none is not:
its records are lost or elsewhere, so what they say about money is not known, and nothing may be sent. The marks also
tell an automatic retry from a task that a person has cleared, which Airflow does not say by itself. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from airflow_provider_claid.delivery.records.submission import SCHEMA, require_schema

Relation = Literal["retry", "cleared", "late"]
"""`retry`: begun by Airflow. `cleared`: by a person, or the run was made anew. `late`: a later one has begun."""


CLOCKS_DIFFER = 60_000
"""Milliseconds by which the clocks of Airflow's machines may differ."""


@dataclass(frozen=True)
class Try:
    """
    What Airflow says of one attempt: `number` is its try number.

    `max_tries` and `retries` are those of the task instance and of the task. `started` is when the Dag run started,
    `born` when the id of this try was made (Airflow 3 only), in Unix milliseconds: each tells a run that was deleted
    and made again under its run id.
    """

    number: int
    max_tries: int = 0
    retries: int = 0
    started: int | None = None
    born: int | None = None


@dataclass(frozen=True)
class Attempt:
    """
    An attempt as it is written down: its `number` counts, from 1, each process that has begun to work on the task.

    `generation` grows when a person clears the task, and stays for automatic retries. `refused`: it found no marks
    where some had to be, and sent nothing. `owner` is random, and one for all attempts of a task that find each
    other's marks: two deployments may have tasks of the same names, and one bucket.
    """

    number: int = 1
    generation: int = 0
    told: Try = Try(1)
    refused: bool = False
    owner: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Attempt:
        """Read what `to_json` wrote; raises a kind of LookupError, TypeError or ValueError for anything else."""
        require_schema(value)
        number, generation, told = int(value["number"]), int(value["generation"]), Try(**value["told"])
        return cls(number, generation, told, bool(value["refused"]), str(value["owner"]))


UNKNOWN = "unknown"
"""Airflow keeps nothing between two attempts of a task: what earlier ones told it is not known."""


def is_lost(marks: int, try_number: int, told_place: str | None) -> bool:
    """
    Tell whether a place is the wrong one, by the number of marks that earlier attempts have left there.

    `told_place` is where an earlier attempt told Airflow that the records are, None if none ever told, `UNKNOWN` where
    Airflow keeps nothing.

    | marks | try | Airflow was told | the place |
    | --- | --- | --- | --- |
    | some | any | anything | is right |
    | none | first | anything | is used for the first time |
    | none | later | nothing, by no attempt | is used for the first time |
    | none | later | a place | is lost, or another |
    | none | later | (keeps nothing) | is lost, or another |
    """
    return not marks and try_number > 1 and told_place is not None


def follow(last: Attempt, now: Try) -> Attempt | None:
    """Return the attempt that begins now, behind the `last` one; None if it is late, and is to do nothing."""
    relation = relation_of(now, last.told)
    if relation == "late":
        return None
    return Attempt(last.number + 1, last.generation + (relation == "cleared"), now, owner=last.owner)


def relation_of(now: Try, last: Try) -> Relation:
    """
    Tell how an attempt follows the one that was written down last.

    Airflow's clearing sets `max_tries` to the tries so far and the task's `retries`; automatic retries change neither.
    With fewer `retries` than before the sum may happen to be the old one: then it is a person's doing if the run has
    started anew, as a cleared run does, or if nobody can tell; else a retry after an edit of the Dag, which must not
    pay. A try beyond `max_tries` is a retry: a scheduler that restarts begins lost tasks anew.
    """
    pairs = [(now.started, last.started), (now.born, last.born)]
    known = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
    # Ids are made by several machines: that of a later try may be a little older.
    slack = CLOCKS_DIFFER if now.number > last.number else 0
    if any(ours + slack < theirs for ours, theirs in known):
        return "late"
    if now.number <= last.number and any(ours > theirs for ours, theirs in known):
        # Made anew under its run id: its tries are counted from 1 again.
        return "cleared"
    if now.number < last.number:
        return "late"
    is_sum = last.number <= now.max_tries - now.retries < now.number
    is_anew = now.started is None or now.started != last.started
    return "cleared" if now.max_tries != last.max_tries or (is_sum and is_anew) else "retry"
