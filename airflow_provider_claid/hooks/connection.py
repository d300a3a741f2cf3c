"""From an Airflow connection to an `Account`, with every field checked and named where it is wrong."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from airflow_provider_claid.api.endpoint import DEFAULT_BASE_URL, Endpoint, is_loopback_host
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.hooks.form import AirflowConnection, Form
from airflow_provider_claid.hooks.lookup import not_found
from airflow_provider_claid.hooks.place import KINDS, PACING_FORM, place_from
from airflow_provider_claid.pacing.place import Place
from airflow_provider_claid.pacing.schedule import Pace

log = logging.getLogger(__name__)

_HOST_FORM = "empty, or the address of the API as https://host or https://host:port"
_STORAGES_FORM = 'an object such as {"my-storage": "s3://bucket/prefix/"}'
_EXTRA = {
    "account", "daily_credits", "pacing_conn_id", "request_timeout", "requests_per_minute", "requests_per_second",
    "storages",
}  # fmt: skip


def account_from(
    connection: AirflowConnection, pacing_dir: Path, find: Callable[[str], AirflowConnection | None]
) -> Account:
    """
    Read a connection of type `claid`; raises `ClaidConfigurationError` for the first field that is wrong.

    `find` looks another connection up, by its id: the one that `pacing_conn_id` names; None: it is not defined.
    """
    form = _ClaidForm(connection)
    if unknown := sorted(form.extra.keys() - _EXTRA):
        form.refuse_misspelled(unknown)
        log.warning("Connection %r: extra %s is not known and not used.", connection.conn_id, ", ".join(unknown))
    form.check_type()
    key = form.api_key()
    limits = Pace(
        form.number("requests_per_second", 4.0, 1 / 60, 10_000),
        int(form.number("requests_per_minute", 120, 1, 1_000_000, whole=True)),
    )
    return Account(
        name=form.text("account") or hashlib.sha256(b"claid-account\0" + key.encode()).hexdigest()[:32],
        endpoint=Endpoint(key, form.base_url(), form.number("request_timeout", 180.0, 0.1, 3600)),
        pace=limits,
        pacing_dir=pacing_dir,
        daily_credits=form.daily_credits(),
        storages=form.storages(),
        pacing_place=form.pacing_place(find),
    )


class _ClaidForm(Form):
    def refuse_misspelled(self, unknown: Sequence[str]) -> None:
        """Refuse a field that means one of ours: a limit that is not heeded costs money."""
        for name in unknown:
            if close := get_close_matches(name.lower().replace("-", "_"), sorted(_EXTRA), n=1, cutoff=0.8):
                raise self.wrong(f"extra {name}", "a field that is not known", close[0], f"Did you mean {close[0]!r}?")

    def check_type(self) -> None:
        if self.connection.conn_type not in (None, "", "claid"):
            fix = "The password of another service must not be sent to Claid."
            raise self.wrong("conn_type", repr(self.connection.conn_type), "claid", fix)

    def api_key(self) -> str:
        key = (self.connection.password or "").strip()
        if not key:
            raise self.wrong("password", "nothing", "the API key", "Put the key from claid.ai/account/api into it.")
        if not key.isascii() or not key.isprintable() or " " in key:
            # What came is not shown: it is a secret even when it is broken.
            raise self.wrong("password", "a key with blanks or unusual characters", "the API key", "Copy it once more.")
        if self.connection.login:
            raise self.wrong("login", "a user name", "nothing", "The API key goes into the password alone.")
        return key

    def base_url(self) -> str:
        host, scheme, port = (
            (self.connection.host or "").strip(),
            self.connection.schema or "",
            self.connection.port,
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

    def pacing_place(self, find: Callable[[str], AirflowConnection | None]) -> Place | None:
        name = self.text("pacing_conn_id")
        if not name:
            return None
        found = find(name)
        if found is None:
            raise self.wrong("extra pacing_conn_id", not_found(name), PACING_FORM, "Add it under Admin → Connections.")
        if found.conn_type not in KINDS:
            came = f"{name!r}, which is of type {found.conn_type!r}"
            raise self.wrong("extra pacing_conn_id", came, PACING_FORM, "Leave it empty if one host uses the account.")
        return place_from(found)
