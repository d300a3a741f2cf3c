"""What of a template field is known before it is rendered."""

from __future__ import annotations

from datetime import datetime
from typing import Any


class Later:
    """Stands for a value that is known only when the task runs."""


def is_literal(value: Any) -> bool:
    """Tell whether a value of a template field is final already: no Jinja in it, and no reference to an XCom."""
    if isinstance(value, str):
        return not any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, list | tuple | set):
        return all(map(is_literal, value))
    if isinstance(value, dict):
        return all(map(is_literal, value.values()))
    return value is None or isinstance(value, int | float | datetime)
