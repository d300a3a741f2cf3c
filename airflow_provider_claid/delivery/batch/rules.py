"""What a batch decides by itself, as pure rules: how wide it is, what stops it, and how it has ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_provider_claid.api.errors import (
    Billed,
    ClaidAuthenticationError,
    ClaidBatchError,
    ClaidBatchUnfinishedError,
    ClaidBudgetError,
    ClaidConfigurationError,
    ClaidCreditsError,
    ClaidError,
    ClaidNotSentError,
    ClaidPermissionError,
    ClaidRateLimitError,
    ClaidRecordsError,
)
from airflow_provider_claid.delivery.batch.endings import Counts, Ending
from airflow_provider_claid.delivery.checks import OnFiltered
from airflow_provider_claid.delivery.records.submission import Submission
from airflow_provider_claid.pacing.schedule import Pace

FIRST_LATENCY = 8.0
NARROWEST, WIDEST = 8, 256
WEIGHT = 0.1
STOP_AFTER = 10
"""Items in a row that were paid for, or may have been, and not delivered: something is wrong for all of them."""

_FOR_ALL = (
    ClaidAuthenticationError,
    ClaidBudgetError,
    ClaidConfigurationError,
    ClaidCreditsError,
    ClaidNotSentError,
    ClaidPermissionError,
    ClaidRateLimitError,
    ClaidRecordsError,
)


class Width:
    """How many requests may be under way: what the pace lets out while one is answered, and half as many more."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._latency = FIRST_LATENCY

    def note(self, seconds: float) -> None:
        """Take note of how long an answer took."""
        self._latency += WEIGHT * (seconds - self._latency)

    @property
    def limit(self) -> int:
        """Requests."""
        return min(WIDEST, NARROWEST + math.ceil(1.5 * self._pace.per_second * self._latency))


class Breaker:
    """Finds out that a batch had better stop."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def cause(self, error: ClaidError | None, billed: Billed) -> ClaidError | None:
        """
        Return why nothing more should be sent after an item has ended with this error; None to go on.

        `billed` is what this attempt sent for it: what an earlier one lost must not stop all later ones.
        """
        if isinstance(error, _FOR_ALL):
            return error
        if error is None or billed != "no":
            self._in_a_row = self._in_a_row + 1 if error else 0
        if self._in_a_row < STOP_AFTER:
            return None
        what = f"{self._in_a_row} items in a row were or may have been paid for, and were not delivered"
        kind = ClaidBatchUnfinishedError if error is not None and error.retryable else ClaidBatchError
        return kind(f"{what}; the last one: {error}", billed="yes")


@dataclass(frozen=True)
class Allowance:
    """How many items may fail: a count, or a share of all (below 1)."""

    failed: float = 0

    def exceeded(self, counts: Counts, on_filtered: OnFiltered) -> int | None:
        """Return how many failed if that is too many."""
        bad = counts.endings["failed"] + counts.endings["unknown"]
        bad += counts.endings["filtered"] if on_filtered == "fail" else 0
        most = math.floor(self.failed * counts.total) if 0 < self.failed < 1 else self.failed
        return bad if bad > most else None


def ending_of(submissions: Sequence[Submission], error: ClaidError | None) -> Ending:
    """Say how an item stands that was not delivered, by its record and the error that ended it."""
    if any(each.state in {"open", "unknown"} for each in submissions) and not any(
        each.delivered for each in submissions
    ):
        return "unknown"
    if error is None or (isinstance(error, ClaidNotSentError | ClaidBudgetError | ClaidRateLimitError)):
        return "failed" if any(each.delivered for each in submissions) else "not_started"
    return "failed"


def verdict(
    counts: Counts, allowance: Allowance, on_filtered: OnFiltered, cause: ClaidError | None, *, again: bool, uri: str
) -> ClaidError | None:
    """
    Return the error that a batch ends with; None for success.

    `again`: a later attempt can deliver something more, without paying more than was allowed.
    """
    summary = f"{describe(counts)}. Manifest: {uri}"
    if cause is not None:
        cause.message = f"{cause.message.rstrip('.')}. The batch stopped: {summary}"
        cause.args = (cause.message,)
        return cause
    if waiting := counts.endings["not_started"]:
        return ClaidBatchUnfinishedError(
            f"The batch was stopped before {waiting} of its items: {summary}", billed="yes"
        )
    bad = allowance.exceeded(counts, on_filtered)
    if bad is None:
        return None
    kind = ClaidBatchUnfinishedError if again else ClaidBatchError
    return kind(f"{bad} of {counts.total} items failed, max_failed={allowance.failed:g}: {summary}", billed="yes")


def describe(counts: Counts) -> str:
    """Say in words how many items ended how."""
    parts = (f"{count:,} {ending.replace('_', ' ')}" for ending, count in counts.endings.items() if count)
    most = "up to " if counts.is_at_most else ""
    return f"{', '.join(parts) or 'nothing yet'} of {counts.total:,} items for {most}{counts.credits:,} credits"
