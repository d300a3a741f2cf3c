"""JSON as far as it is readable: an answer that was paid for is not lost to a fault beside what we need of it."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 64
"""Nesting from which on values are left out; what we need lies four levels deep."""

_MAX_DIGITS = 300
_TOKEN = re.compile(r'\s*(?:([\[\]{}:,])|"([^"\\]*(?:\\.[^"\\]*)*)"|([^\s\[\]{}:,"]+))', re.DOTALL)


def loads(raw: bytes) -> Any:
    """
    Read JSON; of what is none, as much as is readable from its beginning, and None if that is nothing.

    Bytes that are no text are replaced. Where the text is cut, too deep, or followed by more, objects hold what came.
    """
    text = raw.decode(json.detect_encoding(raw), "replace")
    try:
        return json.loads(text, strict=False, parse_int=_whole)
    except (ValueError, RecursionError):
        return _read(text)


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def _scalar(text: str) -> Any:
    try:
        return json.loads(text, strict=False, parse_int=_whole)
    except ValueError:
        return None


class _Open:
    """An object or list that is being read; `key` is that of the value to come."""

    def __init__(self, holder: dict[str, Any] | list[Any]) -> None:
        self.holder = holder
        self.key: str | None = None

    def take(self, value: Any) -> None:
        if isinstance(self.holder, list):
            self.holder.append(value)
        elif self.key is None:
            self.key = str(value)
        else:
            self.holder[self.key] = value
            self.key = None


def _read(text: str) -> Any:
    """Read without recursion; returns the first object or list."""
    stack: list[_Open] = []
    first: dict[str, Any] | list[Any] | None = None
    at = 0
    while found := _TOKEN.match(text, at):
        at = found.end()
        mark, string, other = found.groups()
        if mark in ("{", "["):
            opened = _Open({} if mark == "{" else [])
            if first is None:
                first = opened.holder
            if stack:
                stack[-1].take(opened.holder if len(stack) < MAX_DEPTH else None)
            stack.append(opened)
        elif mark in ("}", "]"):
            stack = stack[:-1]
            if first is not None and not stack:
                break
        elif mark == "," and stack:
            stack[-1].key = None
        elif mark is None and stack:
            stack[-1].take(_scalar(f'"{string}"') if string is not None else _scalar(other))
    return first
