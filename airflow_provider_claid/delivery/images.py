"""
Picture checks on bytes: type and size from the head, whole to the end, decodable, and not the filter's black picture.

PNG, JPEG, WebP and AVIF. Pure functions; Pillow is used where it is installed and only when pixels are asked for.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

HEAD_BYTES = 4096
"""How many first bytes tell type and size."""

TAIL_BYTES = 16
"""How many last bytes tell whether the end is there."""

MAX_BYTES = 64 * 1024 * 1024
"""The largest file that is read whole; it is held in memory."""

MAX_PIXELS = 40_000_000
BLACK_LEVEL = 8
"""A picture is black if no channel of any pixel is above this, of 255."""

SUSPICIOUS_BYTES_PER_PIXEL = 0.05
"""A plain picture is smaller than this; drawn ones are larger by far."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MIMES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "AVIF": "image/avif"}
_EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "AVIF": "avif"}
EXTENSIONS = tuple(_EXTENSIONS.values())


class BadPictureError(ValueError):
    """The bytes are not a whole picture; the message says in what way."""


class UnknownEndError(Exception):
    """Whether the picture is whole cannot be told from its head and its last bytes: it takes all of them."""


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


def check_end(header: Header, head: bytes, tail: bytes, size: int) -> None:
    """
    Raise `BadPictureError` unless the last bytes, and the file's size, are those of a whole picture.

    Raises `UnknownEndError` for an AVIF whose parts begin behind `head`.
    """
    whole = {
        "PNG": lambda: tail.endswith(_PNG_END),
        "JPEG": lambda: tail.endswith(b"\xff\xd9"),
        "WEBP": lambda: int.from_bytes(head[4:8], "little") + 8 == size,
        "AVIF": lambda: _boxes_end_at(head, size),
    }[header.format]()
    if not whole:
        raise BadPictureError(f"its end is missing ({size} bytes of {header.format})")


def check(data: bytes, *, width: int | None = None, height: int | None = None) -> Header:
    """Check a whole file: type, structure to the end (with the checksums of a PNG) and the promised size."""
    header = sniff(data)
    check_end(header, data, data[-TAIL_BYTES:], len(data))
    if header.format == "PNG":
        _check_png_chunks(data)
    header.require(width, height)
    return header


def decode(data: bytes) -> None:
    """Decode every pixel with Pillow; raise `BadPictureError` if one cannot be, `ImportError` without Pillow."""
    with _pillow(data) as image:
        image.load()


def is_suspicious(header: Header, size: int) -> bool:
    """Tell whether a picture of so many bytes is small enough to be plain."""
    return size <= header.width * header.height * SUSPICIOUS_BYTES_PER_PIXEL


def is_black(data: bytes, header: Header, *, thorough: bool = False) -> bool | None:
    """
    Tell whether this is the plain black picture of Claid's content filter (Claid API §2.1); None if unknowable.

    Only a suspiciously small one is decoded, unless `thorough`.
    """
    if not thorough and not is_suspicious(header, len(data)):
        return False
    try:
        with _pillow(data) as image:
            # Of a picture that is not black, some of its pixels tell that.
            return _is_dark(image.resize((64, 64), resample=0)) and _is_dark(image)
    except ImportError:
        return _png_is_black(data) if header.format == "PNG" else None


def _is_dark(image: Any) -> bool:
    return all(high <= BLACK_LEVEL for _, high in image.convert("RGB").getextrema())


@contextmanager
def _pillow(data: bytes) -> Iterator[Any]:
    """Open with Pillow, only as one of our four types; whatever its decoders raise is a `BadPictureError`."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=tuple(_MIMES)) as image:
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
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        if head[at + 1] in _JPEG_SIZES:
            height, width = (
                int.from_bytes(head[at + 5 : at + 7], "big"),
                int.from_bytes(head[at + 7 : at + 9], "big"),
            )
            return Header("JPEG", width, height)
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
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


def _boxes_end_at(head: bytes, size: int) -> bool:
    """
    Follow the top-level boxes of an AVIF (ISO/IEC 14496-12 §4.2), by their sizes, to the end of the file.

    Raises `UnknownEndError` if a box begins behind what is there of the file.
    """
    at = 0
    while at + 8 <= len(head):
        length = int.from_bytes(head[at : at + 4], "big")
        if length == 1:
            length = int.from_bytes(head[at + 8 : at + 16], "big")
        elif length == 0:
            return size > at + 8
        if length < 8:
            return False
        at += length
    if len(head) < size and at < size:
        raise UnknownEndError
    return at == size


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield kind, body and checksum of each chunk of a PNG, as far as there is one."""
    at = len(_PNG)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        at += 12 + length


def _check_png_chunks(data: bytes) -> None:
    kinds = []
    for kind, body, checksum in _chunks(data):
        if zlib.crc32(kind + body).to_bytes(4, "big") != checksum:
            raise BadPictureError(f"its {kind.decode('latin-1')} part is damaged (the checksum differs)")
        kinds.append(kind)
    if not kinds or kinds[0] != b"IHDR" or kinds[-1] != b"IEND" or b"IDAT" not in kinds:
        raise BadPictureError("a part of the PNG is missing")


def _png_is_black(data: bytes) -> bool | None:
    """Look at the pixels of a PNG without Pillow: 8 bits a channel, grey or colour, not interlaced; else None."""
    depth, colour, _, _, interlaced = data[24:29]
    channels = {0: 1, 2: 3, 4: 2, 6: 4}.get(colour)
    if depth != 8 or interlaced or channels is None:
        return None
    header = sniff(data[:HEAD_BYTES])
    width = header.width * channels
    stream = zlib.decompressobj()
    packed = b"".join(body for kind, body, _ in _chunks(data) if kind == b"IDAT")
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
