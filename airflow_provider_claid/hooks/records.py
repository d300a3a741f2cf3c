"""Where the records of a task are kept: `records_path`, `[claid] records_path`, or Airflow's task state store."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from airflow.providers.common.compat.sdk import conf

from airflow_provider_claid.api.errors import Billed, ClaidConfigurationError, ClaidNotSentError
from airflow_provider_claid.api.models import GenerateRequest
from airflow_provider_claid.delivery.checks import parse_target
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.records.attempts import Attempt, Try
from airflow_provider_claid.delivery.records.decision import Asked, is_new_wish
from airflow_provider_claid.delivery.records.marks import begin as begin_marks
from airflow_provider_claid.delivery.records.marks import begin_in_state, next_in_state, require_mark, tell, told_to
from airflow_provider_claid.delivery.records.objects import FIELD, Objects, open_objects
from airflow_provider_claid.delivery.records.state import StateStore, TaskStateRecords
from airflow_provider_claid.delivery.records.store import ObjectRecords, Records, all_submissions, history
from airflow_provider_claid.delivery.records.submission import Submission, latest, note
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.hooks.storage import storage_connection

log = logging.getLogger(__name__)

_PROCESS_BEGUN = datetime.now(UTC)


def records_uri(records_path: str | None) -> str | None:
    """Return the folder of records: the argument, else `[claid] records_path`, else None. Raises `ClaidInputError`."""
    configured = conf.get("claid", FIELD, fallback="") or None
    for name, uri in ((FIELD, records_path), (f"[claid] {FIELD}", configured)):
        # An empty text is refused: it may be what a template came to, and retries would pay again.
        if uri is not None:
            parse_target(uri, None, name)
            return uri
    return None


@dataclass(frozen=True)
class Begun:
    """
    An attempt that has left its mark, and the records of its job; `records` is None where nothing is recorded.

    `paid` is what was recorded of the job's last wish when the attempt began.
    """

    records: Records | None
    attempt: Attempt
    paid: tuple[Submission, ...] = ()

    def note(self) -> None:
        """Let the open bill know of what was paid before, so that no error says that nothing was."""
        for each in self.paid:
            note(each)


def begin(context: Any, uri: str | None, identity: Identity) -> Begun:
    """
    Write down that an attempt of a task begins: before anything else, so that a retry knows that it was here.

    In the folder, else in the task state store of the `context` (Airflow 3.3). Without either, say once that retries
    are not protected. Raises `ClaidRecordsError` where earlier attempts must have left marks and have not,
    `ClaidConfigurationError` for a folder that cannot be used, `ClaidNotSentError` while the store fails. Blocks.
    """
    now, store = try_of(context), _state_store(context)
    with _told(now):
        if uri is not None:
            objects = _opened(uri)
            attempt = _mark(objects, identity, now, store)
            return _known(Begun(ObjectRecords(objects, identity.key()), attempt))
        if store is not None:
            return _known(Begun(TaskStateRecords(store), begin_in_state(store, now)))
    _warn_unprotected()
    return Begun(None, Attempt(told=now))


def recorded_request(begun: Begun | None) -> GenerateRequest | None:
    """Return what earlier tries of this generation have recorded as asked for; None if they have recorded nothing."""
    if begun is None or begun.records is None:
        return None
    try:
        found = list(history(begun.records))
    except StoreBusyError as busy:
        raise unknown_now(busy) from busy
    if not found or latest(found).generation < begun.attempt.generation:
        return None
    return latest(found).intent.request


def begun_in_state(context: Any) -> Begun | None:
    """Return the attempt as it would begin in the task state store, where earlier ones have; it leaves no mark yet."""
    store, now = _state_store(context), try_of(context)
    if store is None or now.number <= 1:
        return None
    with _told(now):
        attempt = next_in_state(store, now)
        return _known(Begun(TaskStateRecords(store), attempt)) if attempt is not None else None


def begin_batch(context: Any, objects: Objects, identity: Identity) -> Attempt:
    """Do what `begin` does for a batch, whose records are always objects."""
    now = try_of(context)
    with _told(now):
        return _mark(objects, identity, now, _state_store(context))


def records_of(uri: str, identity: Identity, attempt: int) -> Records:
    """
    Open the records of a job in which the worker has left the mark of this attempt; for a trigger. Blocks.

    Raises `ClaidRecordsError` where that mark is not, `StoreBusyError` while the store fails.
    """
    objects = _opened(uri)
    require_mark(objects, identity.key(), attempt)
    return ObjectRecords(objects, identity.key())


def recorded_in(uri: str, identity: Identity) -> Records:
    """Open the records in which a trigger has written down what it paid for; raises a kind of `ClaidError`. Blocks."""
    try:
        return ObjectRecords(_opened(uri), identity.key())
    except StoreBusyError as busy:
        raise unknown_now(busy) from busy


def try_of(context: Any) -> Try:
    """Return what Airflow says of this attempt."""
    ti, run = context["ti"], context.get("dag_run")
    task, found = context.get("task") or getattr(ti, "task", None), getattr(ti, "id", None)
    started = _start_of(run)
    return Try(
        number=int(getattr(ti, "try_number", None) or 1),
        max_tries=int(ti.max_tries or 0),
        retries=int(getattr(task, "retries", 0) or 0),
        # It moves when a run is cleared or made anew, and not between automatic retries.
        started=int(started.timestamp() * 1000) if isinstance(started, datetime) else None,
        # The first 48 bits of a UUID of version 7 (RFC 9562 §5.7): Airflow makes one for each try.
        born=found.int >> 80 if isinstance(found, UUID) and found.version == 7 else None,
    )


def _start_of(run: Any) -> Any:
    """
    Return when a Dag run started.

    `airflow dags test` begins a run of the same name anew, says that it started at its logical date, and counts its
    tries from 1: in Airflow 2 only the process tells that a person wants it again.
    """
    started = getattr(run, "start_date", None)
    return _PROCESS_BEGUN if started is not None and started == getattr(run, "logical_date", None) else started


def _mark(objects: Objects, identity: Identity, now: Try, store: StateStore | None) -> Attempt:
    attempt = begin_marks(objects, identity.key(), now, told_to(store))
    tell(store, objects.uri)
    return attempt


@contextmanager
def _told(now: Try) -> Iterator[None]:
    """Raise Claid's errors, which say that an earlier try may have been billed: what it wrote cannot be read."""
    try:
        yield
    except StoreBusyError as busy:
        raise unknown_now(busy, billed="unknown" if now.number > 1 else "no") from busy
    except ClaidConfigurationError as fault:
        fault.billed = "unknown" if now.number > 1 else fault.billed
        raise


def unknown_now(busy: StoreBusyError, billed: Billed = "unknown") -> ClaidNotSentError:
    """Return the error for records that fail now: what earlier attempts have paid is not known without them."""
    return ClaidNotSentError(f"The records of this task cannot be used now: {busy}", billed=billed)


def note_paid(records: Records, asked: Asked) -> None:
    """Let the open bill know what is recorded of a job's last wish, if that is what is asked for."""
    found = list(history(records))
    if found and not is_new_wish(found, asked):
        for each in _last_wish(found):
            note(each)


def _last_wish(found: list[Submission]) -> tuple[Submission, ...]:
    return tuple(each for each in found if each.intent.first == latest(found).intent.first)


def _known(begun: Begun) -> Begun:
    if begun.records is not None and begun.attempt.number > 1:
        begun = replace(begun, paid=_last_wish(list(history(begun.records))))
        begun.note()
    return begun


def keeps_state(context: Any) -> bool:
    """Tell whether Airflow keeps what an attempt of a task told it (3.3 and newer)."""
    return _state_store(context) is not None


def _state_store(context: Any) -> StateStore | None:
    """Return the task state store; None under `clear_on_success`: what a person clears later would be paid again."""
    store = context.get("task_state_store")
    if store is None or conf.getboolean("state_store", "clear_on_success", fallback=False):
        return None
    return StateStore(store)


def no_place() -> ClaidConfigurationError:
    """Return the error for a question about records where none are kept in a folder."""
    return ClaidConfigurationError(FIELD, "nothing", "the folder of the records", "Or set [claid] records_path.")


def submissions_in(uri: str, identity: Identity | None) -> list[Submission]:
    """Read the submissions of one job, or of all jobs, which needs the right to list. Blocks."""
    objects = _opened(uri)
    return list(history(ObjectRecords(objects, identity.key())) if identity else all_submissions(objects))


def _opened(uri: str) -> Objects:
    """Open the folder of records; its connection is looked up first, as Airflow takes others for an unknown one."""
    place = parse_target(uri, None, FIELD)
    return open_objects(replace(place, conn_id=storage_connection(place.conn_id, place.scheme)))


@cache
def _warn_unprotected() -> None:
    log.warning(
        "There is no place for records: the retry of a task that was killed pays again. Set records_path, or [claid] "
        "records_path for all tasks; Airflow 3.3 and newer needs neither, unless [state_store] clear_on_success is set."
    )
