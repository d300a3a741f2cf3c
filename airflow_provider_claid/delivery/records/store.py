"""
Where the records of a job are: `<records_path>/<job key>/<number>.intent` and `.result`.

Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

from airflow_provider_claid.api.errors import ClaidRecordsError
from airflow_provider_claid.delivery.records.objects import Objects, create_proven, unreadable
from airflow_provider_claid.delivery.records.submission import Intent, Result, Submission, packed


class Records(Protocol):
    """
    The records of one job. Methods block.

    They raise `StoreBusyError` for what may pass and `ClaidRecordsError` for what a person must mend.
    """

    fenced: bool
    """True where an earlier attempt can write nothing any more once a later one has begun."""

    removable: bool
    """True where a person can delete the record of one submission, which permits another."""

    def claim(self, intent: Intent) -> bool:
        """Write down an intent, durably, unless there is one of this number: then return False."""

    def finish(self, number: int, result: Result, *, unless_ended: bool = False) -> None:
        """Write down how a submission ended; `unless_ended` leaves an end that is there already."""

    def read(self, number: int) -> Submission | None:
        """Read one submission; None if there is none of this number."""

    def where(self, number: int) -> str:
        """Return what a person deletes to permit one more submission."""


class ObjectRecords:
    """Records as objects of a store. The rights needed are to put and to get."""

    fenced = False
    removable = True

    def __init__(self, objects: Objects, key: str) -> None:
        self._objects = objects
        self._key = key

    def where(self, number: int) -> str:
        """Return the URI of the intent."""
        return self._objects.uri + self._name(number, "intent")

    def claim(self, intent: Intent) -> bool:
        """Create the intent exclusively. The first one of a process is created twice: the store must refuse that."""
        name, data = self._name(intent.number, "intent"), packed(intent.to_json())
        if not create_proven(self._objects, name, data):
            found = self.read(intent.number)
            if found is None:
                raise unreadable(self.where(intent.number))
            # A create that the store has carried out and answered badly is refused when it is tried again.
            return found.intent.token == intent.token
        return True

    def finish(self, number: int, result: Result, *, unless_ended: bool = False) -> None:
        """Put the result; `unless_ended` only if none of this intent is there."""
        name, data = self._name(number, "result"), packed(result.to_json())
        if unless_ended and (self._objects.create(name, data) or self._is_ended(number)):
            return
        self._objects.put(name, data)

    def _is_ended(self, number: int) -> bool:
        """Tell whether the result that is there ends this intent; one that may not be read is never written over."""
        if self._objects.get(self._name(number, "result")) is None:
            raise unreadable(self._objects.uri + self._name(number, "result"))
        found = self.read(number)
        return found is not None and found.result is not None

    def read(self, number: int) -> Submission | None:
        """Read intent and result."""
        raw = self._objects.get(self._name(number, "intent"))
        if raw is None:
            return None
        return read_submission(raw, self._objects.get(self._name(number, "result")), self.where(number))

    def _name(self, number: int, kind: str) -> str:
        return f"{self._key}/{number}.{kind}"


def history(records: Records) -> Iterator[Submission]:
    """
    Yield the submissions of a job in order, by number.

    One record that a person has deleted hides none behind it: what is paid there counts, and its number is not given
    to another request.
    """
    number = 1
    while (submission := records.read(number) or records.read(number + 1)) is not None:
        yield submission
        number = submission.number + 1


def all_submissions(objects: Objects) -> Iterator[Submission]:
    """Yield every submission of every job in a place of records. Needs the right to list."""
    for name in objects.names():
        key, _, rest = name.partition("/")
        number, _, kind = rest.partition(".")
        if kind == "intent" and number.isdigit():
            found = ObjectRecords(objects, key).read(int(number))
            if found is not None:
                yield found


def _loaded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, bytes) else value


def read_submission(intent: Any, result: Any, where: str) -> Submission:
    """Read a record, or say what to do about one that cannot be read: to take it for none would pay again."""
    try:
        begun = Intent.from_json(_loaded(intent))
        ended = Result.from_json(_loaded(result)) if result is not None else None
    except (AttributeError, LookupError, TypeError, ValueError) as fault:
        message = (
            f"The record {where} cannot be read ({type(fault).__name__}: {str(fault)[:200]}); nothing is sent, as it "
            "may stand for a paid request. Restore it, or delete it (and its .result) to permit one more submission."
        )
        raise ClaidRecordsError(message, billed="unknown") from fault
    return Submission(begun, ended if ended and ended.token == begun.token else None, where)
