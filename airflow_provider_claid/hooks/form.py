"""The fields of an Airflow connection, each checked when it is asked for, and named where it is wrong."""

from __future__ import annotations

import json
import math
from typing import Any, Protocol

from airflow_provider_claid.api.errors import ClaidConfigurationError


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


class Form:
    """What is read of a connection, and how what is wrong with it is said."""

    def __init__(self, connection: AirflowConnection) -> None:
        self.connection = connection
        self.extra = self._parse_extra(connection.extra)

    def wrong(self, field: str, came: str, accepted: str, fix: str = "") -> ClaidConfigurationError:
        """Return the error that names a field, what came, what is accepted, and the remedy."""
        if "@" in came:
            came = "an address with user info (not shown)"
        return ClaidConfigurationError(f"Connection {self.connection.conn_id!r}, {field}", came, accepted, fix)

    def text(self, name: str) -> str:
        """Return a text of the extra; "" where it is unset."""
        value = self.extra.get(name)
        if value in (None, ""):
            return ""
        if not isinstance(value, str):
            raise self.wrong(f"extra {name}", f"{value!r:.60}", "a text")
        return value

    def number(self, name: str, default: float, at_least: float, at_most: float, *, whole: bool = False) -> float:
        """Return a number of the extra, which a text may hold, or the default where it is unset."""
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

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a truth of the extra, which a text may hold, or the default where it is unset."""
        value = self.extra.get(name)
        if value in (None, ""):
            return default
        text = str(value).lower()
        if text not in {"true", "false"}:
            raise self.wrong(f"extra {name}", f"{value!r:.60}", "true or false")
        return text == "true"

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
