"""Texts of a server as a log and a person may read them: one line, nothing that steers a terminal, nothing half."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

TEXT_LIMIT = 300
"""Characters of a message that is quoted in an error."""

REPLACEMENT = "?"
_KEPT_FORMATS = frozenset("\u200c\u200d")
"""The joiners, which some scripts and emoji need, and which move nothing."""
_REPLACED = frozenset({"Cc", "Cf", "Cs"})
_BLANK = frozenset({"Zs", "Zl", "Zp"})
_MAX_DEPTH = 6
_MAX_ITEMS = 50


def one_line(text: str, limit: int | None = None) -> str:
    """
    Return a text for logs, messages and records, cut to `limit` characters.

    Line ends, tabs and odd blanks become blanks. Control and escape characters (C0, DEL, C1), what turns the direction
    of writing, and halves of surrogate pairs become "?".
    """
    text = text if limit is None else text[:limit]
    return text if text.isprintable() else "".join(map(_shown, text))


def plain(value: Any, limit: int = TEXT_LIMIT, depth: int = _MAX_DEPTH) -> Any:
    """Copy a JSON value with every text as by `one_line`; what is nested deeper, or too long a list, is left out."""
    if isinstance(value, str):
        return one_line(value, limit)
    if isinstance(value, Mapping):
        pairs = list(value.items())[:_MAX_ITEMS] if depth else []
        return {one_line(str(key), limit): plain(item, limit, depth - 1) for key, item in pairs}
    if isinstance(value, list | tuple):
        return [plain(item, limit, depth - 1) for item in value[:_MAX_ITEMS]] if depth else []
    return value if value is None or isinstance(value, bool | float) else number(value)


def number(value: Any) -> int | str:
    """Return a whole number, or a text for one that is too long to be written down."""
    return value if isinstance(value, int) and abs(value) < 2**63 else "a long number"


def _shown(char: str) -> str:
    if char in "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85":
        return " "
    kind = unicodedata.category(char)
    if kind in _BLANK:
        return " "
    return REPLACEMENT if kind in _REPLACED and char not in _KEPT_FORMATS else char
