"""One sandbox for all these tests, back at its first settings for each."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from airflow_provider_claid.sandbox.server import SandboxServer
from airflow_provider_claid.sandbox.settings import Key, Settings, StorageTarget

ROOT = Path(__file__).parents[3]
MODULE = [sys.executable, "-u", "-m", "airflow_provider_claid.sandbox"]
PATIENCE = 60
"""Seconds after which something hangs; no test is to fail because a machine is slow."""
KEYS = (
    Key(token="sandbox-key"),
    Key(token="pictures-only", scopes=frozenset({"image_editing"})),
    Key(token="storage-only", scopes=frozenset({"storage"})),
    Key(token="neighbour", account="other"),
)
CALM = {
    "latency": 0,
    "per_second": None,
    "per_minute": None,
    "window": "sliding",
    "count_refused": False,
    "credits": None,
    "picture_hours": 24.0,
    "expired_status": 404,
    "filtered_words": ["nsfw"],
}


@pytest.fixture(scope="session")
def _server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("storage")
    settings = Settings(
        keys=KEYS,
        storages=(StorageTarget(name="my-storage", folder=folder, path="made/"),),
        s3_endpoint="http://127.0.0.1:9",
        seed=1,
        **CALM,
    )
    with SandboxServer(settings) as server:
        yield server


@pytest.fixture
def server(_server):
    """A sandbox without limits or latency, with nothing counted and no fault."""
    _server.reset()
    _server.change(**CALM)
    return _server


@pytest.fixture
def client(server):
    """A client that sends the key with all scopes."""
    with httpx.Client(base_url=server.url, headers={"Authorization": "Bearer sandbox-key"}, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def post(client):
    """Ask for pictures: `post("a prompt", 2, output=…)`."""

    def ask(prompt="a red bicycle", pictures=1, *, output=None, **options):
        body = {"input": prompt, "options": {"number_of_images": pictures}}
        if output:
            body["output"] = output
        return client.post("/v1/image/generate", json=body, **options)

    return ask


@pytest.fixture
def last(server):
    """Wait until a request has ended on the server's side, and return what the report says of the last one."""

    def wait(path="/v1/image/generate"):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = [one for one in server.report()["requests"] if one["path"].startswith(path)]
            if found and found[-1]["seconds"] is not None:
                return found[-1]
            time.sleep(0.005)
        raise AssertionError("no request ended")

    return wait


@pytest.fixture
def raw(server):
    """Send a generation over a bare socket; return the socket."""
    opened = []

    def send(prompt="a red bicycle", pictures=1):
        body = json.dumps({"input": prompt, "options": {"number_of_images": pictures}}).encode()
        head = "POST /v1/image/generate HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Bearer sandbox-key\r\n"
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        opened.append(connection)
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return connection

    yield send
    for connection in opened:
        connection.close()


@pytest.fixture
def command():
    """Run the command line until its greeting is complete; return the process and the greeting."""
    running = []

    def run(*arguments):
        process = subprocess.Popen(
            [*MODULE, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        lines = []
        while not lines or not lines[-1].startswith("Storage "):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            lines.append(line)
        return process, lines

    yield run
    for process in running:
        process.kill()
        process.wait()
