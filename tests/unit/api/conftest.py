"""A server that answers byte for byte what a test wants, also what no library would send."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time

import pytest


@pytest.fixture(scope="module")
def _server():
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            lines = iter(self.rfile.readline, b"\r\n")
            fields = [line.decode().strip() for line in lines]
            self.server.asked.append(fields)
            said = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields[1:])}
            self.rfile.read(int(said.get("content-length", 0)))
            with contextlib.suppress(OSError):
                for piece in self.server.answers[fields[0].split(" ")[1]]:
                    time.sleep(piece) if isinstance(piece, float) else self.wfile.write(piece)

    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def answering(_server):
    """Give a path of a local server its answer, once or for good, and return its address."""
    _server.asked, _server.answers = [], {}

    def give(path, status, headers=None, body=b"", *, length=None):
        fields = {
            "Content-Length": str(len(body) if length is None else length),
            "Connection": "close",
            **(headers or {}),
        }
        head = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
        pieces = body if isinstance(body, list) else [body]
        _server.answers[path] = ["\r\n".join([*head, "", ""]).encode("latin-1"), *pieces]
        return f"http://127.0.0.1:{_server.server_address[1]}{path}"

    give.asked, give.answers = _server.asked, _server.answers
    return give
