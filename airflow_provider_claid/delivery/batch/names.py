"""Names of the pictures of a batch: they may be corrected between attempts, and must take no picture's place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.batch.manifest import Manifest
from airflow_provider_claid.delivery.prompts.rows import FIELD, Item


def require_free_names(items: Iterable[Item], manifest: Manifest) -> None:
    """
    Refuse an id under which another item of this batch has been delivered, before its ids were changed. Blocks.

    Raises `ClaidInputError`. Items that are delivered keep their pictures under the old id, and cost nothing here.
    """
    if not any(map(manifest.is_final, range(manifest.counts.total))):
        return
    delivered: dict[int, int] = {}
    for item in items:
        line = manifest.line(item.index) if manifest.is_final(item.index) else None
        if line and line.id is not None and line.duplicate_of is None and _digest(line.id) != _digest(item.id or ""):
            delivered[_digest(line.id)] = item.index
    for item in items if delivered else ():
        first = delivered.get(_digest(item.id)) if item.id and not manifest.is_final(item.index) else None
        if first is not None:
            came = f"the id {item.id!r:.80} for item {item.index}, under which item {first} has been delivered"
            fix = "Its pictures would be overwritten: give this item another id."
            raise ClaidInputError(FIELD, came, "an id under which no other item has been delivered", fix)


def _digest(given: str) -> int:
    # Many file systems take no notice of case.
    return int.from_bytes(hashlib.blake2b(given.casefold().encode(), digest_size=15).digest())
