"""One row of a batch: the cells it may have, and the request they make. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.api.models import GenerateRequest
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.names import STEM_BYTES, check_name
from airflow_provider_claid.delivery.values import is_blank, number_of, text_of

FIELD = "prompts"
"""The argument that errors of a batch's input name."""

COLUMNS = ("prompt", "id", "number_of_images", "guidance_scale")
_COLUMNS = frozenset(COLUMNS)


@dataclass(frozen=True)
class Defaults:
    """
    What an item gets that says nothing of it; numbers, not texts. `output` is `storage://name/folder/` or None.

    `room` is how many bytes an id may have where the pictures go.
    """

    number_of_images: int = 1
    guidance_scale: float = 5.0
    output: str | None = None
    room: int = STEM_BYTES


@dataclass(frozen=True, slots=True)
class Item:
    """
    One job of a batch; `index` counts the accepted items from 0, `where` is its place in the input for messages.

    `id` is the text that the input gives, or None: a safe file name, unique in the batch by its `name_key`. The files
    are called what `check_name` makes of it.
    """

    index: int
    id: str | None
    request: GenerateRequest
    where: str


@dataclass(frozen=True, slots=True)
class Row:
    """What the input has at a line, row or item, counted from 1: cells by column, or the fault of a bad row."""

    number: int
    cells: Mapping[str, Any]
    fault: str = ""


def row_of(number: int, value: Any) -> Row:
    """Read an item of a list or of JSON: a prompt, which may be a number or date, or a mapping with more."""
    if isinstance(value, Mapping):
        return Row(number, value)
    if isinstance(text := text_of(value), str):
        return Row(number, {"prompt": text})
    return Row(number, {}, f"got {value!r:.40} ({type(value).__name__}); accepted is a text or a mapping.")


def check_columns(names: Collection[Any], where: str) -> None:
    """Raise `ClaidInputError` for a column that means nothing here: ignored, it would be paid for all the same."""
    if _COLUMNS.issuperset(names):
        return
    unknown = [name for name in names if name not in _COLUMNS]
    came = f"the unknown column {', '.join(f'{name!r:.40}' for name in unknown[:5])} in {where}"
    raise ClaidInputError(FIELD, came, f"the columns {', '.join(COLUMNS)}", _suggestion(unknown))


def check_header(names: list[str], where: str) -> None:
    """Check the columns of a table: `prompt` among them, each known and there once."""
    check_columns(names, where)
    if "prompt" not in names:
        came = f"no column prompt in {where}, which has {', '.join(names) or 'none'}"
        raise ClaidInputError(
            FIELD, came, f"a table with the columns {', '.join(COLUMNS)}", "Name that of the prompts."
        )
    if repeated := {name for name in names if names.count(name) > 1}:
        came = f"the column {min(repeated)!r} more than once in {where}"
        raise ClaidInputError(FIELD, came, "each column once", "Leave one out.")


def is_empty(cells: Mapping[str, Any]) -> bool:
    """Tell whether no cell of a row says anything, as in the rows that a spreadsheet leaves behind a table."""
    return all(map(is_blank, cells.values()))


def item_of(row: Row, index: int, where: str, defaults: Defaults) -> Item:
    """Make the item of a row whose columns are known; a `ClaidInputError` names the cell that makes it a bad row."""
    cells = row.cells
    if is_blank(prompt := cells.get("prompt")):
        raise ClaidInputError("prompt", "nothing", "a text", "Each row needs one.")
    images, scale = cells.get("number_of_images"), cells.get("guidance_scale")
    request = check_request(
        prompt,
        defaults.number_of_images if is_blank(images) else _whole(images),
        defaults.guidance_scale if is_blank(scale) else _number(scale),
        defaults.output,
    )
    given = cells.get("id")
    return Item(index, None if is_blank(given) else _id(given, defaults.room), request, where)


def _suggestion(unknown: list[Any]) -> str:
    for name in unknown:
        if close := get_close_matches(str(name).strip().lower(), COLUMNS, n=1, cutoff=0.5):
            return f"Did you mean {close[0]!r} by {str(name)!r}?"
    return "Leave it out, or rename it."


def _number(value: Any) -> Any:
    """Turn a text, a Decimal or NumPy's number into a number; what is none is left for the check of the request."""
    value = number_of(value)
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _whole(value: Any) -> Any:
    """Turn 2.0 and its text into 2, which is what a table with gaps makes of whole numbers."""
    number = _number(value)
    return int(number) if isinstance(number, float) and number.is_integer() else number_of(value)


def _id(value: Any, room: int) -> str:
    check_name(value, "id", most=room)
    return str(text_of(value))
