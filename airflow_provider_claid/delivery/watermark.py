"""Which pictures of a folder were announced: kept small enough for Airflow's asset state store. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_claid.delivery.buckets import Entry

OVERLAP = timedelta(hours=1)
"""How much older than the newest one a picture may be that shows up late: a long upload is dated by its beginning."""

MOST_KEPT = 5_000
"""Pictures remembered one by one, 8 bytes each: 54 KB as text, less than the 64 KB of a value in the state store."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEMA = 1
_DIGEST_BYTES, _OFFSET_BYTES = 6, 2


@dataclass(frozen=True)
class Watermark:
    """
    All last modified before `mark` counts as announced; from there on, what `kept` has a digest of, with its time.

    So nothing is announced twice, and nothing is lost but what shows up dated an hour back, or behind 5,000 newer ones.
    """

    mark: datetime = EPOCH
    kept: Mapping[bytes, datetime] = field(default_factory=dict)

    def is_new(self, entry: Entry) -> bool:
        """Tell whether this version of an object was not announced yet."""
        return (entry.modified or datetime.now(UTC)) >= self.mark and _digest(entry) not in self.kept

    def after(self, entries: Iterable[Entry]) -> Watermark:
        """Return the watermark once these are announced."""
        kept = dict(self.kept) | {_digest(entry): entry.modified or datetime.now(UTC) for entry in entries}
        newest = sorted(kept.items(), key=lambda item: item[1], reverse=True)
        if not newest:
            return self
        mark = max(self.mark, newest[0][1] - OVERLAP)
        if len(newest) > MOST_KEPT:
            # Above what is forgotten, or that would be new again.
            mark = max(mark, newest[MOST_KEPT][1] + timedelta(microseconds=1))
        return Watermark(mark, {digest: modified for digest, modified in newest if modified >= mark})

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; times are kept to the second, counted from the mark."""
        parts = [
            digest + int((modified - self.mark).total_seconds()).to_bytes(_OFFSET_BYTES, "big")
            for digest, modified in self.kept.items()
        ]
        return {"schema": _SCHEMA, "mark": self.mark.isoformat(), "kept": base64.b64encode(b"".join(parts)).decode()}

    @classmethod
    def from_json(cls, value: Any) -> Watermark:
        """Read what `to_json` wrote; raises ValueError for anything else."""
        if not isinstance(value, dict) or value.get("schema") != _SCHEMA:
            raise ValueError(f"it has the schema {value.get('schema') if isinstance(value, dict) else value!r:.60}")
        mark, raw, size = datetime.fromisoformat(value["mark"]), base64.b64decode(value["kept"]), _DIGEST_BYTES + 2
        parts = [raw[at : at + size] for at in range(0, len(raw), size)]
        seconds = {part[:_DIGEST_BYTES]: int.from_bytes(part[_DIGEST_BYTES:], "big") for part in parts}
        return cls(mark, {digest: mark + timedelta(seconds=offset) for digest, offset in seconds.items()})


def _digest(entry: Entry) -> bytes:
    return hashlib.sha256(f"{entry.key}\0{entry.version}".encode()).digest()[:_DIGEST_BYTES]
