"""Values as templates, tables and JSON give them, and the texts and numbers that they stand for. Pure."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from operator import methodcaller
from typing import Any
from uuid import UUID

EXACT_BELOW = 2**53
"""From here on a floating-point number has lost digits of the whole number that it was written as."""

_MOST_DIGITS = 1_000
_GAPS = {"NAType", "NaTType"}
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# What Airflow and Python write for a value that only a running task has.
_REFERENCES = re.compile(
    r"\{\{ task_instance\.xcom_pull\(|MappedArgument\(_input=|<(?:Task|Mapped)\(\w{1,250}\): | at 0x[0-9a-f]{6,16}>"
)
# Letters and a symbol by their category, and nothing but room on the page: Hangul fillers and the blank of Braille.
_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def plain(value: Any) -> Any:
    """Return a value of NumPy as Python's own, and a gap of pandas as None; any other value unchanged."""
    kind = type(value)
    if kind.__module__.partition(".")[0] == "pandas":
        return None if kind.__name__ in _GAPS else value
    if kind.__module__ != "numpy" or getattr(value, "ndim", None) != 0 or kind.__name__ == "timedelta64":
        return value
    if kind.__name__ == "datetime64":
        # Its own `item` makes a count of nanoseconds of it.
        return None if str(value) == "NaT" else str(value)
    return value.item()


def text_of(value: Any) -> Any:
    """
    Return the text that a number, a UUID, a date or a text stands for; unchanged what stands for none.

    Whole numbers have no point: 42, 42.0 and Decimal("42.00") are all "42", since a table with gaps makes 42.0 of 42.
    None, True, lists and floats that have lost digits (4.2e+16) stand for none, and whoever needs a text refuses them.
    """
    value = plain(value)
    for kind, text in _TEXTS:
        if isinstance(value, kind):
            return text(value)
    return value


def number_of(value: Any) -> Any:
    """Return the int or float that a number of NumPy or a Decimal stands for; any other value unchanged."""
    value = plain(value)
    if not isinstance(value, Decimal):
        return value
    if value.is_nan():
        return math.nan
    return int(value) if abs(value) < EXACT_BELOW and value == int(value) else float(value)


def is_blank(value: Any) -> bool:
    """Tell whether a cell says nothing: absent, None, a text of spaces, NaN or another gap of a table."""
    value = plain(value)
    if isinstance(value, str):
        return not value or value.isspace()
    if isinstance(value, Decimal):
        return value.is_nan()
    return value is None or (isinstance(value, float) and value != value)  # noqa: PLR0124 - NaN is not itself


def has_visible(text: str) -> bool:
    """Tell whether anything of a text is seen on a page: a letter, a digit or a sign, not marks alone."""
    return any(map(is_visible, text))


def is_visible(character: str) -> bool:
    """Tell whether a character is seen by itself; one that this Python does not know yet is taken to be."""
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Mn", "Mc", "Me"}:
        return False
    code = ord(character)
    # Plane 14 is kept for what is not shown; the last two of each plane, and some more, are no characters.
    return character not in _BLANKS and code >> 16 != 14 and code & 0xFFFE != 0xFFFE and not 0xFDD0 <= code <= 0xFDEF


def control_in(text: str) -> tuple[int, str] | None:
    """Find the first control character other than tab and line end: its place, from 1, and its name such as U+0000."""
    found = _CONTROLS.search(text)
    return (found.start() + 1, f"U+{ord(found[0]):04X}") if found else None


def reference_in(text: str) -> str | None:
    """
    Find what stands for the name of a value instead of the value, and tell what it begins with; None if nothing does.

    An f-string at parse time writes it: `MappedArgument(_input=…` for an argument of a mapped task group,
    `<… object at 0x7f…>` for a parameter of the Dag, `{{ task_instance.xcom_pull(…` for the output of a task.
    """
    found = _REFERENCES.search(text)
    return text[max(0, found.start() - 40 * found[0].startswith(" at ")) :][:60] if found else None


def _text_of_int(value: int) -> Any:
    # Python refuses to write more digits than that.
    return str(int(value)) if value.bit_length() < _MOST_DIGITS else value


def _text_of_float(value: float) -> Any:
    if not abs(value) < EXACT_BELOW:
        return value
    text = str(int(value)) if value.is_integer() else float.__repr__(value)
    return value if "e" in text else text


def _text_of_decimal(value: Decimal) -> Any:
    if not value.is_finite() or not -_MOST_DIGITS < value.adjusted() < _MOST_DIGITS:
        return value
    return str(int(value)) if value == int(value) else format(value, "f")


_TEXTS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (bool, bool),
    (int, _text_of_int),
    (float, _text_of_float),
    (Decimal, _text_of_decimal),
    (UUID, str),
    (date, methodcaller("isoformat")),
)
"""The kinds of values that stand for texts, the first one counts; True is a number to Python, and none here."""
