"""One AIRFLOW_HOME of its own for the whole run, made before Airflow is imported anywhere."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import ssl
import tempfile
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
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

import hypothesis  # noqa: E402
import pytest  # noqa: E402
from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.x509.oid import NameOID  # noqa: E402

from airflow_provider_claid.api.endpoint import Endpoint  # noqa: E402
from airflow_provider_claid.delivery import sync  # noqa: E402
from airflow_provider_claid.delivery.account import Account  # noqa: E402
from airflow_provider_claid.pacing.schedule import Pace  # noqa: E402
from airflow_provider_claid.sandbox.server import SandboxServer  # noqa: E402

# No test fails because a machine is slow. CI is to say the same of the same code twice; elsewhere each run tries new
# examples, remembers those that failed, and prints how to repeat them.
hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
    **({"derandomize": True, "database": None} if os.environ.get("CI") else {}),
)
hypothesis.settings.load_profile("tests")

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
    endpoint = {"api_key": KEY, "base_url": url, "timeout": 30.0}
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
    extra = {"requests_per_second": 10_000, "requests_per_minute": 1_000_000, "request_timeout": 30}
    value = {"conn_type": "claid", "host": sandbox.url, "password": KEY, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(value))
    return value


@pytest.fixture(autouse=True)
def _loops_closed():
    yield
    sync.close()


def stop_listening(listener):
    """Close a listening socket in whose `accept` a thread may wait; a mere close leaves it there, to answer others."""
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def self_signed(host):
    """Return a key and a certificate for it that is good for an hour, for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(hours=1))
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(pem, form, plain) + signed.public_bytes(pem)


@pytest.fixture
def tls_server(tmp_path):
    """The port of a TLS server on this machine whose certificate nobody has signed."""
    certificate = tmp_path / "self-signed.pem"
    certificate.write_bytes(self_signed("localhost"))
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
    stop_listening(listener)


@pytest.fixture(scope="session")
def s3_url():
    """The address of a local S3 server (moto)."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_url, monkeypatch):
    """A client of a local S3 server with the bucket `pictures`, and Airflow's connection `my_aws` to it."""
    import boto3
    from airflow.sdk.io import store

    # Airflow keeps the file system of a connection for the life of a process.
    monkeypatch.setattr(store, "_STORE_CACHE", {})
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    value = {
        "conn_type": "aws",
        "login": "access",
        "password": "secret",
        "extra": {"endpoint_url": s3_url, "region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_MY_AWS", json.dumps(value))
    client = boto3.client(
        "s3", endpoint_url=s3_url, region_name="us-east-1", aws_access_key_id="access", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket="pictures")
    return client


@pytest.fixture
def guard(bucket, monkeypatch, request):
    """A `Guard` before the server of `bucket`, and an Airflow connection to it, `guard.conn_id`."""
    from tests.s3_guard import guarded

    with guarded() as server:
        # Airflow keeps the file system of a connection, so each test has one of its own.
        server.conn_id = f"guarded_{abs(hash(request.node.nodeid))}"
        monkeypatch.setenv(f"AIRFLOW_CONN_{server.conn_id.upper()}", server.connection())
        yield server
