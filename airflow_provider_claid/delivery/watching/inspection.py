"""Whether an object that a list shows is the whole picture that was promised, with as few reads as that takes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.delivery.images import (
    HEAD_BYTES,
    MAX_BYTES,
    TAIL_BYTES,
    BadPictureError,
    Header,
    UnknownEndError,
    accept,
    check,
    check_end,
    decode,
    is_black,
    is_suspicious,
    sniff,
)
from airflow_provider_claid.delivery.structure import reaches_pixels
from airflow_provider_claid.delivery.watching.expected import Promise, Verify

log = logging.getLogger(__name__)

Read = Callable[[int, int], bytes]
"""Reads bytes `start` up to, without, `end` of one object."""


@dataclass(frozen=True)
class Inspection:
    """
    What was found: `fault` says in what way it is not delivered yet, `black` is the content filter's picture.

    `denied` is the error of a picture that may not be read.
    """

    fault: str | None = None
    black: bool = False
    denied: ClaidConfigurationError | None = None


def check_size(promise: Promise, size: int, min_bytes: int) -> str | None:
    """Return what is wrong with the size that a list shows, in bytes; None if nothing is."""
    if size < min_bytes:
        return f"it has {size} bytes, less than {min_bytes}"
    if promise.bytes is not None and size != promise.bytes:
        return f"it has {size} of {promise.bytes} bytes"
    return None


def inspect(promise: Promise, size: int, read: Read, verify: Verify) -> Inspection:
    """
    Look at an object: not at all (`exists`), at its first 4 KiB and its last (`header`), or at every pixel (`full`).

    Two reads at most, and a third, of what lies between, if the last KiB shows no end: what is padded by more than
    that, or cut. A header that shows a suspiciously small picture decodes that, to see whether it is black.
    """
    if verify == "exists":
        return Inspection(black=bool(promise.filtered))
    try:
        black = _full(promise, size, read) if verify == "full" else _header(promise, size, read)
    except BadPictureError as fault:
        return Inspection(str(fault))
    return Inspection(black=black or bool(promise.filtered))


def _full(promise: Promise, size: int, read: Read) -> bool:
    data = _part(0, size, size, read)
    header = _checked(promise, data)
    if promise.sha256 is not None and not _is_promised(promise, data):
        raise BadPictureError("its SHA-256 is not the promised one")
    try:
        decode(data)
    except ImportError as cause:
        fix = "Install a Pillow that has one (for AVIF 11.3 or newer), or take verify='header'."
        raise ClaidConfigurationError("verify", f"'full', and {cause}", "'exists' or 'header'", fix) from cause
    return _is_black(data, header, thorough=True)


def _header(promise: Promise, size: int, read: Read) -> bool:
    head = _part(0, min(size, HEAD_BYTES), size, read)
    header = _tells_all(head, size)
    if header is None:
        return _whole(promise, head + _part(len(head), size, size, read))
    header.require(promise.width, promise.height)
    _check_mime(promise, header)
    tail = _part(size - TAIL_BYTES, size, size, read)
    try:
        plain = is_suspicious(header, check_end(header, head, tail, size))
    except UnknownEndError:
        plain = True
    if not plain:
        return False
    return _whole(promise, head + _part(len(head), size - TAIL_BYTES, size, read) + tail)


def _whole(promise: Promise, data: bytes) -> bool:
    return _is_black(data, _checked(promise, data))


def _checked(promise: Promise, data: bytes) -> Header:
    try:
        header = check(data, width=promise.width, height=promise.height)
    except BadPictureError:
        if not _is_promised(promise, data):
            raise
        # What the operator delivered is what is waited for, whatever its bytes look like.
        header = accept(data, width=promise.width, height=promise.height)
    _check_mime(promise, header)
    return header


def _is_promised(promise: Promise, data: bytes) -> bool:
    return promise.sha256 == hashlib.sha256(data).hexdigest()


def _tells_all(head: bytes, size: int) -> Header | None:
    """
    Return what the head tells; None if the picture has to be read whole.

    So it is with a small or plain one, and where what is to be known stands behind the head.
    """
    try:
        header = sniff(head)
        if header.format == "AVIF":
            check_end(header, head, b"", size)
    except UnknownEndError:
        return None
    except BadPictureError:
        # The size of a JPEG or AVIF may stand behind a long preface.
        if head.startswith(b"\xff\xd8\xff") or head[4:8] == b"ftyp":
            return None
        raise
    behind_head = header.format == "JPEG" and not reaches_pixels(head)
    return None if behind_head or size <= HEAD_BYTES + TAIL_BYTES or is_suspicious(header, size) else header


def _part(start: int, end: int, size: int, read: Read) -> bytes:
    """Read a part, all of it: what is shorter than the list says was cut since."""
    if end - start > MAX_BYTES:
        raise BadPictureError(f"it has {size} bytes; at most {MAX_BYTES} are read")
    data = read(start, end) if end > start else b""
    if len(data) != end - start:
        raise BadPictureError(f"it is cut: {start + len(data)} of {size} bytes came")
    return data


def _is_black(data: bytes, header: Header, *, thorough: bool = False) -> bool:
    black = is_black(data, header, thorough=thorough)
    if black is None:
        log.warning("Whether this %s is the black picture needs a Pillow that decodes it: install one.", header.format)
    return bool(black)


def _check_mime(promise: Promise, header: Header) -> None:
    if promise.mime is not None and header.mime != promise.mime:
        raise BadPictureError(f"it is {header.mime} instead of {promise.mime}")
