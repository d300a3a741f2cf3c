"""
Errors as Airflow's tasks see them: the kinds of `api.errors`, each with what it means for a retry of the task.

Those that may have cost money, or that no retry can mend, are also `AirflowFailException`s: Airflow fails the task at
once, whatever its `retries`. The others are `AirflowException`s, which Airflow retries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException

from airflow_provider_claid.api import errors
from airflow_provider_claid.api.bill import current_bill
from airflow_provider_claid.api.errors import ClaidError
from airflow_provider_claid.metrics import measured

__all__ = [
    "ClaidAnswerLostError",
    "ClaidAuthenticationError",
    "ClaidBatchError",
    "ClaidBatchUnfinishedError",
    "ClaidBudgetError",
    "ClaidConfigurationError",
    "ClaidContentFilteredError",
    "ClaidCreditsError",
    "ClaidError",
    "ClaidInputError",
    "ClaidLostAnswerError",
    "ClaidNotSentError",
    "ClaidPermissionError",
    "ClaidPictureError",
    "ClaidRateLimitError",
    "ClaidRecordsError",
    "ClaidRefusedError",
    "ClaidUnavailableError",
    "ClaidUndeliveredError",
    "ClaidUnknownOutcomeError",
    "ClaidValidationError",
]


class ClaidNotSentError(errors.ClaidNotSentError, AirflowException):
    """The request did not leave. Not billed; a retry is safe and may help."""


class ClaidBudgetError(errors.ClaidBudgetError, AirflowFailException):
    """The day's credits do not suffice; nothing was sent. A retry on the same UTC day does not help."""


class ClaidRateLimitError(errors.ClaidRateLimitError, AirflowException):
    """Refused with 429. Not billed; a retry after `retry_after` seconds is safe and helps."""


class ClaidUnavailableError(errors.ClaidUnavailableError, AirflowException):
    """An unbilled request failed at Claid or on the way. A retry is safe and may help."""


class ClaidInputError(errors.ClaidInputError, AirflowFailException):
    """A value is wrong; nothing was sent. A retry does not help."""


class ClaidConfigurationError(errors.ClaidConfigurationError, ClaidInputError):
    """The Airflow connection or configuration is wrong; nothing was sent. A retry does not help."""


class ClaidRefusedError(errors.ClaidRefusedError, AirflowFailException):
    """Refused for good (4xx). Not billed; a retry does not help."""


class ClaidAuthenticationError(errors.ClaidAuthenticationError, ClaidRefusedError):
    """401. Not billed; a retry does not help until a person corrects the key."""


class ClaidCreditsError(errors.ClaidCreditsError, ClaidRefusedError):
    """402. Not billed; a retry does not help until a person buys credits."""


class ClaidPermissionError(errors.ClaidPermissionError, ClaidRefusedError):
    """403. Not billed; a retry does not help until a person gives the key its scope."""


class ClaidValidationError(errors.ClaidValidationError, ClaidRefusedError):
    """422. Not billed; a retry does not help."""


class ClaidUnknownOutcomeError(errors.ClaidUnknownOutcomeError, AirflowFailException):
    """May have been billed. A retry could pay twice, so there is none."""


class ClaidLostAnswerError(errors.ClaidLostAnswerError, AirflowException):
    """May have been billed; the record counts it, and `max_submissions` allows the retry to send one more."""


class ClaidRecordsError(errors.ClaidRecordsError, AirflowFailException):
    """A record cannot be read or relied on; nothing was sent. A retry does not help until a person has looked."""


class ClaidAnswerLostError(errors.ClaidAnswerLostError, AirflowFailException):
    """Billed, and the answer is lost. A retry would pay again, so there is none."""


class ClaidPictureError(errors.ClaidPictureError, AirflowFailException):
    """Billed, and a picture could not be delivered. A retry would pay again, so there is none."""


class ClaidUndeliveredError(errors.ClaidUndeliveredError, AirflowException):
    """Billed and recorded, but not delivered yet. A retry takes the pictures from the record and pays nothing."""


class ClaidContentFilteredError(errors.ClaidContentFilteredError, AirflowFailException):
    """Billed, and black. A retry would pay again for the same prompt, so there is none."""


class ClaidBatchError(errors.ClaidBatchError, AirflowFailException):
    """More items of a batch failed than `max_failed` allows. What was delivered is in the manifest; no retry helps."""


class ClaidBatchUnfinishedError(errors.ClaidBatchUnfinishedError, AirflowException):
    """As above, and a retry goes on where the batch stopped, paying nothing twice."""


_FACES: dict[type[ClaidError], type[ClaidError]] = {
    face.__bases__[0]: face for face in (globals()[name] for name in __all__) if face is not ClaidError
}


@contextmanager
def airflow_errors(tags: Mapping[str, str] | None = None) -> Iterator[None]:
    """
    Turn the errors of the core, raised inside, into those of this module, with all they carry.

    An error that says "not billed" of itself, and strikes after something was paid for the same work, now or in an
    earlier attempt as the open bill knows, says what that was, with its request id; it keeps its kind.
    Any other exception that leaves after a request may have been billed (an execution timeout, an interrupt, a failing
    XCom) becomes an error that Airflow does not retry, unless what is recorded protects a retry: one place decides it,
    for the hook and the operators alike. So does an error after which a retry would not find an answer that this work
    alone knows. Metrics of the requests made inside get the `tags`.
    """
    with measured(tags) as bill:
        try:
            yield
        except ClaidError as error:
            bill.correct(error)
            if bill.alone and error.retryable:
                message = f"{error.message.rstrip('.')}. It could not be recorded, so no retry can find it"
                raise ClaidPictureError(message, billed="yes", request_id=error.request_id) from error
            raise _face_of(error) from error.__cause__
        except (AirflowSkipException, GeneratorExit):
            raise
        except BaseException as interruption:
            if bill.billed == "no" or bill.protected:
                raise
            what = f"Interrupted by {type(interruption).__name__} after the request left"
            kind = ClaidPictureError if bill.billed == "yes" else ClaidUnknownOutcomeError
            raise kind(f"{what}. {bill.receipt}".strip(), billed=bill.billed) from interruption


def described(error: ClaidError) -> dict[str, Any]:
    """Return an error as plain JSON, for a trigger's event; with what the open bill knows of the money."""
    current_bill().correct(error)
    return {
        "kind": (_face_for(type(error)) or type(error)).__name__,
        "message": error.message,
        "billed": error.billed,
        "status": error.status,
        "request_id": error.request_id,
        "retry_after": error.retry_after,
        "field": getattr(error, "field", None),
    }


def revived(description: Mapping[str, Any]) -> ClaidError:
    """Return the error of this module that `described` wrote down; a kind that is not known here is the base."""
    faces = (face for face in _FACES.values() if face.__name__ == description["kind"])
    face: type[ClaidError] = next(faces, ClaidError)
    error = face.__new__(face, description["message"])
    facts = {name: description[name] for name in ("billed", "status", "request_id", "retry_after")}
    ClaidError.__init__(error, description["message"], **facts)
    error.__dict__["field"] = description["field"]
    return error


def _face_for(kind: type[ClaidError]) -> type[ClaidError] | None:
    return next((_FACES[each] for each in kind.__mro__ if each in _FACES), None)


def _face_of(error: ClaidError) -> ClaidError:
    face = _FACES.get(type(error))
    if face is None:
        return error
    twin = face.__new__(face, *error.args)
    twin.args = error.args
    twin.__dict__.update(error.__dict__)
    return twin.with_traceback(error.__traceback__)
