"""From status, headers and bytes to an answer or an error: the reading of HTTP answers, without any I/O."""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from airflow_provider_claid.api.endpoint import Endpoint
from airflow_provider_claid.api.errors import ClaidError, ClaidUnavailableError, ErrorBody, parse_error_body
from airflow_provider_claid.api.models import GenerateResponse, Storage
from airflow_provider_claid.api.outcome import Outcome, of_answer
from airflow_provider_claid.api.redaction import redact

_REMEDIES = {
    Outcome.UNAUTHENTICATED: "Check the password of the Airflow connection.",
    Outcome.NO_CREDITS: "Buy credits for the Claid account.",
    Outcome.NOT_PERMITTED: "Give the key the scope under API keys → Edit key in Claid's dashboard.",
    Outcome.ANSWER_LOST: "The pictures may be in the output folder, if one was given.",
}


@dataclass(frozen=True)
class Reply:
    """What came back: a status, the headers by lower-case name, and the body as far as it arrived."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    complete: bool = True


@dataclass(frozen=True)
class Answer:
    """A successful generation: Claid's answer, the request id and the `ratelimit-*` headers by lower-case name."""

    response: GenerateResponse
    request_id: str | None
    rate_headers: Mapping[str, str]


def read_generation(reply: Reply, endpoint: Endpoint) -> Answer:
    """Read the answer to a generation; anything but pictures is an error that says whether it was billed."""
    response = _response(reply, endpoint.api_key) if 200 <= reply.status < 300 else None
    found = of_answer(reply.status, readable=response is not None)
    if response is None:
        raise failure(found, endpoint, reply=reply)
    headers = redact(dict(reply.headers), endpoint.api_key)
    return Answer(response, headers.get("x-request-id"), _rate_headers(headers))


def read_list(reply: Reply, endpoint: Endpoint) -> list[Any]:
    """Read the `data` list of an unbilled endpoint; whatever may pass by itself is a `ClaidUnavailableError`."""
    if reply.status != 200:
        found = of_answer(reply.status, readable=False)
        error = failure(found, endpoint, reply=reply)
        raise unavailable(str(error), error.request_id) if error.billed != "no" else error
    data = _data(reply, endpoint.api_key)
    if not isinstance(data, list):
        raise unavailable(f"{endpoint.base_url} answered without the documented list", None)
    return data


def read_storages(items: list[Any]) -> tuple[Storage, ...]:
    """Read the storages of an account; an item that is not an object is left out."""
    return tuple(Storage.model_validate(item) for item in items if isinstance(item, dict))


def unavailable(reason: str, request_id: str | None) -> ClaidUnavailableError:
    """Make the error of an unbilled request that may succeed later."""
    return ClaidUnavailableError(f"Claid could not be asked: {reason}", request_id=request_id)


def failure(
    found: Outcome, endpoint: Endpoint, *, reply: Reply | None = None, cause: BaseException | None = None
) -> ClaidError:
    """Make the error of an outcome, from the reply if there is one and else from what interrupted the request."""
    verdict = found.value
    if verdict.error is None:
        raise ValueError(f"{found} is not a failure")
    headers: Mapping[str, str] = redact(dict(reply.headers), endpoint.api_key) if reply else {}
    body = parse_error_body(reply.body, endpoint.api_key) if reply else ErrorBody()
    reason = body.message or (redact(_describe(cause), endpoint.api_key) if cause else "")
    parts = [verdict.summary + (f": {reason}" if reason else ""), _REMEDIES.get(found, "")]
    if reply and 300 <= reply.status < 400:
        parts.append(f"It redirects to {headers.get('location', 'nowhere')}: check the host of the connection.")
    return verdict.error(
        " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts if part),
        billed=verdict.billed,
        status=reply.status if reply else None,
        body=body,
        request_id=headers.get("x-request-id"),
        retry_after=parse_retry_after(headers.get("retry-after")),
        rate_headers=_rate_headers(headers),
    )


def parse_retry_after(value: str | None, now: float | None = None) -> float | None:
    """Read `Retry-After` (RFC 9110 §10.2.3), seconds or an HTTP date, as seconds from now; None if unreadable."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value)
            seconds = moment.timestamp() - (time.time() if now is None else now)
        except (ValueError, OverflowError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _rate_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("ratelimit")}


def _data(reply: Reply, secret: str) -> Any:
    if not reply.complete:
        return None
    try:
        content = redact(json.loads(reply.body), secret)
    except (ValueError, RecursionError):
        return None
    return content.get("data") if isinstance(content, dict) else None


def _response(reply: Reply, secret: str) -> GenerateResponse | None:
    data = _data(reply, secret)
    if not isinstance(data, dict) or not isinstance(data.get("output"), list):
        return None
    try:
        return GenerateResponse.model_validate(data)
    except ValidationError:
        return None


def _describe(cause: BaseException) -> str:
    text = str(cause)
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__
