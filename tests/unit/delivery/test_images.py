"""Picture checks: type and size from the head, a whole end, checksums, decodable pixels, and the black picture."""

from __future__ import annotations

import io
import struct
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from airflow_provider_claid.delivery import images
from airflow_provider_claid.delivery.images import (
    HEAD_BYTES,
    TAIL_BYTES,
    BadPictureError,
    check,
    check_end,
    decode,
    is_black,
    sniff,
)

FORMATS = ["PNG", "JPEG", "WEBP", "AVIF"]


def drawn(format="PNG", size=(300, 200), mode="RGB", **options):
    picture = Image.effect_noise(size, 80).convert(mode)
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def plain(colour, format="PNG", size=(1024, 1024), mode="RGB", **options):
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, format, **options)
    return out.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_type_and_size_come_from_the_first_bytes(format):
    header = sniff(drawn(format)[:HEAD_BYTES])
    assert (header.format, header.width, header.height) == (format, 300, 200)
    assert header.mime == f"image/{format.lower()}"


@pytest.mark.parametrize("options", [{"lossless": True}, {"exif": b"Exif\x00\x00" + b"x" * 40}])
def test_every_kind_of_webp_is_read(options):
    assert check(drawn("WEBP", **options)).width == 300


def test_a_progressive_jpeg_with_much_before_its_size_is_read():
    assert sniff(drawn("JPEG", progressive=True, exif=b"Exif\x00\x00" + b"x" * 2000)[:HEAD_BYTES]).height == 200


@pytest.mark.parametrize("format", FORMATS)
def test_a_whole_file_passes_every_check(format):
    data = drawn(format)
    check(data, width=300, height=200)
    decode(data)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_with_much_before_its_size_is_read_whole(format):
    profile = b"x" * 6000
    assert check(drawn(format, icc_profile=profile), width=300, height=200).format == format


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_cut_file_is_found_by_its_end(format, keep):
    data = drawn(format)
    with pytest.raises(BadPictureError):
        check(data[: int(len(data) * keep)])


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_without_its_last_byte_is_found_from_head_and_tail_alone(format):
    data = drawn(format)[:-1]
    with pytest.raises(BadPictureError, match="end is missing"):
        check_end(sniff(data[:HEAD_BYTES]), data[:HEAD_BYTES], data[-TAIL_BYTES:], len(data))


def test_a_flipped_byte_in_a_png_is_found():
    data = bytearray(drawn())
    data[len(data) // 2] ^= 1
    with pytest.raises(BadPictureError, match="damaged"):
        check(bytes(data))


@pytest.mark.parametrize("promised", [(512, 512), (300, 512), (None, 201)])
def test_another_size_than_promised_is_refused(promised):
    with pytest.raises(BadPictureError, match="instead of"):
        check(drawn(), width=promised[0], height=promised[1])


@pytest.mark.parametrize(
    "data", [b"", b"<html>not found</html>", b"\x89PNG", b"\xff\xd8\xff", b"RIFF0000WEBP", b"GIF89a"]
)
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(BadPictureError):
        check(data)


def bomb(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(bytes(1000))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_before_it_is_opened():
    with pytest.raises(BadPictureError, match="at most"):
        check(bomb(30_000, 30_000))
    with pytest.raises(BadPictureError):
        decode(bomb(30_000, 30_000))
    with pytest.raises(BadPictureError, match="at most"):
        decode(bomb(8_000, 8_000))


def test_pixels_that_cannot_be_decoded_are_found():
    data = bomb(1000, 1000)
    check(data)
    with pytest.raises(BadPictureError, match="decoded"):
        decode(data)


def test_other_formats_are_not_even_tried():
    out = io.BytesIO()
    Image.new("RGB", (10, 10)).save(out, "GIF")
    with pytest.raises(BadPictureError):
        decode(out.getvalue())


@pytest.fixture(params=["with Pillow", "without Pillow"])
def pillow(request, monkeypatch):
    if request.param == "without Pillow":
        monkeypatch.setitem(sys.modules, "PIL", None)


def black(data):
    return is_black(data, sniff(data[:HEAD_BYTES]))


BLACK = [plain("black"), plain(0, mode="L"), plain((0, 0, 0, 255), mode="RGBA"), plain((5, 0, 8))]
NOT_BLACK = [plain("white"), plain((0, 0, 9)), plain(200, mode="L"), plain((0, 40, 0, 255), mode="RGBA"), drawn()]


@pytest.mark.usefixtures("pillow")
@pytest.mark.parametrize("data", BLACK)
def test_the_filters_black_picture_is_found(data):
    assert black(data) is True


@pytest.mark.usefixtures("pillow")
@pytest.mark.parametrize("data", NOT_BLACK)
def test_other_plain_pictures_are_not_taken_for_it(data):
    assert black(data) is False


def test_one_bright_point_is_not_black():
    picture = Image.new("RGB", (1024, 1024))
    picture.putpixel((1000, 1000), (0, 0, 90))
    out = io.BytesIO()
    picture.save(out, "PNG")
    assert black(out.getvalue()) is False
    assert images._png_is_black(out.getvalue()) is False


def test_a_black_jpeg_needs_pillow(monkeypatch):
    data = plain("black", "JPEG")
    assert black(data) is True
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert black(data) is None


@given(st.integers(0, 3), st.sampled_from(["RGB", "L", "RGBA"]), st.integers(0, 2**32))
def test_the_own_reader_agrees_with_pillow(dark, mode, seed):
    picture = Image.effect_noise((24, 16), (seed % 7) * 2 + 0.1).point(lambda level: level * dark // 16).convert(mode)
    out = io.BytesIO()
    picture.save(out, "PNG")
    expected = all(high <= images.BLACK_LEVEL for _, high in picture.convert("RGB").getextrema())
    assert images._png_is_black(out.getvalue()) is expected


@given(st.sampled_from(FORMATS), st.integers(0, 3000), st.binary(max_size=12))
def test_no_bytes_can_break_the_checks(format, at, noise):
    data = bytearray(SMALL[format])
    at %= len(data)
    data[at : at + len(noise)] = noise
    for look in (lambda: is_black(bytes(data), check(bytes(data))), lambda: decode(bytes(data))):
        try:
            look()
        except BadPictureError as error:
            assert str(error)


SMALL = {format: plain((30, 60, 90), format, size=(40, 40)) for format in FORMATS}


@given(st.binary(max_size=200))
def test_no_noise_is_a_picture(data):
    with pytest.raises(BadPictureError):
        check(data)
