"""The way to the server: an httpx transport that traces as httpcore does, and breaks where a network breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from tests.simulation.checks import Checks
from tests.simulation.server import Reply, Sending, Server
from tests.simulation.world import Process


class Transport(httpx.AsyncBaseTransport):
    """The network of one process."""

    def __init__(self, process: Process, server: Server, checks: Checks, trouble: float) -> None:
        self._process = process
        self._world = process.world
        self._server = server
        self._checks = checks
        self._trouble = trouble

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        dice = self._world.random
        await asyncio.sleep(dice.random() * 0.1)
        if self._world.chance(self._trouble * 0.3):
            raise dice.choice((httpx.ConnectError, httpx.ConnectTimeout))("no way to the server", request=request)
        return await (self._post(request) if request.method == "POST" else self._get(request))

    async def _post(self, request: httpx.Request) -> httpx.Response:
        trace, dice = request.extensions["trace"], self._world.random
        if self._world.chance(0.05):
            await asyncio.sleep(dice.random() * 3.0)
        await trace("http11.send_request_headers.started", {"request": request})
        sending = self._leave(json.loads(request.content))
        reply = None
        try:
            if self._world.chance(self._trouble * 0.1):
                raise httpx.WriteError("broken pipe", request=request)
            await trace("http11.send_request_headers.complete", {})
            await asyncio.sleep(dice.random() * 0.01)
            await trace("http11.send_request_body.complete", {})
            reply = await self._reply(sending, request.extensions["timeout"]["read"])
            if reply.status is None:
                raise httpx.ReadError("connection reset", request=request)
        except BaseException:
            self._checks.ended(sending)
            raise
        return httpx.Response(reply.status, headers=reply.headers, stream=_Body(self, reply, sending), request=request)

    def _leave(self, body: dict[str, Any]) -> Sending:
        sending = Sending(self._process, self._checks.sender(), body, self._world.now)
        self._checks.leaves(sending)
        self._server.take(sending)
        return sending

    async def _reply(self, sending: Sending, patience: float) -> Reply:
        loop = asyncio.get_running_loop()
        coming: asyncio.Future[Reply] = loop.create_future()

        def answer(reply: Reply) -> None:
            if not self._process.dead and not coming.done():
                coming.set_result(reply)

        sending.answer = answer
        timer = loop.call_later(patience, lambda: coming.done() or coming.set_exception(httpx.ReadTimeout("silence")))
        try:
            return await coming
        finally:
            timer.cancel()

    async def _get(self, request: httpx.Request) -> httpx.Response:
        world, server = self._world, self._server
        await asyncio.sleep(world.random.random() * 0.5)
        found = server.temporary.get(str(request.url))
        status, body, cut = 200, b"", None
        if found is None or world.now >= found.expires_at:
            status = 404
        else:
            body = found.data
        length = len(body)
        if status == 200 and world.chance(self._trouble):
            world.counters["bad_downloads"] += 1
            match world.random.randrange(4):
                case 0:
                    status, body = 503, b""
                case 1:
                    cut = world.random.randrange(len(body))
                case 2:
                    body = body[: world.random.randrange(len(body))]
                case _:
                    body, length = b"<html>", 6
        headers = {"content-length": str(length)} if status == 200 else {}
        return httpx.Response(
            status, headers=headers, stream=_Body(self, Reply(status, {}, body, cut)), request=request
        )


class _Body(httpx.AsyncByteStream):
    """A body that comes in two parts, or breaks off."""

    def __init__(self, way: Transport, reply: Reply, sending: Sending | None = None) -> None:
        self._way = way
        self._reply = reply
        self._sending = sending

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body, cut = self._reply.body, self._reply.cut
        half = len(body) // 2
        yield body[: half if cut is None else cut]
        await asyncio.sleep(self._way._world.random.random() * 0.01)
        if cut is not None:
            raise httpx.ReadError("connection reset")
        yield body[half:]

    async def aclose(self) -> None:
        if self._sending:
            self._way._checks.ended(self._sending)
