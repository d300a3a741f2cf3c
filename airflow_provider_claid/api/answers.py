"""From status, headers and bytes to an answer or an error: the reading of HTTP answers, without any I/O."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_claid.api.endpoint import Endpoint
from airflow_provider_claid.api.errors import ClaidError, ClaidUnavailableError, ErrorBody, parse_error_body
from airflow_provider_claid.api.json_text import loads
from airflow_provider_claid.api.models import GenerateRequest, GenerateResponse, Storage
from airflow_provider_claid.api.outcome import Outcome, of_answer
from airflow_provider_claid.api.outputs import response_in
from airflow_provider_claid.api.redaction import redact
from airflow_provider_claid.api.retry_after import parse_retry_after
from airflow_provider_claid.api.text import one_line

MAX_REQUEST_ID = 200
MAX_HEADER = 500
"""Characters that are kept of a request id, which is a UUID, and of another header."""

_REMEDIES = {
    Outcome.UNAUTHENTICATED: "Check the password of the Airflow connection.",
    Outcome.NO_CREDITS: "Buy credits for the Claid account.",
    Outcome.NOT_PERMITTED: "Give the key the scope under API keys → Edit key in Claid's dashboard.",
    Outcome.ANSWER_LOST: "The pictures may be in the output folder, if one was given.",
}


@dataclass(frozen=True)
class Reply:
    """
    What came back: a status, the headers by lower-case name, and the body as far as it arrived.

    `fault` says why the body is not as it was sent, if it could not be unpacked.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    complete: bool = True
    fault: str = ""


@dataclass(frozen=True)
class Answer:
    """A successful generation: Claid's answer, the request id and the `ratelimit-*` headers by lower-case name."""

    response: GenerateResponse
    request_id: str | None
    rate_headers: Mapping[str, str]


def read_generation(reply: Reply, endpoint: Endpoint, asked: GenerateRequest | None = None) -> Answer:
    """
    Read the answer to a generation; anything but pictures is an error that says whether it was billed.

    An answer that is cut counts if all pictures that were `asked` for can be read from it; else they are looked for.
    """
    response, read = _response(reply, endpoint, asked)
    found = of_answer(reply.status, readable=response is not None)
    if response is None:
        raise failure(found, endpoint, reply=reply, read=read)
    headers = _shown_headers(reply, endpoint)
    return Answer(response, _request_id(headers), _rate_headers(headers))


def read_list(reply: Reply, endpoint: Endpoint) -> list[Any]:
    """Read the `data` list of an unbilled endpoint; whatever may pass by itself is a `ClaidUnavailableError`."""
    if reply.status != 200:
        found = of_answer(reply.status, readable=False)
        error = failure(found, endpoint, reply=reply)
        raise unavailable(str(error), error.request_id) if error.billed != "no" else error
    content = loads(reply.body) if reply.complete else None
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, list):
        raise unavailable(f"{endpoint.base_url} answered without the documented list", None)
    return list(redact(data, endpoint.api_key))


def read_storages(items: list[Any]) -> tuple[Storage, ...]:
    """Read the storages of an account; an item that is not an object is left out."""
    return tuple(Storage.model_validate(item) for item in items if isinstance(item, dict))


def unavailable(reason: str, request_id: str | None) -> ClaidUnavailableError:
    """Make the error of an unbilled request that may succeed later."""
    return ClaidUnavailableError(f"Claid could not be asked: {reason}", request_id=request_id)


def failure(
    found: Outcome,
    endpoint: Endpoint,
    *,
    reply: Reply | None = None,
    cause: BaseException | None = None,
    read: str = "",
) -> ClaidError:
    """
    Make the error of an outcome, from the reply if there is one and else from what interrupted the request.

    `read` is what could be read of an answer that counts as lost.
    """
    verdict = found.value
    if verdict.error is None:
        raise ValueError(f"{found} is not a failure")
    headers = _shown_headers(reply, endpoint) if reply else {}
    body = parse_error_body(reply.body, endpoint.api_key) if reply else ErrorBody()
    silence = f"{describe(cause, endpoint.api_key)}, at {endpoint.base_url}" if cause else ""
    reason = (reply.fault if reply else "") or body.message or silence
    parts = [verdict.summary + (f": {reason}" if reason else ""), read, _REMEDIES.get(found, "")]
    if reply and 300 <= reply.status < 400:
        parts.append(f"It redirects to {headers.get('location', 'nowhere')}: check the host of the connection.")
    return verdict.error(
        " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts if part),
        billed=verdict.billed,
        status=reply.status if reply else None,
        body=body,
        request_id=_request_id(headers),
        retry_after=parse_retry_after(headers.get("retry-after"), time.time()),
        rate_headers=_rate_headers(headers),
    )


def describe(cause: BaseException, secret: str) -> str:
    """Name what interrupted a request, on one line and without the secret."""
    text = one_line(redact(str(cause), secret), MAX_HEADER)
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def _shown_headers(reply: Reply, endpoint: Endpoint) -> dict[str, str]:
    return {name: one_line(redact(value, endpoint.api_key), MAX_HEADER) for name, value in reply.headers.items()}


def _request_id(headers: Mapping[str, str]) -> str | None:
    return headers.get("x-request-id", "").strip()[:MAX_REQUEST_ID] or None


def _rate_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("ratelimit")}


def _response(reply: Reply, endpoint: Endpoint, asked: GenerateRequest | None) -> tuple[GenerateResponse | None, str]:
    """Return a successful answer, or what could be read of one that is cut."""
    if not 200 <= reply.status < 300:
        return None, ""
    response = response_in(reply.body, endpoint.api_key, files=endpoint.is_local)
    if response is None or reply.complete:
        return response, ""
    uris = [image.uri for image in response.output or () if image.uri]
    if asked is not None and len(uris) >= asked.options.number_of_images:
        return response, ""
    return None, f"Read of it was {', '.join(uris)}" if uris else ""
