"""Errors of the HTTP contract: what happened, whether it was billed, and whether trying again can help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from airflow_provider_claid.api.text import TEXT_LIMIT, one_line, plain

Billed = Literal["no", "yes", "unknown"]

_BILLED_TEXT: dict[Billed, str] = {
    "no": "not billed",
    "yes": "billed",
    "unknown": "may have been billed",
}


@dataclass(frozen=True)
class ErrorBody:
    """The error part of an answer, from any of the three documented shapes or from plain text (Claid API §4.1)."""

    message: str = ""
    error_code: str | None = None
    error_type: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class ClaidError(Exception):
    """
    Base of all errors of this provider.

    `status` is the HTTP status, `error_code`, `error_type` and `details` are Claid's own, `request_id` is what
    Claid's support asks for, `retry_after` is in seconds and at most `retry_after.MAX_WAIT`, `billed` is "no", "yes" or
    "unknown": the one place that says what it cost. `str` puts it into words, so that no message needs to.
    `rate_headers` holds the `ratelimit-*` headers of the answer, by lower-case name.
    """

    retryable: ClassVar[bool] = False
    """True where sending the request again, after the pause, costs nothing extra."""

    def __init__(
        self,
        message: str,
        *,
        billed: Billed = "no",
        status: int | None = None,
        body: ErrorBody | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        rate_headers: Mapping[str, str] | None = None,
    ) -> None:
        message = self._shown(message)
        super().__init__(message)
        body = body or ErrorBody()
        self.message = message
        self.billed: Billed = billed
        self.status = status
        self.error_code = body.error_code
        self.error_type = body.error_type
        self.details = dict(body.details)
        self.request_id = request_id
        self.retry_after = retry_after
        self.rate_headers = dict(rate_headers or {})

    @property
    def code(self) -> str | None:
        """Claid's `error_code`, a string of digits."""
        return self.error_code

    @property
    def retry_after(self) -> float | None:
        """Seconds until another try makes sense; None where nobody said."""
        return self._retry_after

    @retry_after.setter
    def retry_after(self, seconds: float | None) -> None:
        # Imported where it is needed: every parse of a Dag file loads this module.
        from airflow_provider_claid.api.retry_after import bounded

        self._retry_after = None if seconds is None else bounded(seconds)

    @staticmethod
    def _shown(message: str) -> str:
        return one_line(message)

    def __str__(self) -> str:
        facts = [
            f"HTTP {self.status}" if self.status else "",
            f"code {self.error_code}" if self.error_code else "",
            f"type {self.error_type}" if self.error_type else "",
            f"request id {self.request_id}" if self.request_id else "",
            _BILLED_TEXT[self.billed],
        ]
        return f"{self.message} ({', '.join(fact for fact in facts if fact)})"


class ClaidInputError(ClaidError, ValueError):
    """A value that Claid would refuse or that would cost by mistake; found before anything was sent for it."""

    def __init__(self, field: str, came: str, accepted: str, fix: str = "") -> None:
        field, came = one_line(field), one_line(came)
        super().__init__(f"{field}: got {came}; accepted is {accepted}.{' ' + fix if fix else ''}")
        self.field = field

    @staticmethod
    def _shown(message: str) -> str:
        # Its remedy may have several lines, of ours.
        return message

    def __str__(self) -> str:
        return f"{self.message} Nothing was sent." if self.billed == "no" else super().__str__()

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException would call the class with one argument; ours needs three.
        return (_restore_input_error, (type(self), self.args, self.__dict__))


def _restore_input_error(cls: type[ClaidInputError], args: tuple[Any, ...], state: dict[str, Any]) -> ClaidInputError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ClaidConfigurationError(ClaidInputError):
    """The Airflow connection, or the configuration of Airflow or of this host, is wrong."""


class ClaidNotSentError(ClaidError):
    """The request did not leave: no address, no connection, or a proxy refused. Not billed; trying again is safe."""

    retryable = True


class ClaidBudgetError(ClaidError):
    """The day's credits (`daily_credits`) do not suffice; nothing was sent. Not billed; needs another day or limit."""


class ClaidRateLimitError(ClaidError):
    """Refused with 429 before any work. Not billed; trying again after `retry_after` seconds is safe."""

    retryable = True


class ClaidUnavailableError(ClaidError):
    """An unbilled request (storage endpoints) failed at Claid or on the way; trying again is safe."""

    retryable = True


class ClaidRefusedError(ClaidError):
    """Refused for good (4xx): the same request will be refused again. Not billed."""


class ClaidAuthenticationError(ClaidRefusedError):
    """401: the API key is missing, wrong or withdrawn. Not billed; needs a person."""


class ClaidCreditsError(ClaidRefusedError):
    """402: the account has no credits left. Not billed; needs a person."""


class ClaidPermissionError(ClaidRefusedError):
    """403: the API key lacks the scope. Not billed; needs a person."""


class ClaidValidationError(ClaidRefusedError):
    """422: Claid refused a value; `details` maps the dotted field path to messages. Not billed."""


class ClaidUnknownOutcomeError(ClaidError):
    """The request left and no usable verdict came back: it may have been billed. Never sent again silently."""


class ClaidLostAnswerError(ClaidUnknownOutcomeError):
    """The outcome is unknown, as above, but the record counts it and `max_submissions` allows one more."""

    retryable = True


class ClaidRecordsError(ClaidError):
    """A record of what was sent cannot be read or relied on, so nothing was sent. Needs a person."""


class ClaidAnswerLostError(ClaidError):
    """Claid said 200 but the answer could not be read: billed, and the addresses are lost."""


class ClaidPictureError(ClaidError):
    """A picture that was paid for could not be fetched, failed its check or could not be stored. Billed."""


class ClaidUndeliveredError(ClaidPictureError):
    """A picture could not be delivered, but the answer is recorded: trying again costs nothing. Billed."""

    retryable = True


class ClaidContentFilteredError(ClaidError):
    """Claid's content filter returned a plain black picture. Billed; the prompt must change."""


class ClaidBatchError(ClaidError):
    """More items of a batch failed than `max_failed` allows; the manifest names each. Trying again would not help."""


class ClaidBatchUnfinishedError(ClaidBatchError):
    """As above, and a later attempt can deliver more of them without paying more than was allowed."""

    retryable = True


def parse_error_body(raw: bytes, secret: str) -> ErrorBody:
    """
    Read an error body: flat, nested under `detail`, FastAPI's list under `detail`, or text of any kind.

    The secret is masked before anything is shortened, so that no half of it remains.
    """
    # Here, because a Dag file, which knows the errors, reads no answer.
    from airflow_provider_claid.api.json_text import loads
    from airflow_provider_claid.api.redaction import redact

    raw = redact(raw, secret)
    # Before anything is shown: what is escaped in the bytes appears only when it is read.
    content = plain(redact(loads(raw), secret))
    detail = content.get("detail") if isinstance(content, dict) else None
    if isinstance(detail, list):
        return _from_fastapi(detail)
    if isinstance(detail, str):
        return ErrorBody(message=detail)
    flat = detail if isinstance(detail, dict) else content
    if not isinstance(flat, dict) or not {"error_message", "error_code", "error_type"} & flat.keys():
        return ErrorBody(message=redact(_snippet(raw), secret))
    details = flat.get("error_details")
    return ErrorBody(
        message=_text(flat.get("error_message")) or "",
        error_code=_text(flat.get("error_code")),
        error_type=_text(flat.get("error_type")),
        details=details if isinstance(details, dict) else {},
    )


def _from_fastapi(items: list[Any]) -> ErrorBody:
    details: dict[str, list[str]] = {}
    for item in items:
        if isinstance(item, dict):
            location = item.get("loc")
            path = ".".join(str(part) for part in location) if isinstance(location, list) else ""
            details.setdefault(path, []).append(_text(item.get("msg")) or "")
    message = ". ".join(f"{path}: {text}" for path, texts in details.items() for text in texts)
    return ErrorBody(message=message[:TEXT_LIMIT], error_type="validation", details=details)


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)[:TEXT_LIMIT]


def _snippet(raw: bytes) -> str:
    return one_line(" ".join(raw[: 4 * TEXT_LIMIT].decode("utf-8", "replace").split()), TEXT_LIMIT)
