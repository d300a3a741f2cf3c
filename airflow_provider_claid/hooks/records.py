"""Where the records of a task are kept: `records_path`, `[claid] records_path`, or Airflow's task state store."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from typing import Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.delivery.checks import parse_target
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.records.objects import FIELD, Objects, open_objects
from airflow_provider_claid.delivery.records.store import (
    ObjectRecords,
    Records,
    TaskStateRecords,
    all_submissions,
    history,
)
from airflow_provider_claid.delivery.records.submission import Submission
from airflow_provider_claid.hooks.storage import storage_connection

log = logging.getLogger(__name__)


def records_uri(records_path: str | None) -> str | None:
    """Return the folder of records: the argument, else `[claid] records_path`, else None. Raises `ClaidInputError`."""
    configured = conf.get("claid", FIELD, fallback="")
    for name, uri in ((FIELD, records_path), (f"[claid] {FIELD}", configured)):
        if uri:
            parse_target(uri, None, name)
            return uri
    return None


def records_of(uri: str | None, identity: Identity, context: Any = None) -> Records | None:
    """
    Open the records of a job: in the folder, else in the task state store of the `context` (Airflow 3.3).

    Not there under `[state_store] clear_on_success`: what a person clears later would be paid again. Without either,
    return None, and say once that retries are not protected. Blocks.
    """
    if uri is not None:
        return ObjectRecords(_opened(uri), identity.key())
    store = context.get("task_state_store") if context is not None else None
    if store is not None and not conf.getboolean("state_store", "clear_on_success", fallback=False):
        return TaskStateRecords(store)
    _warn_unprotected()
    return None


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
