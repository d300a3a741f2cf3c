"""Keeping the API key out of everything a person or a log can read, also when a server echoes it in another form."""

from __future__ import annotations

import base64
import logging
import re
from functools import lru_cache
from html.entities import codepoint2name
from typing import Any

MASK = "***"

_LIBRARY_LOGGERS = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
)
_MAX_DEPTH = 40
_SURE = 6
"""Characters of base64 from which on they are the key's, and no accident."""


def redact(value: Any, secret: str) -> Any:
    """
    Copy a JSON value with each occurrence of the secret masked, in keys too; as it is if there is none ("").

    Found are its plain form; each of its characters escaped as URLs, HTML, JSON or a language would, or not; its
    hexadecimal form; and its base64, also as a part of a longer text (`Basic base64(user:key)`).
    What is nested deeper than anything that we read is masked whole.
    """
    return _redacted(value, forms(secret), _MAX_DEPTH) if secret else value


def _redacted(value: Any, pattern: re.Pattern[str], depth: int) -> Any:
    if isinstance(value, str):
        return pattern.sub(MASK, value)
    if isinstance(value, bytes):
        return pattern.sub(MASK, value.decode("latin-1")).encode("latin-1")
    if not isinstance(value, dict | list | tuple):
        return value
    if not depth:
        return MASK
    if isinstance(value, dict):
        return {_redacted(key, pattern, depth): _redacted(item, pattern, depth - 1) for key, item in value.items()}
    return [_redacted(item, pattern, depth - 1) for item in value]


@lru_cache(maxsize=16)
def forms(secret: str) -> re.Pattern[str]:
    """Return what matches the secret in each of its forms."""
    found = ["".join(map(_escaped, secret)), *_hexadecimal(secret), *_base64(secret)]
    return re.compile("|".join(f"(?:{form})" for form in found))


def _escaped(char: str) -> str:
    """Match a character as it is, or as URLs (also twice), HTML (number or name) or JSON would escape it."""
    code, name = ord(char), codepoint2name.get(ord(char))
    digits = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{code:02x}")
    entities = [f"0*{code}", f"[xX]0*{digits}"]
    named = f"|&{name};?" if name else ""
    return (
        f"(?:{re.escape(char)}|%(?:25)*{digits}|(?:&amp;|&)#(?:{'|'.join(entities)});?{named}"
        f"|\\\\+(?:u\\{{?0*{digits}\\}}?|x{digits}|{re.escape(char)}))"
    )


def _hexadecimal(secret: str) -> list[str]:
    code = secret.encode().hex()
    return [code, code.upper()] if len(code) >= _SURE else []


def _base64(secret: str) -> list[str]:
    """Match the secret's base64 at each of the three places in a longer text, with what it shares with neighbours."""
    raw, found = secret.encode(), []
    for shift in range(3):
        code = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        # Characters that hold bits of what comes before or after: those differ.
        first = -(-shift * 8 // 6)
        last = (shift + len(raw)) * 8 // 6
        core = code[first:last]
        if len(core) >= _SURE:
            alphabet = "[A-Za-z0-9+/_-]"
            found.append(f"{alphabet if shift else ''}{''.join(map(_base64_char, core))}{alphabet}?(?:=|%3[dD])*")
    return found


def _base64_char(char: str) -> str:
    return {"+": "(?:\\+|-|%2[bB])", "/": "(?:\\\\?/|_|%2[fF])"}.get(char, char)


def without(cause: BaseException, secret: str) -> BaseException | None:
    """
    Return the cause of an error, or None if it, or what caused it, quotes the secret or what a log must not show.

    h11 quotes broken lines; a traceback shows the texts of a chain as they are.
    """
    link, pattern = cause, forms(secret) if secret else None
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if pattern and pattern.search(f"{link} {link!r} {link.args}"):
            return None
        if not str(link).isprintable():
            return None
        link = link.__cause__ or link.__context__  # type: ignore[assignment]
    return cause


class _KeyFilter(logging.Filter):
    """Masks keys in the records of the HTTP libraries, which print response headers at DEBUG."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: frozenset[str] = frozenset()

    def filter(self, record: logging.LogRecord) -> bool:
        text = shown = record.getMessage()
        for secret in self.secrets:
            shown = forms(secret).sub(MASK, shown)
        if shown != text:
            record.msg, record.args = shown, None
        return True


_key_filter = _KeyFilter()


def mask_in_library_logs(secret: str) -> None:
    """Mask the secret in what the HTTP libraries of this process log from now on."""
    _key_filter.secrets |= {secret}
    for name in _LIBRARY_LOGGERS:
        logging.getLogger(name).addFilter(_key_filter)
