"""Where a picture ends: behind it anything may follow, and a cut anywhere before it is found."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from airflow_provider_claid.delivery.images import BadPictureError, accept, check, decode, sniff
from airflow_provider_claid.delivery.structure import UnknownEndError, end_of, end_within


def drawn(format, size=(40, 30), mode="RGB", **options):
    out = io.BytesIO()
    Image.effect_noise(size, 80).convert(mode).save(out, format, **options)
    return out.getvalue()


def animated(format):
    frames = [Image.effect_noise((40, 30), 80).convert("RGB") for _ in range(3)]
    out = io.BytesIO()
    frames[0].save(out, format, save_all=True, append_images=frames[1:])
    return out.getvalue()


TIFF = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"
THUMBNAIL = b"Exif\0\0" + drawn("JPEG", (16, 16)) * 2

PICTURES = {
    "png": drawn("PNG"),
    "png with text": drawn("PNG", icc_profile=b"x" * 600, exif=THUMBNAIL),
    "png grey": drawn("PNG", mode="LA"),
    "apng": animated("PNG"),
    "jpeg": drawn("JPEG"),
    "jpeg progressive": drawn("JPEG", progressive=True, quality=95),
    "jpeg with a thumbnail": drawn("JPEG", exif=THUMBNAIL, icc_profile=b"\xff\xd9" * 40),
    "jpeg with restarts": drawn("JPEG", restart_marker_blocks=1),
    "jpeg grey": drawn("JPEG", mode="L"),
    "webp": drawn("WEBP"),
    "webp lossless": drawn("WEBP", lossless=True),
    "webp with exif": drawn("WEBP", exif=THUMBNAIL),
    "webp with alpha": drawn("WEBP", mode="RGBA"),
    "webp animated": animated("WEBP"),
    "avif": drawn("AVIF"),
    "avif with exif": drawn("AVIF", exif=TIFF + THUMBNAIL[6:]),
    "avif with alpha": drawn("AVIF", mode="RGBA"),
    "avif animated": animated("AVIF"),
}
pictures = st.sampled_from(sorted(PICTURES))
padding = (
    st.binary(max_size=60)
    | st.integers(1, 3000).map(bytes)
    | st.integers(1, 3000).map(lambda count: b"\xff" * count)
    | st.sampled_from([b"\n", b"\r\n", b"\xff\xd9", b"\xff\xd9" * 9, b"\0\0\0\x08free", b"\0\0\1\0free", b"JUNK"])
    | pictures.map(PICTURES.get)
)


@given(pictures, padding)
def test_any_picture_with_any_padding_is_whole(name, more):
    data = PICTURES[name]
    assert check(data + more) == check(data) == accept(data + more)
    assert end_of(sniff(data).format, data + more) <= len(data + more)


@pytest.mark.parametrize("name", PICTURES)
def test_its_end_is_where_the_file_ends(name):
    data = PICTURES[name]
    assert end_of(sniff(data).format, data) == len(data)


@pytest.mark.parametrize("name", PICTURES)
def test_any_picture_that_is_cut_anywhere_is_not(name):
    data = PICTURES[name]
    for end in range(len(data)):
        with pytest.raises(BadPictureError):
            check(data[:end])


@given(pictures, st.integers(0, 20_000), st.integers(1, 3000))
def test_nor_is_one_of_which_the_rest_is_zeros_where_the_format_tells(name, at, zeros):
    data = PICTURES[name]
    if name.startswith(("png", "apng", "jpeg")):
        # A byte less may be a zero itself.
        with pytest.raises(BadPictureError):
            check(data[: at % (len(data) - 1)] + bytes(zeros) if at % 2 else data[: len(data) // 2] + bytes(zeros))


@given(pictures, st.integers(0, 20_000), st.integers(0, 300))
def test_from_head_and_tail_no_cut_picture_is_whole(name, at, tail):
    data = PICTURES[name]
    data = data[: at % len(data)]
    tail = min(tail, max(0, len(data) - 700))
    with pytest.raises(BadPictureError):
        end_within(sniff(data).format, data[: len(data) - tail], data[len(data) - tail :], len(data))


@pytest.mark.parametrize("name", PICTURES)
def test_from_head_and_tail_it_is_told_or_said_to_be_unknown(name):
    data = PICTURES[name]
    kind = sniff(data).format
    for head in range(min(700, len(data)), len(data), 7):
        try:
            assert end_within(kind, data[:head], data[head:], len(data)) == len(data)
        except UnknownEndError:
            assert kind in {"AVIF", "JPEG", "PNG"}


@pytest.mark.parametrize("times", [1, 2, 60])
def test_fill_bytes_before_markers_are_skipped(times):
    data = PICTURES["jpeg"]
    filled = data.replace(b"\xff\xdb", b"\xff" * times + b"\xff\xdb").replace(
        b"\xff\xc0", b"\xff" * times + b"\xff\xc0"
    )
    filled = filled[:-2] + b"\xff" * times + filled[-2:]
    decode(filled)
    assert check(filled, width=40, height=30).format == "JPEG"
    for end in range(len(filled) - times - 20, len(filled)):
        with pytest.raises(BadPictureError):
            check(filled[:end])


def chunk(kind, body, broken=False):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ broken)


@pytest.mark.parametrize("at", [33, -12], ids=["before the pixels", "behind them"])
def test_a_wrong_checksum_of_what_no_pixel_needs_does_not_matter(at, monkeypatch):
    data = PICTURES["png"]
    data = data[:at] + chunk(b"tEXt", b"Comment\0hello", broken=True) + data[at:]
    assert check(data).width == 40
    decode(data)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    assert check(data).width == 40


@pytest.mark.parametrize("where", [b"IDAT", b"IEND"])
def test_where_only_a_checksum_is_wrong_the_decoder_decides(where, monkeypatch):
    data = bytearray(PICTURES["png"])
    length = int.from_bytes(data[data.index(where) - 4 : data.index(where)], "big")
    data[data.index(where) + 4 + length] ^= 1
    assert check(bytes(data)).width == 40
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(BadPictureError, match="damaged"):
        check(bytes(data))


def test_what_is_paid_for_passes_if_it_decodes_though_its_end_is_missing(monkeypatch):
    data = PICTURES["png"][:-12]
    with pytest.raises(BadPictureError, match="end is missing"):
        check(data)
    assert accept(data, width=40, height=30) == sniff(data)
    with pytest.raises(BadPictureError, match="instead of"):
        accept(data, width=41)
    with pytest.raises(BadPictureError, match="end is missing"):
        accept(data[:-200])
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(BadPictureError, match="end is missing"):
        accept(data)


def box(kind, body):
    return struct.pack(">I", 8 + len(body)) + kind + body


def test_an_avif_whose_last_box_goes_to_the_end_of_the_file_is_cut_where_its_pixels_are():
    data = PICTURES["avif"]
    at = data.index(b"mdat") - 4
    open_ended = data[:at] + bytes(4) + data[at + 4 :]
    decode(open_ended)
    assert check(open_ended).format == "AVIF"
    for end in range(at, len(data)):
        with pytest.raises(BadPictureError):
            check(open_ended[:end])


@pytest.mark.parametrize("extra", [box(b"free", b"x" * 90), box(b"uuid", bytes(16))])
def test_boxes_that_no_pixel_needs_may_be_cut(extra):
    for end in range(len(extra)):
        assert check(PICTURES["avif"] + extra[:end]).format == "AVIF"


def test_a_phones_picture_with_another_one_in_it_is_whole():
    first, second = Image.effect_noise((40, 30), 80), Image.effect_noise((16, 16), 80)
    out = io.BytesIO()
    first.convert("RGB").save(out, "MPO", save_all=True, append_images=[second.convert("RGB")])
    assert check(out.getvalue(), width=40, height=30) == decode(out.getvalue())
    assert accept(out.getvalue()[:-9]).format == "JPEG"


@given(pictures, st.integers(0, 20_000), st.binary(min_size=1, max_size=12))
def test_no_bytes_can_break_it(name, at, noise):
    data = bytearray(PICTURES[name])
    data[at % len(data) : at % len(data) + len(noise)] = noise
    for whole in (True, False):
        try:
            kind = sniff(bytes(data)).format
            end = (
                end_of(kind, bytes(data))
                if whole
                else end_within(kind, bytes(data[:700]), bytes(data[700:]), len(data))
            )
            assert 0 < end <= len(data)
        except BadPictureError as error:
            assert str(error)
