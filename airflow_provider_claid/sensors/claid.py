"""The sensor that waits until pictures are where the next team looks for them, whole and right."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_claid.api.errors import ClaidContentFilteredError, ClaidInputError
from airflow_provider_claid.delivery.checks import ON_FILTERED, OnFiltered
from airflow_provider_claid.delivery.paths import as_uri, as_uris
from airflow_provider_claid.delivery.watching.expected import VERIFY, Verify, Wanted, unmoved, wanted
from airflow_provider_claid.exceptions import airflow_errors, revived
from airflow_provider_claid.sensors.sources import sources_of, sources_of_mapped, with_connections
from airflow_provider_claid.templating import is_literal

# What only a running task needs is imported where it runs: every parse would pay.
if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_claid.delivery.watching.report import Report
    from airflow_provider_claid.delivery.watching.watch import Watch

log = logging.getLogger(__name__)

SHORTEST_INTERVAL = 1.0
"""Seconds between two looks at the least: a list request costs money too."""

FIXED = ("run_after", "data_interval_end", "logical_date")
"""Moments of a Dag run that no clearing moves; Airflow 2 has no `run_after`."""

STATE_KEY = "claid_verified"
LISTED_AT_TIMEOUT = 100
GRACE = 60
"""Seconds that Airflow leaves the trigger beyond its own deadline, before it ends the task without saying why."""


class ClaidImageSensor(BaseSensorOperator):
    """
    Wait until pictures are in storage and pass a check; return their URIs.

    Half-written, empty, cut or wrong files, and web pages saved as a picture, are not delivered yet. A missing bucket,
    a denied read and a wrong connection fail at once with the remedy; a store that is busy does not. Costs no credits:
    a look is one list per folder (S3: per 1,000 objects), and the check two reads of each new picture, or three where
    its end is not in the last KiB. What follows the end of a picture is padding, and does not matter.

    Poke, reschedule and deferrable mode give the same answer. Below Airflow 3.3 a rescheduled sensor can keep nothing
    between two looks, so that each of them reads every picture again.

    :param images: what the operator returned (`generate.output`) or its XCom `claid_result`, whose promised sizes are
        then checked too; lists of them from mapped tasks. `s3`, `gs`, `abfs`, `file`, `storage` and Claid's temporary
        `https` addresses, or path objects: `ObjectStoragePath`, `UPath`, absolute `pathlib.Path` (templated).
    :param folder: instead, the URI of a folder with a final slash, or a path object: `expected_count` pictures
        anywhere under it (templated). Files without a picture's ending (png, jpg, jpeg, webp, avif), or hidden, do not
        count.
    :param expected_count: how many pictures `folder` is to hold, at least 1 (templated).
    :param since: leave out what was last modified before this time, ISO 8601, such as
        `{{ dag_run.run_after }}` (Airflow 2: `{{ data_interval_end }}`): yesterday's files do not count. A start of the
        run or the task, which moves when they are cleared or retried, counts as that from then on (templated).
    :param claid_conn_id: the Airflow connection to Claid, looked up only for `storage://` addresses (templated).
    :param storage_conn_id: the Airflow connection of the store; None is the one in the address or in `claid_result`,
        which is read for `images=generate.output` too, else the default of the scheme (`aws_default` for s3), else the
        machine's own credentials (templated).
    :param verify: `exists`; `header`, the first 4 KiB and the end: type, promised size, whole; or `full`, every pixel
        decoded and the SHA-256 compared, which downloads the pictures and needs Pillow.
    :param min_bytes: the least a picture must have, at least 1.
    :param on_filtered: what a black picture of Claid's content filter does: `fail` at once, `skip` leaves it out of
        what is returned, and skips the task if nothing is left, `keep` returns it. `exists` knows only what
        `claid_result` says of it.
    :param deferrable: wait in the triggerer, without a worker slot; the default is `[operators] default_deferrable`.
    """

    template_fields: Sequence[str] = (
        "images",
        "folder",
        "expected_count",
        "since",
        "claid_conn_id",
        "storage_conn_id",
    )
    ui_color = "#e9e4ff"

    def __init__(
        self,
        *,
        images: Any = None,
        folder: Any = None,
        expected_count: int | str | None = None,
        since: str | datetime | None = None,
        claid_conn_id: str = "claid_default",
        storage_conn_id: str | None = None,
        verify: Verify = "header",
        min_bytes: int = 1,
        on_filtered: OnFiltered = "fail",
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with airflow_errors():
            # Now, since Airflow would resolve a path object as a template.
            self.images = as_uris(images, "images")
            self.folder = as_uri(folder, "folder", folder=True)
        self.expected_count = expected_count
        self.since = since
        self.claid_conn_id = claid_conn_id
        self.storage_conn_id = storage_conn_id
        self.verify = verify
        self.min_bytes = min_bytes
        self.on_filtered = on_filtered
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = deferrable
        self.poke_interval = max(self.poke_interval, SHORTEST_INTERVAL)
        self._sources = sources_of(images)
        self._since_is_given = since is not None
        self._watch: Watch | None = None
        self._report: Report | None = None
        with airflow_errors():
            self._check_literals()

    def execute(self, context: Context) -> Any:
        """Wait, in the mode that was asked for; raise `AirflowSensorTimeout` that lists what is missing."""
        if self.deferrable:
            try:
                with airflow_errors():
                    return self._look_and_defer(context)
            except AirflowException as error:
                # Airflow does the same for a poke and after a deferral, but not for what comes before one.
                if self.soft_fail or self.never_fail:
                    raise AirflowSkipException(f"Skipping, as soft_fail or never_fail says. {error}") from error
                raise
        try:
            return super().execute(context)
        except (AirflowSensorTimeout, AirflowSkipException) as ended:
            if self._report is None or self._report.done:
                raise
            raise type(ended)(f"{ended} {self._report.summary(LISTED_AT_TIMEOUT)}") from ended

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; what was verified stays so until the next look of this process."""
        kept = context.get("task_state_store") if self.reschedule else None
        with airflow_errors():
            uris = self._look(context, str(kept.get(STATE_KEY, "")) if kept and self._watch is None else "")
        if uris is None and kept and self._watch is not None:
            kept.set(STATE_KEY, self._watch.verified())
        return PokeReturnValue(is_done=uris is not None, xcom_value=uris)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[str]:
        """Take what the trigger found."""
        if event["status"] == "delivered":
            log.info("%d pictures are delivered.", len(event["uris"]))
            return list(event["uris"])
        if event["status"] == "skipped":
            raise AirflowSkipException(event["message"])
        if event["status"] == "timeout":
            raise AirflowSensorTimeout(f"No delivery within {self.timeout:g} seconds. {event['message']}")
        raise revived(event["error"])

    def _look_and_defer(self, context: Context) -> list[str]:
        from airflow_provider_claid.triggers.claid import ClaidImageTrigger

        deadline = time.time() + self.timeout
        uris = self._look(context)
        if uris is not None:
            return uris
        trigger = ClaidImageTrigger(
            **self._wanted(context).to_json(),
            claid_conn_id=self.claid_conn_id,
            storage_conn_id=self.storage_conn_id,
            verify=self.verify,
            min_bytes=self.min_bytes,
            on_filtered=self.on_filtered,
            poke_interval=self.poke_interval,
            exponential_backoff=bool(self.exponential_backoff),
            max_wait=self.max_wait.total_seconds() if isinstance(self.max_wait, timedelta) else self.max_wait,
            deadline=deadline,
            verified=self._watch.verified() if self._watch else "",
        )
        timeout = timedelta(seconds=self.timeout + GRACE)
        return self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)

    def _look(self, context: Context, verified: str = "") -> list[str] | None:
        from airflow_provider_claid.delivery import sync
        from airflow_provider_claid.delivery.watching.report import handed_on
        from airflow_provider_claid.hooks.watch import watch_for

        if self._watch is None:
            self._watch = watch_for(
                self._wanted(context),
                self.claid_conn_id,
                self.storage_conn_id,
                verify=self.verify,
                min_bytes=self.min_bytes,
                verified=verified,
            )
        self._report = sync.run(self._watch.look())
        log.info("%s", self._report.summary())
        try:
            return handed_on(self._report, self.on_filtered)
        except ClaidContentFilteredError as black:
            if self.on_filtered == "skip":
                log.warning("Black are: %s", ", ".join(sorted(self._report.black)))
                raise AirflowSkipException(black.message) from black
            raise

    def _wanted(self, context: Context) -> Wanted:
        asked = wanted(self.images, self.folder, self.expected_count, self.since)
        if self.since is None and self._since_is_given:
            # Without the filter, yesterday's files would count.
            accepted, fix = "a date and time in ISO 8601, or '' for none", "Give the expression a default."
            raise ClaidInputError("since", "None from its template", accepted, fix)
        if asked.since is not None:
            asked = replace(asked, since=_unmoved(asked.since, context))
        if asked.images and not self.storage_conn_id:
            sources = self._sources or sources_of_mapped(self._as_defined())
            asked = replace(asked, images=with_connections(asked.images, sources, context))
        return asked

    def _as_defined(self) -> Any:
        """Return this task as the Dag has it: mapped, if this is one instance of a mapped one; None without a Dag."""
        dag = self.get_dag()
        return dag.get_task(self.task_id) if dag else None

    def _check_literals(self) -> None:
        """Check at parse time what needs no rendering; the rest is checked when the task runs."""
        if self.verify not in VERIFY:
            raise ClaidInputError("verify", repr(self.verify), " or ".join(map(repr, VERIFY)))
        if self.on_filtered not in ON_FILTERED:
            raise ClaidInputError("on_filtered", repr(self.on_filtered), " or ".join(map(repr, ON_FILTERED)))
        if not isinstance(self.min_bytes, int) or isinstance(self.min_bytes, bool) or self.min_bytes < 1:
            raise ClaidInputError("min_bytes", f"{self.min_bytes!r:.40}", "a whole number of at least 1")
        values = (self.images, self.folder, self.expected_count, self.since)
        stand_ins = ("s3://bucket/any.png", "s3://bucket/any/", 1, None)
        wanted(*(value if is_literal(value) else other for value, other in zip(values, stand_ins, strict=True)))


def _unmoved(since: datetime, context: Context) -> datetime | None:
    """Return `since`, or what does not move in its place if this attempt has moved it."""
    run, ti = context.get("dag_run"), context.get("ti")
    cleared = bool(getattr(run, "clear_number", 0))
    moved = [getattr(run, "start_date", None), getattr(run, "queued_at", None)] if cleared else []
    if cleared or getattr(ti, "try_number", 1) > 1:
        moved.append(getattr(ti, "start_date", None))
    fixed = unmoved(since, moved, [getattr(run, name, None) for name in FIXED])
    if fixed != since:
        log.info("since, %s, is a start that has moved; %s, which does not, is taken.", since, fixed)
    return fixed
