"""What a batch writes down: one line of JSON for each intent and each result, in segments of many."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from airflow_provider_claid.api.errors import ClaidRecordsError
from airflow_provider_claid.delivery.records import submission
from airflow_provider_claid.delivery.records.submission import SCHEMA, Intent, Result, Submission, require_schema


@dataclass(frozen=True)
class Entry:
    """That a submission of an item is about to leave (`intent`), or how it ended (`result`)."""

    item: int
    number: int
    intent: Intent | None = None
    result: Result | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        parts = {"intent": self.intent, "result": self.result}
        told = {name: part.to_json() for name, part in parts.items() if part is not None}
        return {"item": self.item, "number": self.number} | told


def packed(entries: Iterable[Entry]) -> bytes:
    """Write a segment."""
    return b"".join(submission.packed(entry.to_json()) + b"\n" for entry in entries)


def unpacked(raw: bytes, where: str) -> Iterator[Entry]:
    """Read a segment; raises `ClaidRecordsError` for what cannot be read: to take it for nothing would pay again."""
    try:
        if not raw:
            raise ValueError("it is empty")
        for line in raw.splitlines():
            value = json.loads(line)
            intent = Intent.from_json(value["intent"]) if "intent" in value else None
            result = Result.from_json(value["result"]) if "result" in value else None
            yield Entry(int(value["item"]), int(value["number"]), intent, result)
    except (AttributeError, LookupError, TypeError, ValueError) as fault:
        message = (
            f"The record {where} of a batch cannot be read ({type(fault).__name__}: {str(fault)[:200]}); nothing is "
            "sent, as it may stand for paid requests. Restore it, or begin anew with another records_path."
        )
        raise ClaidRecordsError(message) from fault


class Known:
    """The submissions of a batch's items, as the entries read so far tell; the same entries give the same answer."""

    def __init__(self) -> None:
        self._items: dict[int, dict[int, Submission]] = {}
        self._since: dict[int, int] = {}

    def items(self) -> list[int]:
        """Return the items that are known of."""
        return list(self._items)

    def add(self, entry: Entry, segment: int, where: str) -> None:
        """Take an entry in, if it tells more than is known."""
        if not self.learns_from(entry):
            return
        self._since.setdefault(entry.item, segment)
        submissions = self._items.setdefault(entry.item, {})
        if entry.intent is not None:
            submissions[entry.number] = Submission(entry.intent, None, where)
        else:
            known = submissions[entry.number]
            submissions[entry.number] = Submission(known.intent, entry.result, known.where)

    def learns_from(self, entry: Entry) -> bool:
        """Tell whether an entry is new: the first intent of a number counts, and a loss replaces no other end."""
        known, result = self.get(entry.item, entry.number), entry.result
        if result is None or known is None:
            return known is None and entry.intent is not None
        is_of_intent = result.token == known.intent.token
        return is_of_intent and result != known.result and (known.result is None or result.outcome != "unknown")

    def get(self, item: int, number: int) -> Submission | None:
        """Return a submission of an item."""
        return self._items.get(item, {}).get(number)

    def of(self, item: int) -> list[Submission]:
        """Return the submissions of an item, by number."""
        submissions = self._items.get(item, {})
        return [submissions[number] for number in sorted(submissions)]

    def forget(self, item: int) -> None:
        """Drop an item of which the manifest tells all that will be asked."""
        self._items.pop(item, None)
        self._since.pop(item, None)

    def oldest(self) -> int | None:
        """Return the first segment that tells of an item which is not forgotten."""
        return min(self._since.values(), default=None)


def head(fingerprint: str, total: int) -> bytes:
    """Write what a batch is known by."""
    return json.dumps({"schema": SCHEMA, "fingerprint": fingerprint, "total": total}).encode()


def fingerprint_of(raw: bytes | None, where: str) -> str:
    """Read the fingerprint of the batch that is recorded there."""
    try:
        value = json.loads(raw or b"")
        require_schema(value)
        return str(value["fingerprint"])
    except (LookupError, TypeError, ValueError) as fault:
        message = f"The record {where} of a batch cannot be read ({fault}). Restore it; nothing is sent"
        raise ClaidRecordsError(message) from fault
