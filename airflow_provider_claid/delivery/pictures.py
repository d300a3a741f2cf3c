"""From a temporary address to a checked picture in memory. A download costs nothing, so it is tried again."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from airflow_provider_claid.api.downloads import download
from airflow_provider_claid.api.errors import ClaidPictureError
from airflow_provider_claid.api.models import GeneratedImage
from airflow_provider_claid.delivery.backoff import doubling
from airflow_provider_claid.delivery.images import MAX_BYTES, BadPictureError, Header, accept, check, is_black
from airflow_provider_claid.delivery.threads import in_thread

log = logging.getLogger(__name__)

MAX_TRIES = 4
FIRST_PAUSE = 0.5
TIMEOUT = 60.0
"""Seconds that one try of a download may take in all."""


@dataclass(frozen=True)
class Fetched:
    """A picture as it came: its bytes, what they are, and whether it is the filter's black one (None: unknowable)."""

    data: bytes
    header: Header
    sha256: str
    filtered: bool | None


async def fetch(image: GeneratedImage, *, allow_loopback: bool) -> Fetched:
    """Download a picture and check it against what was promised; raise `ClaidPictureError` if it stays bad."""
    if image.tmp_url is None:
        raise ClaidPictureError("Claid gave no temporary address for it", billed="yes")
    for tries in range(1, MAX_TRIES + 1):
        # What comes like this every time, and decodes, is what was paid for.
        look = accept if tries == MAX_TRIES else check
        try:
            return await _fetch_once(image, image.tmp_url, look, allow_loopback=allow_loopback)
        except (BadPictureError, ClaidPictureError, TimeoutError) as cause:
            reason = cause.message if isinstance(cause, ClaidPictureError) else str(cause) or "it took too long"
            if tries == MAX_TRIES:
                raise ClaidPictureError(f"{reason} (tried {tries} times)", billed="yes") from cause
            log.warning("Download %d of %d of %s failed: %s", tries, MAX_TRIES, image.tmp_url, reason)
        await asyncio.sleep(doubling(FIRST_PAUSE, tries))
    raise AssertionError("the last try returns or raises")


async def _fetch_once(image: GeneratedImage, url: str, look: Callable[..., Header], *, allow_loopback: bool) -> Fetched:
    data = bytearray()
    async with (
        asyncio.timeout(TIMEOUT),
        aclosing(download(url, allow_loopback=allow_loopback, limit=MAX_BYTES, patience=TIMEOUT)) as chunks,
    ):
        async for chunk in chunks:
            data += chunk
    return await in_thread(examine, bytes(data), image, look)


def examine(data: bytes, image: GeneratedImage, look: Callable[..., Header] = accept) -> Fetched:
    """Check a whole picture against what was promised, by `accept` or `check`; raises `BadPictureError`."""
    header = look(data, width=image.width, height=image.height)
    filtered = is_black(data, header)
    if filtered is None:
        log.warning("Whether this %s is the black picture needs a Pillow that decodes it: install one.", header.format)
    return Fetched(data, header, hashlib.sha256(data).hexdigest(), filtered)
