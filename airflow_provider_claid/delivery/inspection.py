"""Whether an object that a list shows is the whole picture that was promised, with as few reads as that takes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_claid.delivery.expected import Promise, Verify
from airflow_provider_claid.delivery.images import (
    HEAD_BYTES,
    MAX_BYTES,
    SUSPICIOUS_BYTES_PER_PIXEL,
    TAIL_BYTES,
    BadPictureError,
    Header,
    check,
    check_end,
    decode,
    is_black,
    sniff,
)

Read = Callable[[int, int], bytes]
"""Reads bytes `start` up to, without, `end` of one object."""


@dataclass(frozen=True)
class Inspection:
    """What was found: `fault` says in what way it is not delivered yet; `black` is the content filter's picture."""

    fault: str | None = None
    black: bool = False


def check_size(promise: Promise, size: int, min_bytes: int) -> str | None:
    """Return what is wrong with the size that a list shows, in bytes; None if nothing is."""
    if size < min_bytes:
        return f"it has {size} bytes, less than {min_bytes}"
    if promise.bytes is not None and size != promise.bytes:
        return f"it has {size} of {promise.bytes} bytes"
    return None


def inspect(promise: Promise, size: int, read: Read, verify: Verify) -> Inspection:
    """
    Look at an object: not at all (`exists`), at its first 4 KiB and its end (`header`), or at every pixel (`full`).

    At most two reads; a header that shows a suspiciously small picture decodes that, to see whether it is black.
    """
    if verify == "exists":
        return Inspection(black=bool(promise.filtered))
    try:
        black = _full(promise, size, read) if verify == "full" else _header(promise, size, read)
    except BadPictureError as fault:
        return Inspection(str(fault))
    return Inspection(black=black or bool(promise.filtered))


def _full(promise: Promise, size: int, read: Read) -> bool:
    data = _whole(size, read)
    header = check(data, width=promise.width, height=promise.height)
    _check_mime(promise, header)
    if promise.sha256 is not None and hashlib.sha256(data).hexdigest() != promise.sha256:
        raise BadPictureError("its SHA-256 is not the promised one")
    decode(data)
    return bool(is_black(data, header))


def _header(promise: Promise, size: int, read: Read) -> bool:
    head = read(0, min(size, HEAD_BYTES))
    header = _sniff(head)
    if header is None or size <= HEAD_BYTES or _is_suspicious(header, size):
        data = head if size <= HEAD_BYTES else head + _whole(size, read, len(head))
        header = check(data, width=promise.width, height=promise.height)
        _check_mime(promise, header)
        return bool(is_black(data, header))
    header.require(promise.width, promise.height)
    _check_mime(promise, header)
    tail = read(max(len(head), size - TAIL_BYTES), size)
    check_end(header, head, head[-TAIL_BYTES:] + tail, size)
    return False


def _sniff(head: bytes) -> Header | None:
    """Return what the head tells; None for a JPEG or AVIF whose size stands behind a long preface."""
    try:
        return sniff(head)
    except BadPictureError:
        if head.startswith(b"\xff\xd8\xff") or head[4:8] == b"ftyp":
            return None
        raise


def _is_suspicious(header: Header, size: int) -> bool:
    return size <= header.width * header.height * SUSPICIOUS_BYTES_PER_PIXEL


def _whole(size: int, read: Read, start: int = 0) -> bytes:
    if size > MAX_BYTES:
        raise BadPictureError(f"it has {size} bytes; at most {MAX_BYTES} are read")
    data = read(start, size)
    if len(data) != size - start:
        raise BadPictureError(f"it is cut: {start + len(data)} of {size} bytes came")
    return data


def _check_mime(promise: Promise, header: Header) -> None:
    if promise.mime is not None and header.mime != promise.mime:
        raise BadPictureError(f"it is {header.mime} instead of {promise.mime}")
