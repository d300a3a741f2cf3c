"""Which hosts a server of the Internet may send us to: those of the Internet, whatever they are called."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.api import transport
from airflow_provider_claid.api.addresses import is_local_name, is_public, literal, may_be_reached
from airflow_provider_claid.api.downloads import download, read_part
from airflow_provider_claid.api.endpoint import Endpoint
from airflow_provider_claid.api.errors import ClaidPictureError
from airflow_provider_claid.delivery.sync import run
from tests.conftest import stop_listening

INSIDE = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.0.0.1.", "0",
    "0.0.0.0",
    "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "100.100.100.200", "169.254.169.254", "0xA9FEA9FE",
    "2852039166",
    "198.18.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]",
    "[::ffff:10.0.0.1]",
    "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[2002:7f00:1::]", "[2002:a00:1::]", "[2001:db8::1]",
]  # fmt: skip
OUTSIDE = ["8.8.8.8", "142.250.1.1", "0x08080808", "[2606:4700::1111]", "[64:ff9b::8.8.8.8]", "[::ffff:8.8.8.8]"]
LOCAL_NAMES = [
    "localhost", "LOCALHOST.", "a.localhost", "sandbox", "printer.local", "metadata.google.internal", "router.lan",
    "x.home.arpa",
]  # fmt: skip


@pytest.mark.parametrize("host", INSIDE)
def test_each_form_of_an_address_inside_is_seen(host):
    found = literal(host)
    assert found is not None and not is_public(found) and is_local_name(host)
    assert not may_be_reached("pictures.example.com", found)


@pytest.mark.parametrize("host", OUTSIDE)
def test_an_address_of_the_internet_is_none(host):
    assert is_public(literal(host)) and not is_local_name(host)


@pytest.mark.parametrize("host", ["dl.claid.ai", "example.com", "a.b", "abc.def", "face.dead", "1.2.3.4.5.example"])
def test_a_name_is_no_address(host):
    assert literal(host) is None and not is_local_name(host)


@pytest.mark.parametrize("host", LOCAL_NAMES)
def test_a_name_of_this_machine_or_network_says_so(host):
    assert is_local_name(host)


@given(st.text(max_size=30))
def test_no_host_can_break_the_reader(host):
    assert is_local_name(host) in {True, False}


@pytest.mark.parametrize("host", ["dl.claid.ai", "storage.googleapis.com", "x.storage.googleapis.com", "DL.claid.ai."])
def test_the_hosts_of_claid_may_be_private_but_never_of_this_machine(host):
    assert may_be_reached(host, literal("10.0.0.5")) and may_be_reached(host, literal("198.18.0.5"))
    for inside in ("127.0.0.1", "169.254.169.254", "::1", "fe80::1", "0.0.0.0", "::ffff:169.254.169.254", "224.0.0.1"):
        assert not may_be_reached(host, literal(inside))
    for name in ("claid.ai.example.com", "notclaid.ai", "xstorage.googleapis.com"):
        assert not may_be_reached(name, literal("10.0.0.5"))


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("https://api.claid.ai", False), ("https://8.8.8.8", False), ("http://127.0.0.1:1", True),
        ("https://localhost", True),
        ("https://[::1]:8443", True), ("https://claid-sandbox:8443", True), ("https://10.0.0.5", True),
    ],
)  # fmt: skip
def test_an_api_is_of_this_network_by_its_name_alone(url, local):
    assert Endpoint("key", url).is_local is local


def whole(url, loopback=False):
    async def chunks():
        found = download(url, allow_loopback=loopback, limit=9999, patience=5.0)
        return b"".join([chunk async for chunk in found])

    return run(chunks())


def part(url, loopback=False):
    return run(read_part(url, 0, 100, allow_loopback=loopback, limit=9999, patience=5.0))


@pytest.fixture
def listener():
    """A server on this machine that counts who connects, and what they send."""
    server, came = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5)
                    came.append(connection.recv(100))

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1], came
    stop_listening(server)


@pytest.mark.parametrize("read", [part, whole])
@pytest.mark.parametrize("host", [*INSIDE, *LOCAL_NAMES])
@pytest.mark.parametrize("proxy", [False, True])
def test_a_public_api_leads_to_none_of_them(monkeypatch, listener, read, host, proxy):
    if proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener[0]}")
    with pytest.raises(ClaidPictureError, match=r"was not opened|InvalidURL") as caught:
        read(f"https://{host}:{listener[0]}/1.png")
    assert (caught.value.billed, listener[1]) == ("yes", [])


@pytest.mark.parametrize("read", [part, whole])
def test_what_a_name_resolves_to_is_seen_before_a_byte_is_sent(monkeypatch, listener, read):
    real = socket.getaddrinfo

    def resolved(host, port, *rest, **options):
        # As a name server of somebody else would say.
        ours = host in {"pictures.example.com", b"pictures.example.com"}
        return real("127.0.0.1" if ours else host, port, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    with pytest.raises(ClaidPictureError, match=r"pictures\.example\.com, which is of a private network"):
        read(f"https://pictures.example.com:{listener[0]}/1.png")
    assert set(listener[1]) <= {b""}


def test_an_api_on_this_machine_may_lead_to_it(answering):
    assert whole(answering("/1.png", 200, {}, b"picture"), loopback=True) == b"picture"


def test_a_redirect_of_a_public_server_leads_to_none_of_them(answering, monkeypatch):
    # The first step is ours, as far as the guard of sockets goes; the second is judged anew.
    from airflow_provider_claid.api import downloads

    seen, real = [], downloads._check_address

    def check(url, *, allow_loopback):
        seen.append(str(url))
        if len(seen) > 1:
            real(url, allow_loopback=allow_loopback)

    monkeypatch.setattr(downloads, "_check_address", check)
    monkeypatch.setattr(transport, "may_be_reached", lambda host, address: True)
    with pytest.raises(ClaidPictureError, match="was not opened"):
        whole(answering("/1.png", 302, {"Location": "https://169.254.169.254/latest/"}))
    assert len(seen) == 2
