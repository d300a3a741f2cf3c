"""The rows of a prompt file on this machine, streamed, by its kind. Everything here blocks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidInputError
from airflow_provider_claid.delivery.prompts.lines import lines
from airflow_provider_claid.delivery.prompts.rows import FIELD, Row, check_header, is_empty, row_of
from airflow_provider_claid.delivery.prompts.table import Table

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
    """Yield the rows of a table with a header, separated by commas, semicolons, tabs or bars; empty ones left out."""
    with path.open("rb") as file:
        table = Table(lines(file))
        header = next(table, None)
        if header is None:
            return
        number, names, fault = header
        if fault:
            raise ClaidInputError(FIELD, f"line {number}: {fault}", "a header such as prompt,id")
        check_header(names, f"line {number}, {table.form}")
        hint = f"A text with the separator in it needs quotes. The fields are {table.form}."
        for number, values, fault in table:
            if fault:
                yield Row(number, {}, fault)
            elif len(values) != len(names):
                yield Row(number, {}, f"got {len(values)} fields; accepted are {len(names)}, as in the header. {hint}")
            else:
                yield Row(number, dict(zip(names, values, strict=True)))


def read_parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a Parquet file, empty ones left out."""
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
                    if not is_empty(cells):
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


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) < len(pairs):
        raise ValueError("a key is there twice")
    return cells
