"""The Python face and the command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from airflow_provider_claid.sandbox.server import SandboxServer
from airflow_provider_claid.sandbox.settings import Settings

ROOT = Path(__file__).parents[3]
MODULE = [sys.executable, "-u", "-m", "airflow_provider_claid.sandbox"]


def test_starts_on_a_free_port_and_stops_for_good():
    before = set(threading.enumerate())
    with SandboxServer(latency=0) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        scratch = server.state.settings.storages[0].folder
        assert scratch.is_dir()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1)
    assert not scratch.exists()
    assert set(threading.enumerate()) == before
    server.stop()
    with pytest.raises(RuntimeError, match="not running"):
        server.report()


def test_stops_although_requests_and_connections_are_open(capfd):
    server = SandboxServer(latency=600).start()
    idle = socket.create_connection(("127.0.0.1", server.port))
    answers = []

    def ask():
        key = {"Authorization": "Bearer sandbox-key"}
        answers.append(httpx.post(f"{server.url}/v1/image/generate", json={"input": "a cat"}, headers=key, timeout=60))

    waiting = threading.Thread(target=ask)
    waiting.start()
    while not server.report()["totals"]["accepted"]:
        time.sleep(0.01)
    # Ten minutes would pass if it waited for the latency: more than any test may take.
    server.stop()
    waiting.join()
    idle.close()
    assert answers[0].status_code == 200
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_port_that_is_taken_is_an_os_error():
    with SandboxServer() as server, pytest.raises(OSError, match="in use"):
        SandboxServer(port=server.port).start()


def test_takes_settings_or_their_fields():
    with pytest.raises(TypeError):
        SandboxServer(Settings(), latency=0)


def test_idle_connections_are_closed_after_keep_alive():
    with SandboxServer(latency=0, keep_alive=0.2) as server:
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        connection.sendall(b"GET /_sandbox/faults HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(1000), b""))
        assert received.startswith(b"HTTP/1.1 200")
        connection.close()


def test_answers_are_not_held_back():
    with SandboxServer() as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /_sandbox/faults HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(1)
        transport = server.state.wire._transports[connection.getsockname()]
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_and_stops_cleanly(command, tmp_path, number):
    process, lines = command("--port", "0", "--latency", "0", "--folder", str(tmp_path), "--key", "abc:storage")
    assert lines[0].startswith("The Claid sandbox is ready at http://127.0.0.1:")
    export = next(line.strip() for line in lines if "AIRFLOW_CONN_CLAID_DEFAULT" in line)
    connection = json.loads(export.split("=", 1)[1].strip("'"))
    assert connection == {
        "conn_type": "claid",
        "host": "http://127.0.0.1",
        "port": connection["port"],
        "password": "abc",
        "extra": {"storages": {"my-storage": f"{tmp_path.as_uri()}/"}},
    }
    key = {"Authorization": "Bearer abc"}
    answer = httpx.get(f"http://127.0.0.1:{connection['port']}/v1/storage/storage-types", headers=key)
    assert answer.status_code == 200
    process.send_signal(number)
    assert process.wait(60) == 0
    assert process.stderr.read() == ""


def test_another_host_is_warned_about(command):
    process, lines = command("--port", "0", "--host", "127.0.0.2")
    assert "http://127.0.0.2:" in lines[0]
    process.terminate()
    assert "anybody in your network" in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--latency", "8-1"], "--latency: latency is seconds"),
        (["--storage", "nothing"], "NAME=DIR"),
        (["--key", "abc:editing"], "--key: Input should be"),
        (["--per-second", "-1"], "--per-second: Input should be"),
        (["--window", "round"], "--window: invalid choice"),
    ],
)
def test_bad_arguments_are_explained(arguments, reason):
    done = subprocess.run([*MODULE, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert reason in done.stderr.replace("\n", " ")


def test_a_taken_port_is_explained():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([*MODULE, "--port", port], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"Cannot listen on 127.0.0.1:{port}: Address already in use\n")


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "PIL"])
def test_a_missing_package_names_the_extra(missing):
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from airflow_provider_claid.sandbox.__main__ import main\n"
        "sys.exit(main([]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "airflow-provider-claid[sandbox]" in done.stderr
