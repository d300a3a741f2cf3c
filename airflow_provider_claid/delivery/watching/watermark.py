"""Which pictures of a folder were announced: kept small enough for Airflow's asset state store. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_claid.delivery.watching.buckets import Entry

OVERLAP = timedelta(hours=1)
"""How much older than the newest one a picture may be that shows up late: a long upload is dated by its beginning."""

MOST_KEPT = 5_000
"""Pictures remembered one by one, 9 bytes each: 60 KB as text, less than the 64 KB of a value in the state store."""

MOST_BEHIND = 4
"""How many times as many are remembered while a picture is pending, before that is given up."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEMA = 1
_DIGEST_BYTES, _OFFSET_BYTES = 6, 3
_LONGEST = 256**_OFFSET_BYTES - 1


@dataclass(frozen=True)
class Watermark:
    """
    All last modified before `mark` counts as announced; from there on, what `kept` has a digest of, with its time.

    Times are whole seconds: that is what stores tell, and what is written down. So nothing is announced twice, and
    nothing is lost but what shows up dated more than an hour back, or behind 5,000 newer ones.
    """

    mark: datetime = EPOCH
    kept: Mapping[bytes, datetime] = field(default_factory=dict)

    def is_new(self, entry: Entry) -> bool:
        """Tell whether this version of an object was not announced yet."""
        return _time(entry) >= self.mark and _digest(entry) not in self.kept

    def after(self, entries: Iterable[Entry], pending: Iterable[Entry] = (), now: datetime | None = None) -> Watermark:
        """
        Return the watermark once these are announced; it does not pass what is `pending`, new and not announced yet.

        Nor does it follow a picture that is dated in the future.
        """
        kept = dict(self.kept) | {_digest(entry): _time(entry) for entry in entries}
        newest = sorted(kept.items(), key=lambda item: item[1], reverse=True)
        if not newest:
            return self
        latest = min(newest[0][1], (now or datetime.now(UTC)).replace(microsecond=0))
        oldest = [min(map(_time, waiting))] if (waiting := list(pending)) else []
        mark = max(self.mark, min([latest - OVERLAP, *oldest]))
        most = MOST_KEPT * (MOST_BEHIND if oldest else 1)
        if len(newest) > most:
            # Above what is forgotten, or that would be new again.
            mark = max(mark, newest[most][1] + timedelta(seconds=1))
        return Watermark(mark, {digest: modified for digest, modified in newest if modified >= mark})

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; times are counted from the mark, in seconds."""
        parts = []
        for digest, modified in self.kept.items():
            offset = min(int((modified - self.mark).total_seconds()), _LONGEST)
            parts.append(digest + offset.to_bytes(_OFFSET_BYTES, "big"))
        return {"schema": _SCHEMA, "mark": self.mark.isoformat(), "kept": base64.b64encode(b"".join(parts)).decode()}

    @classmethod
    def from_json(cls, value: Any) -> Watermark:
        """Read what `to_json` wrote; raises ValueError for anything else."""
        try:
            return cls._read(value)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as fault:
            raise ValueError(f"no watermark of schema {_SCHEMA}: {type(fault).__name__}: {fault}") from fault

    @classmethod
    def _read(cls, value: Any) -> Watermark:
        mark = datetime.fromisoformat(value["mark"])
        raw, size = base64.b64decode(value["kept"], validate=True), _DIGEST_BYTES + _OFFSET_BYTES
        if value["schema"] != _SCHEMA or mark.tzinfo is None or len(raw) % size:
            raise ValueError(f"schema {value['schema']}, {mark}, {len(raw)} bytes")
        parts = [raw[at : at + size] for at in range(0, len(raw), size)]
        seconds = {part[:_DIGEST_BYTES]: int.from_bytes(part[_DIGEST_BYTES:], "big") for part in parts}
        return cls(mark, {digest: mark + timedelta(seconds=offset) for digest, offset in seconds.items()})


def _time(entry: Entry) -> datetime:
    return (entry.modified or EPOCH).replace(microsecond=0)


def picture_id(uri: str, entry: Entry) -> str:
    """Return 20 characters that name this version of a picture, in whatever event and however often it is told of."""
    return _hashed(uri, entry).hex()[:20]


def _digest(entry: Entry) -> bytes:
    return _hashed(entry.key, entry)[:_DIGEST_BYTES]


def _hashed(name: str, entry: Entry) -> bytes:
    # With the time: the same bytes, written again, are a new picture. And a file name of Linux need not be text.
    text = f"{name}\0{entry.version}\0{_time(entry)}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
