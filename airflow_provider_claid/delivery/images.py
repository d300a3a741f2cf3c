"""
Picture checks on bytes: type and size from the head, whole to the end, decodable, and not the filter's black picture.

PNG, JPEG, WebP and AVIF. Pure functions; Pillow is used where it is installed and only when pixels are asked for.
"""

from __future__ import annotations

import io
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from airflow_provider_claid.delivery.structure import (
    JPEG_SIZES,
    BadPictureError,
    DamagedPictureError,
    UnknownEndError,
    end_of,
    end_within,
    jpeg_segments,
    png_chunks,
    without_broken_extras,
)

__all__ = [
    "EXTENSIONS",
    "HEAD_BYTES",
    "MAX_BYTES",
    "MAX_PIXELS",
    "TAIL_BYTES",
    "BadPictureError",
    "Header",
    "UnknownEndError",
    "accept",
    "check",
    "check_end",
    "decode",
    "is_black",
    "is_suspicious",
    "sniff",
]

HEAD_BYTES = 4096
"""How many first bytes tell type and size."""

TAIL_BYTES = 1024
"""How many last bytes tell whether the end is there, padding behind it included; where they do not, all bytes do."""

MAX_BYTES = 64 * 1024 * 1024
"""The largest file that is read whole; it is held in memory."""

MAX_PIXELS = 40_000_000
BLACK_LEVEL = 8
"""A picture is black if no channel of any pixel is above this, of 255."""

SUSPICIOUS_BYTES_PER_PIXEL = 0.05
"""A plain picture is smaller than this; drawn ones are larger by far."""

_PNG = b"\x89PNG\r\n\x1a\n"
_MIMES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "AVIF": "image/avif"}
_EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "AVIF": "avif"}
EXTENSIONS = tuple(_EXTENSIONS.values())


@dataclass(frozen=True)
class Header:
    """The type (PNG, JPEG, WEBP or AVIF) and size in pixels that the first bytes tell."""

    format: str
    width: int
    height: int

    @property
    def mime(self) -> str:
        """The content type."""
        return _MIMES[self.format]

    @property
    def extension(self) -> str:
        """The usual end of a file name, without the dot."""
        return _EXTENSIONS[self.format]

    def require(self, width: int | None, height: int | None) -> None:
        """Raise `BadPictureError` unless this is the promised size; None promises nothing."""
        if (width or self.width, height or self.height) != (self.width, self.height):
            raise BadPictureError(f"it is {self.width}x{self.height} pixels instead of {width}x{height}")


def sniff(head: bytes) -> Header:
    """Read type and size from the first `HEAD_BYTES` or more; raise `BadPictureError` if they are no picture's."""
    for reader in (_png, _webp, _jpeg, _avif):
        try:
            found = reader(head)
        except IndexError:
            continue
        if found is not None:
            if found.width < 1 or found.height < 1 or found.width * found.height > MAX_PIXELS:
                raise BadPictureError(f"it says {found.width}x{found.height} pixels; at most {MAX_PIXELS} are read")
            return found
    shown = head[:16].decode("latin-1")
    raise BadPictureError(f"it is no PNG, JPEG, WebP or AVIF (it begins with {shown!r})" if head else "it is empty")


def check_end(header: Header, head: bytes, tail: bytes, size: int) -> int:
    """
    Return how many bytes of a file are the picture, by its size, its first bytes and its last; the rest is padding.

    `tail` begins behind `head`. Raises `BadPictureError` if the end is missing; that is an `UnknownEndError` if the
    end may yet stand before `tail`: it takes all bytes to tell.
    """
    return end_within(header.format, head, tail, size)


def check(data: bytes, *, width: int | None = None, height: int | None = None) -> Header:
    """
    Check a whole file: type, structure to its end (with the checksums of a PNG) and the promised size.

    What follows the end is padding. Where a checksum is wrong, Pillow decides, if it is installed.
    """
    header = sniff(data)
    header.require(width, height)
    try:
        end_of(header.format, data)
    except DamagedPictureError:
        with suppress(BadPictureError, ImportError):
            decode(data)
            return header
        raise
    return header


def accept(data: bytes, *, width: int | None = None, height: int | None = None) -> Header:
    """
    Check a whole file that is paid for: as `check`, but what Pillow decodes to the last pixel passes, whatever else.

    Without Pillow it is the same.
    """
    try:
        return check(data, width=width, height=height)
    except BadPictureError:
        with suppress(BadPictureError, ImportError):
            header = decode(data)
            header.require(width, height)
            return header
        raise


def decode(data: bytes) -> Header:
    """
    Decode every pixel with Pillow; return what it is.

    Raises `BadPictureError` if a pixel cannot be decoded, `ImportError` without Pillow, or without its decoder.
    """
    with _pillow(data) as image:
        image.load()
        # A phone's JPEG that holds another picture, too, has a name of its own.
        return Header(image.format if image.format in _MIMES else "JPEG", image.width, image.height)


def is_suspicious(header: Header, size: int) -> bool:
    """Tell whether a picture of so many bytes is small enough to be plain."""
    return size <= header.width * header.height * SUSPICIOUS_BYTES_PER_PIXEL


def is_black(data: bytes, header: Header, *, thorough: bool = False) -> bool | None:
    """
    Tell whether this is the plain black picture of Claid's content filter (Claid API §2.1); None if unknowable.

    Only a suspiciously small one is decoded, unless `thorough`.
    """
    if not thorough and not is_suspicious(header, _without_padding(data, header)):
        return False
    try:
        with _pillow(data) as image:
            # A few pixels tell most others apart; only what is dark in all of them is looked at whole.
            return _is_dark(image.resize((8, 8), resample=0)) and _is_dark(image)
    except ImportError:
        return _png_is_black(data) if header.format == "PNG" else None


def _without_padding(data: bytes, header: Header) -> int:
    try:
        return end_of(header.format, data)
    except BadPictureError:
        return len(data)


def _is_dark(image: Any) -> bool:
    return all(high <= BLACK_LEVEL for _, high in image.convert("RGB").getextrema())


@cache
def _has_decoder(kind: str) -> bool:
    from PIL import Image, features

    Image.init()
    if kind not in Image.OPEN or kind not in {"AVIF", "WEBP"}:
        return kind in Image.OPEN
    with warnings.catch_warnings():
        # An older one does not know of the feature, which a plugin can give it.
        warnings.simplefilter("ignore")
        return bool(features.check(kind.lower())) or "pillow_avif" in sys.modules


@contextmanager
def _pillow(data: bytes) -> Iterator[Any]:
    """
    Open with Pillow, only as one of our four types; whatever its decoders raise is a `BadPictureError`.

    Raises `ImportError` where this Pillow has none for the type: the wheels before 11.3 have none for AVIF.
    """
    from PIL import Image

    with suppress(BadPictureError):
        if not _has_decoder(kind := sniff(data).format):
            raise ImportError(f"the installed Pillow has no decoder for {kind}")
    try:
        whole = without_broken_extras(data) if data.startswith(_PNG) else data
        with Image.open(io.BytesIO(whole), formats=tuple(_MIMES)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels; at most {MAX_PIXELS} are read")
            yield image
    except Exception as cause:
        raise BadPictureError(f"it cannot be decoded: {cause}") from cause


def _png(head: bytes) -> Header | None:
    if not head.startswith(_PNG) or head[12:16] != b"IHDR" or len(head) < 24:
        return None
    return Header("PNG", int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))


def _jpeg(head: bytes) -> Header | None:
    if not head.startswith(b"\xff\xd8\xff"):
        return None
    for code, at in jpeg_segments(head):
        if code in JPEG_SIZES and at + 7 <= len(head):
            height, width = int.from_bytes(head[at + 3 : at + 5], "big"), int.from_bytes(head[at + 5 : at + 7], "big")
            return Header("JPEG", width, height)
    return None


def _webp(head: bytes) -> Header | None:
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return None
    kind, body = head[12:16], head[20:30]
    if kind == b"VP8X":
        return Header("WEBP", int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1)
    if kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = int.from_bytes(body[6:8], "little"), int.from_bytes(body[8:10], "little")
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF)
    return None


def _avif(head: bytes) -> Header | None:
    """Find the largest `ispe` (ISO/IEC 23008-12 §6.5.3): the picture's, not its thumbnail's or a tile's."""
    if head[4:8] != b"ftyp" or not {head[at : at + 4] for at in range(8, 64, 4)} & {b"avif", b"avis"}:
        return None
    # An ispe box has 20 bytes: the letters alone may also stand in the compressed picture.
    sizes, at = [], head.find(b"\x00\x00\x00\x14ispe")
    while 0 <= at <= len(head) - 20:
        sizes.append((int.from_bytes(head[at + 12 : at + 16], "big"), int.from_bytes(head[at + 16 : at + 20], "big")))
        at = head.find(b"\x00\x00\x00\x14ispe", at + 20)
    if not sizes:
        return None
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return Header("AVIF", width, height)


def _png_is_black(data: bytes) -> bool | None:
    """Look at the pixels of a PNG without Pillow: 8 bits a channel, grey or colour, not interlaced; else None."""
    depth, colour, _, _, interlaced = data[24:29]
    channels = {0: 1, 2: 3, 4: 2, 6: 4}.get(colour)
    if depth != 8 or interlaced or channels is None:
        return None
    header = sniff(data[:HEAD_BYTES])
    width = header.width * channels
    stream = zlib.decompressobj()
    packed = b"".join(data[begin:end] for kind, begin, end, _ in png_chunks(data) if kind == b"IDAT")
    try:
        raw = stream.decompress(packed, header.height * (width + 1))
    except zlib.error as cause:
        raise BadPictureError(f"it cannot be decoded: {cause}") from cause
    if len(raw) < header.height * (width + 1):
        raise BadPictureError("rows of the PNG are missing")
    row = bytes(width)
    for start in range(0, len(raw), width + 1):
        row = _unfilter(raw[start], raw[start + 1 : start + 1 + width], row, channels)
        seen = row if channels in {1, 3} else b"".join(row[at::channels] for at in range(channels - 1))
        if max(seen) > BLACK_LEVEL:
            return False
    return True


def _unfilter(method: int, row: bytes, above: bytes, step: int) -> bytes:
    """Undo the filter of one row (PNG, third edition, §9.2)."""
    if method == 0:
        return row
    if method > 4:
        raise BadPictureError(f"it cannot be decoded: row filter {method}")
    if not any(row) and (method == 2 or not any(above)):
        return above
    out = bytearray(row)
    for at in range(len(out)):
        left = out[at - step] if at >= step else 0
        corner = above[at - step] if at >= step else 0
        guess = (0, left, above[at], (left + above[at]) // 2, _paeth(left, above[at], corner))[method]
        out[at] = (out[at] + guess) & 0xFF
    return bytes(out)


def _paeth(left: int, above: int, corner: int) -> int:
    estimate = left + above - corner
    distances = (abs(estimate - left), abs(estimate - above), abs(estimate - corner))
    return (left, above, corner)[distances.index(min(distances))]
