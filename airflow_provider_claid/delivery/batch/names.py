"""Names of the pictures of a batch: they may be corrected between attempts, and must take no other picture's place."""

from __future__ import annotations

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.batch.endings import Line
from airflow_provider_claid.delivery.batch.manifest import Manifest
from airflow_provider_claid.delivery.prompts.rows import FIELD
from airflow_provider_claid.delivery.prompts.tally import Scan, digest_of


def require_free_names(manifest: Manifest, scan: Scan) -> None:
    """
    Raise `ClaidInputError` if an id is that of pictures which an earlier attempt has stored for another prompt.

    Ids may be corrected from try to try, but a picture of one prompt is never written over that of another. Forgets
    the names of the scan, which nobody needs any more. Blocks.
    """
    for raw in manifest.read():
        line = Line.unpacked(raw)
        if line.id is None or line.duplicate_of is not None or all(image.get("error") for image in line.images):
            continue
        index = scan.names.get(digest_of(line.id), line.index)
        if index != line.index:
            came = f"the id {line.id!r:.80} for prompt {index + 1}, which names pictures of prompt {line.index + 1}"
            fix = "An earlier attempt has stored them. Give this prompt another id."
            raise ClaidInputError(FIELD, came, "an id of its own for each prompt", fix)
    scan.names.clear()
