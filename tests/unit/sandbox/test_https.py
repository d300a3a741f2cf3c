"""A sandbox over HTTPS: its certificates, and who can reach it with them."""

from __future__ import annotations

import json
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_claid.api.errors import ClaidError
from airflow_provider_claid.hooks.claid import ClaidHook
from airflow_provider_claid.sandbox.certificates import certificates_in, checked_name, names_of
from airflow_provider_claid.sandbox.server import SandboxServer
from airflow_provider_claid.sandbox.settings import Settings

ROOT = Path(__file__).parents[3]
KEY = {"Authorization": "Bearer sandbox-key"}
PROMPT = {"input": "a red bicycle"}


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A sandbox with a certificate that also holds for the name a container knows it by."""
    folder = tmp_path_factory.mktemp("certificates")
    names = ("claid-sandbox", "10.1.2.3")
    settings = Settings(latency=0, per_second=None, per_minute=None, https=True, names=names, certificates=folder)
    with SandboxServer(settings) as server:
        yield server


def trusting(server, **options):
    """A client that trusts the authority of this sandbox, and no other."""
    context = ssl.create_default_context(cafile=str(server.authority))
    return httpx.Client(base_url=server.url, verify=context, headers=KEY, timeout=60, trust_env=False, **options)


def names_in(certificates):
    """The names in the certificate that a server shows, and its authority's."""
    server = x509.load_pem_x509_certificate(certificates.server.read_bytes())
    found = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))}


def connect(server, monkeypatch, tmp_path):
    """Airflow's connection to it, with a pacing folder of its own."""
    monkeypatch.setenv("AIRFLOW__CLAID__PACING_DIR", str(tmp_path / "pacing"))
    value = {"conn_type": "claid", "host": "https://localhost", "port": server.port, "password": "sandbox-key"}
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(value))


def test_the_hook_pays_and_the_picture_is_fetched_over_tls(secure, monkeypatch, tmp_path):
    connect(secure, monkeypatch, tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.authority))
    before = secure.report()["totals"]["credits"]
    made = ClaidHook().generate("a red bicycle")
    assert secure.report()["totals"]["credits"] == before + 1
    (address,) = [image.tmp_url for image in made.images]
    assert address.startswith(f"https://localhost:{secure.port}/")
    with trusting(secure) as client:
        assert client.get(address).content.startswith(b"\x89PNG")


def test_who_does_not_trust_the_authority_sends_nothing(secure, monkeypatch, tmp_path):
    connect(secure, monkeypatch, tmp_path)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    before = secure.report()["totals"]["posts"]
    with pytest.raises(ClaidError, match="SSL_CERT_FILE"):
        ClaidHook().generate("a red bicycle")
    assert secure.report()["totals"]["posts"] == before


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "claid-sandbox", "10.1.2.3"])
def test_temporary_addresses_have_the_name_that_the_client_used(secure, name):
    host = f"{name}:{secure.port}"
    with trusting(secure) as client:
        # The connection goes to this machine; the name in it, and in its certificate, is another.
        request = client.build_request("POST", "/v1/image/generate", json=PROMPT, headers={"Host": host})
        request.extensions["sni_hostname"] = name
        answer = client.send(request).json()
    assert answer["data"]["output"][0]["tmp_url"].startswith(f"https://{host}/tmp/")


def test_a_name_that_was_not_given_is_refused(secure):
    with trusting(secure) as client:
        request = client.build_request("GET", "/v1/storage/storage-types", extensions={"sni_hostname": "elsewhere"})
        with pytest.raises(httpx.ConnectError, match=r"(?i)certificate.*elsewhere|hostname mismatch"):
            client.send(request)


def test_faults_break_connections_over_tls_too(secure):
    secure.fault("generate", "reset", when="before_billing", times=1)
    with trusting(secure) as client, pytest.raises(httpx.TransportError):
        client.post("/v1/image/generate", json=PROMPT)
    with trusting(secure) as client:
        assert client.post("/v1/image/generate", json=PROMPT).is_success


def test_the_authority_may_be_read_by_all_and_the_key_by_this_user_alone(secure):
    folder = secure.authority.parent
    assert stat.S_IMODE(secure.authority.stat().st_mode) == 0o644
    assert stat.S_IMODE((folder / "server.pem").stat().st_mode) == 0o600
    assert b"PRIVATE" not in secure.authority.read_bytes()
    assert {file.name for file in folder.iterdir()} == {"ca.pem", "server.pem"}


def test_the_next_sandbox_takes_the_same_certificates_as_long_as_they_cover_its_names(tmp_path):
    first = certificates_in(tmp_path, ["localhost", "one"])
    authority = first.authority.read_bytes()
    assert certificates_in(tmp_path, ["localhost"]).authority.read_bytes() == authority
    wider = certificates_in(tmp_path, ["localhost", "two"])
    assert wider.authority.read_bytes() != authority
    assert names_in(wider) == {"localhost", "two"}


@pytest.mark.parametrize("file", ["ca.pem", "server.pem"])
@pytest.mark.parametrize("content", [b"", b"not a certificate"])
def test_broken_files_are_made_again(tmp_path, file, content):
    certificates_in(tmp_path, ["localhost"])
    (tmp_path / file).write_bytes(content)
    made = certificates_in(tmp_path, ["localhost"])
    ssl.create_default_context(cafile=str(made.authority)).load_cert_chain(made.server)


def test_an_authority_of_another_sandbox_is_made_again(tmp_path):
    other = certificates_in(tmp_path / "other", ["localhost"])
    mine = certificates_in(tmp_path / "mine", ["localhost"])
    mine.authority.write_bytes(other.authority.read_bytes())
    certificates_in(tmp_path / "mine", ["localhost"])
    assert mine.authority.read_bytes() != other.authority.read_bytes()


def test_without_a_folder_the_certificates_go_away_with_the_sandbox():
    with SandboxServer(latency=0, https=True) as server:
        authority = server.authority
        assert authority.exists()
    assert not authority.exists()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.authority


def test_a_server_has_the_names_of_this_machine(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Workshop")
    own = ("localhost", "127.0.0.1", "::1", "workshop")
    assert names_of("127.0.0.1") == names_of("0.0.0.0") == names_of("::") == own
    assert names_of("10.0.0.7", ("claid", "localhost")) == (*own, "10.0.0.7", "claid")


def test_a_machine_whose_name_no_certificate_can_have_is_reached_by_the_others(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "größe und so")
    assert names_of("127.0.0.1") == ("localhost", "127.0.0.1", "::1")


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("Claid.Example.COM.", "claid.example.com"),
        ("host.docker.internal", "host.docker.internal"),
        ("claid_sandbox", "claid_sandbox"),
        ("[::1]", "::1"),
        ("2001:DB8::0001", "2001:db8::1"),
        ("10.0.0.7", "10.0.0.7"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_names_are_written_as_certificates_have_them(given_name, name):
    assert checked_name(given_name) == name


@pytest.mark.parametrize(
    "name", ["", "a b", "https://claid", "claid:8177", "*.claid", "-claid", "a..b", "größe", "x" * 64]
)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match="host name or an IP address"):
        checked_name(name)


@given(st.text(max_size=80))
def test_a_name_that_is_accepted_stays_what_it_is(text):
    try:
        name = checked_name(text)
    except ValueError:
        return
    assert checked_name(name) == name
    assert name.isascii()


@pytest.mark.parametrize("field", [{"names": ["claid"]}, {"certificates": "certificates"}])
def test_names_and_certificates_need_https(field):
    with pytest.raises(ValidationError, match="needs https"):
        Settings(**field)


def test_the_command_tells_what_to_export(command, tmp_path):
    folder = tmp_path / "the certificates"
    _, lines = command("--port", "0", "--https", "--name", "claid.test", "--certificates", str(folder))
    assert lines[0].startswith("The Claid sandbox is ready at https://127.0.0.1:")
    exports = [line.strip().removeprefix("export ") for line in lines if "export " in line]
    connection = json.loads(exports[0].split("=", 1)[1].strip("'"))
    assert connection["host"] == "https://claid.test"
    assert exports[1] == f"SSL_CERT_FILE='{folder}/ca.pem'"
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    with httpx.Client(verify=context, headers=KEY, trust_env=False) as client:
        assert client.get(f"https://localhost:{connection['port']}/v1/storage/storage-types").is_success


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--name", "claid"], "--name: it needs https"),
        (["--certificates", "folder"], "--certificates: it needs https"),
        (["--https", "--name", "a b"], "--name: 'a b' is not a host name or an IP address"),
    ],
)
def test_bad_arguments_are_explained(arguments, reason):
    command = [sys.executable, "-m", "airflow_provider_claid.sandbox", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert reason in done.stderr.replace("\n", " ")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "airflow_provider_claid.sandbox", "--https", "--port", "0"]
    command += ["--certificates", str(tmp_path / "file" / "folder")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"--certificates: {tmp_path}/file/folder: Not a directory\n")


def test_a_missing_package_is_named():
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from airflow_provider_claid.sandbox.__main__ import main\n"
        "sys.exit(main(['--https', '--port', '0']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install cryptography" in done.stderr
