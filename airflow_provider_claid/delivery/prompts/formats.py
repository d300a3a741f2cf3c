"""The rows of a prompt file on this machine, streamed, by its kind. Everything here blocks."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidInputError
from airflow_provider_claid.delivery.prompts.lines import LONGEST, lines, too_long
from airflow_provider_claid.delivery.prompts.rows import FIELD, Row, check_header, row_of

_BATCH, _BUFFER = 1_000, 2**20
"""Rows and bytes of a Parquet file in memory."""


def read_text(path: Path) -> Iterator[Row]:
    """Yield a prompt a line, blank lines left out."""
    with path.open("rb") as file:
        for number, line in enumerate(lines(file), 1):
            prompt = line.removesuffix("\n").removesuffix("\r")
            if "\r" in prompt:
                # Old line ends: several prompts would be paid for as one.
                yield Row(number, {}, "got a carriage return within; accepted are lines that end in LF or CRLF.")
            elif prompt and not prompt.isspace():
                yield Row(number, {"prompt": prompt})


def read_json(path: Path) -> Iterator[Row]:
    """Yield a JSON object or text a line, blank lines left out."""
    with path.open("rb") as file:
        for number, line in enumerate(lines(file), 1):
            if not line.isspace():
                try:
                    yield row_of(number, json.loads(line, object_pairs_hook=_object))
                except (ValueError, RecursionError) as cause:
                    yield Row(number, {}, f"got no JSON ({cause}); accepted is an object or a text a line.")


def read_csv(path: Path) -> Iterator[Row]:
    """Yield the rows of a table with commas and a header; a row is named by its first line."""
    with path.open("rb") as file:
        table = _Table(lines(file))
        header = next(table, None)
        if header is None:
            return
        number, names, fault = header
        if fault:
            raise ClaidInputError(FIELD, f"line {number}: {fault}", "a header such as prompt,id")
        check_header(names, f"line {number}, separated by commas")
        for number, values, fault in table:
            if fault:
                yield Row(number, {}, fault)
            elif len(values) != len(names):
                yield Row(number, {}, f"got {len(values)} fields; accepted are {len(names)}, as in the header.")
            else:
                yield Row(number, dict(zip(names, values, strict=True)))


def read_parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a Parquet file."""
    require_pyarrow()
    import pyarrow
    from pyarrow import parquet

    read = 0
    try:
        with parquet.ParquetFile(path, buffer_size=_BUFFER) as file:
            check_header(file.schema_arrow.names, "the schema")
            for batch in file.iter_batches(_BATCH, use_threads=False):
                for cells in batch.to_pylist():
                    read += 1
                    yield Row(read, cells)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as cause:
        came = f"a file that cannot be read as Parquet from row {read + 1} on ({str(cause)[:200]})"
        raise ClaidInputError(FIELD, came, "a whole Parquet file", "Write it again.") from cause


def require_pyarrow() -> None:
    """Raise `ClaidConfigurationError` if pyarrow, which Parquet files need, is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as cause:
        came, accepted = f"a .parquet file, without pyarrow ({cause})", "a .parquet file where pyarrow is installed"
        fix = "Install airflow-provider-claid[parquet]."
        raise ClaidConfigurationError(FIELD, came, accepted, fix) from None


READERS: dict[str, tuple[str, Callable[[Path], Iterator[Row]]]] = {
    ".txt": ("line", read_text),
    ".csv": ("line", read_csv),
    ".jsonl": ("line", read_json),
    ".parquet": ("row", read_parquet),
}
"""By the end of a file's name: what its rows are counted in, and what reads it."""


class _Table:
    """Yields (first line, fields, fault) of each row of a CSV file, blank ones left out."""

    def __init__(self, source: Iterator[str]) -> None:
        self._source = source
        self._reader = csv.reader(self._feed(), strict=True)
        self._read = 0
        self._first = 1
        self._length = 0

    def __iter__(self) -> Iterator[tuple[int, list[str], str]]:
        return self

    def __next__(self) -> tuple[int, list[str], str]:
        values: list[str] = []
        while not values:
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
            return f"got a row that is no CSV ({cause}); accepted are fields with commas between."
        # Other rows may be within, which nobody who skips a bad one would mean.
        came = f"a quote in the row of line {self._first} that is wrong by line {self._read} ({cause})"
        raise ClaidInputError(FIELD, came, "quotes that are closed", 'A quote within a field is doubled: "".')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) < len(pairs):
        raise ValueError("a key is there twice")
    return cells
