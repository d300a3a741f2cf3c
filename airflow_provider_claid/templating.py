"""What of a template field is known before it is rendered, and how a text is rendered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID


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
    return value is None or isinstance(value, int | float | date | Decimal | UUID)


def is_native(jinja_env: Any) -> bool:
    """Tell whether templates become Python values: `render_template_as_native_obj` of the Dag or the task."""
    return any(kind.__name__ == "NativeEnvironment" for kind in type(jinja_env).__mro__)


def is_no_text(value: Any) -> bool:
    """Tell whether a value becomes no part of a text: "photo of None", or "photo of ['red', 'blue']"."""
    return value is None or (isinstance(value, Collection) and not isinstance(value, str))


def render_text(
    template: str, context: Mapping[str, Any], jinja_env: Any, gap: Callable[[Any], None] = lambda value: None
) -> Any:
    """
    Render the template of a text in a native environment, and evaluate nothing that comes of it.

    Jinja reads such a text as Python: "1e5", "2026_01_01" and "1,2" would be numbers, and a quoted prompt would lose
    its quotes. A template that is one expression gives the value of that, None included. `gap` is told of a value that
    is no text and becomes a part of a longer one.
    """
    parts = list(jinja_env.from_string(template).generate(context))
    if len(parts) < 2:
        return parts[0] if parts else None
    for part in filter(is_no_text, parts):
        gap(part)
    return "".join(map(str, parts))


def noting_gaps(jinja_env: Any, gap: Callable[[Any], None]) -> Any:
    """Return an environment that renders alike, and tells `gap` of every expression whose value is no text."""

    def noted(value: Any) -> Any:
        if is_no_text(value):
            gap(value)
        return value

    return jinja_env.overlay(finalize=noted)
