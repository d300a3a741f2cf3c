"""Lines of a text file, whichever their number and length: never more than one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.prompts.rows import FIELD

LONGEST = 1_000_000
"""Characters of a line, or of a row of several lines, that are read; a prompt has a thousandth of it."""

_MOST_BYTES = 4 * LONGEST + len("\r\n")
_MARK = b"\xef\xbb\xbf"
_ACCEPTED = "a text file in UTF-8"


def lines(file: BinaryIO) -> Iterator[str]:
    """Yield the lines with their ends, without a byte order mark; each error is of the whole file and names a line."""
    offset = 0
    number = 0
    while raw := file.readline(_MOST_BYTES + 1):
        number += 1
        if len(raw) > _MOST_BYTES:
            raise too_long(number)
        mark = len(_MARK) if number == 1 and raw.startswith(_MARK) else 0
        line = _decoded(raw[mark:], number, offset + mark)
        if len(line) > LONGEST and len(line.rstrip("\r\n")) > LONGEST:
            raise too_long(number)
        offset += len(raw)
        yield line


def too_long(number: int) -> ClaidInputError:
    """Return the error for what begins at a line and does not end."""
    came = f"more than {LONGEST:,} characters at line {number}"
    return ClaidInputError(FIELD, came, "lines that hold a prompt each", "Is it a text, with line ends?")


def _decoded(raw: bytes, number: int, offset: int) -> str:
    try:
        text = raw.decode()
        fault = raw.find(b"\0")
    except UnicodeDecodeError as cause:
        text, fault = "", cause.start
    if fault < 0:
        return text
    # A NUL is valid, and what UTF-16 has between the letters.
    came = f"another encoding: byte 0x{raw[fault]:02x} at line {number}, byte offset {offset + fault} of the file"
    raise ClaidInputError(FIELD, came, _ACCEPTED, "Save it as UTF-8.")
