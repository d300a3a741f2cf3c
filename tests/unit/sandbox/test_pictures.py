"""Temporary addresses, and the pictures behind them."""

from __future__ import annotations

from io import BytesIO
from xml.etree import ElementTree

import httpx
import pytest
from PIL import Image

from airflow_provider_claid.sandbox.drawing import Sketch, draw
from airflow_provider_claid.sandbox.lettering import fit, font_of, wrap
from airflow_provider_claid.sandbox.pictures import PictureStore, byte_range, sketches


@pytest.fixture
def address(post):
    """Ask for one picture and return its temporary address."""

    def ask(prompt="a red bicycle"):
        return post(prompt).json()["data"]["output"][0]["tmp_url"]

    return ask


def opened(answer):
    assert answer.status_code == 200
    return Image.open(BytesIO(answer.content))


def test_serves_a_picture_without_a_key(server, address):
    url = address()
    answer = httpx.get(url)
    picture = opened(answer)
    picture.load()
    assert (picture.format, picture.size) == ("PNG", (1024, 1024))
    assert answer.headers["content-type"] == "image/png"
    assert int(answer.headers["content-length"]) == len(answer.content) >= 60_000
    assert httpx.get(url).content == answer.content
    report = server.report()
    assert report["downloads"] == {httpx.URL(url).path: 2}
    assert (report["totals"]["downloads"], report["totals"]["authorized_downloads"]) == (2, 0)


def test_reports_a_key_that_was_sent_along(server, address, client, last):
    client.get(address())
    assert server.report()["totals"]["authorized_downloads"] == 1
    assert last("/tmp/")["authorization"] is True


def test_every_picture_is_different(post):
    answers = [post("a red bicycle", 2).json()["data"]["output"] for _ in range(2)]
    files = {httpx.get(one["tmp_url"]).content for output in answers for one in output}
    assert len(files) == 4


def test_head_and_ranges(address):
    url = address()
    whole = httpx.get(url).content
    head = httpx.head(url)
    assert (head.status_code, int(head.headers["content-length"]), head.content) == (200, len(whole), b"")
    part = httpx.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole)}"
    assert httpx.get(url, headers={"Range": "bytes=-5"}).content == whole[-5:]
    beyond = httpx.get(url, headers={"Range": f"bytes={len(whole)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole)}")


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=5-", (5, 10)),
        ("bytes=5-99", (5, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=0-1,4-5", None),
        ("bytes=-", None),
        ("lines=1-2", None),
    ],
)
def test_byte_ranges(header, part):
    assert byte_range(header, 10) == part


def test_addresses_expire(server, address):
    url = address()
    server.change(picture_hours=1e-9)
    gone = httpx.get(url)
    assert gone.status_code == 404
    assert gone.headers["content-type"] == "application/xml"
    assert ElementTree.fromstring(gone.content).findtext("Code") == "NoSuchKey"
    server.change(expired_status=403)
    assert ElementTree.fromstring(httpx.get(url).content).findtext("Code") == "AccessDenied"
    server.change(picture_hours=1)
    assert httpx.get(url).status_code == 200


def test_unknown_addresses_look_expired(server):
    assert httpx.get(f"{server.url}/tmp/a/b.png").status_code == 404


@pytest.mark.parametrize("prompt", ["something nsfw", "NSFW!", "an nsfw, thing"])
def test_the_content_filter_gives_a_black_picture(server, address, prompt, last):
    picture = opened(httpx.get(address(prompt)))
    assert (picture.size, picture.mode) == ((1024, 1024), "RGB")
    assert picture.getextrema() == ((0, 0),) * 3
    assert last()["credits"] == 1


def test_the_content_filter_knows_words_only(address):
    assert opened(httpx.get(address("the nsfwx logo"))).getextrema() != ((0, 0),) * 3


@pytest.mark.parametrize(
    "prompt",
    [
        "红色的自行车 🚲",
        "مرحبا بالعالم",
        "e\u0301\u200d\u202e",
        "\x00\x01 tabs\t\nand lines",
        "x" * 1024,
        "word " * 204,
        "   ",
    ],
)
def test_draws_any_text(prompt):
    picture = Image.open(BytesIO(draw(Sketch(prompt, 1, 4, "some-id", 3))))
    assert picture.size == (1024, 1024)
    assert picture.getextrema() != ((0, 0),) * 3


def test_draws_the_same_from_the_same_seed():
    sketch = Sketch("a red bicycle", 1, 1, "some-id", 7)
    assert draw(sketch) == draw(sketch)
    assert draw(sketch) != draw(Sketch("a red bicycle", 1, 1, "some-id", 8))


def test_a_plain_picture_has_one_colour_behind_its_prompt():
    picture = Image.open(BytesIO(draw(Sketch("a red bicycle", 1, 1, "some-id", 7, plain=True))))
    colour = picture.getpixel((0, 0))
    assert colour != (0, 0, 0)
    assert picture.crop((0, 128, 1024, 512)).getcolors() == [(1024 * 384, colour)]
    assert picture.crop((0, 512, 1024, 1024)).getcolors() != [(1024 * 512, colour)]


def test_wrapping_loses_no_letter():
    text = "a prompt with averyveryverylongwordthatfitsnowhere and more"
    lines = wrap(text, 40, 300)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(font_of(40).getlength(line) <= 310 for line in lines)


def test_text_that_fits_nowhere_is_cut():
    lines, _, _ = fit("many words " * 90, 200, 100)
    assert lines[-1] == "…"


def test_the_store_keeps_few_files_and_bounded_descriptions(monkeypatch):
    from airflow_provider_claid.sandbox import pictures

    monkeypatch.setattr(pictures, "_MOST_PICTURES", 3)
    monkeypatch.setattr(pictures, "_MOST_DRAWN", 2)
    store = PictureStore()
    made = [store.add(Sketch("nsfw", 1, 1, "id", number, filtered=True)) for number in range(5)]
    found = [path for path in made if store.find(path, 60)]
    assert found == made[2:]
    for path in found:
        store.file(path, store.find(path, 60))
    assert len(store._drawn) == 2


def test_sketches_count_from_one():
    import random

    made = sketches("a cat", 3, "id", luck=random.Random(1), filtered_words=frozenset())
    assert [(one.number, one.count) for one in made] == [(1, 3), (2, 3), (3, 3)]
    assert len({one.seed for one in made}) == 3
