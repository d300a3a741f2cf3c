"""
The prompts of a batch: a list, or a file that is streamed, all of it checked before anything is paid.

Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.checks import check_on_bad_row, check_request
from airflow_provider_claid.delivery.prompts.fetch import PromptFile, fetch, prompt_file
from airflow_provider_claid.delivery.prompts.formats import READERS, require_pyarrow
from airflow_provider_claid.delivery.prompts.rows import FIELD, Defaults, Item, Row, check_columns, item_of, row_of
from airflow_provider_claid.delivery.prompts.tally import Scan, Tally

__all__ = ["Defaults", "Item", "Scan", "Source", "prompt_file", "source_of"]

log = logging.getLogger(__name__)

_SHOWN = 10
"""Bad rows that an error, or the log, tells of one by one."""

_Prompts = PromptFile | tuple[Any, ...]


def source_of(
    prompts: Any,
    defaults: Defaults,
    *,
    storage_conn_id: str | None = None,
    on_bad_row: str = "fail",
    output_name: str = "output_folder",
) -> Source:
    """
    Return where the items of a batch come from; raises `ClaidInputError` for what needs no look inside.

    `prompts` is a list of texts and mappings, or the URI of a prompt file, reached by a connection that was looked up.
    """
    check_on_bad_row(on_bad_row)
    images, scale = defaults.number_of_images, defaults.guidance_scale
    check_request("any prompt", images, scale, defaults.output, output_name=output_name)
    read = tuple(prompts) if isinstance(prompts, list | tuple) else prompt_file(prompts, storage_conn_id)
    return Source(read, defaults, skip=on_bad_row == "skip")


class Source:
    """
    The items of a batch, in order; each pass gives the same. A context manager: entering it copies the file.

    Entering raises `ClaidInputError`, or `ClaidNotSentError` where the store may answer later. Only `scan` compares
    ids, so scan before anything is paid.
    """

    def __init__(self, prompts: _Prompts, defaults: Defaults, *, skip: bool) -> None:
        self._prompts = prompts
        self._defaults = defaults
        self._skip = skip
        self._unit = READERS[prompts.end][0] if isinstance(prompts, PromptFile) else "item"
        self._copy: Path | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        if isinstance(self._prompts, PromptFile):
            if self._prompts.end == ".parquet":
                require_pyarrow()
            with ExitStack() as opening:
                folder = opening.enter_context(tempfile.TemporaryDirectory(prefix="claid-prompts-"))
                self._copy = Path(folder, f"prompts{self._prompts.end}")
                fetch(self._prompts, self._copy)
                self._opened = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._copy = None
        self._opened.close()

    def __iter__(self) -> Iterator[Item]:
        """Stream the items; the first bad row is a `ClaidInputError`, unless bad rows are skipped."""
        for _, found in self._checked():
            if isinstance(found, Item):
                yield found
            elif not self._skip:
                raise _bad_rows([found], "a bad row")

    def scan(self, *, deduplicate: bool = False) -> Scan:
        """Check everything in one pass; a `ClaidInputError` tells of up to ten bad rows, or of the whole input."""
        tally = Tally(self._unit, deduplicate=deduplicate)
        bad: list[str] = []
        skipped = 0
        for number, found in self._checked():
            if isinstance(found, Item):
                tally.add(found, number)
                continue
            skipped += 1
            if skipped <= _SHOWN:
                bad.append(found)
            elif not self._skip:
                raise _bad_rows(bad, f"more than {_SHOWN} bad rows, of which these are the first")
        if bad and not (self._skip and tally.total):
            raise _bad_rows(bad, f"{skipped} bad row{'s' * (skipped > 1)}{' and no other' * (not tally.total)}")
        if not tally.total:
            raise self._nothing()
        _tell(bad, skipped)
        return tally.scan(skipped, tuple(bad))

    def _checked(self) -> Iterator[tuple[int, Item | str]]:
        """Yield the number of each row and its item, or what makes it a bad row."""
        index = 0
        for row in self._rows():
            where = f"{self._unit} {row.number}"
            if row.fault:
                yield row.number, f"{where}: {row.fault}"
                continue
            check_columns(row.cells, where)
            try:
                item = item_of(row, index, where, self._defaults)
            except ClaidInputError as fault:
                yield row.number, f"{where}: {fault.message}"
                continue
            yield row.number, item
            index += 1

    def _rows(self) -> Iterator[Row]:
        if not isinstance(self._prompts, PromptFile):
            return (row_of(number, value) for number, value in enumerate(self._prompts, 1))
        if self._copy is None:
            raise RuntimeError("A prompt file is read inside the `with` block of its source.")
        return READERS[self._prompts.end][1](self._copy)

    def _nothing(self) -> ClaidInputError:
        came = f"{self._prompts.uri} without a prompt" if isinstance(self._prompts, PromptFile) else "an empty list"
        return ClaidInputError(FIELD, came, "at least one prompt", "Did an earlier task make none?")


def _bad_rows(bad: list[str], count: str) -> ClaidInputError:
    fix = "\n".join(["Correct them, or leave bad rows out by on_bad_row='skip':", *bad])
    return ClaidInputError(FIELD, count, "rows that each make a request", fix)


def _tell(bad: list[str], skipped: int) -> None:
    for reason in bad:
        log.warning("A bad row of the prompts is left out: %s", reason)
    if skipped > len(bad):
        log.warning("%d bad rows of the prompts are left out, the %d above among them.", skipped, len(bad))
