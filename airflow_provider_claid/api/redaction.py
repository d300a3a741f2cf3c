"""Keeping the API key out of everything a person or a log can read, also when a server echoes it."""

from __future__ import annotations

import logging
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


def redact(value: Any, secret: str) -> Any:
    """Copy a JSON value with each occurrence of the secret masked, in keys too."""
    if isinstance(value, str):
        return value.replace(secret, MASK)
    if isinstance(value, bytes):
        return value.replace(secret.encode(), MASK.encode())
    if isinstance(value, dict):
        return {redact(key, secret): redact(item, secret) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, secret) for item in value]
    return value


def without(cause: BaseException, secret: str) -> BaseException | None:
    """Return the cause of an error, or None if it, or what caused it, quotes the secret (h11 quotes broken lines)."""
    link: BaseException | None = cause
    while link is not None:
        if secret in f"{link} {link!r} {link.args}":
            return None
        link = link.__cause__ or link.__context__
    return cause


class _KeyFilter(logging.Filter):
    """Masks keys in the records of the HTTP libraries, which print response headers at DEBUG."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: frozenset[str] = frozenset()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if any(secret in text for secret in self.secrets):
            for secret in self.secrets:
                text = text.replace(secret, MASK)
            record.msg, record.args = text, None
        return True


_key_filter = _KeyFilter()


def mask_in_library_logs(secret: str) -> None:
    """Mask the secret in what the HTTP libraries of this process log from now on."""
    _key_filter.secrets |= {secret}
    for name in _LIBRARY_LOGGERS:
        logging.getLogger(name).addFilter(_key_filter)
