"""
What an exception of a store means: something that passes, or a fault that a person must mend, with the remedy.

The libraries (botocore, azure.core, gcsfs) are optional, so their exceptions are told by what they carry.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidError

_PASSING_STATUS = frozenset({408, 409, 416, 425, 429})
"""4xx that the next look may not meet: busy, or the object was replaced between two reads."""

_MISSING_BUCKET = ("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted")
_BAD_CREDENTIALS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AuthenticationFailed",
    "AuthorizationHeaderMalformed",
    "InvalidAuthenticationInfo",
)
_TRANSPORT = frozenset(
    {"HTTPClientError", "ConnectionError", "ClientError", "ServiceRequestError", "ServiceResponseError"}
)
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "RefreshError")


class StoreBusyError(Exception):
    """The store did not answer as it should, in a way that may pass."""


@contextmanager
def store_errors(place: str, conn_id: str | None) -> Iterator[None]:
    """
    Turn what a store raises into one of three errors, which name `place`, the connection and the remedy.

    `FileNotFoundError`: not there. `StoreBusyError`: it may pass. `ClaidConfigurationError`: a person must act.
    """
    try:
        yield
    except (ClaidError, StoreBusyError):
        raise
    except Exception as error:
        links = list(_chain(error))
        code, status = _first(map(_code, links)), _first(map(_status, links))
        if fault := _permanent(links, code, status):
            reason, fix = fault
            raise _configuration(place, conn_id, f"{reason} ({_shown(error, code)})", fix) from error
        if isinstance(error, FileNotFoundError) or status == 404:
            raise FileNotFoundError(place) from error
        if status is not None or any(isinstance(link, OSError) or _is_transport(link) for link in links):
            raise StoreBusyError(f"the store did not answer well ({_shown(error, code)})") from error
        raise


def missing_bucket(place: str, conn_id: str | None) -> ClaidConfigurationError:
    """Return the error for a bucket or container that is not there."""
    return _configuration(place, conn_id, "which is not there", "Create the bucket, or correct its name.")


def _permanent(links: list[BaseException], code: str | None, status: int | None) -> tuple[str, str] | None:
    """Return what is wrong and how to mend it, if no waiting helps."""
    names = {kind.__name__ for link in links for kind in type(link).__mro__}
    if code in _MISSING_BUCKET or any("NoSuchBucket" in str(link) for link in links):
        return "whose bucket is not there", "Create the bucket, or correct its name."
    if code in _BAD_CREDENTIALS or status == 401 or names.intersection(_NO_CREDENTIALS):
        return "whose store does not accept the credentials", "Correct the connection's login and password."
    if status == 403 or "PermissionError" in names or any(str(link).startswith("Forbidden") for link in links):
        return (
            "which may not be read",
            "It needs the rights to list and to read (S3: ListBucket, GetObject).",
        )
    if status is not None and 400 <= status < 500 and status != 404 and status not in _PASSING_STATUS:
        return "which the store refuses", "Correct the address, or the connection's region and endpoint."
    if "BotoCoreError" in names and not names & _TRANSPORT:
        return "which cannot be asked for", "Correct the address or the connection."
    return None


def _configuration(place: str, conn_id: str | None, reason: str, fix: str) -> ClaidConfigurationError:
    via = f"the connection {conn_id!r}" if conn_id else "the credentials of this machine"
    came = f"{via} for {place}, {reason}"
    return ClaidConfigurationError("storage_conn_id", came, "a connection that may list and read there", fix)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _first(values: Iterator[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _code(error: BaseException) -> str | None:
    """Return the store's own code: botocore keeps it in `response`, azure.core in `error_code`."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code")) or None
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code)) if code else None


def _status(error: BaseException) -> int | None:
    """Return the HTTP status: botocore keeps it in `response`, azure.core in `status_code`, gcsfs in `code`."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
    return int(status) if isinstance(status, int) or (isinstance(status, str) and status.isdigit()) else None


def _is_transport(error: BaseException) -> bool:
    """Tell whether this is the way to the store breaking, by the base classes of botocore, aiohttp and azure.core."""
    return not _TRANSPORT.isdisjoint(kind.__name__ for kind in type(error).__mro__)


def _shown(error: BaseException, code: str | None) -> str:
    return f"{code or type(error).__name__}: {error}"[:300]
