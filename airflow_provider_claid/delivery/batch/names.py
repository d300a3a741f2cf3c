"""Names of the pictures of a batch: they may be corrected between attempts, and must take no other picture's place."""

from __future__ import annotations

import logging

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.batch.endings import FINAL, Line
from airflow_provider_claid.delivery.batch.manifest import Manifest
from airflow_provider_claid.delivery.prompts.rows import FIELD
from airflow_provider_claid.delivery.prompts.tally import Scan, digest_of

log = logging.getLogger(__name__)


def require_free_names(manifest: Manifest, scan: Scan) -> None:
    """
    Raise `ClaidInputError` if an id is that of pictures which an earlier attempt has stored for another prompt.

    Ids may be corrected from try to try, but a picture of one prompt is never written over that of another. What is
    delivered keeps its name, and a warning says so. Forgets the names of the scan, which nobody needs any more. Blocks.
    """
    renamed: list[str] = []
    for raw in manifest.read():
        line = Line.unpacked(raw)
        if line.id is None or line.duplicate_of is not None or all(image.get("error") for image in line.images):
            continue
        index = scan.names.get(digest_of(line.id))
        if index is None:
            renamed += [line.id] if line.outcome in FINAL else []
        elif index != line.index:
            came = f"the id {line.id!r:.80} for prompt {index + 1}, which names pictures of prompt {line.index + 1}"
            fix = "An earlier attempt has stored them. Give this prompt another id."
            raise ClaidInputError(FIELD, came, "an id of its own for each prompt", fix)
    if renamed:
        said = "%d delivered items keep the names of the ids that they had, %r the first: they are not stored anew."
        log.warning(said, len(renamed), renamed[0])
    scan.names.clear()
