"""Pictures at Claid's temporary addresses: there is no list of them, so each is asked for by itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from airflow_provider_claid.api.downloads import Part, read_part
from airflow_provider_claid.api.errors import ClaidInputError, ClaidPictureError
from airflow_provider_claid.delivery.images import HEAD_BYTES, MAX_BYTES
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.delivery.watching.expected import Promise, Verify
from airflow_provider_claid.delivery.watching.inspection import Inspection, check_size, inspect

PATIENCE = 60.0
"""Seconds that a part of a picture may take."""


async def inspect_web(promise: Promise, verify: Verify, min_bytes: int, *, allow_loopback: bool) -> Inspection:
    """Look at the picture at a temporary address; raises `ClaidPictureError` while it cannot be read."""

    async def part(start: int, end: int) -> Part:
        try:
            async with asyncio.timeout(PATIENCE):
                return await read_part(
                    promise.uri, start, end, allow_loopback=allow_loopback, limit=MAX_BYTES, patience=PATIENCE
                )
        except TimeoutError as late:
            raise ClaidPictureError(f"It was not sent within {PATIENCE:g} s", billed="yes") from late

    def read(start: int, end: int) -> bytes:
        held = first
        if end > first.start + len(first.data):
            held = asyncio.run_coroutine_threadsafe(part(start, end), loop).result(2 * PATIENCE)
        return held.data[start - held.start : end - held.start]

    loop = asyncio.get_running_loop()
    first = await part(0, HEAD_BYTES)
    if fault := check_size(promise, first.size, min_bytes):
        return Inspection(fault)
    return await in_thread(inspect, promise, first.size, read, verify)


def refuse_expired(promise: Promise) -> None:
    """Raise `ClaidInputError` if the temporary address is past the time that was said of it."""
    if promise.expires_at is not None and datetime.fromisoformat(promise.expires_at) < datetime.now(UTC):
        came = f"{promise.uri.partition('?')[0]}, which died at {promise.expires_at}"
        raise ClaidInputError("images", came, "pictures that last", "Give the operator save_to or output_folder.")
