"""Reading pictures at temporary addresses: whole, or a part. Costs nothing, and no key is sent."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from airflow_provider_claid.api.client import TRANSPORT_ERRORS, Response, http, sending, timeouts
from airflow_provider_claid.api.endpoint import is_loopback_host, user_agent
from airflow_provider_claid.api.errors import ClaidPictureError

MAX_REDIRECTS = 5
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})")
GONE = frozenset({403, 404, 410})
"""How a temporary address answers that is not there, or not any more."""


@dataclass(frozen=True)
class Part:
    """Bytes of a picture from `start` on, and how many the whole has; more than asked if the server sends it all."""

    data: bytes
    start: int
    size: int


async def download(url: str, *, allow_loopback: bool, limit: int, patience: float) -> AsyncGenerator[bytes]:
    """
    Stream the picture at a temporary address, in chunks; never more than `limit` bytes, `patience` seconds for each.

    https only; plain http only to this machine and only where `allow_loopback` says that the API is there too. Raises
    `ClaidPictureError`; its `status` is that of the answer, if one came.
    """
    async with _opened(url, {}, allow_loopback=allow_loopback, patience=patience) as response:
        _require(response, 200)
        async for chunk in _body(response, limit):
            yield chunk


async def read_part(url: str, start: int, end: int, *, allow_loopback: bool, limit: int, patience: float) -> Part:
    """
    Read bytes `start` up to, without, `end` of the picture at a temporary address (RFC 9110 §14.2).

    Raises `ClaidPictureError` as `download` does. A server that knows no ranges sends all, at most `limit` bytes.
    """
    wanted = {"Range": f"bytes={start}-{end - 1}"}
    async with _opened(url, wanted, allow_loopback=allow_loopback, patience=patience) as response:
        _require(response, 200, 206)
        data = b"".join([chunk async for chunk in _body(response, limit)])
        if response.status_code == 200:
            return Part(data, 0, len(data))
        told = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if told is None or int(told[1]) != start:
            raise ClaidPictureError("The temporary address sent a part, but not the one asked for", billed="yes")
        return Part(data, start, int(told[2]))


@asynccontextmanager
async def _opened(
    url: str, headers: Mapping[str, str], *, allow_loopback: bool, patience: float
) -> AsyncIterator[Response]:
    """Open an address, following a few redirects, each of them checked."""
    headers = {"User-Agent": user_agent(), "Accept-Encoding": "identity", **headers}
    try:
        for _ in range(MAX_REDIRECTS + 1):
            _check_address(url, allow_loopback=allow_loopback)
            request = http().build_request("GET", url, headers=headers, timeout=timeouts(patience))
            async with sending(request) as response:
                if response.next_request is None:
                    yield response
                    return
                url = str(response.next_request.url)
    except TRANSPORT_ERRORS as cause:
        raise ClaidPictureError(f"The download broke: {type(cause).__name__}: {cause}", billed="yes") from cause
    raise ClaidPictureError(f"The temporary address redirected more than {MAX_REDIRECTS} times", billed="yes")


def _require(response: Response, *accepted: int) -> None:
    status = response.status_code
    if status not in accepted:
        gone = " (temporary addresses die after 24 hours)" if status in GONE else ""
        raise ClaidPictureError(f"The temporary address answered {status}{gone}", billed="yes", status=status)


async def _body(response: Response, limit: int) -> AsyncIterator[bytes]:
    announced = response.headers.get("content-length", "")
    received = 0
    if announced.isdigit() and int(announced) > limit:
        raise ClaidPictureError(f"The picture announces {announced} bytes; at most {limit} are accepted", billed="yes")
    async for chunk in response.aiter_raw():
        received += len(chunk)
        if received > limit:
            raise ClaidPictureError(f"The picture is larger than {limit} bytes", billed="yes")
        yield chunk
    if announced.isdigit() and received != int(announced):
        raise ClaidPictureError(f"The picture is cut: {received} of {announced} bytes came", billed="yes")


def _check_address(url: str, *, allow_loopback: bool) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as fault:
        raise ClaidPictureError(f"The temporary address is none ({fault}); it was not opened", billed="yes") from fault
    local = parts.scheme == "http" and is_loopback_host(parts.hostname or "") and allow_loopback
    if not local and parts.scheme != "https":
        message = f"The temporary address {parts.scheme}://{parts.hostname} is not https; it was not opened"
        raise ClaidPictureError(message, billed="yes")
    if "@" in parts.netloc:
        raise ClaidPictureError("The temporary address holds user info; it was not opened", billed="yes")
