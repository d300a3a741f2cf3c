"""Faults on picture downloads and on connections."""

from __future__ import annotations

import contextlib
import socket
import time
from io import BytesIO

import httpx
import pytest
from PIL import Image

MEBIBYTE = 1024 * 1024


@pytest.fixture
def struck(server, post):
    """The address of a picture whose next download meets a fault."""

    def prepare(kind, **options):
        server.fault("picture", kind, **options)
        return post(pictures=1).json()["data"]["output"][0]["tmp_url"]

    return prepare


@pytest.fixture
def fault_of(last):
    def ask():
        record = last("/tmp/")
        return record["fault"], record["status"]

    return ask


def test_html_under_the_type_of_a_picture(struck, fault_of):
    answer = httpx.get(struck("html"))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.content.startswith(b"<!doctype html>")
    assert fault_of() == ("html", 200)


def test_a_truncated_picture_with_the_right_length(struck):
    url = struck("truncated")
    half, whole = httpx.get(url), httpx.get(url)
    assert half.content == whole.content[: len(whole.content) // 2]
    with pytest.raises(OSError, match="truncated"):
        Image.open(BytesIO(half.content)).load()


@pytest.mark.parametrize("kind", ["short", "cut"])
def test_less_than_announced(struck, fault_of, kind):
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        httpx.get(struck(kind))
    assert fault_of() == (kind, kind)


def test_a_wrong_size(struck):
    assert Image.open(BytesIO(httpx.get(struck("wrong_size")).content)).size == (512, 512)


def test_a_flipped_byte(struck):
    url = struck("corrupt")
    broken, whole = httpx.get(url).content, httpx.get(url).content
    assert sum(a != b for a, b in zip(broken, whole, strict=True)) == 1
    with pytest.raises((OSError, SyntaxError)):
        Image.open(BytesIO(broken)).verify()


def test_nothing_at_all(struck):
    answer = httpx.get(struck("zero"))
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "0", b"")


def test_a_huge_announcement(struck, fault_of):
    with httpx.stream("GET", struck("huge")) as answer:
        assert int(answer.headers["content-length"]) > 64 * MEBIBYTE
        assert len(next(answer.iter_raw())) > 0
    assert fault_of() == ("huge", 200)


def test_bytes_without_an_announcement(struck):
    with httpx.stream("GET", struck("huge", stream=True, size=3 * MEBIBYTE)) as answer:
        assert "content-length" not in answer.headers
        assert sum(map(len, answer.iter_raw())) == 3 * MEBIBYTE


def test_a_status(struck):
    answer = httpx.get(struck("status", status=503, body="html"))
    assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")


def test_slow(struck):
    url = struck("slow", seconds=0.2)
    started = time.monotonic()
    Image.open(BytesIO(httpx.get(url).content)).load()
    assert time.monotonic() - started >= 0.2


def test_a_hang(struck):
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(struck("hang", seconds=3), timeout=httpx.Timeout(60, read=0.1))


def test_a_reset(struck, fault_of):
    with pytest.raises(httpx.ReadError):
        httpx.get(struck("reset"))
    assert fault_of() == ("reset", "reset")


@pytest.mark.parametrize("options", [{}, {"location": "http://127.0.0.1:9/x.png", "status": 301}])
def test_a_redirect_to_plain_http(struck, options):
    answer = httpx.get(struck("http_redirect", **options))
    assert answer.status_code == options.get("status", 302)
    assert answer.headers["location"] == options.get("location", "http://pictures.example.com/elsewhere.png")


def test_a_fault_on_a_picture_waits_for_its_prompt(server, post):
    server.fault("picture", "zero", match="blue")
    red, blue = (post(prompt).json()["data"]["output"][0]["tmp_url"] for prompt in ("a red cat", "a blue cat"))
    assert httpx.get(red).content
    assert not httpx.get(blue).content


def test_a_connection_reset_on_accept(server, raw):
    server.fault("connect", "reset", when="accept")
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        raw().recv(100)
    totals = server.report()["totals"]
    assert (totals["connections"], totals["dropped_connections"], totals["posts"]) == (1, 1, 0)
    assert raw().recv(15) == b"HTTP/1.1 200 OK"


def test_a_connection_closed_on_accept(server):
    server.fault("connect", "close")
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        assert connection.recv(100) == b""


def test_a_connection_that_hangs(server, raw):
    server.fault("connect", "hang", seconds=0.3)
    connection = raw()
    connection.settimeout(0.1)
    with pytest.raises(TimeoutError):
        connection.recv(100)
    assert server.report()["totals"]["posts"] == 0
    connection.settimeout(5)
    # Closing with an unread request in the buffer makes the system send a reset.
    with contextlib.suppress(ConnectionResetError):
        assert connection.recv(100) == b""
