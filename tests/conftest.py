"""One AIRFLOW_HOME of its own for the whole run, made before Airflow is imported anywhere."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

home = Path(tempfile.mkdtemp(prefix="claid-tests-"))
# Worker processes of a test share the folder, so only the process that made it removes it.
MAKER = os.getpid()
atexit.register(lambda: os.getpid() == MAKER and shutil.rmtree(home, ignore_errors=True))
os.environ.update(
    AIRFLOW_HOME=str(home),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(home / "dags"),
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=str(home / "logs"),
    AIRFLOW__CLAID__PACING_DIR=str(home / "pacing"),
)
for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_") or name.lower().endswith("_proxy")]:
    del os.environ[name]

import pytest  # noqa: E402

from airflow_provider_claid.api.endpoint import Endpoint  # noqa: E402
from airflow_provider_claid.delivery import sync  # noqa: E402
from airflow_provider_claid.delivery.account import Account  # noqa: E402
from airflow_provider_claid.pacing.schedule import Pace  # noqa: E402
from airflow_provider_claid.sandbox.server import SandboxServer  # noqa: E402

KEY = "sandbox-key"
UNPACED = Pace(per_second=10_000, per_minute=1_000_000)


@pytest.fixture(scope="session")
def _sandbox():
    with SandboxServer(latency=0, per_second=None, per_minute=None, seed=1) as server:
        yield server


@pytest.fixture
def sandbox(_sandbox):
    """A sandbox without limits or latency, with nothing counted and no fault."""
    _sandbox.change(latency=0, per_second=None, per_minute=None, picture_hours=24, credits=None)
    _sandbox.reset()
    yield _sandbox
    _sandbox.clear_faults()


@pytest.fixture
def account(sandbox, tmp_path):
    """An account of the sandbox with a schedule of its own, in effect unpaced."""
    return make_account(sandbox.url, tmp_path)


def make_account(url, folder, **changes):
    endpoint = {"api_key": KEY, "base_url": url, "timeout": 5.0}
    endpoint.update({name: changes.pop(name) for name in list(changes) if name in endpoint})
    pacing = folder / "pacing"
    pacing.mkdir(mode=0o700, exist_ok=True)
    return Account(
        **{"name": "test", "endpoint": Endpoint(**endpoint), "pace": UNPACED, "pacing_dir": pacing, **changes}
    )


@pytest.fixture
def claid_connection(sandbox, monkeypatch, tmp_path):
    """Airflow's connection `claid_default`, pointing to the sandbox, in effect unpaced, with schedules of its own."""
    monkeypatch.setenv("AIRFLOW__CLAID__PACING_DIR", str(tmp_path / "pacing"))
    extra = {"requests_per_second": 10_000, "requests_per_minute": 1_000_000, "request_timeout": 5}
    value = {"conn_type": "claid", "host": sandbox.url, "password": KEY, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(value))
    return value


@pytest.fixture(autouse=True)
def _loops_closed():
    yield
    sync.close()


@pytest.fixture
def tls_server(tmp_path):
    """The port of a TLS server on this machine whose certificate nobody has signed."""
    certificate = tmp_path / "self-signed.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout {0} -out {0}"
    subprocess.run(command.format(certificate).split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                context.wrap_socket(listener.accept()[0], server_side=True).close()
            except ssl.SSLError:
                continue
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()
