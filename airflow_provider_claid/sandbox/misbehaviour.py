"""Commits a fault: turns the answer that would have been given into what the client gets instead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import Response

from airflow_provider_claid.sandbox.answers import error_body, json_response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from airflow_provider_claid.sandbox.exchange import Exchange
    from airflow_provider_claid.sandbox.faults import BodyShape, Fault

_STEPS = 20
_CHUNK = 65_536
_ABOVE_ANY_CAP = 64 * 1024 * 1024 + 1
_ENDLESS = 256 * 1024 * 1024
_HTML = "<html><head><title>{0}</title></head><body><h1>{0}</h1><p>{1}</p></body></html>"


class Unheard(Response):
    """The answer to a connection that is gone: waits until the server has noticed, and says nothing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the end of the connection."""
        while (await receive())["type"] != "http.disconnect":
            pass


class CutShort(Response):
    """An answer that announces all of its body, sends half of it and closes."""

    def __init__(self, whole: Response, exchange: Exchange) -> None:
        super().__init__(whole.body, whole.status_code)
        self.raw_headers, self._exchange = whole.raw_headers, exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send half of the answer."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        self._exchange.state.wire.drop(self._exchange.peer, reset=False)
        await Unheard()(scope, receive, send)


class Dribbled(Response):
    """An answer that takes `seconds` to arrive, a few bytes at a time."""

    def __init__(self, whole: Response, exchange: Exchange, seconds: float) -> None:
        super().__init__(whole.body, whole.status_code)
        self.raw_headers, self._exchange, self._seconds = whole.raw_headers, exchange, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer in pieces."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        step = -(-len(self.body) // _STEPS) or 1
        for start in range(0, len(self.body), step):
            await self._exchange.state.pause(self._seconds / _STEPS)
            piece = bytes(self.body[start : start + step])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Flood(Response):
    """A picture of `size` bytes, announced, or without any announcement if `announced` is false."""

    def __init__(self, exchange: Exchange, size: int, *, announced: bool) -> None:
        super().__init__(media_type="image/png")
        self._exchange, self._size, self._announced = exchange, size, announced

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send bytes until there are no more, or nobody takes them."""
        headers = [(b"content-type", b"image/png")]
        if self._announced:
            headers.append((b"content-length", str(self._size).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        chunk, left = bytes(_CHUNK), self._size
        state, peer = self._exchange.state, self._exchange.peer
        while left and state.wire.is_open(peer) and not state.stopping.is_set():
            piece = chunk[: min(left, _CHUNK)]
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": bool(left)})
            # The server only waits when its buffer is full: let it see that the client has gone.
            await asyncio.sleep(0)
        if left:
            state.wire.drop(peer, reset=False)
            await Unheard()(scope, receive, send)


async def misbehave(fault: Fault, exchange: Exchange, answer: Response) -> Response:
    """Return what `fault` makes of `answer`; kinds that have changed its content already leave it as it is."""
    exchange.record.fault = fault.kind
    if fault.drops_at_once:
        exchange.drop(reset=fault.kind == "reset")
        return Unheard()
    if fault.kind == "hang":
        return await _hang(fault, exchange, answer)
    if fault.kind in {"cut", "short"}:
        exchange.record.status = fault.kind
        return CutShort(answer, exchange)
    if fault.kind == "slow":
        return Dribbled(answer, exchange, fault.seconds or 0)
    if fault.kind == "huge":
        size = fault.size or (_ENDLESS if fault.stream else _ABOVE_ANY_CAP)
        return Flood(exchange, size, announced=not fault.stream)
    return _replaced(fault, exchange, answer)


def _replaced(fault: Fault, exchange: Exchange, answer: Response) -> Response:
    if fault.kind == "status":
        exchange.headers.clear()
        return status_answer(fault, exchange.authorization)
    if fault.kind in {"redirect", "http_redirect"}:
        default = 307 if fault.kind == "redirect" else 302
        location = fault.location or "http://pictures.example.com/elsewhere.png"
        return Response(status_code=fault.status or default, headers={"location": location})
    if fault.kind == "garbage":
        return Response(b"<<< this is not JSON >>>", media_type="application/json")
    return answer


async def _hang(fault: Fault, exchange: Exchange, answer: Response) -> Response:
    """Be silent for the fault's seconds; then answer, or if nothing was billed close without a word."""
    exchange.record.status = "hang"
    await exchange.state.pause(fault.seconds or 0)
    if fault.billed is not False:
        return answer
    exchange.state.wire.drop(exchange.peer, reset=False)
    return Unheard()


def status_answer(fault: Fault, authorization: str) -> Response:
    """Return the answer of a `status` fault; with `echo_key` it repeats the Authorization header everywhere."""
    status = fault.status or 500
    flat = error_body(status, fault.message)
    headers = dict(fault.headers)
    if fault.echo_key:
        flat["error_message"] += f" Your header was: {authorization}"
        flat["error_details"] = {"authorization": [authorization]}
        headers["x-echo-authorization"] = authorization
    answer = _in_shape(fault.body, status, flat)
    answer.headers.update(headers)
    return answer


def _in_shape(shape: BodyShape, status: int, flat: dict[str, Any]) -> Response:
    message = flat["error_message"]
    bodies: dict[BodyShape, Any] = {
        "flat": flat,
        "nested": {"detail": flat},
        "fastapi": {"detail": [{"loc": ["body", "input"], "msg": message, "type": "value_error"}]},
        "list": [message],
    }
    if shape in bodies:
        return json_response(bodies[shape], status)
    if shape == "garbage-json":
        return Response(json_response(flat).body[:-9], status, media_type="application/json")
    if shape == "html":
        return Response(_HTML.format(status, message), status, media_type="text/html")
    return Response(message if shape == "text" else b"", status, media_type="text/plain")
