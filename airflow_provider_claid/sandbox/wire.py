"""The open connections, so that a fault can reset or close one under the feet of its request."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from airflow_provider_claid.sandbox.state import State

Peer = tuple[str, int]


class Wire:
    """
    Transports by the address of their peer.

    ASGI gives an application no way to break its connection, but it does give it the peer's address
    (`scope["client"]`). So the protocol below, all there is of this hack, notes each transport under that.
    """

    def __init__(self, state: State) -> None:
        self._transports: dict[Peer, asyncio.Transport] = {}
        self._state = state

    def opened(self, peer: Peer, transport: asyncio.Transport) -> None:
        """Note a new connection, and commit the fault that waits for it, if any."""
        self._transports[peer] = transport
        self._state.report.connections += 1
        fault = self._state.faults.pick("connect")
        if fault is None:
            return
        self._state.report.dropped_connections += 1
        if fault.kind == "hang":
            transport.pause_reading()
            asyncio.get_running_loop().call_later(fault.seconds or 0, transport.close)
        else:
            self.drop(peer, reset=fault.kind == "reset")

    def lost(self, peer: Peer) -> None:
        """Forget a connection that has ended."""
        self._transports.pop(peer, None)

    def is_open(self, peer: Peer) -> bool:
        """Return whether the peer is still there, as far as its system has told us."""
        transport = self._transports.get(peer)
        return transport is not None and not transport.is_closing()

    def drop(self, peer: Peer, *, reset: bool) -> None:
        """End a connection: with a TCP reset that discards everything unsent, or after sending it all."""
        transport = self._transports.get(peer)
        if transport is None:
            return
        if not reset:
            transport.close()
            return
        # A linger time of zero is what turns the close into a RST.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()


def protocol_of(wire: Wire) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol, telling `wire` about its connections."""

    class SandboxProtocol(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if self.client:
                wire.opened(self.client, transport)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client:
                wire.lost(self.client)
            super().connection_lost(exc)

    return SandboxProtocol
