"""How long a server asks to wait: `Retry-After` in every form that servers send, never longer than makes sense."""

from __future__ import annotations

import email.utils
import math
import re
import time
from datetime import UTC, datetime

MAX_WAIT = 3600.0
"""
Seconds that a server can make anything wait. Claid's windows last a minute; a value far beyond comes of a wrong clock
or unit (a date, an epoch, milliseconds). A try too early costs nothing; a task parked for a year costs a person.
"""

_EPOCH = 1e9
"""A number from here on is no wait (31 years) but a moment: seconds since 1970, or milli-, micro-, nanoseconds."""

_WHOLE = re.compile(r"[0-9]+")


def bounded(seconds: object) -> float | None:
    """Return a wait in seconds from 0 to `MAX_WAIT`; None for what is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds != seconds:  # noqa: PLR0124 - NaN
        return None
    # Not float() first: whole numbers have no limit.
    return float(min(max(0, seconds), MAX_WAIT))


def parse_retry_after(value: str | None, now: float | None = None) -> float | None:
    """
    Read `Retry-After` (RFC 9110 §10.2.3) as seconds from now, 0 to `MAX_WAIT`; None if unreadable.

    Besides seconds and an HTTP date, what servers send instead: fractions, epochs, ISO 8601.
    """
    text = (value or "").strip()
    if not text:
        return None
    now = time.time() if now is None else now
    if _WHOLE.fullmatch(text) and len(text) > 20:
        return MAX_WAIT
    try:
        seconds = float(text)
    except ValueError:
        moment = _moment(text)
        return None if moment is None else bounded(moment - now)
    if not math.isfinite(seconds):
        return None
    while seconds >= 1000 * _EPOCH:
        seconds /= 1000
    return bounded(seconds - now if seconds >= _EPOCH else seconds)


def _moment(text: str) -> float | None:
    """Read a date as seconds since 1970; one without a zone is UTC."""
    for read in (email.utils.parsedate_to_datetime, datetime.fromisoformat):
        try:
            found = read(text)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, TypeError, IndexError):
            continue
    return None
