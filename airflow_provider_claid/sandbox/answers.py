"""Claid's answers in its own shapes: errors, and the pictures of a generation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

# Claid publishes the codes of 401, 422 and 429 only; those of the other statuses are the sandbox's own.
_ERRORS = {
    400: ("1000", "general", "Bad request."),
    401: ("111", "auth", "Authorization is required."),
    402: ("1402", "billing", "No API calls left."),
    403: ("112", "auth", "Not enough permissions."),
    404: ("1404", "general", "Not found."),
    409: ("1409", "general", "Conflict with the current state of the resource."),
    422: ("9000", "validation", "Validation error."),
    429: ("2001", "general", "Too Many Requests. Rate limit exceeded."),
    500: ("1500", "general", "Internal server error."),
}


class ApiError(Exception):
    """An error answer: its HTTP status and its JSON body."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(status)
        self.status, self.body = status, body


def error_body(
    status: int, message: str | None = None, *, kind: str | None = None, details: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the flat error object for `status`, with its usual code, type and message unless told otherwise."""
    code, usual_kind, usual_message = _ERRORS.get(status, ("1999", "general", "Something went wrong."))
    return {
        "error_code": code,
        "error_type": kind or usual_kind,
        "error_message": message or usual_message,
        "error_details": dict(details or {}),
    }


def error(status: int, message: str | None = None, *, kind: str | None = None) -> ApiError:
    """Return an `ApiError` with the flat body."""
    return ApiError(status, error_body(status, message, kind=kind))


def invalid(errors: Iterable[ErrorDetails], *, under: tuple[str, ...] = ()) -> ApiError:
    """Return the 422 for pydantic's `errors`: dotted path of each field to its messages."""
    details: dict[str, list[str]] = {}
    for fault in errors:
        path = ".".join(str(part) for part in (*under, *fault["loc"]) if part != "body")
        details.setdefault(path or "__root__", []).append(fault["msg"])
    return invalid_fields(details)


def invalid_fields(details: dict[str, list[str]]) -> ApiError:
    """Return the 422 for messages by dotted field path; the message joins them as sentences."""
    message = " ".join(f"{path}: {text.rstrip('.')}." for path, texts in details.items() for text in texts)
    return ApiError(422, error_body(422, message, details=details))


def json_response(body: Any, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(json.dumps(body).encode(), status, media_type="application/json")


def generation(prompt: str, images: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the body of a successful generation."""
    return {"data": {"input": {"text": prompt}, "output": images, "profiling": {}}}


def image(
    *,
    tmp_url: str | None = None,
    object_key: str | None = None,
    object_bucket: str | None = None,
    object_uri: str | None = None,
    claid_storage_uri: str | None = None,
) -> dict[str, Any]:
    """Return one picture of a generation; addresses that it does not have are null, as in real answers."""
    return {
        "ext": "png",
        "mps": 1.048576,
        "mime": "image/png",
        "format": "PNG",
        "width": 1024,
        "height": 1024,
        "tmp_url": tmp_url,
        "object_key": object_key,
        "object_bucket": object_bucket,
        "object_uri": object_uri,
        "claid_storage_uri": claid_storage_uri,
    }


def of_odd_types(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return `images` with null, "" and wrong types everywhere but in the addresses they really have."""
    odd = {"ext": None, "mps": "1.05", "mime": 7, "format": "", "width": None, "height": "tall"}
    return [{key: odd.get(key, value or "") for key, value in one.items()} for one in images]
