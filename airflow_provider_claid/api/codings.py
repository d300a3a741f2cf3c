"""Content codings (RFC 9110 §8.4): none is asked for; what is packed nevertheless is unpacked where that is safe."""

from __future__ import annotations

import zlib

_NONE = frozenset({"", "identity", "none", "binary", "utf-8"})
_GZIP = b"\x1f\x8b"
_MOST_CODINGS = 3


class CodingError(ValueError):
    """A body cannot be unpacked; the message says why."""


def codings(header: str) -> list[str]:
    """Return the codings of a body, by the header `Content-Encoding`, in the order in which they were applied."""
    return [name for part in header.split(",") if (name := part.strip().lower()) not in _NONE]


def unpacked(raw: bytes, header: str, limit: int) -> tuple[bytes, bool]:
    """
    Unpack a body, to at most `limit` bytes; returns it and whether it was whole.

    gzip and deflate are known. Raises `CodingError` for another coding, for a body that is broken or grows too large.
    """
    names, whole = codings(header), True
    if len(names) > _MOST_CODINGS:
        raise CodingError(f"{len(names)} content codings, one on the other")
    for name in reversed(names):
        if name in {"gzip", "x-gzip"}:
            # Some servers name the coding and send the body as it is.
            raw, ended = _inflated(raw, 31, limit) if raw.startswith(_GZIP) else (raw, True)
        elif name == "deflate":
            raw, ended = _inflated(raw, 15 if _is_zlib(raw) else -15, limit)
        else:
            raise CodingError(f"the content coding {name!r:.40}, which was not asked for")
        whole = whole and ended
    return raw, whole


def _is_zlib(raw: bytes) -> bool:
    return len(raw) > 1 and raw[0] & 15 == 8 and int.from_bytes(raw[:2], "big") % 31 == 0


def _inflated(raw: bytes, window: int, limit: int) -> tuple[bytes, bool]:
    found = bytearray()
    while True:
        member = zlib.decompressobj(window)
        try:
            found += member.decompress(raw, limit + 1 - len(found))
        except zlib.error as fault:
            raise CodingError(f"a packed body that is broken ({fault})") from None
        if len(found) > limit:
            raise CodingError(f"a packed body of more than {limit} bytes")
        raw = member.unused_data
        if not member.eof or not raw.startswith(_GZIP) or window < 31:
            return bytes(found), member.eof
