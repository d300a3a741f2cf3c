"""
The HTTP client of Claid's API: the only module that sends a billed POST, and with `api.transport` that imports httpx.

It sends each request once. Whether one may be sent again is decided above, by the class of the error
(`api.outcome`). Whether a byte left is read from httpx's trace events, never from the exception type: `ReadError`
looks the same before and after.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from airflow_provider_claid.api.answers import (
    Answer,
    Reply,
    failure,
    read_generation,
    read_list,
    read_storages,
    unavailable,
)
from airflow_provider_claid.api.bill import Item, current_bill
from airflow_provider_claid.api.codings import CodingError, codings, unpacked
from airflow_provider_claid.api.endpoint import Endpoint
from airflow_provider_claid.api.errors import ClaidError, ClaidRateLimitError, ClaidUnknownOutcomeError
from airflow_provider_claid.api.models import CREDITS_PER_IMAGE, GenerateRequest, Storage
from airflow_provider_claid.api.outcome import of_silence
from airflow_provider_claid.api.redaction import mask_in_library_logs, without
from airflow_provider_claid.api.transport import build_client, misconfiguration, settings

CONNECT_TIMEOUT = 10.0
WRITE_TIMEOUT = 30.0
# A reused connection may wait two more seconds for its slot; servers close idle ones after 5 s at the earliest.
KEEPALIVE = 2.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024

TRANSPORT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)
"""Whatever the way to a server, or the server, can raise."""

Response = httpx.Response


class Gate(Protocol):
    """Says when a request may leave. `pacing.Slot` is one."""

    async def wait(self) -> None:
        """Return when the first byte may leave; whatever it raises comes out unchanged, with nothing sent."""

    def sent(self) -> None:
        """Note that the last byte has left."""


class OpenGate:
    """Lets every request through at once: for unbilled requests, and for measuring without a pace."""

    async def wait(self) -> None:
        """Return at once."""

    def sent(self) -> None:
        """Take no note."""


class _Departure:
    """The trace of one request: waits at the gate on an open connection, and knows whether a byte may have left."""

    def __init__(self, gate: Gate, item: Item, deadline: asyncio.Timeout, patience: float) -> None:
        self._gate = gate
        self._item = item
        self._deadline = deadline
        self._patience = patience
        self.sent = False
        self.arriving: _Arriving | None = None
        self.held_back: BaseException | None = None

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        # A proxy is asked for a tunnel by a CONNECT request of its own, traced alike: it is not ours.
        if getattr(info.get("request"), "method", None) == b"CONNECT":
            return
        if event.endswith(".send_request_headers.started"):
            await self._pass_gate()
        elif self.sent and event.endswith(".send_request_body.complete"):
            self._gate.sent()

    async def _pass_gate(self) -> None:
        try:
            await self._gate.wait()
        except BaseException as reason:
            self.held_back = reason
            raise
        self._item.billed = "unknown"
        self.sent = True
        self._deadline.reschedule(asyncio.get_running_loop().time() + self._patience)


@dataclass
class _Arriving:
    """An answer that is on its way: its head, and its body as far as it came."""

    status: int
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)

    def reply(self, *, complete: bool) -> Reply:
        """Return it as it stands. A body that was packed unasked is unpacked, or left as it is with the reason."""
        raw, coding = bytes(self.body), self.headers.get("content-encoding", "")
        if not codings(coding):
            return Reply(self.status, self.headers, raw, complete)
        try:
            raw, whole = unpacked(raw, coding, MAX_ANSWER_BYTES)
        except CodingError as fault:
            return Reply(self.status, self.headers, raw, complete, fault=f"it came with {fault}")
        return Reply(self.status, self.headers, raw, complete and whole)


class ClaidClient:
    """
    A Claid API with one key. Cheap to make: the connections belong to the process and the running event loop.

    Raises `ClaidConfigurationError` where the environment of this host lets no HTTP client be made.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        require_http()
        self.endpoint = endpoint
        mask_in_library_logs(endpoint.api_key)

    async def generate(self, request: GenerateRequest, gate: Gate) -> Answer:
        """
        Send one billed `POST /v1/image/generate` (Claid API §2), never twice; costs 1 credit per picture.

        Raises a kind of `ClaidError` that says whether it was billed, or unchanged what the gate raised. The open bill
        (`api.bill`) knows at any moment what an interruption would mean.
        """
        item = current_bill().add()
        body = request.model_dump_json(exclude_none=True).encode()
        try:
            reply = await self._exchange("POST", "/v1/image/generate", gate, body, item)
            answer = read_generation(reply, self.endpoint, request)
        except ClaidError as error:
            item.billed, item.request_id = error.billed, error.request_id
            item.refused = isinstance(error, ClaidRateLimitError)
            raise
        addresses = [image.uri for image in answer.response.output or ()]
        item.request_id = answer.request_id
        item.receipt = f"Request {answer.request_id} made {addresses}."
        item.pictures = len(addresses)
        item.credits = item.pictures * CREDITS_PER_IMAGE
        item.billed = "yes"
        return answer

    async def storage_types(self) -> list[Any]:
        """Ask `GET /v1/storage/storage-types` (scope Storage): never billed, so it serves as the connection test."""
        return await self._list("/v1/storage/storage-types")

    async def list_storages(self) -> tuple[Storage, ...]:
        """Ask `GET /v1/storage/storages` (scope Storage): all storages connected to the account; never billed."""
        return read_storages(await self._list("/v1/storage/storages"))

    async def _list(self, path: str) -> list[Any]:
        try:
            reply = await self._exchange("GET", path, OpenGate())
        except ClaidUnknownOutcomeError as error:
            raise unavailable("the connection broke", None) from error
        return read_list(reply, self.endpoint)

    async def _exchange(
        self, method: str, path: str, gate: Gate, body: bytes | None = None, item: Item | None = None
    ) -> Reply:
        """Send one request and return the reply, whole or as far as it came; raise if there is none."""
        deadline = asyncio.timeout(None)
        departure = _Departure(gate, item or Item(), deadline, self.endpoint.timeout)
        try:
            async with deadline:
                return await self._send(method, path, body, departure)
        except TRANSPORT_ERRORS as error:
            if error is departure.held_back:
                raise
            cause = error
        if departure.arriving is not None:
            return departure.arriving.reply(complete=False)
        # Outside the except block, so that a cause which quotes the key is in no chain.
        raise self._silence(cause, sent=departure.sent) from without(cause, self.endpoint.api_key)

    async def _send(self, method: str, path: str, body: bytes | None, departure: _Departure) -> Reply:
        headers = self.endpoint.headers()
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = http().build_request(
            method,
            self.endpoint.base_url + path,
            headers=headers,
            content=body,
            timeout=timeouts(self.endpoint.timeout),
            extensions={"trace": departure},
        )
        async with sending(request) as response:
            arriving = departure.arriving = _Arriving(response.status_code, _headers(response))
            return arriving.reply(complete=await _read(response, arriving.body))

    def _silence(self, cause: BaseException, *, sent: bool) -> ClaidError:
        if not sent and (misconfigured := misconfiguration(cause, self.endpoint.base_url)):
            return misconfigured
        return failure(of_silence(sent=sent), self.endpoint, cause=cause)


async def close() -> None:
    """Close the connections of the running event loop."""
    if client := _clients.pop(asyncio.get_running_loop(), None):
        await client.aclose()


def require_http() -> None:
    """
    Prove that an HTTP client can be made here; raises `ClaidConfigurationError` that names the environment variable.

    Sends nothing, costs nothing, needs no event loop; the first call of a process reads the certificates (about 20 ms).
    """
    settings()


_clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}


def http() -> httpx.AsyncClient:
    """Return the one client of this process and event loop; a forked child has another loop, so another client."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        # list() copies in one step: other threads add theirs meanwhile.
        for ended in [each for each in list(_clients) if each.is_closed()]:
            _clients.pop(ended, None)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=KEEPALIVE)
        _clients[loop] = build_client(limits)
    return _clients[loop]


def timeouts(read: float) -> httpx.Timeout:
    """Return how long each step of a request may take; `read` seconds for each part of the answer."""
    return httpx.Timeout(connect=CONNECT_TIMEOUT, write=WRITE_TIMEOUT, read=read, pool=CONNECT_TIMEOUT)


@asynccontextmanager
async def sending(request: httpx.Request) -> AsyncIterator[httpx.Response]:
    """Send the request, and close the answer afterwards, read or not."""
    response = await http().send(request, stream=True)
    try:
        yield response
    finally:
        await response.aclose()


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


async def _read(response: httpx.Response, body: bytearray) -> bool:
    """Read as much as is accepted of an answer, as it was sent; return whether that is all."""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            return False
    return True
