"""An address that stays the same while the server behind it changes, as after a failover."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from tests.conftest import stop_listening


class Relay:
    """Forwards connections to `port` of this machine; `switch` ends them all and goes on with another."""

    def __init__(self, port):
        self._target, self._open = port, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop_listening(self._listener)
        self._hang_up()

    def switch(self, port):
        self._target = port
        self._hang_up()

    def _hang_up(self):
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with suppress(OSError):
            while True:
                here = self._listener.accept()[0]
                try:
                    there = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    here.close()
                    continue
                self._open += [here, there]
                for source, sink in ((here, there), (there, here)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source, sink):
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
