"""
Bringing the pictures of one answer into a folder: each once, under a name that no other job's picture has.

That a stored picture is the one that was paid for is proven: by the request, the number and the SHA-256 in an object's
metadata; for a file, by the SHA-256 in the records. It never follows from a name, a time or a size.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from airflow_provider_claid.api.errors import ClaidError, ClaidPictureError
from airflow_provider_claid.api.models import GeneratedImage
from airflow_provider_claid.delivery.images import EXTENSIONS, BadPictureError
from airflow_provider_claid.delivery.mark import Mark, names, picture_id, whose
from airflow_provider_claid.delivery.pictures import Fetched, examine
from airflow_provider_claid.delivery.storage import Folder
from airflow_provider_claid.delivery.threads import in_thread

log = logging.getLogger(__name__)


class Copies(Protocol):
    """Where it is recorded what was put into folders that cannot tell it themselves; by the number of a submission."""

    async def copies(self, number: int) -> Mapping[str, str]:
        """Return the SHA-256 of each file, by its name."""

    async def note_copies(self, number: int, copies: Mapping[str, str]) -> None:
        """Add to them. Raises `ClaidError`."""


class Publisher:
    """
    Puts the pictures of one submission into a folder.

    `owner` is that of `Mark`; `number` that of the submission. Without `copies` nothing is known of files that earlier
    attempts have written.
    """

    def __init__(
        self,
        folder: Folder,
        stem: str,
        *,
        owner: str = "",
        request_id: str | None = None,
        number: int | None = None,
        copies: Copies | None = None,
    ) -> None:
        self._folder = folder
        self._stem = stem
        self._owner = owner
        self._request_id = request_id
        self._number = number or 0
        self._copies = copies if number else None
        self._noted: dict[str, str] | None = None
        self._noting = asyncio.Lock()

    async def publish(self, number: int, image: GeneratedImage, fetched: Fetched) -> str:
        """Store a picture under its name, or under one of its own where that is another job's; return its URI."""
        wanted = self._mark(number, image, fetched.sha256)
        plain, unique = names(self._stem, wanted.picture, fetched.header.extension)
        if await self._put(plain, wanted, fetched):
            return self._folder.uri(plain)
        if not await self._put(unique, wanted, fetched):
            raise ClaidPictureError(
                f"{self._folder.uri(plain)} and {self._folder.uri(unique)} are pictures of other jobs, or cannot be "
                "read; give this task another filename",
                billed="yes",
            )
        log.warning(
            "%s is not known to be a picture of this task, so this one is %s. Give each its own name: put {{ ds }}, "
            "and in mapped tasks {{ ti.map_index }}, into filename or save_to.",
            self._folder.uri(plain),
            self._folder.uri(unique),
        )
        return self._folder.uri(unique)

    async def find(self, number: int, image: GeneratedImage, extensions: Sequence[str]) -> tuple[str, Fetched] | None:
        """Return the URI and content of a picture that an earlier attempt has stored; None if that is not proven."""
        wanted = self._mark(number, image, "")
        for name in (name for each in extensions for name in names(self._stem, wanted.picture, each)):
            if (sha256 := await self._promised(name, wanted)) is None:
                continue
            data = await in_thread(self._folder.read, name)
            if data is not None and await in_thread(_sha256, data) == sha256:
                with suppress(BadPictureError):
                    return self._folder.uri(name), await in_thread(examine, data, image)
        return None

    async def _put(self, name: str, wanted: Mark, fetched: Fetched) -> bool:
        """Store a picture under this name, unless another job's is there."""
        there = None
        if not self._folder.keeps_identity:
            # Before it is written: a crash between the two must not make it a stranger's.
            there = await self._there(name, wanted)
            if there is None:
                await self._note(name, wanted.sha256)
        if there is None:
            if await self._written(name, wanted, fetched, over=False):
                return True
            there = await self._there(name, wanted)
        found = whose(there or Mark(), wanted)
        if found == "ours":
            await self._note(name, wanted.sha256)
            return await self._written(name, wanted, fetched, over=True)
        return found == "same"

    async def _written(self, name: str, mark: Mark, fetched: Fetched, *, over: bool) -> bool:
        def publish() -> str | None:
            return self._folder.publish(name, fetched.data, fetched.header.mime, mark, over=over)

        return await in_thread(publish) is not None

    async def _there(self, name: str, wanted: Mark) -> Mark | None:
        """Return whose the picture of this name is, by itself or by what is recorded; None if there is none."""
        there = await in_thread(self._folder.mark, name)
        if there is None or self._folder.keeps_identity:
            return there
        data = await in_thread(self._folder.read, name)
        sha256 = await in_thread(_sha256, data or b"")
        # Only what is still as this job wrote it is this job's. Without records an equal file will do.
        is_ours = any(notes.get(name) == sha256 for notes in await self._history())
        is_same = sha256 == wanted.sha256 and (is_ours or self._copies is None)
        return Mark(self._owner if is_ours else "", picture=wanted.picture if is_same else "", sha256=sha256)

    async def _promised(self, name: str, wanted: Mark) -> str | None:
        """Return the SHA-256 that the picture of this name must have to be the wanted one; None if it is not."""
        if not self._folder.keeps_identity:
            return (await self._notes()).get(name)
        there = await in_thread(self._folder.mark, name)
        return there.sha256 if there and there.picture == wanted.picture else None

    async def _history(self) -> list[dict[str, str]]:
        """Return what all submissions of this job have written, by name."""
        # Its own anew: another attempt at once may have written the file that is there.
        numbers = range(1, self._number + 1) if self._copies else ()
        return [await self._notes(), *[await self._read(number) for number in numbers]]

    async def _notes(self) -> dict[str, str]:
        if self._noted is None:
            self._noted = await self._read(self._number)
        return self._noted

    async def _read(self, number: int) -> dict[str, str]:
        return dict(await self._copies.copies(number)) if self._copies else {}

    async def _note(self, name: str, sha256: str) -> None:
        if self._copies is None or self._folder.keeps_identity:
            return
        async with self._noting:
            notes = await self._notes()
            if notes.get(name) == sha256:
                return
            notes[name] = sha256
            try:
                await self._copies.note_copies(self._number, {name: sha256})
            except ClaidError as fault:
                log.warning("That %s is this job's is not recorded: %s", self._folder.uri(name), fault.message)

    def _mark(self, number: int, image: GeneratedImage, sha256: str) -> Mark:
        picture = picture_id(self._request_id, image.tmp_url, number)
        return Mark(self._owner, self._request_id or "", picture, sha256)


def extensions_of(image: GeneratedImage) -> tuple[list[str], list[str]]:
    """Return the end of a file name that Claid promised, and the others that a picture can have."""
    promised = (image.ext or "png").lower().replace("jpeg", "jpg")
    return [each for each in EXTENSIONS if each == promised], [each for each in EXTENSIONS if each != promised]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
