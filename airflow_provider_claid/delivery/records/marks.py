"""
The marks that attempts leave with their records: `<records_path>/<job key>/<number>.attempt`, or in the state store.

The first mark of a process is also the proof that records can be written there, each once. Everything here blocks.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from airflow_provider_claid.api.errors import ClaidNotSentError, ClaidRecordsError
from airflow_provider_claid.delivery.backoff import persistent
from airflow_provider_claid.delivery.records.attempts import UNKNOWN, Attempt, Try, follow, is_lost
from airflow_provider_claid.delivery.records.objects import Objects, create_proven, unreadable
from airflow_provider_claid.delivery.records.state import StateStore
from airflow_provider_claid.delivery.records.submission import packed

STATE_KEY = "claid_attempts"
STATE_PLACE = "the task state store of Airflow"


def begin(objects: Objects, key: str, now: Try, told_place: Callable[[], str | None]) -> Attempt:
    """
    Write down that an attempt begins, and return it with its generation.

    `told_place` is asked only where no mark is found. Raises `ClaidRecordsError` for a place that is lost, and
    `ClaidNotSentError` if a later attempt has begun.
    """
    first = _first(now)
    if now.number <= 1 and _create(objects, key, first):
        return first
    while True:
        marks = _read(objects, key)
        place = told_place() if not marks else None
        attempt = _refused(marks, now, place) or _following(marks, now, objects.uri)
        if _create(objects, key, attempt):
            if attempt.refused:
                raise lost(objects.uri, now.number, place)
            return attempt
        if len(_read(objects, key)) == len(marks):
            raise unreadable(objects.uri + mark_name(key, attempt.number))


def begin_in_state(store: StateStore, now: Try) -> Attempt:
    """Do what `begin` does for records in the task state store, which no task instance can lose."""
    kept = (store.get(STATE_KEY) or {}) if now.number > 1 else {}
    marks = _marks(kept.get("marks", ()), STATE_PLACE)
    place = kept.get("place")
    attempt = _refused(marks, now, place) if place else None
    attempt = attempt or _following(marks, now, STATE_PLACE)
    values = [each.to_json() for each in (*marks, attempt)]
    store.set(STATE_KEY, {"place": place if attempt.refused else None, "marks": values})
    if attempt.refused:
        raise lost(STATE_PLACE, now.number, place)
    return attempt


def next_in_state(store: StateStore, now: Try) -> Attempt | None:
    """Return the attempt that would follow those in the task state store; None where there are none, or later ones."""
    marks = _marks((store.get(STATE_KEY) or {}).get("marks", ()), STATE_PLACE)
    return follow(marks[-1], now) if marks else None


def told_to(store: StateStore | None) -> Callable[[], str | None]:
    """Return how to ask where earlier attempts told Airflow that the records are."""

    def place() -> str | None:
        if store is None:
            return UNKNOWN
        kept = store.get(STATE_KEY)
        return None if kept is None else kept.get("place") or STATE_PLACE

    return place


def tell(store: StateStore | None, uri: str) -> None:
    """Tell Airflow, where it keeps that, where the records are: what a retry needs that finds none."""
    if store is not None:
        store.set(STATE_KEY, {"place": uri, "marks": []})


def require_mark(objects: Objects, key: str, number: int) -> None:
    """Raise `ClaidRecordsError` where the mark of an attempt is not: a triggerer that lacks the folder, say."""
    if persistent(partial(objects.get, mark_name(key, number))) is None:
        message = (
            f"records_path: the mark {objects.uri}{mark_name(key, number)}, which the worker has left, is not there. "
            "This triggerer sees another folder than the workers: mount it here too, or keep records in an object store"
        )
        raise ClaidRecordsError(message, billed="unknown")


def lost(where: str, try_number: int, told_place: str | None) -> ClaidRecordsError:
    """Return the error for a place in which earlier attempts of a task have left no mark."""
    begun = f"records_path: no earlier try of this task has left a mark in {where}, and this is try {try_number}"
    if told_place in {None, UNKNOWN}:
        reason = (
            "If the earlier tries never began, or said that nothing was sent, nothing was paid: clear the task once "
            "more. Else the folder is not mounted here, was emptied, or is another one than before, and they may have "
            "paid: restore it, then clear the task"
        )
    elif told_place == STATE_PLACE:
        reason = (
            "Their records are in the task state store of Airflow, because they had no records_path. Leave it out, and "
            "clear the task; or, if paying again is right, just clear it"
        )
    elif told_place == where:
        reason = (
            "They have written there: the folder is not mounted here, or was emptied. Restore it, and clear the task; "
            "or, if paying again is right, just clear it"
        )
    else:
        reason = (
            f"Their records are in {told_place}. Set records_path back to that, and clear the task; or, if paying "
            "again is right, just clear it"
        )
    return ClaidRecordsError(f"{begun}. {reason}", billed="unknown")


def _refused(marks: list[Attempt], now: Try, place: str | None) -> Attempt | None:
    """Return the attempt that is to be refused: that of a lost place, or Airflow's own retry of one."""
    if is_lost(len(marks), now.number, place):
        return replace(_first(now), refused=True)
    return None


def _following(marks: list[Attempt], now: Try, where: str) -> Attempt:
    last = marks[-1] if marks else None
    attempt = follow(last, now) if last else _first(now)
    if attempt is None:
        message = f"A later attempt of this task has begun (in {where}); this one does nothing"
        raise ClaidNotSentError(message, billed="unknown")
    # Only a person's clearing gives leave to go on without the records of earlier tries.
    is_refused = last is not None and last.refused and attempt.generation == last.generation
    return replace(attempt, refused=True) if is_refused else attempt


def _first(now: Try) -> Attempt:
    return Attempt(told=now, owner=uuid.uuid4().hex[:20])


def _create(objects: Objects, key: str, attempt: Attempt) -> bool:
    # The token tells it from the mark of another attempt of which Airflow says the same.
    name, data = mark_name(key, attempt.number), packed(attempt.to_json() | {"token": uuid.uuid4().hex})
    if persistent(partial(create_proven, objects, name, data)):
        return True
    # A create that the store has carried out and answered badly is refused when it is tried again.
    return persistent(partial(objects.get, name)) == data


def _read(objects: Objects, key: str) -> list[Attempt]:
    marks: list[Attempt] = []
    while (raw := persistent(partial(objects.get, mark_name(key, len(marks) + 1)))) is not None:
        where = objects.uri + mark_name(key, len(marks) + 1)
        marks += _marks([_loaded(raw, where)], where)
    return marks


def _loaded(raw: bytes, where: str) -> Any:
    try:
        return json.loads(raw)
    except ValueError as fault:
        raise _broken(where, fault) from fault


def _marks(values: Any, where: str) -> list[Attempt]:
    try:
        return [Attempt.from_json(value) for value in values]
    except (AttributeError, LookupError, TypeError, ValueError) as fault:
        raise _broken(where, fault) from fault


def _broken(where: str, fault: Exception) -> ClaidRecordsError:
    message = f"The mark {where} of an attempt cannot be read ({type(fault).__name__}: {str(fault)[:200]}). Restore it"
    return ClaidRecordsError(message, billed="unknown")


def mark_name(key: str, number: int) -> str:
    """Return the name of the object that is the mark of an attempt."""
    return f"{key}/{number}.attempt"
