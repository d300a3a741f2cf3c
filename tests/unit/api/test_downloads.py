"""Parts of pictures at temporary addresses: servers that know ranges, that know none, and that lie."""

from __future__ import annotations

import gzip
import socketserver
import zlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.api.downloads import MAX_REDIRECTS, Part, download, read_part
from airflow_provider_claid.api.errors import ClaidPictureError
from airflow_provider_claid.delivery.sync import run
from tests.conftest import KEY

DATA = bytes(range(256)) * 40
LIMIT = 1_000_000


def part(url, start=0, end=100, loopback=True, limit=LIMIT, patience=5.0):
    return run(read_part(url, start, end, allow_loopback=loopback, limit=limit, patience=patience))


def whole(url, loopback=True, limit=LIMIT, patience=5.0):
    async def chunks():
        return b"".join(
            [chunk async for chunk in download(url, allow_loopback=loopback, limit=limit, patience=patience)]
        )

    return run(chunks())


def refusal(url, read=part, **options):
    with pytest.raises(ClaidPictureError) as caught:
        read(url, **options)
    assert caught.value.billed == "yes"
    return caught.value


@pytest.fixture
def picture(sandbox):
    """The temporary address of a picture, and the picture."""
    order = {"input": "a red bicycle", "options": {"number_of_images": 1}}
    answer = httpx.post(f"{sandbox.url}/v1/image/generate", json=order, headers={"Authorization": f"Bearer {KEY}"})
    url = answer.json()["data"]["output"][0]["tmp_url"]
    return url, httpx.get(url).content


def test_a_part_is_read_and_no_more(picture):
    url, data = picture
    for start, end in ((0, 1), (0, 4096), (1, 2), (100, 5000)):
        assert part(url, start, end) == Part(data[start:end], start, len(data))


def test_the_last_bytes_are_read_and_behind_them_is_nothing(picture):
    url, data = picture
    size = len(data)
    assert part(url, size - 16, size) == Part(data[-16:], size - 16, size)
    assert part(url, size - 16, size + 99) == Part(data[-16:], size - 16, size)
    assert part(url, 0, 10 * size) == Part(data, 0, size)
    assert refusal(url, start=size, end=size + 1).status == 416


def test_a_dead_address_says_so(picture, sandbox):
    sandbox.change(picture_hours=1e-9)
    error = refusal(picture[0])
    assert error.status == 404
    assert "24 hours" in str(error)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_every_way_of_being_gone_is_told(answering, status):
    error = refusal(answering("/gone", status))
    assert (error.status, "24 hours" in str(error)) == (status, True)


@pytest.mark.parametrize("status", [201, 204, 304, 400, 401, 416, 429, 500, 503])
def test_another_answer_is_told_with_its_status(answering, status):
    error = refusal(answering("/other", status))
    assert error.status == status
    assert "24 hours" not in str(error)


def test_no_key_no_cookie_and_no_packing_is_sent(answering):
    url = answering("/a", 206, {"Content-Range": "bytes 5-9/100", "Set-Cookie": "session=1; Path=/"}, b"x" * 5)
    part(url, 5, 10)
    part(url, 5, 10)
    first, second = (dict(line.lower().split(": ", 1) for line in asked[1:]) for asked in answering.asked)
    assert first == second
    assert (first["range"], first["accept-encoding"]) == ("bytes=5-9", "identity")
    assert first["user-agent"].startswith("airflow-provider-claid/")
    assert not {"authorization", "cookie"} & first.keys()


def test_a_server_that_knows_no_ranges_sends_all(answering):
    assert part(answering("/all", 200, {}, DATA), 50, 60) == Part(DATA, 0, len(DATA))


def test_all_may_come_in_chunks_without_a_length(answering):
    chunks = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    headers = {"Transfer-Encoding": "chunked", "Content-Length": None}
    assert part(answering("/chunks", 200, headers, chunks)) == Part(b"hello world", 0, 11)


@pytest.mark.parametrize("read", [part, whole])
def test_more_than_the_limit_is_refused_before_it_is_read(answering, read):
    url = answering("/large", 200, {}, DATA, length=10**12)
    assert "at most 1000000" in str(refusal(url, read))


@pytest.mark.parametrize("read", [part, whole])
def test_more_than_the_limit_without_a_length_is_cut_off(answering, read):
    url = answering("/endless", 200, {"Content-Length": None}, [DATA] * 200)
    assert "larger than 1000000" in str(refusal(url, read))


def test_a_part_larger_than_the_limit_is_refused(answering):
    url = answering("/part", 206, {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}, DATA)
    assert "at most 100" in str(refusal(url, limit=100))


@pytest.mark.parametrize("status", [200, 206])
def test_a_body_that_is_cut_is_found(answering, status):
    url = answering("/cut", status, {"Content-Range": "bytes 0-99/100"}, DATA[:50], length=100)
    assert "broke" in str(refusal(url))


def test_chunks_that_are_cut_are_found(answering):
    headers = {"Transfer-Encoding": "chunked", "Content-Length": None}
    assert "broke" in str(refusal(answering("/cut", 200, headers, b"64\r\nhello")))


def test_a_server_that_says_nothing_more_is_left(answering):
    url = answering("/silent", 206, {"Content-Range": "bytes 0-99/100"}, [DATA[:50], 0.6], length=100)
    # Whoever waited for the server would say that the connection broke.
    assert "ReadTimeout" in str(refusal(url, patience=0.1))


@pytest.mark.parametrize(
    "said",
    [
        None,
        "",
        "bytes",
        "bytes 0-99",
        "bytes 0-99/",
        "bytes 0-99/*",
        "bytes 0-99/-100",
        "bytes 0-99/1e3",
        "bytes 0-99/\xb2",
        "bytes 0-99/" + "9" * 5000,
    ],
    ids=lambda said: repr(said)[:24],
)
def test_a_part_of_nobody_knows_how_much_is_refused(answering, said):
    assert "part" in str(
        refusal(answering("/part", 206, {"Content-Range": said} if said is not None else {}, DATA[:100]))
    )


@pytest.mark.parametrize(
    "said",
    ["bytes 500-599/10240", "bytes 1-100/10240", "bytes */10240", "/10240"],
)
def test_another_part_than_asked_for_is_not_taken_for_it(answering, said):
    url = answering("/part", 206, {"Content-Range": said}, DATA[:100])
    try:
        came = part(url)
    except ClaidPictureError:
        return
    assert said.startswith(f"bytes {came.start}-")
    assert came.start != 0


@pytest.mark.parametrize("read", [part, whole])
def test_a_redirect_is_followed_and_the_range_goes_along(answering, read):
    target = answering("/b", 206 if read is part else 200, {"Content-Range": "bytes 0-99/10240"}, DATA[:100])
    came = read(answering("/a", 302, {"Location": "/b"}))
    assert came == (Part(DATA[:100], 0, 10240) if read is part else DATA[:100])
    assert target.endswith("/b")
    if read is part:
        assert all("range: bytes=0-99" in map(str.lower, asked) for asked in answering.asked)


@pytest.mark.parametrize("read", [part, whole])
@pytest.mark.parametrize(
    "location",
    [
        "http://example.com/1.png",
        "http://127.0.0.1.example.com/1.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://0.0.0.0/1.png",
        "http://user@127.0.0.1/1.png",
        "https://user:word@example.com/1.png",
        "ftp://example.com/1.png",
        "file:///etc/passwd",
        "//example.com/1.png",
    ],
)
def test_a_redirect_to_where_nothing_is_fetched_is_refused(answering, location, read):
    error = refusal(answering("/a", 302, {"Location": location}), read)
    assert "was not opened" in str(error) or "broke" in str(error)
    assert "word" not in str(error)
    assert len(answering.asked) == 1


@pytest.mark.parametrize(
    "location", ["http://[::1", "https://[bad/x", "http://127.0.0.1:99999/", "https://a b/", "http://", ""]
)
def test_a_redirect_to_no_address_at_all_is_refused(answering, location):
    refusal(answering("/a", 302, {"Location": location}))


def test_a_redirect_to_nowhere_is_an_answer_like_any_other(answering):
    assert refusal(answering("/a", 302)).status == 302


def test_as_many_redirects_as_are_allowed_are_followed_and_one_more_is_not(answering):
    for number in range(MAX_REDIRECTS + 1):
        url = answering(f"/{number}", 302, {"Location": f"/{number - 1}"})
    answering("/0", 206, {"Content-Range": "bytes 0-99/10240"}, DATA[:100])
    assert part(url).size == 10240
    url = answering(f"/{MAX_REDIRECTS + 1}", 302, {"Location": f"/{MAX_REDIRECTS}"})
    assert f"more than {MAX_REDIRECTS}" in str(refusal(url))


def test_a_redirect_in_a_circle_comes_to_an_end(answering):
    refusal(answering("/a", 302, {"Location": "/a"}))
    assert len(answering.asked) <= MAX_REDIRECTS + 1


@pytest.mark.parametrize("read", [part, whole])
@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://example.com/1.png", True),
        ("http://127.0.0.1:9/1.png", False),
        ("http://localhost:9/1.png", False),
        ("http://127.0.0.1.nip.io/1.png", True),
        ("http://127.0.0.1@example.com/1.png", True),
        ("ftp://example.com/1.png", True),
        ("//example.com/1.png", True),
        ("example.com/1.png", True),
        ("", True),
        ("https://user:word@127.0.0.1/1.png", True),
    ],
)
def test_what_is_not_https_is_not_opened(url, loopback, read):
    error = refusal(url, read, loopback=loopback)
    assert "was not opened" in str(error)
    assert "word" not in str(error)


@pytest.mark.parametrize(
    "url", ["https://[::1", "https://[x]/1.png", "https://127.0.0.1:99999/1.png", "https:///1.png", "https://\0/"]
)
def test_what_is_no_address_is_a_clear_error(url):
    refusal(url)


@given(st.sampled_from(["", "http://", "https://[", "https://127.0.0.1:x"]), st.text(max_size=12))
def test_no_text_can_break_it(beginning, text):
    refusal(beginning + text, loopback=False)


def test_a_server_that_is_not_there_is_told(answering):
    with socketserver.TCPServer(("127.0.0.1", 0), None) as free:
        port = free.server_address[1]
    assert "broke" in str(refusal(f"http://127.0.0.1:{port}/1.png"))


@pytest.mark.parametrize(
    "raw", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", b"\x16\x03\x01\x02\x00"]
)
def test_an_answer_that_is_none_is_told(answering, raw):
    url = answering("/raw", 200)
    answering.answers["/raw"] = [raw]
    assert "broke" in str(refusal(url))


@pytest.mark.parametrize("read", [part, whole])
@pytest.mark.parametrize(
    ("pack", "coding"),
    [
        (gzip.compress, "gzip"),
        (zlib.compress, "deflate"),
        (lambda raw: zlib.compress(raw)[2:-4], "deflate"),
        (lambda raw: gzip.compress(zlib.compress(raw)), "deflate, gzip"),
        (lambda raw: gzip.compress(raw[:99]) + gzip.compress(raw[99:]), "gzip"),
        (lambda raw: raw, "gzip"),
        (lambda raw: raw, "identity"),
    ],
)
def test_a_picture_that_came_packed_unasked_is_unpacked(answering, read, pack, coding):
    url = answering("/packed", 200, {"Content-Encoding": coding}, pack(DATA))
    assert read(url) == (Part(DATA, 0, len(DATA)) if read is part else DATA)


@pytest.mark.parametrize("read", [part, whole])
@pytest.mark.parametrize(
    ("body", "coding", "reason"),
    [
        (b"\x28\xb5\x2f\xfd", "zstd", "'zstd', which was not asked for"),
        (DATA, "br", "'br', which was not asked for"),
        (gzip.compress(DATA)[:-20], "gzip", "cut"),
        (b"\x1f\x8b" + DATA, "gzip", "broken"),
        (DATA, "deflate", "broken"),
        (gzip.compress(bytes(50_000_000)), "gzip", "more than 1000000 bytes"),
        (DATA, "gzip, gzip, gzip, gzip", "4 content codings"),
    ],
)
def test_a_packed_picture_that_cannot_be_unpacked_says_why(answering, read, body, coding, reason):
    assert reason in str(refusal(answering("/packed", 200, {"Content-Encoding": coding}, body), read))


def test_a_part_of_a_packed_picture_is_refused(answering):
    headers = {"Content-Range": "bytes 0-99/10240", "Content-Encoding": "gzip"}
    assert "part of a packed picture" in str(refusal(answering("/part", 206, headers, DATA[:100])))


def test_what_a_server_says_is_in_no_message_raw(answering):
    url = answering("/redirect", 302, {"Location": "https://a\x85b\x9b.example/"})
    shown = str(refusal(url))
    assert "\x85" not in shown and "\x9b" not in shown
