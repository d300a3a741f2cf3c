"""From an Airflow connection to an `Account`, with every field checked and named where it is wrong."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from airflow_provider_claid.api.endpoint import DEFAULT_BASE_URL, Endpoint, is_loopback_host
from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.pacing.schedule import Pace

log = logging.getLogger(__name__)

_HOST_FORM = "empty, or the address of the API as https://host or https://host:port"
_STORAGES_FORM = 'an object such as {"my-storage": "s3://bucket/prefix/"}'
_EXTRA = {
    "account", "daily_credits", "pacing_conn_id", "request_timeout", "requests_per_minute", "requests_per_second",
    "storages",
}  # fmt: skip
_LATER = {
    "pacing_conn_id": "Pacing over several hosts is not built yet: leave it empty and give each host its share of "
    "requests_per_second and requests_per_minute.",
}


class AirflowConnection(Protocol):
    """What we read of an Airflow connection, of any Airflow version."""

    conn_id: str
    conn_type: str | None
    host: str | None
    port: int | None
    schema: str | None
    login: str | None
    password: str | None
    extra: str | None


def account_from(connection: AirflowConnection, pacing_dir: Path) -> Account:
    """Read a connection of type `claid`; raises `ClaidConfigurationError` for the first field that is wrong."""
    form = _Form(connection)
    if unknown := sorted(form.extra.keys() - _EXTRA):
        log.warning("Connection %r: extra %s is not known and not used.", connection.conn_id, ", ".join(unknown))
    form.check_type()
    key = form.api_key()
    limits = Pace(
        form.number("requests_per_second", 4.0, 1 / 60, 10_000),
        int(form.number("requests_per_minute", 120, 1, 1_000_000, whole=True)),
    )
    for name, fix in _LATER.items():
        if form.extra.get(name) not in (None, ""):
            raise form.wrong(name, repr(form.extra[name]), "nothing", fix)
    return Account(
        name=form.text("account") or hashlib.blake2b(key.encode(), digest_size=16, person=b"claid-account").hexdigest(),
        endpoint=Endpoint(key, form.base_url(), form.number("request_timeout", 180.0, 0.1, 3600)),
        pace=limits,
        pacing_dir=pacing_dir,
        daily_credits=form.daily_credits(),
        storages=form.storages(),
    )


class _Form:
    def __init__(self, connection: AirflowConnection) -> None:
        self._connection = connection
        self.extra = self._parse_extra(connection.extra)

    def wrong(self, field: str, came: str, accepted: str, fix: str = "") -> ClaidConfigurationError:
        if "@" in came:
            came = "an address with user info (not shown)"
        return ClaidConfigurationError(f"Connection {self._connection.conn_id!r}, {field}", came, accepted, fix)

    def check_type(self) -> None:
        if self._connection.conn_type not in (None, "", "claid"):
            fix = "The password of another service must not be sent to Claid."
            raise self.wrong("conn_type", repr(self._connection.conn_type), "claid", fix)

    def api_key(self) -> str:
        key = (self._connection.password or "").strip()
        if not key:
            raise self.wrong("password", "nothing", "the API key", "Put the key from claid.ai/account/api into it.")
        if not key.isascii() or not key.isprintable() or " " in key:
            # What came is not shown: it is a secret even when it is broken.
            raise self.wrong("password", "a key with blanks or unusual characters", "the API key", "Copy it once more.")
        if self._connection.login:
            raise self.wrong("login", "a user name", "nothing", "The API key goes into the password alone.")
        return key

    def base_url(self) -> str:
        host, scheme, port = (
            (self._connection.host or "").strip(),
            self._connection.schema or "",
            self._connection.port,
        )
        if scheme not in {"", "http", "https"}:
            raise self.wrong("schema", repr(scheme), "empty, https or http", "A path is not part of the address.")
        if not host:
            if port or scheme == "http":
                raise self.wrong("host", "nothing, with a port or schema", _HOST_FORM, "Give the host too.")
            return DEFAULT_BASE_URL
        parts = self._split(host, scheme)
        if "@" in parts.netloc:
            raise self.wrong("host", "an address with user info", _HOST_FORM, "The API key goes into the password.")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise self.wrong("host", repr(host), _HOST_FORM, "Leave out the path; it is added.")
        if parts.scheme == "http" and not is_loopback_host(parts.hostname or ""):
            raise self.wrong(
                "host", f"plain http to {parts.hostname}", "https", "http would show the key to the network."
            )
        return self._joined(parts, port)

    def _split(self, host: str, scheme: str) -> SplitResult:
        """Split the host field into an address; a bare IPv6 address gets its brackets."""
        if "://" in host:
            given = host.split("://", 1)[0].lower()
            if given not in {"http", "https"} or (scheme and given != scheme):
                raise self.wrong(
                    "host", repr(given) + " as scheme", _HOST_FORM, "Say it once, in the host or the schema."
                )
        else:
            bare = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
            host = f"{scheme or 'https'}://{bare}"
        try:
            parts = urlsplit(host)
            usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            usable = False
        if not usable or any(char.isspace() or char in "\\%" for char in host):
            raise self.wrong("host", "an address that cannot be read", _HOST_FORM)
        return parts

    def _joined(self, parts: SplitResult, port: int | None) -> str:
        if port and parts.port and port != parts.port:
            raise self.wrong("port", f"{port}, but the host says {parts.port}", "one port", "Say it once.")
        name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        number = parts.port or port
        return f"{parts.scheme}://{name}:{number}" if number else f"{parts.scheme}://{name}"

    def text(self, name: str) -> str:
        value = self.extra.get(name)
        if value in (None, ""):
            return ""
        if not isinstance(value, str):
            raise self.wrong(f"extra {name}", f"{value!r:.60}", "a text")
        return value

    def number(self, name: str, default: float, at_least: float, at_most: float, *, whole: bool = False) -> float:
        value = self.extra.get(name)
        if value in (None, ""):
            return default
        kind = "whole number" if whole else "number"
        accepted = f"a {kind} from {at_least:.3g} to {at_most:g}, or the same as a text"
        try:
            found = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            found = float("nan")
        if not at_least <= found <= at_most or (whole and found != int(found)):
            empty = "no limit" if default == math.inf else f"{default:g}"
            raise self.wrong(f"extra {name}", f"{value!r:.60}", accepted, f"Leave it empty for {empty}.")
        return found

    def daily_credits(self) -> int | None:
        found = self.number("daily_credits", math.inf, 1, 1_000_000_000, whole=True)
        return None if found == math.inf else int(found)

    def storages(self) -> Mapping[str, str]:
        value = self.extra.get("storages")
        if value in (None, ""):
            return {}
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise self.wrong("extra storages", f"{value!r:.60}", _STORAGES_FORM) from None
        if not isinstance(value, dict):
            raise self.wrong("extra storages", f"{value!r:.60}", _STORAGES_FORM)
        for name, uri in value.items():
            if not isinstance(uri, str) or not uri.startswith(("s3://", "gs://", "file://")) or not uri.endswith("/"):
                raise self.wrong(f"extra storages, {name!r}", f"{uri!r:.60}", _STORAGES_FORM, "End it with a slash.")
        return value

    def _parse_extra(self, extra: str | None) -> dict[str, Any]:
        if not extra:
            return {}
        try:
            found = json.loads(extra)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self.wrong("extra", "what is no JSON object", 'a JSON object such as {"request_timeout": 180}')
        return found
