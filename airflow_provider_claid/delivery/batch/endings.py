"""One line of a manifest: how an item of a batch ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from airflow_provider_claid.api.errors import ClaidError
from airflow_provider_claid.delivery.records.submission import packed

Ending = Literal["delivered", "filtered", "failed", "unknown", "not_started"]
ENDINGS: tuple[Ending, ...] = ("delivered", "filtered", "failed", "unknown", "not_started")
FINAL: tuple[Ending, ...] = ("delivered", "filtered")
"""What no later attempt touches again."""


@dataclass(frozen=True)
class Line:
    """
    How an item ended. `credits` is what it cost at most, over all its submissions; `at` is when it ended.

    `uris` are the pictures handed on, `images` all of them as in `claid_result` of the operator for one job. `error` is
    `{"kind", "message", "billed"}`. `duplicate_of` is the index of the item that was paid for instead.
    """

    index: int
    id: str | None
    prompt: str
    outcome: Ending
    at: datetime
    uris: Sequence[str] = ()
    images: Sequence[Mapping[str, Any]] = ()
    request_id: str | None = None
    credits: int = 0
    submissions: int = 0
    error: Mapping[str, str] | None = None
    duplicate_of: int | None = None

    def packed(self, batch: str) -> bytes:
        """Return the line; `batch` is the fingerprint of the batch that it belongs to."""
        value = {
            "batch": batch,
            "index": self.index,
            "id": self.id,
            "prompt": self.prompt,
            "outcome": self.outcome,
            "uris": list(self.uris),
            "images": list(self.images),
            "request_id": self.request_id,
            "credits": self.credits,
            "submissions": self.submissions,
            "error": self.error,
            "duplicate_of": self.duplicate_of,
            "at": self.at.isoformat(),
        }
        return packed(value) + b"\n"

    @classmethod
    def unpacked(cls, raw: bytes) -> Line:
        """Read what `packed` wrote."""
        value = json.loads(raw)
        del value["batch"]
        return cls(**value | {"at": datetime.fromisoformat(value["at"])})


@dataclass(frozen=True)
class Mark:
    """Of a line that is written: what later decisions need."""

    batch: str
    index: int
    outcome: Ending
    credits: int
    at: float
    submissions: int = 0

    @classmethod
    def read(cls, raw: bytes) -> Mark:
        """Read a line; raises a kind of LookupError, TypeError or ValueError for what is none."""
        value = json.loads(raw)
        if value["outcome"] not in ENDINGS:
            raise ValueError(f"outcome {value['outcome']!r}")
        at = datetime.fromisoformat(value["at"]).timestamp()
        most, times = int(value["credits"]), int(value["submissions"])
        return cls(str(value["batch"]), int(value["index"]), value["outcome"], most, at, times)


def told(error: ClaidError) -> dict[str, str]:
    """Return an error for a line."""
    return {"kind": type(error).__name__, "message": error.message, "billed": error.billed}


@dataclass
class Counts:
    """How many items ended how, and what they cost at most in credits."""

    total: int
    endings: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ENDINGS, 0))
    credits: int = 0
    doubtful: int = 0
    """Items that were sent more than once, because nobody knows whether an earlier time was billed."""

    @property
    def is_at_most(self) -> bool:
        """Whether it may have cost less than `credits`."""
        return bool(self.endings["unknown"] or self.doubtful)

    @property
    def done(self) -> int:
        """Items that ended, in whatever way."""
        return sum(self.endings.values()) - self.endings["not_started"]

    @property
    def is_final(self) -> bool:
        """Whether no item needs anything more."""
        return sum(self.endings[ending] for ending in FINAL) == self.total
