"""From what became of an item to its line in the manifest."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_claid.api.errors import (
    ClaidContentFilteredError,
    ClaidError,
    ClaidUndeliveredError,
    ClaidUnknownOutcomeError,
)
from airflow_provider_claid.delivery import clock
from airflow_provider_claid.delivery.batch.endings import Line, told
from airflow_provider_claid.delivery.batch.rules import ending_of
from airflow_provider_claid.delivery.checks import OnFiltered
from airflow_provider_claid.delivery.job import JobResult, deliverable
from airflow_provider_claid.delivery.prompts.source import Item
from airflow_provider_claid.delivery.records.submission import Submission


def line_of(
    item: Item, result: JobResult, submissions: Sequence[Submission], on_filtered: OnFiltered
) -> tuple[Line, ClaidError | None]:
    """Describe an item that was paid for; the error is why its pictures were not delivered, None if they were."""
    uris: list[str] = []
    error: ClaidError | None = None
    try:
        uris = deliverable(result, on_filtered)
    except ClaidError as fault:
        error = fault
    black = [picture.filtered for picture in result.pictures]
    is_filtered = isinstance(error, ClaidContentFilteredError) or (bool(black) and all(black))
    description = result.to_json()
    line = Line(
        item.index,
        item.id,
        item.request.input,
        "filtered" if is_filtered else "failed" if error else "delivered",
        clock.now(),
        uris,
        description["images"],
        result.request_id,
        credits_of(submissions),
        result.submissions,
        told(error) if error else None,
    )
    return line, None if is_filtered else error


def line_without(item: Item, submissions: Sequence[Submission], error: ClaidError | None) -> Line:
    """Describe an item without pictures: one that an error ended, or a stop of the task, or that was never begun."""
    error = error or _unfinished(submissions)
    paid = [each for each in submissions if each.billed != "no"]
    last = paid[-1] if paid else None
    return Line(
        item.index,
        item.id,
        item.request.input,
        ending_of(submissions, error),
        clock.now(),
        request_id=(last.result.request_id if last and last.result else None) or (error.request_id if error else None),
        credits=credits_of(submissions),
        submissions=len(paid),
        error=told(error) if error else None,
    )


def _unfinished(submissions: Sequence[Submission]) -> ClaidError | None:
    """Return why an item was not delivered that no error ended; None if nothing was sent for it."""
    if any(each.delivered for each in submissions):
        message = "The task ended before the pictures were brought to their place; a retry does that for nothing"
        return ClaidUndeliveredError(message, billed="yes")
    if any(each.state in {"open", "unknown"} for each in submissions):
        return ClaidUnknownOutcomeError("The task ended before an answer came", billed="unknown")
    return None


def credits_of(submissions: Sequence[Submission]) -> int:
    """Return what an item has cost at most."""
    return sum(each.credits for each in submissions)
