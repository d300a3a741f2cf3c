"""
What a server says about its windows, in `RateLimit` headers of the older and the current IETF drafts.

Older (draft-ietf-httpapi-ratelimit-headers-03 to -06, what Claid documents): `RateLimit-Limit: 120, 120;w=60, 4;w=1`,
`RateLimit-Remaining`, `RateLimit-Reset`; the first number names the window that the other two describe.
-07: `RateLimit: limit=120, remaining=3, reset=20`. Current: `RateLimit-Policy: "minute";q=120;w=60` and
`RateLimit: "minute";r=3;t=20`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

log = logging.getLogger(__name__)

LONGEST_RESET = 3600.0
"""Seconds after which a schedule is tried again, whatever a header says: none may close it for a year."""

_NUMBER = re.compile(r"-?\d{1,12}(?:\.\d{1,6})?")
_ITEM = re.compile(r'^\s*(?:"(?P<name>[^"]*)"|(?P<token>[^;="\s]+))\s*(?P<parameters>(?:;[^;]*)*)$')


@dataclass(frozen=True)
class RateLimit:
    """
    A server's windows: `limit` and `remaining` in requests, `window` and `reset` in seconds; None where unsaid.

    `remaining` and `reset` describe the window of `window` seconds. `policies` lists all as (limit, window).
    """

    limit: int | None = None
    window: float | None = None
    remaining: int | None = None
    reset: float | None = None
    policies: tuple[tuple[int, float], ...] = ()


_warned: set[str] = set()


def parse(headers: Mapping[str, str]) -> RateLimit | None:
    """Read the rate headers of an answer, by lower-case name; None without any. Garbage is ignored, with a warning."""
    fields = {name: value for name, value in headers.items() if name.startswith("ratelimit") and value.strip()}
    if not fields:
        return None
    found = _current(fields) if "ratelimit" in fields else _older(fields)
    if found is None:
        _warn_once(fields)
    return found


def _older(fields: Mapping[str, str]) -> RateLimit | None:
    limit, policies = None, []
    for item in fields.get("ratelimit-limit", "").split(","):
        number, _, parameters = item.partition(";")
        value = _number(number)
        window = _number(_parameters(parameters).get("w", ""))
        if value is not None and window is not None and window > 0:
            policies.append((int(value), window))
        elif value is not None and limit is None:
            limit = int(value)
    remaining, reset = (
        _number(fields.get("ratelimit-remaining", "")),
        _number(fields.get("ratelimit-reset", "")),
    )
    if limit is None and remaining is None and reset is None and not policies:
        return None
    return _joined(limit, remaining, reset, policies)


def _current(fields: Mapping[str, str]) -> RateLimit | None:
    policies = {}
    for item in fields.get("ratelimit-policy", "").split(","):
        name, parameters = _item(item)
        quota, window = _number(parameters.get("q", name)), _number(parameters.get("w", ""))
        if quota is not None and window is not None and window > 0:
            policies[name] = (int(quota), window)
    listed = list(policies.values())
    pairs = dict(part.strip().split("=", 1) for part in fields["ratelimit"].split(",") if "=" in part.split(";")[0])
    if pairs:
        limit, remaining, reset = (_number(pairs.get(key, "")) for key in ("limit", "remaining", "reset"))
        if remaining is None and reset is None:
            return None
        return _joined(None if limit is None else int(limit), remaining, reset, listed)
    tightest = None
    for item in fields["ratelimit"].split(","):
        name, parameters = _item(item)
        remaining, reset = _number(parameters.get("r", "")), _number(parameters.get("t", ""))
        if remaining is not None and (tightest is None or remaining < tightest[0]):
            tightest = (remaining, reset, policies.get(name, (None, None)))
    if tightest is None:
        return None
    remaining, reset, (limit_of, window) = tightest
    return RateLimit(limit_of, window, int(remaining), _seconds(reset), tuple(listed))


def _joined(
    limit: int | None, remaining: float | None, reset: float | None, policies: list[tuple[int, float]]
) -> RateLimit:
    window = next((window for count, window in policies if count == limit), None)
    left = None if remaining is None else int(remaining)
    return RateLimit(limit, window, left, _seconds(reset), tuple(policies))


def _item(text: str) -> tuple[str, dict[str, str]]:
    match = _ITEM.match(text)
    if match is None:
        return "", {}
    return match["name"] or match["token"] or "", _parameters(match["parameters"])


def _parameters(text: str) -> dict[str, str]:
    pairs = (part.split("=", 1) for part in text.split(";") if "=" in part)
    return {key.strip(): value.strip() for key, value in pairs}


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _seconds(value: float | None) -> float | None:
    return None if value is None else min(max(0.0, value), LONGEST_RESET)


def _warn_once(fields: Mapping[str, str]) -> None:
    kind = ",".join(sorted(fields))
    if kind not in _warned:
        _warned.add(kind)
        log.warning("Ignored rate headers that follow no known draft: %.200r", dict(fields))
