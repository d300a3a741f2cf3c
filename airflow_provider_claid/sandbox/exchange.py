"""One request and its answer, as the sandbox accounts for it: the outermost layer of the application."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from airflow_provider_claid.sandbox.report import Record

if TYPE_CHECKING:
    from fastapi import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from airflow_provider_claid.sandbox.state import State
    from airflow_provider_claid.sandbox.wire import Peer

CONTROL = "/_sandbox/"


@dataclass(slots=True)
class Exchange:
    """What belongs to one request: its record, the headers its answer gets, and its connection."""

    state: State
    record: Record
    peer: Peer
    authorization: str
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def drop(self, *, reset: bool) -> None:
        """End the connection and say so in the record."""
        self.record.status = "reset" if reset else "close"
        self.state.wire.drop(self.peer, reset=reset)

    def answers(self, status: int) -> None:
        """Note the status of the answer that starts now, unless there is nobody left to read it."""
        if isinstance(self.record.status, str) and self.record.status != "hang":
            return
        if self.state.wire.is_open(self.peer):
            self.record.status = status
        elif self.record.status is None:
            self.record.status = "client_left"


def exchange_of(request: Request) -> Exchange:
    """Return the exchange that `Observed` opened for `request`."""
    exchange: Exchange = request.scope["state"]["exchange"]
    return exchange


class Observed:
    """Gives each request an exchange and each answer its `x-request-id`; reports all but the control requests."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        exchange = self._open(scope)
        scope.setdefault("state", {})["exchange"] = exchange
        record, report = exchange.record, self._state.report
        reported = not record.path.startswith(CONTROL)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.answers(message["status"])
                identity = (b"x-request-id", record.request_id.encode())
                message["headers"] = [*message["headers"], *exchange.headers, identity]
            await send(message)

        if reported:
            report.opened(record)
        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            if reported:
                report.closed(record)

    def _open(self, scope: Scope) -> Exchange:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        record = Record(
            request_id=str(uuid4()),
            method=scope["method"],
            path=scope["path"],
            wall=time.time(),
            monotonic=time.monotonic(),
            user_agent=headers.get(b"user-agent", b"").decode("latin-1"),
            authorization=bool(authorization),
        )
        return Exchange(self._state, record, scope["client"], authorization)
