"""What a whole pass over a batch's items adds up to."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.api.models import CREDITS_PER_IMAGE
from airflow_provider_claid.delivery.names import name_key
from airflow_provider_claid.delivery.prompts.rows import FIELD, Item


@dataclass(frozen=True)
class Scan:
    """
    The number of items, and the credits they cost at most; those in `duplicates` cost none.

    `fingerprint` (32 hexadecimal digits) tells these requests, in order, from any others. Ids are no part of it, so
    pictures that were paid for can be had under corrected names. `skipped` bad rows were left out; `reasons` has those
    of the first ten. `duplicates` leads from the index of an item to that of the first with the same request, if they
    were looked for. `names` leads from the `digest_of` an id to the index of its item.
    """

    total: int
    credits: int
    fingerprint: str
    skipped: int = 0
    reasons: tuple[str, ...] = ()
    duplicates: Mapping[int, int] = field(default_factory=dict)
    names: dict[int, int] = field(default_factory=dict, repr=False)


class Tally:
    """Adds up items. It keeps of each id, and of each request if duplicates are looked for, about 130 bytes."""

    def __init__(self, unit: str, *, deduplicate: bool) -> None:
        self.total = 0
        self._unit = unit
        self._deduplicate = deduplicate
        self._credits = 0
        self._hash = hashlib.sha256()
        self._ids: dict[int, int] = {}
        self._numbers: array[int] = array("q")
        self._requests: dict[int, int] = {}
        self._duplicates: dict[int, int] = {}

    def add(self, item: Item, number: int) -> None:
        """Add the item of a row; an id that came before is a `ClaidInputError`."""
        self.total += 1
        request = json.dumps(item.request.model_dump(mode="json"), sort_keys=True)
        self._hash.update(f"{request}\n".encode())
        self._numbers.append(number)
        if item.id is not None:
            self._check_id(item)
        if self._deduplicate:
            first = self._requests.setdefault(_digest(request), item.index)
            if first != item.index:
                self._duplicates[item.index] = first
                return
        self._credits += item.request.options.number_of_images * CREDITS_PER_IMAGE

    def scan(self, skipped: int, reasons: tuple[str, ...]) -> Scan:
        """Return the sums."""
        fingerprint = self._hash.hexdigest()[:32]
        return Scan(self.total, self._credits, fingerprint, skipped, reasons, self._duplicates, self._ids)

    def _check_id(self, item: Item) -> None:
        first = self._ids.setdefault(digest_of(item.id), item.index)
        if first != item.index:
            unit, numbers = self._unit, self._numbers
            came = f"the id {item.id!r:.80} in {unit} {numbers[item.index]}, which {unit} {numbers[first]} has too"
            fix = "Pictures are named by it, whatever its case: one would overwrite the other."
            raise ClaidInputError(FIELD, came, "an id of its own for each item", fix)


def digest_of(given: str | None) -> int:
    """Return what is kept of an id: equal for those that name the same files."""
    return _digest(name_key(given))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:15])
