"""What values of templates, tables and JSON stand for, as texts and as numbers, and what of a text is seen."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.delivery.values import control_in, has_visible, is_blank, number_of, plain, text_of

SOME = uuid.UUID("12345678-1234-5678-1234-567812345678")


class Number(IntEnum):
    TWO = 2


class Word(str, Enum):  # noqa: UP042 - whose `str` is not its text
    RED = "red"


def of_library(module, name, value=None, **members):
    """An object as a library makes it that is not installed here: of a type of this name, with `item`."""
    members = {"ndim": 0, "item": lambda self: value, "__str__": lambda self: str(value)} | members
    return type(name, (), {"__module__": module, **members})()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("042", "042"),
        ("", ""),
        (Word.RED, "red"),
        (42, "42"),
        (-1, "-1"),
        (Number.TWO, "2"),
        (10**20, "100000000000000000000"),
        (42.0, "42"),
        (4.25, "4.25"),
        (9007199254740991.0, "9007199254740991"),
        (Decimal("42"), "42"),
        (Decimal("42.00"), "42"),
        (Decimal("4.250"), "4.250"),
        (Decimal("1E+3"), "1000"),
        (Decimal(12345678901234567890), "12345678901234567890"),
        (SOME, str(SOME)),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (of_library("numpy", "int64", 42), "42"),
        (of_library("numpy", "float32", 42.0), "42"),
        (of_library("numpy", "str_", "a"), "a"),
        (of_library("numpy", "datetime64", "2026-01-02", item=lambda self: 1767312000000000000), "2026-01-02"),
    ],
)
def test_what_stands_for_a_text_becomes_it(value, text):
    assert text_of(value) == text
    assert type(text_of(value)) is str


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        4.2e16,
        9007199254740992.0,
        1e-7,
        math.nan,
        math.inf,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("1E+100000"),
        16**2000,
        b"42",
        [42],
        {"prompt": "a"},
        of_library("numpy", "ndarray", 42, ndim=1),
        of_library("numpy", "timedelta64", 42),
        of_library("pandas.core.series", "Series"),
    ],
)
def test_what_stands_for_no_text_is_left_to_be_refused(value):
    assert text_of(value) is value


@given(st.integers() | st.floats() | st.decimals() | st.text() | st.booleans() | st.none() | st.dates())
def test_a_text_never_has_an_exponent_and_gives_the_same_number(value):
    text = text_of(value)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and isinstance(text, str):
        assert "e" not in text.lower()
        assert type(value)(text) == value
    if isinstance(text, str):
        assert text_of(text) == text


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (Decimal(2), 2),
        (Decimal("2.0"), 2),
        (Decimal("7.5"), 7.5),
        (of_library("numpy", "float64", 7.5), 7.5),
        ("2", "2"),
    ],
)
def test_numbers_of_tables_become_pythons_own(value, number):
    assert number_of(value) == number
    assert type(number_of(value)) is type(number)


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("1E+999999")])
def test_decimals_that_are_no_number_are_none_as_floats_either(value):
    assert not math.isfinite(number_of(value))


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " \t\n",
        math.nan,
        Decimal("NaN"),
        Decimal("sNaN"),
        of_library("pandas._libs.missing", "NAType"),
        of_library("pandas._libs.tslibs.nattype", "NaTType"),
        of_library("numpy", "float64", math.nan),
        of_library("numpy", "datetime64", "NaT"),
    ],
)
def test_the_gaps_of_all_tables_are_gaps(value):
    assert is_blank(value)


@pytest.mark.parametrize("value", [0, False, "0", Decimal(0), [], "\u200b", of_library("pandas", "Timestamp")])
def test_what_says_something_is_no_gap(value):
    assert not is_blank(value)


def test_values_of_python_are_left_alone():
    for value in (1, "a", 2.5, None, [1], {"a": 1}, SOME):
        assert plain(value) is value


INVISIBLE = [
    "   ",
    "\0\0\0",
    "\u200b\u200b\u200b",  # zero width space
    "\ufeff\u2060\u200d",  # byte order mark, word joiner, joiner
    "\xa0\u3000\u2003",  # spaces that do not break, of Chinese, of printers
    "\xad\xad\xad",  # soft hyphens
    "\u202e\u2066\u2069",  # directions
    "\u3164\u115f\uffa0",  # fillers of Hangul
    "\u2800\u2800\u2800",  # the blank of Braille
    "\u0301\u034f\ufe0f",  # marks with nothing below
    "\U000e0061\U000e0100\U000e0fff",  # tags, variants, and what is kept for the like
    "\u2028\u2029\x85",  # ends of lines
    "\ufffe\ufdd0\U0010ffff",  # no characters
]


@pytest.mark.parametrize("text", INVISIBLE)
def test_what_nobody_sees_is_not_visible(text):
    assert not has_visible(text)


@pytest.mark.parametrize("text", ["a", "猫", "ก็", "🚲", "!", "½", "\u200b.", "क्‍ष", "\u202ea", "\ue000", "_"])
def test_what_is_seen_is_visible(text):
    assert has_visible(text)


@given(st.text())
def test_letters_and_digits_are_visible_wherever_they_stand(text):
    fillers = set("\u115f\u1160\u3164\uffa0")
    if any(each.isalnum() and each not in fillers for each in text):
        assert has_visible(text)


def test_control_characters_are_named_by_their_place():
    assert control_in("a\tb\r\nc é\x85") is None
    assert control_in("ab\0") == (3, "U+0000")
    assert control_in("\x1b[31mred") == (1, "U+001B")
    assert control_in("a\x0bb\x7f") == (2, "U+000B")
