"""The environment of a host: what can be used is used, and what cannot is named, before anything is sent."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading

import certifi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.api import client, environment
from airflow_provider_claid.api.environment import exemptions
from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.generate import generate
from airflow_provider_claid.delivery.sync import run
from tests.conftest import make_account, self_signed, stop_listening

REQUEST = check_request("a red bicycle", 1, 5.0, None)


def exempt(entries, host, scheme="https", port=443):
    return any(each.covers(scheme, host, port) for each in exemptions(entries))


@pytest.mark.parametrize(
    ("entries", "host"),
    [
        ("*", "api.claid.ai"), ("claid.ai", "claid.ai"), ("claid.ai", "api.claid.ai"), (".claid.ai", "api.claid.ai"),
        ("*.claid.ai", "api.claid.ai"), ("a.b, claid.ai", "claid.ai"), ("a.b claid.ai", "claid.ai"), ("CLAID.ai",
        "claid.ai"),
        ("claid.ai.", "claid.ai"), ("claid.ai", "Claid.AI."), ("claid.ai:443", "claid.ai"), ("https://claid.ai",
        "claid.ai"),
        ("all://claid.ai/", "claid.ai"), ("10.1.2.3", "10.1.2.3"), ("10.0.0.0/8", "10.1.2.3"), ("10.1.2.3:443",
        "10.1.2.3"),
        ("::1", "::1"), ("[::1]", "::1"), ("[::1]:443", "::1"), ("fe80::/10", "fe80::1"), ("[fe80::]/10", "fe80::1"),
        ("[fe80::/10]", "fe80::1"), ("fe80::1%eth0", "fe80::1"), ("2001:db8::/32", "[2001:db8::5]"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("localhost,127.0.0.1,::1,fe80::/10,.svc", "a.svc"),
    ],
)  # fmt: skip
def test_a_host_that_needs_no_proxy(entries, host):
    assert exempt(entries, host)


@pytest.mark.parametrize(
    ("entries", "host"),
    [
        ("", "claid.ai"), (",, ,", "claid.ai"), ("laid.ai", "claid.ai"), (".claid.ai", "claid.ai"),
        ("claid.ai:8443", "claid.ai"),
        ("http://claid.ai", "claid.ai"), ("10.0.0.0/8", "11.1.2.3"), ("fe80::/10", "::1"), ("::1", "claid.ai"),
        ("1", "claid1"),
        ("[::1", "::2"), ("fe80::/999", "fe80::1"), ("10.0.0.0/99", "10.0.0.1"), ("://", "claid.ai"), (".", "claid.ai"),
    ],
)  # fmt: skip
def test_a_host_that_needs_one(entries, host):
    assert not exempt(entries, host)


@given(st.text(max_size=30), st.sampled_from(["claid.ai", "::1", "10.0.0.1", "a.b"]))
def test_no_list_can_break_the_reader(entries, host):
    assert exempt(entries, host) in {True, False}


@pytest.fixture
def prepared(monkeypatch, tmp_path):
    """Set the environment, of which nothing was set before."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)

    def prepare(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return prepare


def refusal(account=None):
    if account is None:
        with pytest.raises(ClaidConfigurationError) as caught:
            client.require_http()
    else:
        with pytest.raises(ClaidConfigurationError) as caught:
            run(generate(account, REQUEST))
    assert (caught.value.billed, caught.value.retryable) == ("no", False)
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize("no_proxy", ["fe80::/10", "[::1]", "::1", "[::1]:80,[fe80::]/10", "[::1", "a b,://,*x"])
def test_any_no_proxy_is_used_and_breaks_nothing(sandbox, account, prepared, no_proxy):
    prepared(NO_PROXY=no_proxy, HTTPS_PROXY="http://127.0.0.1:9")
    assert len(run(generate(account, REQUEST)).images) == 1


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY", "HTTP_PROXY", "https_proxy", "all_proxy"])
@pytest.mark.parametrize(
    "value",
    [
        "socks4://127.0.0.1:1", "ftp://127.0.0.1", "http://", "http:///x", "://x", "http:/127.0.0.1:3128",
        "127.0.0.1:port",
        "127.0.0.1:99999", "127.0.0.1:0", "http://[::1", "http://a b:1", "http://127.0.0.1:1/path",
        "file:///etc/passwd",
        "http://127.0.0.1:1?x=1",
    ],
)  # fmt: skip
def test_a_proxy_that_is_none_is_named_before_anything_is_sent(sandbox, account, prepared, variable, value):
    prepared(**{variable: value})
    message = refusal(account)
    assert variable in message and value in message and f"unset {variable}" in message
    assert sandbox.report()["totals"]["posts"] == 0


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_without_its_package_is_named(sandbox, account, prepared, monkeypatch, variable, scheme):
    from airflow_provider_claid.api import transport

    monkeypatch.setattr(transport, "find_spec", lambda name: None)
    prepared(**{variable: f"{scheme}://127.0.0.{variable.count('A') + len(scheme)}:1"})
    message = refusal(account)
    assert variable in message and "socksio" in message and "httpx[socks]" in message
    assert sandbox.report()["totals"]["posts"] == 0


@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTP_PROXY"])
def test_a_socks_proxy_that_is_not_used_needs_no_package(prepared, monkeypatch, variable):
    from airflow_provider_claid.api import transport

    monkeypatch.setattr(transport, "find_spec", lambda name: None)
    prepared(**{variable: "socks5://127.0.0.7:1", "HTTPS_PROXY": "http://127.0.0.7:2"})
    assert str(transport.settings().proxy.url) == "http://127.0.0.7:2"


@pytest.mark.parametrize(
    "value", ["http://user:pa55word@[::1", "http://user:pa55word@x:99999", "socks4://user:pa55word@x"]
)
def test_the_password_of_a_proxy_is_not_shown(prepared, value):
    prepared(HTTPS_PROXY=value)
    message = refusal()
    assert "pa55word" not in message and "not shown" in message


@pytest.mark.parametrize(
    "value", ["proxy", "proxy:3128", "127.0.0.1:3128", "[::1]:3128", "http://user:x@proxy", " http://proxy "]
)
def test_a_proxy_without_a_scheme_is_one_of_http(value):
    assert environment.proxy_address("HTTPS_PROXY", value).startswith("http://")


def test_the_lower_case_name_wins_and_is_the_one_that_is_told(prepared):
    prepared(https_proxy="ftp://lower", HTTPS_PROXY="ftp://upper")
    assert "variable https_proxy" in refusal()


@pytest.fixture
def dead_proxy():
    """A proxy that counts who comes, and its address."""
    listener, came = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    came.append(connection.recv(4096))
                    connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", came
    stop_listening(listener)


@pytest.mark.parametrize(
    ("no_proxy", "proxied"), [("", True), ("10.0.0.0/8", True), ("127.0.0.0/8", False), ("*", False)]
)
def test_a_network_in_no_proxy_goes_directly(
    prepared, dead_proxy, tmp_path, tls_server, monkeypatch, no_proxy, proxied
):
    from airflow_provider_claid.delivery import generate as generate_module

    monkeypatch.setattr(generate_module, "MAX_TRIES", 1)
    prepared(HTTPS_PROXY=dead_proxy[0], NO_PROXY=no_proxy)
    with pytest.raises(Exception, match="403 No" if proxied else "does not verify"):
        run(generate(make_account(f"https://127.0.0.1:{tls_server}", tmp_path), REQUEST))
    assert bool(dead_proxy[1]) is proxied


@pytest.fixture
def certificates(tmp_path):
    """Files and folders that hold certificates, or that do not."""
    (tmp_path / "empty.pem").touch()
    (tmp_path / "text.pem").write_text("no certificate")
    (tmp_path / "good.pem").write_bytes(self_signed("localhost"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "hashed").mkdir()
    (tmp_path / "hashed" / "0a1b2c3d.0").write_bytes(self_signed("localhost"))
    return tmp_path


@pytest.mark.parametrize("name", ["missing.pem", "empty.pem", "text.pem", "folder", "missing/deep.pem", "good.pem/x"])
def test_a_file_of_certificates_that_is_none_is_named(sandbox, account, prepared, certificates, name):
    prepared(SSL_CERT_FILE=str(certificates / name))
    message = refusal(account)
    assert "variable SSL_CERT_FILE" in message and str(certificates / name) in message and "unset" in message
    assert sandbox.report()["totals"]["posts"] == 0


@pytest.mark.parametrize("name", ["missing", "folder", "good.pem", "empty.pem"])
def test_a_folder_of_certificates_that_is_none_is_named(sandbox, account, prepared, certificates, name):
    prepared(SSL_CERT_DIR=str(certificates / name))
    message = refusal(account)
    assert "variable SSL_CERT_DIR" in message and str(certificates / name) in message and "rehash" in message
    assert sandbox.report()["totals"]["posts"] == 0


def test_certificates_that_can_be_read_are_used(prepared, certificates, account):
    for variables in (
        {"SSL_CERT_DIR": str(certificates / "hashed")},
        {"SSL_CERT_DIR": f"{certificates / 'missing'}{os.pathsep}{certificates / 'hashed'}"},
        {"SSL_CERT_FILE": str(certificates / "good.pem"), "SSL_CERT_DIR": str(certificates / "missing")},
        {"SSL_CERT_FILE": certifi.where()},
    ):
        prepared(SSL_CERT_FILE="", SSL_CERT_DIR="")
        prepared(**variables)
        client.require_http()


def test_a_certificate_of_the_environment_is_trusted(prepared, tmp_path):
    (tmp_path / "own.pem").write_bytes(self_signed("localhost"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError), context.wrap_socket(listener.accept()[0], server_side=True) as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    prepared(SSL_CERT_FILE=str(tmp_path / "own.pem"))
    account = make_account(f"https://localhost:{listener.getsockname()[1]}", tmp_path)
    with pytest.raises(Exception, match="did not accept the API key"):
        run(generate(account, REQUEST))
    stop_listening(listener)


def test_a_log_of_keys_that_cannot_be_written_is_named(prepared, tmp_path):
    prepared(SSLKEYLOGFILE=str(tmp_path / "missing" / "keys"))
    assert "variable SSLKEYLOGFILE" in refusal()


def test_it_is_proven_without_a_loop_and_inside_of_one(prepared):
    client.require_http()

    async def inside():
        client.require_http()
        return client.http()

    run(inside())
    prepared(SSL_CERT_FILE="/missing")
    with pytest.raises(ClaidConfigurationError):
        client.require_http()
