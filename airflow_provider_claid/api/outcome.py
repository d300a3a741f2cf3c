"""
What each way a billed request can end means for the bill, as one table (design §4 "Outcome classes").

A request ends in one of six classes. Only *not sent* and *rate limited* may be sent again by themselves:
RFC 9110 §9.2.2 forbids repeating a POST unless it surely was not applied, and Claid has no idempotency key.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from airflow_provider_claid.api import errors
from airflow_provider_claid.api.errors import Billed, ClaidError


@dataclass(frozen=True)
class Verdict:
    """What to tell, what it means for the bill, and which error says so."""

    billed: Billed
    error: type[ClaidError] | None
    summary: str


class Outcome(Enum):
    """The classes of design §4; `refused` has four kinds of its own so that an operator's log names the remedy."""

    DONE = Verdict("yes", None, "Claid answered with pictures")
    NOT_SENT = Verdict("no", errors.ClaidNotSentError, "The request was not sent")
    RATE_LIMITED = Verdict("no", errors.ClaidRateLimitError, "Claid's rate limit refused the request")
    UNAUTHENTICATED = Verdict("no", errors.ClaidAuthenticationError, "Claid did not accept the API key")
    NO_CREDITS = Verdict("no", errors.ClaidCreditsError, "The Claid account has no credits left")
    NOT_PERMITTED = Verdict("no", errors.ClaidPermissionError, "The API key lacks a scope")
    INVALID = Verdict("no", errors.ClaidValidationError, "Claid refused a value of the request")
    REFUSED = Verdict("no", errors.ClaidRefusedError, "Claid refused the request")
    UNKNOWN = Verdict(
        "unknown",
        errors.ClaidUnknownOutcomeError,
        "The request left and its outcome is unknown",
    )
    ANSWER_LOST = Verdict(
        "yes", errors.ClaidAnswerLostError, "Claid accepted the request but its answer could not be read"
    )


_BY_STATUS = {
    401: Outcome.UNAUTHENTICATED,
    402: Outcome.NO_CREDITS,
    403: Outcome.NOT_PERMITTED,
    # A gateway answers 408 both for "your request never came whole" and for "the service behind me was slow".
    408: Outcome.UNKNOWN,
    422: Outcome.INVALID,
    429: Outcome.RATE_LIMITED,
    # "See other" is what a server says after it has acted.
    303: Outcome.UNKNOWN,
}


def of_answer(status: int, *, readable: bool) -> Outcome:
    """Classify an answer by its status; `readable` says whether a success held the documented body."""
    if 200 <= status < 300:
        return Outcome.DONE if readable else Outcome.ANSWER_LOST
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Outcome.REFUSED if 300 <= status < 500 else Outcome.UNKNOWN


def of_silence(*, sent: bool) -> Outcome:
    """Classify a request that ended without a status, by whether its first byte may have left."""
    return Outcome.UNKNOWN if sent else Outcome.NOT_SENT
