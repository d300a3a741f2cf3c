"""
Where a picture ends, by its own structure: what follows is padding, be it zeros, a phone's trailer or a web page.

PNG, JPEG, WebP and AVIF. Pure functions on bytes, no pixel is decoded.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator

PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_PNG_BEGINS = 8
_NEEDED = frozenset((b"ftyp", b"meta", b"moov", b"mdat"))
"""Boxes of an AVIF that have to be there as long as they say; of others, and of junk, any part may be missing."""

_PIXELS = frozenset((b"VP8 ", b"VP8L", b"ANMF"))
JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _JPEG_END, _ALONE = 0xDA, 0xD9, frozenset((0x01, 0xD8))
# Any number of 0xFF may stand before a marker; 0xFF00 and restarts are inside of the pixels' data.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")


class BadPictureError(ValueError):
    """The bytes are not a whole picture; the message says in what way."""


class DamagedPictureError(BadPictureError):
    """A checksum is not that of its bytes: only a decoder can tell whether the pixels are."""


class UnknownEndError(BadPictureError):
    """The end is not in what was read; whether the picture is whole takes all of it."""


def cut(size: int, kind: str) -> BadPictureError:
    """Return the error for a picture that ends before its structure does."""
    return BadPictureError(f"its end is missing ({size} bytes of {kind})")


def end_of(kind: str, data: bytes) -> int:
    """
    Return how many bytes of a whole file are the picture (of kind PNG, JPEG, WEBP or AVIF); the rest is padding.

    Raises `BadPictureError` for one that is cut, `DamagedPictureError` if a checksum that counts is wrong.
    """
    end = _ENDS[kind](data)
    if end is None:
        raise cut(len(data), kind)
    return end


def end_within(kind: str, head: bytes, tail: bytes, size: int) -> int:
    """
    Return the same from a file's size, its first bytes and its last ones, which begin behind `head`.

    Raises `UnknownEndError` where those do not tell, `BadPictureError` where they tell that it is cut.
    """
    mark = {"PNG": PNG_END, "JPEG": b"\xff\xd9"}.get(kind)
    if mark is not None:
        at = tail.rfind(mark)
        if at < 0 or (kind == "JPEG" and not reaches_pixels(head)):
            raise UnknownEndError(f"its end is missing in its last {len(tail)} bytes, of {size} bytes of {kind}")
        return size - len(tail) + at + len(mark)
    end = _riff_end(head) if kind == "WEBP" else _avif_end(head, size)
    if end is None or end > size:
        raise cut(size, kind)
    return end


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int, bool]]:
    """Yield kind, begin and end of the body, and whether the checksum is right, of each chunk up to the last."""
    view, at = memoryview(data), _PNG_BEGINS
    while at + 12 <= len(data):
        begin, kind = at + 8, data[at + 4 : at + 8]
        end = begin + int.from_bytes(data[at : at + 4], "big")
        at = end + 4
        if at > len(data):
            return
        yield kind, begin, end, zlib.crc32(view[begin - 4 : end]) == int.from_bytes(data[end:at], "big")
        if kind == b"IEND":
            return


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield each marker of a JPEG up to its end, as far as it is there, and the offset behind the marker."""
    at = 2
    while found := _MARKER.search(data, at):
        code, at = found[1][0], found.end()
        yield code, at
        if code == _JPEG_END:
            return
        if code not in _ALONE:
            length = int.from_bytes(data[at : at + 2], "big")
            if length < 2 or at + length > len(data):
                return
            at += length


def reaches_pixels(head: bytes) -> bool:
    """Tell whether the pixels of a JPEG begin in its first bytes: a thumbnail, with an end of its own, is before."""
    return any(code == _SCAN for code, _ in jpeg_segments(head))


def without_broken_extras(data: bytes) -> bytes:
    """Return a PNG without the chunks that no pixel needs and whose checksum is wrong: decoders differ about those."""
    broken = [(begin, end) for kind, begin, end, right in png_chunks(data) if not right and not _counts(kind)]
    for begin, end in reversed(broken):
        data = data[: begin - 8] + data[end + 4 :]
    return data


def _counts(kind: bytes) -> bool:
    """Tell whether a chunk is needed for the pixels (PNG, third edition, §5.4)."""
    return kind[:1].isupper()


def _png_end(data: bytes) -> int | None:
    pixels, damaged = False, None
    for kind, _, end, right in png_chunks(data):
        pixels = pixels or kind == b"IDAT"
        damaged = damaged or (kind if _counts(kind) and not right else None)
        if kind != b"IEND":
            continue
        if not pixels:
            raise BadPictureError("a part of the PNG is missing")
        if damaged:
            raise DamagedPictureError(f"its {damaged.decode('latin-1')} part is damaged (the checksum differs)")
        return end + 4
    return None


def _jpeg_end(data: bytes) -> int | None:
    scanned = False
    for code, at in jpeg_segments(data):
        scanned = scanned or code == _SCAN
        if code == _JPEG_END and scanned:
            return at
    return None


def _webp_end(data: bytes) -> int | None:
    end, at = _riff_end(data), 12
    while at + 8 <= end <= len(data):
        behind = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] in _PIXELS and behind <= end:
            return end
        at = behind + behind % 2
    return None


def _riff_end(head: bytes) -> int:
    return 8 + int.from_bytes(head[4:8], "little")


def _avif_end(head: bytes, size: int | None = None) -> int | None:
    """
    Follow the boxes of an AVIF (ISO/IEC 14496-12 §4.2) until what the pixels need was there; None if it is cut.

    Raises `UnknownEndError` if one of them begins behind what is there of `size` bytes.
    """
    size = len(head) if size is None else size
    at = end = needs = 0
    described = False
    while at + 8 <= len(head):
        kind, behind = head[at + 4 : at + 8], _behind_box(head, at, size)
        if behind is None or (behind > size and kind not in _NEEDED):
            break
        if behind > size:
            return None
        if kind == b"meta" and behind > len(head):
            raise UnknownEndError("its description is longer than what was read of it")
        if kind == b"meta":
            needs = max(_extents(head[at:behind]), default=0)
        described = described or kind in {b"meta", b"moov"}
        end = behind if kind in _NEEDED else end
        at = behind
    if at < size and at + 8 > len(head) and len(head) < size and not (described and needs <= end):
        raise UnknownEndError("its parts go on behind what was read of it")
    return max(end, needs) if described and needs <= size else None


def _behind_box(head: bytes, at: int, size: int) -> int | None:
    """Return where the next box begins; None if there is none but junk."""
    length = int.from_bytes(head[at : at + 4], "big")
    if length == 1:
        length = int.from_bytes(head[at + 8 : at + 16], "big")
    elif length == 0:
        return size if head[at + 4 : at + 8] in _NEEDED else None
    return at + length if length >= 8 else None


def _extents(meta: bytes) -> Iterator[int]:
    """Yield up to where in the file each part of the pictures goes, by the `iloc` box (ISO/IEC 14496-12 §8.11.3)."""
    at = meta.find(b"iloc") + 4
    version, sizes = meta[at], int.from_bytes(meta[at + 4 : at + 6], "big")
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide, modern = (4 if version == 2 else 2), version in {1, 2}
    at += 6

    def number(count: int) -> int:
        nonlocal at
        at += count
        return int.from_bytes(meta[at - count : at], "big")

    for _ in range(number(wide) if at >= 10 else 0):
        if at > len(meta):
            return
        number(wide)
        in_file = not modern or number(2) & 15 == 0
        number(2)
        base = number(base_size)
        for _ in range(number(2)):
            if modern:
                number(index_size)
            end = base + number(offset_size) + number(length_size)
            if at > len(meta):
                return
            if in_file:
                yield end


_ENDS: dict[str, Callable[[bytes], int | None]] = {
    "PNG": _png_end,
    "JPEG": _jpeg_end,
    "WEBP": _webp_end,
    "AVIF": _avif_end,
}
