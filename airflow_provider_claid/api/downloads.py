"""Reading pictures at temporary addresses: whole, or a part. Costs nothing, and no key is sent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from airflow_provider_claid.api.addresses import is_local_name, literal, may_be_reached
from airflow_provider_claid.api.answers import describe
from airflow_provider_claid.api.client import TRANSPORT_ERRORS, Response, http, sending, timeouts
from airflow_provider_claid.api.codings import CodingError, codings, unpacked
from airflow_provider_claid.api.endpoint import is_loopback_host, user_agent
from airflow_provider_claid.api.errors import ClaidPictureError
from airflow_provider_claid.api.redaction import without
from airflow_provider_claid.api.text import one_line
from airflow_provider_claid.api.transport import PUBLIC_ONLY, Address, not_public

MAX_REDIRECTS = 5
MAX_PORT = 65535
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

    https only; plain http only to this machine and only where `allow_loopback` says that the API is of this machine or
    network. Else only public hosts are reached, which is looked at when the socket is connected; through a proxy, which
    connects itself, by the name alone. Raises `ClaidPictureError`; its `status` is that of the answer, if one came.
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
    extensions = {} if allow_loopback else {PUBLIC_ONLY: True}
    cause: BaseException
    try:
        for _ in range(MAX_REDIRECTS + 1):
            address = Address(url)
            _check_address(address, allow_loopback=allow_loopback)
            request = http().build_request(
                "GET", address, headers=headers, timeout=timeouts(patience), extensions=extensions
            )
            async with sending(request) as response:
                if response.next_request is None:
                    yield response
                    return
                url = str(response.next_request.url)
    # ValueError: what is no host for a resolver, and an environment that has changed since the request was paid.
    except (*TRANSPORT_ERRORS, ValueError) as fault:
        cause = fault
    else:
        raise ClaidPictureError(f"The temporary address redirected more than {MAX_REDIRECTS} times", billed="yes")
    # Outside the except block, so that a cause which a log must not show is in no chain.
    raise ClaidPictureError(f"The download broke: {describe(cause, '')}", billed="yes") from without(cause, "")


def _require(response: Response, *accepted: int) -> None:
    status = response.status_code
    if status not in accepted:
        gone = " (temporary addresses die after 24 hours)" if status in GONE else ""
        raise ClaidPictureError(f"The temporary address answered {status}{gone}", billed="yes", status=status)


async def _body(response: Response, limit: int) -> AsyncIterator[bytes]:
    if coding := _coding(response):
        yield await _unpacked_body(response, coding, limit)
        return
    async for chunk in _sent(response, limit):
        yield chunk


def _coding(response: Response) -> str:
    """Return how the body is packed, though nothing was asked for; "" if it is as it should be."""
    header = response.headers.get("content-encoding", "")
    if not codings(header):
        return ""
    if response.status_code == 206:
        raise ClaidPictureError(f"The temporary address sent a part of a packed picture ({header!r:.40})", billed="yes")
    return str(header)


async def _unpacked_body(response: Response, coding: str, limit: int) -> bytes:
    packed = b"".join([chunk async for chunk in _sent(response, limit)])
    try:
        # Elsewhere: it may take a while.
        data, whole = await asyncio.to_thread(unpacked, packed, coding, limit)
    except CodingError as fault:
        raise ClaidPictureError(f"The picture came with {fault}", billed="yes") from None
    if not whole:
        raise ClaidPictureError("The picture is cut: its packed body ends too early", billed="yes")
    return data


async def _sent(response: Response, limit: int) -> AsyncIterator[bytes]:
    announced = response.headers.get("content-length", "")
    received = 0
    if announced.isdecimal() and announced.isascii() and int(announced[:20]) > limit:
        raise ClaidPictureError(
            f"The picture announces {announced:.20} bytes; at most {limit} are accepted", billed="yes"
        )
    async for chunk in response.aiter_raw():
        received += len(chunk)
        if received > limit:
            raise ClaidPictureError(f"The picture is larger than {limit} bytes", billed="yes")
        yield chunk
    if announced.isdecimal() and received != int(announced):
        raise ClaidPictureError(f"The picture is cut: {received} of {announced} bytes came", billed="yes")


def _check_address(url: Address, *, allow_loopback: bool) -> None:
    """Refuse what is not to be opened, by the same reading of the address as will be connected to."""
    local = url.scheme == "http" and is_loopback_host(url.host) and allow_loopback
    if not local and url.scheme != "https":
        shown = one_line(f"{url.scheme}://{url.host}", 100)
        raise ClaidPictureError(f"The temporary address {shown} is not https; it was not opened", billed="yes")
    if not url.host or not 0 < (url.port or 443) <= MAX_PORT:
        raise ClaidPictureError("The temporary address names no server; it was not opened", billed="yes")
    if url.userinfo:
        raise ClaidPictureError("The temporary address holds user info; it was not opened", billed="yes")
    if allow_loopback:
        return
    found = literal(url.host)
    if is_local_name(url.host) if found is None else not may_be_reached(url.host, found):
        raise not_public(url.host)
