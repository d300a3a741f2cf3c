"""
Looking at pictures that are where Claid put them, in a storage of the user's: whole, of the promised size, not black.

Reading them needs rights that nobody else proves, so they are proven before anything is paid.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidError, ClaidInputError, ClaidNotSentError
from airflow_provider_claid.api.models import GeneratedImage
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.delivery.watching.buckets import open_bucket
from airflow_provider_claid.delivery.watching.expected import Address, Promise
from airflow_provider_claid.delivery.watching.watch import Watch

log = logging.getLogger(__name__)

LOOK_FOR = 30.0
"""Seconds for which a picture that is not there, or not whole, is looked for again: it may still be on its way."""

LOOK_EVERY = 1.0

_CHECK = ".claid-read-check"
"""What is asked for to prove that a folder can be read; it is never there."""

_REMEDIES = (
    "Give storage_conn_id with the rights to list and to read there; or name the place of the storage in the "
    "connection's extra storages; or take on_filtered='keep': then the pictures are not looked at."
)
_readable: set[Address] = set()
"""Folders that this process may read."""

_proving = threading.Lock()


class Look(Protocol):
    """How pictures in an output folder are found: its connections and storages."""

    async def folder(self, uri: str) -> Address | None:
        """Locate a folder; None where that cannot be known before. Raises a kind of `ClaidError`."""

    async def watch(self, picture: Promise) -> Watch:
        """Return the watch for one picture; raises a kind of `ClaidError`."""


@dataclass(frozen=True)
class Seen:
    """What a look at a picture showed: `fault` says in what way it is not delivered; `black` None: not looked at."""

    fault: str | None = None
    black: bool | None = None


async def prove_readable(look: Look, folder: str) -> None:
    """
    Prove that pictures in an output folder can be looked at; two requests for the first of a process and folder.

    Raises `ClaidConfigurationError` that names the remedies, or `ClaidNotSentError` for what may pass.
    """
    try:
        address = await look.folder(folder)
        if address is not None:
            await in_thread(_try_to_read, address)
    except StoreBusyError as busy:
        raise ClaidNotSentError(f"The output folder {folder} cannot be listed now: {busy}") from busy
    except ClaidInputError as fault:
        came = f"a value that looks at the pictures in {folder}, which cannot be read: {fault.message.rstrip('.')}"
        raise ClaidConfigurationError("on_filtered", came, "pictures that can be read", _REMEDIES) from fault


async def look_at(look: Look, image: GeneratedImage, *, once: bool = False) -> Seen:
    """
    Look at a picture where Claid put it: a list and at most two reads.

    Unless `once`, it looks again for a while at one that is not there or not whole.
    Never raises a `ClaidError`: it is paid for, so what went wrong is in the answer.
    """
    promise, loop = Promise(str(image.uri), width=image.width, height=image.height), asyncio.get_running_loop()
    until, watch = loop.time() + (0 if once else LOOK_FOR), None
    while True:
        try:
            watch = watch or await look.watch(promise)
            report = await watch.look()
        except ClaidError as fault:
            return Seen(f"it could not be looked at: {fault.message}")
        if report.delivered:
            return Seen(black=bool(report.black))
        missing = "; ".join(report.missing.values()) or "it is not there"
        if loop.time() >= until:
            return Seen(missing)
        log.info("The picture %s is looked for again: %s", image.uri, missing)
        await asyncio.sleep(LOOK_EVERY)


def _try_to_read(address: Address) -> None:
    """List and read what begins as no picture does. Blocks; one does it for all who come meanwhile."""
    key = f"{address.key}{_CHECK}"
    with _proving:
        if address in _readable:
            return
        bucket = open_bucket(*address.store)
        list(bucket.find([key]))
        # Where both are allowed, it is not there; where only lists are, it is denied.
        with suppress(FileNotFoundError):
            bucket.read(key, 0, 1)
        _readable.add(address)
