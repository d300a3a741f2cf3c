"""
What an exception of a store means: something that passes, or a fault that a person must mend, with the remedy.

The libraries (botocore, azure.core, gcsfs) are optional, so their exceptions are told by what they carry.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidError

T = TypeVar("T")

READ_RIGHTS = "to list and to read (S3: ListBucket, GetObject)"
WRITE_RIGHTS = "to put and to get (S3: PutObject, GetObject)"
LOCAL_RIGHTS = "to make, to write and to read files there"

_PASSING_STATUS = frozenset({408, 409, 416, 425, 429})
"""4xx that the next look may not meet: busy, or the object was replaced between two reads."""

_PASSING_CODES = ("RequestTimeout", "RequestThrottled", "RequestThrottledException", "SlowDown", "Throttling",
                  "ThrottlingException")  # fmt: skip
_CONFLICTS = ("ConditionalRequestConflict", "OperationAborted")
_MISSING_BUCKET = ("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted")
_CREATE_BUCKET = "Create the bucket, or correct its name."
_WRONG_PLACE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301")
_BAD_CREDENTIALS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidToken",
    "AuthenticationFailed",
    "InvalidAuthenticationInfo",
)
_NO_CREDENTIALS = frozenset(
    {
        "ClientAuthenticationError",
        "DefaultCredentialsError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "RefreshError",
    }
)
_DISK_FAULTS = {
    errno.ENOSPC: ("where no space is left", "Make room there."),
    errno.EDQUOT: ("where this user's quota is used up", "Make room there, or raise the quota."),
    errno.EROFS: ("which is mounted for reading only", "Mount it for writing, or correct the path."),
    errno.ENAMETOOLONG: ("whose name is longer than its disk takes", "Shorten the name."),
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
        ("which is no folder that can be made or used", "Correct the path."),
    ),
}
"""What a disk says to who writes, by the number of the error; whoever only reads meets none of it for good."""
_TRANSPORT = frozenset(
    {
        "ClientError",
        "ConnectionError",
        "HTTPClientError",
        "IncompleteReadError",
        "ResponseParserError",
        "ServiceRequestError",
        "ServiceResponseError",
        "TransportError",
    }
)
"""Base classes (botocore, aiohttp, azure.core, google.auth) of what breaks on the way or comes back as garbage."""


class StoreBusyError(Exception):
    """The store did not answer as it should, in a way that may pass."""


@contextmanager
def store_errors(
    place: str, conn_id: str | None, *, field: str = "storage_conn_id", rights: str = READ_RIGHTS
) -> Iterator[None]:
    """
    Turn what a store raises into one of three errors, which name `place`, the connection and the remedy.

    `FileNotFoundError`: not there. `StoreBusyError`: it may pass. `ClaidConfigurationError`: a person must act; it
    names the argument `field` and the `rights` that are needed.
    """
    try:
        yield
    except (ClaidError, StoreBusyError):
        raise
    except Exception as error:
        links = list(_chain(error))
        code, status = _first(map(_code, links)), _first(map(_status, links))
        if fault := _permanent(links, code, status, rights):
            reason, fix = fault
            raise _configuration(place, conn_id, f"{reason} ({_shown(error, code)})", fix, field) from error
        if isinstance(error, FileNotFoundError) or status == 404:
            raise FileNotFoundError(place) from error
        if status or code or any(isinstance(link, OSError) or _is_transport(link) for link in links):
            raise StoreBusyError(f"the store did not answer well ({_shown(error, code)})") from error
        raise


def is_refused_create(error: BaseException) -> bool:
    """Tell whether a store refused an exclusive create because the object is there (S3: 412 for If-None-Match)."""
    return any(
        isinstance(link, FileExistsError) or _status(link) == 412 or _code(link) == "BlobAlreadyExists"
        for link in _chain(error)
    )


def is_conflict(error: BaseException) -> bool:
    """Tell whether a write met another one of the same object, or its deletion: S3 asks to put it again then."""
    return any(_status(link) == 409 and _code(link) in _CONFLICTS for link in _chain(error))


def is_empty(error: BaseException) -> bool:
    """Tell whether a store has nothing from the first byte on: an empty object has no range."""
    return any(_status(link) == 416 for link in _chain(error))


def is_denied(error: BaseException) -> bool:
    """Tell whether a store forbade it, which S3 also says of what is not there to those who may not list."""
    return any(isinstance(link, PermissionError) or _status(link) == 403 for link in _chain(error))


def is_unknown_caller(error: BaseException) -> bool:
    """
    Tell whether a store that did accept the credentials does not any more.

    S3 answers a HEAD, which has no body to say so, with a bare 400.
    """
    return any(_names_unknown_caller(link) for link in _chain(error))


def may_be_back(error: BaseException) -> bool:
    """
    Tell whether a place that was good may be so again in a moment, a mount that is gone say.

    Credentials that are not accepted any more stay so: this process has no others.
    """
    return isinstance(error, ClaidConfigurationError) and not is_unknown_caller(error)


def _names_unknown_caller(link: BaseException) -> bool:
    names = {kind.__name__ for kind in type(link).__mro__}
    return _code(link) in {"400", *_BAD_CREDENTIALS} or _status(link) == 401 or bool(names & _NO_CREDENTIALS)


def none_if_denied(step: Callable[[], T]) -> T | None:
    """Do a step of reading; None where the store forbids it, which S3 also says of what is absent to some."""
    try:
        return step()
    except ClaidConfigurationError as fault:
        if is_denied(fault):
            return None
        raise


def missing_bucket(place: str, conn_id: str | None, field: str = "storage_conn_id") -> ClaidConfigurationError:
    """Return the error for a bucket, a container or a folder of this machine that is not there."""
    fix = "Make the folder, or correct its path." if place.startswith("file:") else _CREATE_BUCKET
    return _configuration(place, conn_id, "which is not there", fix, field)


def way_to(place: str, conn_id: str | None) -> str:
    """Say by what a place is reached, for messages."""
    if place.startswith("file:"):
        return place
    return f"{f'the connection {conn_id!r}' if conn_id else 'the credentials of this machine'} for {place}"


def _permanent(links: list[BaseException], code: str | None, status: int | None, rights: str) -> tuple[str, str] | None:
    """Return what is wrong and how to mend it, if no waiting helps; the first that is true counts."""
    names = {kind.__name__ for link in links for kind in type(link).__mro__}
    text, status = str(links[0]), status or 0
    if rights is LOCAL_RIGHTS and (on_disk := _disk_fault(links)):
        return on_disk
    passing = code in _PASSING_CODES or status in _PASSING_STATUS
    refused = status == 501 or code == "NotImplemented" or (400 <= status < 500 and status != 404)
    rules = {
        ("whose bucket is not there", _CREATE_BUCKET): code in _MISSING_BUCKET,
        ("", ""): passing,
        ("whose bucket is elsewhere", "Correct the connection's region and endpoint."): (
            code in _WRONG_PLACE or status == 301
        ),
        ("whose store does not accept the credentials", "Correct the connection's login and password."): (
            code in _BAD_CREDENTIALS or status == 401 or bool(names & _NO_CREDENTIALS)
        ),
        (f"which may not be {'read' if rights is READ_RIGHTS else 'used'}", f"It needs the rights {rights}."): (
            status == 403 or "PermissionError" in names or text.startswith("Forbidden")
        ),
        ("whose certificate does not verify", "Correct the endpoint, or let this machine trust it."): (
            "SSLCertVerificationError" in names or "CERTIFICATE_VERIFY_FAILED" in text
        ),
        ("which the store refuses", "Correct the address, or the connection's region and endpoint."): (
            refused or text.startswith("Bad Request")
        ),
        ("which cannot be asked for", "Correct the address or the connection."): (
            "BotoCoreError" in names and not names & _TRANSPORT
        ),
    }
    fault = next((fault for fault, found in rules.items() if found), ("", ""))
    return fault if any(fault) else None


def _configuration(
    place: str, conn_id: str | None, reason: str, fix: str, field: str = "storage_conn_id"
) -> ClaidConfigurationError:
    came = f"{way_to(place, conn_id)}, {reason}"
    return ClaidConfigurationError(field, came, "a place and a connection that has the rights there", fix)


def _disk_fault(links: list[BaseException]) -> tuple[str, str] | None:
    codes = (link.errno for link in links if isinstance(link, OSError))
    return next((_DISK_FAULTS[code] for code in codes if code in _DISK_FAULTS), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _first(values: Iterator[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _code(error: BaseException) -> str | None:
    """Return the store's own code: botocore keeps it in `response`, azure.core in `error_code`."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("Error", {}).get("Code") or None
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code)) if code else None


def _status(error: BaseException) -> int | None:
    """Return the HTTP status: botocore keeps it in `response`, azure.core in `status_code`, gcsfs in `code`."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        # aiohttp has a `code` too, which is 400 for an answer that was cut.
        of_google = getattr(error, "code", None) if type(error).__name__ == "HttpError" else None
        status = getattr(error, "status_code", None) or of_google
    return int(status) if isinstance(status, int) or (isinstance(status, str) and status.isdigit()) else None


def _is_transport(error: BaseException) -> bool:
    """Tell whether this is the way to the store breaking, by the base classes of botocore, aiohttp and azure.core."""
    return not _TRANSPORT.isdisjoint(kind.__name__ for kind in type(error).__mro__)


def _shown(error: BaseException, code: str | None) -> str:
    return f"{code or type(error).__name__}: {error}"[:300]
