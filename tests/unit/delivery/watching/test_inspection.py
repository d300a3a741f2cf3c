"""Inspection of one object by reads: a whole picture is always delivered, half a one never, with two reads at most."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from airflow_provider_claid.delivery.images import HEAD_BYTES, TAIL_BYTES
from airflow_provider_claid.delivery.watching.expected import Promise
from airflow_provider_claid.delivery.watching.inspection import Inspection, check_size, inspect

FORMATS = ["PNG", "JPEG", "WEBP", "AVIF"]
VERIFY = ["header", "full"]
HTML = b"<!DOCTYPE html><html><head><title>502</title></head><body>Bad Gateway</body></html>\n"
WHOLE = Inspection()


@cache
def drawn(format, size=(300, 200), **options):
    out = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(out, format, **options)
    return out.getvalue()


@cache
def plain(format, colour="black", size=(1024, 1024), **options):
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, format, **options)
    return out.getvalue()


class Stored:
    """An object that notes what is read of it."""

    def __init__(self, data):
        self.data = data
        self.reads = []

    def __call__(self, start, end):
        assert 0 <= start <= end
        self.reads.append((start, end))
        return self.data[start:end]

    @property
    def bytes_read(self):
        return sum(end - start for start, end in self.reads)


def look(data, verify="header", size=None, **promised):
    return inspect(Promise("s3://bucket/a.png", **promised), len(data) if size is None else size, Stored(data), verify)


def padded(format, data, size):
    """Return the same picture as a valid file of that size, by what its format allows to be added."""
    missing = size - len(data)
    if format == "PNG":
        body = b"tEXt" + b"k\0" + b"x" * (missing - 14)
        return data[:33] + struct.pack(">I", missing - 12) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]
    if format == "JPEG":
        return data[:2] + b"\xff\xfe" + struct.pack(">H", missing - 2) + b"x" * (missing - 4) + data[2:]
    if format == "WEBP":
        longer = data + b"JUNK" + struct.pack("<I", missing - 8) + b"x" * (missing - 8)
        return b"RIFF" + struct.pack("<I", len(longer) - 8) + longer[8:]
    start = data.rindex(b"mdat") - 4
    length = int.from_bytes(data[start : start + 4], "big") + missing
    return data[:start] + struct.pack(">I", length) + data[start + 4 :] + b"x" * missing


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [(40, 40), (300, 200), (3, 3)])
def test_a_whole_picture_is_delivered(format, verify, size):
    data = drawn(format, size)
    digest = hashlib.sha256(data).hexdigest()
    mime = f"image/{format.lower()}"
    assert look(data, verify, width=size[0], height=size[1], mime=mime, bytes=len(data), sha256=digest) == WHOLE


CUTS = [0, 1, 2, 3, 4, 8, 11, 12, 16, 20, 23, 24, 25, 29, 30, 33, 100, 1000, *range(4079, 4116)]


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [(40, 40), (300, 200)])
def test_a_cut_picture_is_never_delivered(format, verify, size):
    data = drawn(format, size)
    whole = len(data)
    cuts = {*CUTS, whole // 4, whole // 2, whole * 9 // 10, *range(whole - 2 * TAIL_BYTES, whole)}
    for cut in sorted(cut for cut in cuts if cut < whole):
        assert look(data[:cut], verify).fault, cut


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_that_became_shorter_since_it_was_listed_is_not_delivered(format, verify):
    data = drawn(format)
    whole = len(data)
    for cut in (0, 10, 100, 4000, 4096, 4097, whole // 2, whole - 20, whole - 16, whole - 15, whole - 1):
        assert look(data[:cut], verify, size=whole).fault, cut


SHORT = [b"\0", b"\n", b"\xd9", b"\xff", b"\x82", b"\0\0\0", HTML]
PADDING = [*SHORT, bytes(9000), b"\xff" * 5000, drawn("PNG"), drawn("JPEG")]


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [(40, 40), (300, 200)])
def test_whatever_follows_the_end_of_a_picture_is_padding(format, verify, size):
    for more in PADDING:
        stored = Stored(drawn(format, size) + more)
        assert inspect(Promise("x"), len(stored.data), stored, verify) == WHOLE, more[:20]
        assert stored.bytes_read <= len(stored.data)
        assert len(stored.reads) <= (2 if len(more) < TAIL_BYTES // 2 else 3)


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("filler", [b"\0", b"\n", b"\xff", b"x"])
def test_a_cut_picture_that_is_filled_up_to_its_size_is_not_delivered(format, verify, filler):
    """WebP and AVIF say in front how long they are: of those a checksum alone finds it."""
    data = drawn(format)
    for cut in (5000, len(data) // 2, len(data) - 2000, len(data) - 13):
        assert look(data[:cut] + filler * (len(data) - cut), verify).fault, cut


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("format", FORMATS)
def test_a_black_picture_behind_which_much_is_padded_is_found(format, verify):
    for more in (b"\0" * 100, bytes(300_000)):
        assert look(plain(format) + more, verify) == Inspection(black=True)


@pytest.mark.parametrize("length", [900, 2500, 3900, 4050])
@pytest.mark.parametrize("verify", VERIFY)
def test_the_end_of_a_thumbnail_is_not_that_of_the_picture(length, verify):
    data = drawn("JPEG", exif=b"Exif\0\0" + b"\xff\xd9" * (length // 2))
    stored = Stored(data)
    assert inspect(Promise("x"), len(data), stored, verify) == WHOLE
    assert len(stored.reads) <= 2
    for cut in (length, 4200, 5000, 5100, 5200, len(data) - 1):
        assert look(data[:cut], verify).fault, cut


def test_what_the_operator_delivered_passes_by_its_checksum_whatever_its_end_looks_like():
    data = drawn("PNG")[:-12]
    digest = hashlib.sha256(data).hexdigest()
    for verify in VERIFY:
        assert look(data, verify).fault
        assert look(data, verify, sha256=digest) == WHOLE


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("format", FORMATS)
def test_two_parts_of_a_picture_in_the_wrong_order_are_not_delivered(format, verify):
    data = drawn(format)
    half = len(data) // 2
    assert look(data[half:] + data[:half], verify).fault


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("size", [1, 80, 4095, 4096, 4097, 4112, 5000, 100_000, len(drawn("PNG"))])
def test_a_web_page_is_never_a_picture(verify, size):
    page = (HTML * (size // len(HTML) + 1))[:size]
    assert "no PNG, JPEG, WebP or AVIF" in look(page, verify).fault


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("format", FORMATS)
def test_a_web_page_behind_the_beginning_of_a_picture_is_not_delivered(format, verify):
    data = drawn(format)
    digest = hashlib.sha256(data).hexdigest()
    for kept in (8, 12, 33, 100, 4096, 4100):
        page = (HTML * 4000)[: len(data) - kept]
        assert look(data[:kept] + page[:3000], verify).fault, kept
        assert look(data[:kept] + page, "full", sha256=digest).fault, kept
        assert format not in {"PNG", "JPEG"} or look(data[:kept] + page, verify).fault, kept


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("data", [b"GIF89a" + bytes(9000), b"\0" * 9000, b"%PDF-1.7\n" * 900, b"BM" + bytes(5000)])
def test_other_files_are_not_delivered(data, verify):
    assert look(data, verify).fault


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [(40, 40), (300, 200)])
def test_a_promise_that_is_not_kept_is_told(format, verify, size):
    data, (width, height) = drawn(format, size), size
    other = "image/png" if format != "PNG" else "image/jpeg"
    lies = [{"width": width + 1}, {"width": height, "height": width + 1}, {"height": 1}, {"mime": other}]
    for lie in lies:
        assert "instead of" in look(data, verify, **lie).fault, lie


@pytest.mark.parametrize("format", FORMATS)
def test_another_checksum_is_found_by_reading_all(format):
    other = hashlib.sha256(b"").hexdigest()
    assert "SHA-256" in look(drawn(format), "full", sha256=other).fault


@pytest.mark.parametrize(
    ("size", "least", "promised", "fault"),
    [(0, 1, None, "less than 1"), (9, 10, None, "less"), (9, 1, 8, "of 8"), (7, 1, 8, "7 of 8")],
)
def test_a_size_that_is_wrong_is_seen_in_the_list(size, least, promised, fault):
    assert fault in check_size(Promise("s3://b/a.png", bytes=promised), size, least)


@pytest.mark.parametrize(("size", "least", "promised"), [(1, 1, None), (10, 10, None), (8, 1, 8)])
def test_a_size_that_is_right_is_none(size, least, promised):
    assert check_size(Promise("s3://b/a.png", bytes=promised), size, least) is None


@pytest.mark.parametrize("format", FORMATS)
def test_of_a_large_picture_only_the_beginning_and_the_end_are_read(format):
    stored = Stored(drawn(format))
    assert inspect(Promise("x"), len(stored.data), stored, "header") == WHOLE
    assert stored.reads == [(0, HEAD_BYTES), (len(stored.data) - TAIL_BYTES, len(stored.data))]


@pytest.mark.parametrize("format", FORMATS)
def test_a_small_picture_takes_one_read(format):
    data = drawn(format, (20, 20))
    assert len(data) < HEAD_BYTES
    for verify in VERIFY:
        stored = Stored(data)
        assert inspect(Promise("x"), len(data), stored, verify) == WHOLE
        assert stored.reads == [(0, len(data))]


@pytest.mark.parametrize("format", FORMATS)
def test_to_see_every_pixel_takes_one_read(format):
    stored = Stored(drawn(format))
    assert inspect(Promise("x"), len(stored.data), stored, "full") == WHOLE
    assert len(stored.reads) == 1


@pytest.mark.parametrize("filtered", [None, False, True])
def test_to_see_that_it_exists_takes_no_read(filtered):
    stored = Stored(HTML)
    assert inspect(Promise("x", filtered=filtered), 9, stored, "exists") == Inspection(black=bool(filtered))
    assert stored.reads == []


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("verify", VERIFY)
def test_at_every_size_around_the_first_read_a_whole_picture_is_told_from_a_cut_one(format, verify):
    small = drawn(format, (20, 20))
    for size in range(HEAD_BYTES - 18, HEAD_BYTES + TAIL_BYTES + 4, 2 if format == "WEBP" else 1):
        data = padded(format, small, size)
        stored = Stored(data)
        assert inspect(Promise("x", width=20, height=20), size, stored, verify) == WHOLE, size
        assert len(stored.reads) <= 2
        assert stored.bytes_read == size if size <= HEAD_BYTES else stored.bytes_read <= size
        assert look(data[:-1], verify).fault, size
        assert look(data[:-9], verify).fault, size


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize(
    "preface", [{"exif": b"Exif\0\0" + b"\xff\xc0\xff\xd9" * 15_000}, {"icc_profile": b"\xff\xd9" * 45_000}]
)
def test_a_jpeg_with_much_before_its_size_is_read_and_checked(preface, verify):
    data = drawn("JPEG", (600, 400), **preface)
    stored = Stored(data)
    assert inspect(Promise("x", width=600, height=400, mime="image/jpeg"), len(data), stored, verify) == WHOLE
    assert len(stored.reads) <= 2
    assert stored.bytes_read == len(data)
    assert "instead of" in look(data, verify, width=601, height=400).fault
    for cut in (30_000, 60_000, 60_200, len(data) - 1):
        assert look(data[:cut], verify).fault, cut


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("format", ["PNG", "WEBP", "AVIF"])
def test_other_pictures_with_much_beside_their_pixels_are_delivered(format, verify):
    data = drawn(format, (600, 400), icc_profile=b"x" * 60_000)
    assert look(data, verify, width=600, height=400) == WHOLE
    assert look(data[:-1], verify).fault


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("box", [b"\0\0\0\x08free", b"\0\0\0\x18free" + bytes(16)], ids=["8 bytes", "24 bytes"])
@pytest.mark.parametrize("size", [(40, 40), (300, 200)])
def test_an_avif_with_a_box_behind_its_pixels_is_whole(box, verify, size):
    data = drawn("AVIF", size) + box
    Image.open(io.BytesIO(data)).load()
    assert look(data, verify) == WHOLE


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("format", FORMATS)
def test_the_filters_black_picture_is_found(format, verify):
    stored = Stored(plain(format))
    promise = Promise("x", width=1024, height=1024)
    assert inspect(promise, len(stored.data), stored, verify) == Inspection(black=True)
    assert len(stored.reads) <= 2


@pytest.mark.parametrize("format", FORMATS)
def test_a_black_picture_that_is_cut_is_not_delivered(format):
    for data in (plain(format)[:-1], plain(format)[: len(plain(format)) // 2]):
        assert look(data).fault
        assert not look(data).black


@pytest.mark.parametrize(
    "options", [{"compress_level": 0}, {"icc_profile": bytes(range(256)) * 400}], ids=["unpacked", "profile"]
)
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_black_picture_in_a_large_file_is_found_where_every_pixel_is_looked_at(format, options):
    assert look(plain(format, **options), "full", width=1024) == Inspection(black=True)


@pytest.mark.parametrize("verify", VERIFY)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("colour", ["white", (0, 0, 40), (30, 30, 30)])
def test_other_plain_pictures_are_not_black(format, verify, colour):
    assert look(plain(format, colour), verify) == WHOLE


def test_a_drawn_picture_that_was_said_to_be_filtered_stays_so():
    for verify in VERIFY:
        assert look(drawn("PNG"), verify, filtered=True) == Inspection(black=True)


def test_what_reading_raises_comes_out_unchanged():
    def vanished(start, end):
        raise FileNotFoundError("x")

    for verify in VERIFY:
        with pytest.raises(FileNotFoundError):
            inspect(Promise("x"), 5000, vanished, verify)


def test_a_file_too_large_to_be_read_whole_is_told_and_not_read():
    reads = []

    def huge(start, end):
        reads.append(end - start)
        return (b"\xff\xd8\xff\xe1\xff\xff" + bytes(HEAD_BYTES))[: end - start]

    for verify in VERIFY:
        assert "at most" in inspect(Promise("x"), 2**40, huge, verify).fault
    assert sum(reads) <= HEAD_BYTES


SMALL = {format: drawn(format, (20, 20)) for format in FORMATS}


@given(
    st.sampled_from(FORMATS),
    st.sampled_from(VERIFY),
    st.integers(0, 5000),
    st.binary(max_size=12),
    st.integers(0, 9000),
)
def test_no_bytes_and_no_size_can_break_it(format, verify, at, noise, size):
    data = bytearray(SMALL[format])
    data[at % len(data) : at % len(data) + len(noise)] = noise
    assert isinstance(look(bytes(data), verify, size=size), Inspection)


@given(st.binary(max_size=300), st.sampled_from(VERIFY))
def test_no_noise_is_delivered(data, verify):
    assert look(data, verify).fault
