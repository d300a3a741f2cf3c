"""Where a batch reads its prompts from and what it writes into, with every Airflow connection looked up first."""

from __future__ import annotations

import hashlib
import re
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidNotSentError, ClaidRecordsError
from airflow_provider_claid.delivery.backoff import persistent
from airflow_provider_claid.delivery.batch.fence import Fence
from airflow_provider_claid.delivery.batch.journal import Journal, reserve
from airflow_provider_claid.delivery.batch.manifest import Manifest
from airflow_provider_claid.delivery.batch.names import require_free_names
from airflow_provider_claid.delivery.batch.sinks import FIELD, open_sink
from airflow_provider_claid.delivery.checks import Target, parse_target, split_file
from airflow_provider_claid.delivery.names import disk_limit, room_in
from airflow_provider_claid.delivery.prompts.source import Defaults, Source, prompt_file, source_of
from airflow_provider_claid.delivery.records.marks import mark_name
from airflow_provider_claid.delivery.records.objects import Objects, create_proven, open_objects, unreadable
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.hooks.storage import storage_connection

if TYPE_CHECKING:
    from airflow_provider_claid.delivery.account import Account
    from airflow_provider_claid.delivery.prompts.tally import Scan

RECORDS_FOLDER = "claid-records/"
"""The folder of the records below `save_to`, where no other place is given."""


@dataclass(frozen=True)
class Places:
    """
    The opened folder of a batch's records and that of its manifest, with the manifest's name; `key` names the batch.

    `chosen`: the manifest's name is a user's, and may be given to several batches. `fence` is that of this attempt.
    """

    key: str
    records: Objects
    folder: Target
    name: str
    fence: Fence
    chosen: bool = False

    def opened(self, scan: Scan, conn_id: str, account: Account) -> tuple[Journal, Manifest]:
        """
        Go on with the batch of these prompts, or read what earlier attempts have written, if nothing is left to do.

        Raises `ClaidInputError` where another batch is, `ClaidNotSentError` while the store fails. Blocks.
        """
        parts = [self.key, scan.fingerprint, conn_id, account.endpoint.base_url]
        if scan.duplicates:
            parts.append("deduplicate")
        fingerprint = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
        with ExitStack() as opening:
            try:
                manifest = Manifest(open_sink(self.folder, self.name), fingerprint, scan.total)
                opening.callback(manifest.close)
                manifest.open()
                require_free_names(manifest, scan)
                if self.chosen:
                    reserve(open_objects(self.folder, FIELD), f"{self.name}.batch", fingerprint, scan.total)
                journal = Journal(self.records, self.key)
                journal.open(fingerprint, scan.total, lambda item: manifest.is_final(item) or item in scan.duplicates)
                if not manifest.is_finished:
                    manifest.begin(self.fence)
            except StoreBusyError as busy:
                raise ClaidNotSentError(f"The records of this batch cannot be read now: {busy}") from busy
            opening.pop_all()
        return journal, manifest


@dataclass(frozen=True)
class RecordsPlace:
    """Where the records of a batch are, opened; `folder` is that of its manifest where no other is given."""

    objects: Objects
    folder: Target


def records_place(records: str | None, target: Target | None) -> RecordsPlace:
    """
    Open the place of the records: `records_path`, else a folder below `save_to`, which is made for them.

    Raises `ClaidConfigurationError` if there is neither. Blocks.
    """
    if records is not None:
        place = _connected(parse_target(records, None, "records_path"))
        return RecordsPlace(open_objects(place), target or place)
    if target is None:
        accepted, fix = "a folder for the records of a batch without save_to", "Or set [claid] records_path."
        raise ClaidConfigurationError("records_path", "nothing", accepted, fix)
    below = replace(target, uri=target.uri + RECORDS_FOLDER)
    try:
        return RecordsPlace(open_objects(below, makes_root=True), target)
    except StoreBusyError as busy:
        raise ClaidNotSentError(f"The records of this batch cannot be kept now: {busy}") from busy


def marked_below(target: Target, key: str) -> Objects | None:
    """
    Return the records below `save_to` in which an attempt has left its mark; None where none has. Blocks.

    In a store that can keep no records none has.
    """
    below = replace(target, uri=target.uri + RECORDS_FOLDER)
    if below.scheme == "file" and not Path(urlsplit(below.uri).path).is_dir():
        return None
    try:
        objects = _opened_if_any(below)
        marked = objects is not None and persistent(partial(objects.get, mark_name(key, 1))) is not None
    except StoreBusyError as busy:
        raise ClaidNotSentError(f"The records of this task cannot be read now: {busy}", billed="unknown") from busy
    return objects if marked else None


def _opened_if_any(below: Target) -> Objects | None:
    """Open a place of records; None in a store that can keep none."""
    try:
        return open_objects(below)
    except ClaidConfigurationError:
        return None


def has_begun(objects: Objects, key: str, generation: int, *, reuse: bool) -> bool:
    """Tell whether the batch that this generation would go on with has begun in a place of records. Blocks."""
    try:
        begun = _chosen(objects, key, generation) or _wanted(objects, key, generation, reuse=reuse)
        return objects.get(f"{begun}/head") is not None
    except StoreBusyError as busy:
        raise ClaidNotSentError(f"The records of this batch cannot be read now: {busy}") from busy


def batch_key(objects: Objects, key: str, generation: int, *, reuse: bool) -> str:
    """
    Return the key of the batch that this generation of a task goes on with, whatever `reuse` says later. Blocks.

    It is written down once for each generation, as `<key>/<generation>.batch`: with `reuse` it is that of the latest
    one before, else a new one. So neither an automatic retry nor a clearing pays anew because `reuse` was edited.
    """
    try:
        if (begun := _chosen(objects, key, generation)) is not None:
            return begun
        wanted, name = _wanted(objects, key, generation, reuse=reuse), _choice(key, generation)
        if persistent(partial(create_proven, objects, name, wanted.encode())):
            return wanted
        if (begun := _chosen(objects, key, generation)) is None:
            raise unreadable(objects.uri + name)
    except StoreBusyError as busy:
        raise ClaidNotSentError(f"The records of this batch cannot be read now: {busy}") from busy
    return begun


def _wanted(objects: Objects, key: str, generation: int, *, reuse: bool) -> str:
    """Return the key that a generation writes down which has written down none."""
    earlier = (_chosen(objects, key, each) for each in reversed(range(generation)))
    latest = next((each for each in earlier if each is not None), None)
    return latest or key if reuse or latest is None else f"{key}-{generation}"


def _chosen(objects: Objects, key: str, generation: int) -> str | None:
    raw = persistent(partial(objects.get, _choice(key, generation)))
    if raw is None:
        return None
    chosen = raw.decode(errors="replace")
    if not (chosen == key or re.fullmatch(re.escape(key) + "-[0-9]+", chosen)):
        message = f"The record {objects.uri}{_choice(key, generation)} of a batch cannot be read. Restore it"
        raise ClaidRecordsError(message, billed="unknown")
    return chosen


def _choice(key: str, generation: int) -> str:
    return f"{key}/{generation}.batch"


def places_of(key: str, fence: Fence, place: RecordsPlace, target: Target | None, manifest_path: str | None) -> Places:
    """Find the place of the manifest: `manifest_path`, else a name of its own in the folder of the place."""
    if not manifest_path:
        return Places(key, place.objects, place.folder, f"claid-{key}.jsonl", fence)
    folder, name = split_file(manifest_path, FIELD, ".jsonl")
    manifest = _connected(_like(target, parse_target(folder, None, FIELD)))
    return Places(key, place.objects, manifest, name, fence, chosen=True)


def prompts_of(prompts: Any, defaults: Defaults, target: Target | None, on_bad_row: str) -> Source:
    """
    Return the prompts, whose ids are checked for the folder they go to. Blocks.

    The connection of a file is looked up, as Airflow takes others for an unknown one.
    """
    defaults = replace(defaults, room=room_in(target, disk_limit(target)))
    if not isinstance(prompts, str):
        return source_of(prompts, defaults, on_bad_row=on_bad_row)
    file = prompt_file(prompts)
    place = _connected(_like(target, Target(file.uri, file.scheme, file.conn_id)))
    return source_of(file.uri, defaults, storage_conn_id=place.conn_id, on_bad_row=on_bad_row)


def _like(target: Target | None, place: Target) -> Target:
    """Reach a place that names no connection by the one of `save_to`, if it is in a store of the same kind."""
    if place.conn_id is None and target is not None and target.scheme == place.scheme:
        return replace(place, conn_id=target.conn_id)
    return place


def _connected(place: Target) -> Target:
    return replace(place, conn_id=storage_connection(place.conn_id, place.scheme))
