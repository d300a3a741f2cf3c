"""A table in text: which separator it has, and its rows with the line that each begins in."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import chain

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.prompts.lines import LONGEST, too_long
from airflow_provider_claid.delivery.prompts.rows import COLUMNS, FIELD

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What may be between the fields of a table, in words."""

_ACCEPTED = f"one of {', '.join(SEPARATORS.values())}"
_EXCEL = re.compile(r'"?sep=(.?)\1*"?', re.IGNORECASE)
_COLUMNS = frozenset(COLUMNS)


def separator_of(line: str) -> tuple[str, bool]:
    """
    Return what separates the fields of a table by its first line, and whether that is Excel's `sep=;` and no header.

    A header has the separator that leaves nothing but known columns, else the one that is there most often, else
    commas. Raises `ClaidInputError` for another separator than those. Pure.
    """
    line = line.rstrip("\r\n")
    if told := _EXCEL.fullmatch(line):
        if told[1] not in SEPARATORS:
            came, fix = f"the separator {told[1]!r} in the first line, {line:.20}", "Save it with another."
            raise ClaidInputError(FIELD, came, _ACCEPTED, fix)
        return told[1], True
    headers = {separator: _fields(line, separator) for separator in SEPARATORS}
    known = (each for each, names in headers.items() if len(names) > 1 and _COLUMNS.issuperset(names))
    return next(known, None) or max(headers, key=lambda each: len(headers[each])), False


def _fields(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


class Table:
    """Yields (first line, fields, fault) of each row of a CSV file, the header first; rows of empty cells left out."""

    def __init__(self, source: Iterator[str]) -> None:
        self._read = 0
        self._first = 1
        self._length = 0
        while (line := next(source, "")).isspace():
            self._read += 1
        self.separator, is_told = separator_of(line)
        self._read += is_told
        self._source = source if is_told or not line else chain([line], source)
        self._reader = csv.reader(self._feed(), delimiter=self.separator, strict=True)

    @property
    def form(self) -> str:
        """What separates the fields, for messages."""
        return f"separated by {SEPARATORS[self.separator]}"

    def __iter__(self) -> Iterator[tuple[int, list[str], str]]:
        return self

    def __next__(self) -> tuple[int, list[str], str]:
        values: list[str] = []
        while not "".join(values).strip():
            self._first, self._length = self._read + 1, 0
            try:
                values = next(self._reader)
            except csv.Error as cause:
                return self._first, [], self._fault(cause)
        return self._first, values, ""

    def _feed(self) -> Iterator[str]:
        for line in self._source:
            self._read += 1
            self._length += len(line)
            if self._length > LONGEST + len("\r\n"):
                raise too_long(self._first)
            yield line

    def _fault(self, cause: csv.Error) -> str:
        if self._read == self._first:
            return f"got a row that is no CSV ({cause}); accepted are fields {self.form}."
        # Other rows may be within, which nobody who skips a bad one would mean.
        came = f"a quote in the row of line {self._first} that is wrong by line {self._read} ({cause})"
        raise ClaidInputError(FIELD, came, "quotes that are closed", 'A quote within a field is doubled: "".')
