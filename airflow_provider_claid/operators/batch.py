"""The operator for many prompts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_claid.delivery.names import check_name
from airflow_provider_claid.exceptions import airflow_errors
from airflow_provider_claid.links.claid import MANIFEST_LINK_KEY, RESULT_KEY, ClaidManifestLink, browser_address
from airflow_provider_claid.metrics import emit, gauge
from airflow_provider_claid.operators.arguments import (
    check_batch_literals,
    defaults_of,
    max_failed_of,
    require_place,
    settle,
    target_of,
)
from airflow_provider_claid.operators.base import ClaidGenerateOperator, identity_of, tags_of

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_claid.delivery.account import Account
    from airflow_provider_claid.delivery.batch.journal import Journal
    from airflow_provider_claid.delivery.batch.progress import Snapshot
    from airflow_provider_claid.delivery.batch.run import Batch
    from airflow_provider_claid.delivery.checks import Target
    from airflow_provider_claid.delivery.identity import Identity
    from airflow_provider_claid.delivery.job import ImageJob
    from airflow_provider_claid.delivery.prompts.source import Item
    from airflow_provider_claid.delivery.records.attempts import Attempt
    from airflow_provider_claid.pacing.schedule import Pace

log = logging.getLogger(__name__)


class ClaidGenerateBatchOperator(ClaidGenerateOperator):
    """
    Turn many prompts into pictures in one task, all in one event loop at the account's pace; costs 1 credit a picture.

    Returns `{"manifest", "total", "delivered", "filtered", "failed", "unknown", "not_started", "credits"}`: the URI of
    the manifest, and how many prompts ended how. The manifest is JSONL, one line for each prompt in their order:
    `batch`, `index`, `id`, `prompt`, `outcome`, `uris`, `images`, `request_id`, `credits`, `submissions`, `error`,
    `duplicate_of`, `at`. It is there from the start and can be read while the task runs: on `file://` it has a line for
    every prompt that has ended, in an object store one for every prompt that had ended 15 s ago (a manifest that takes
    more than 0.7 s to upload is written less often: that takes 5 % of the time). At the end it has a line for each.

    Every prompt is recorded before its request leaves and when its answer is there. A retry, or a person who clears
    the task, goes on behind what is delivered: nothing is paid twice, and what was paid for but not copied is copied.
    One prompt that fails does not stop the others; a refused key, missing credits or permission, a used-up budget, and
    ten prompts in a row that were paid for and could not be delivered do. Prompts are checked, all of them, before the
    first request leaves.

    The prompts have to stay the same from try to try, and when the task is cleared; their ids may be corrected, which
    gives new names to what is not delivered yet. Of attempts that run at once, the latest writes the manifest, and the
    others stop. `reuse=False` begins a new batch when a person clears the task: what an earlier one left unknown does
    not count in it. What was filtered stays as the `on_filtered` of its day left it.

    Takes the arguments of `ClaidGenerateOperator` too, and needs `save_to` or `output_folder`. The records are in
    `records_path`, else below `save_to`; one of them is needed. Nothing of them is ever deleted: that is for a person
    to do, once nobody will clear the task again.

    :param prompts: a list of texts, or of dictionaries with `prompt` and, if need be, `id` (a file name for the
        pictures: mapped tasks that share a folder need ids that differ), `number_of_images` and `guidance_scale`; lists
        are data, nothing in them is rendered. Or the URI of a `.txt`, `.csv`, `.jsonl` or `.parquet` file with such
        rows, which is streamed (templated).
    :param manifest_path: the URI of the manifest, one for each run of the task (templated); `<manifest_path>.batch`
        beside it keeps other batches away. Default: `claid-<job key>.jsonl` in `save_to`, else in `records_path`.
    :param max_credits: what the batch may cost in all, over all its attempts; it stops before a request that could
        cost more. None: no limit.
    :param max_failed: how many prompts may fail, stay unknown or, with `on_filtered="fail"`, be filtered, before the
        task fails at its end: a count, or below 1 a share of all (templated).
    :param deduplicate: pay for the same request once, and give its pictures to all who ask for them. False: equal
        prompts are paid for, each.
    :param on_bad_row: what a row that makes no request does: `fail` the task before anything is paid, or `skip` it.
    """

    template_fields: Sequence[str] = ("prompts", "manifest_path", "max_failed", *ClaidGenerateOperator.template_fields)
    operator_extra_links: Sequence[BaseOperatorLink] = (ClaidManifestLink(),)

    def __init__(
        self,
        *,
        prompts: str | Sequence[str | Mapping[str, Any]],
        manifest_path: str | None = None,
        max_credits: int | None = None,
        max_failed: float | str = 0,
        deduplicate: bool = False,
        on_bad_row: str = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prompts = prompts
        self.manifest_path = manifest_path
        self.max_credits = max_credits
        self.max_failed = max_failed
        self.deduplicate = deduplicate
        self.on_bad_row = on_bad_row
        with airflow_errors():
            check_batch_literals(self)

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render a template field; of prompts in a list only references to other tasks are resolved."""
        if content is self.prompts and not isinstance(content, str):
            return _resolved(content, context)
        return super().render_template(content, context, jinja_env, seen_oids)

    def execute(self, context: Context) -> dict[str, Any]:
        """Bring every prompt to an end, and return the counts; raises what stopped the batch, or made it fail."""
        from airflow_provider_claid.delivery import sync
        from airflow_provider_claid.delivery.batch.run import run
        from airflow_provider_claid.hooks.claid import ClaidHook
        from airflow_provider_claid.lineage import announce, batch_delivery

        with self._working(context), self._batch(context) as batch:
            # Airflow makes links when a task has ended; this one is wanted while it runs.
            context["ti"].xcom_push(key=MANIFEST_LINK_KEY, value=browser_address(batch.manifest.uri))
            try:
                sync.run(run(batch), stop=self.on_kill)
            finally:
                summary = batch.manifest.summary()
                if not batch.manifest.overtaken:
                    context["ti"].xcom_push(key=RESULT_KEY, value=summary)
            self._delivery = batch_delivery(summary, target_of(self), self.prompts)
            announce(context, self.outlets, ClaidHook(self.claid_conn_id), self._delivery)
            return summary

    @contextmanager
    def _batch(self, context: Context) -> Iterator[Batch]:
        """Check everything, and open what the batch reads and writes."""
        from airflow_provider_claid.api.bill import current_bill
        from airflow_provider_claid.delivery.batch.fence import Fence
        from airflow_provider_claid.delivery.batch.rules import Allowance
        from airflow_provider_claid.delivery.batch.run import Batch
        from airflow_provider_claid.delivery.storage import open_folder
        from airflow_provider_claid.hooks.batch import batch_key, places_of, prompts_of, records_place
        from airflow_provider_claid.hooks.claid import ClaidHook
        from airflow_provider_claid.hooks.records import begin, begin_batch, try_of

        bill = current_bill()
        if try_of(context).number > 1:
            # Until the manifest tells what earlier attempts have paid, no error is to say that nothing was.
            bill.found("unknown")
        settle(self)
        require_place(self)
        identity, tags, records = identity_of(context), tags_of(context), self._records_uri()
        # Before the target, which may be away for a while: a retry must know that this attempt was here.
        begun = self._begun or (begin(context, records, identity) if records else None)
        target = self._connected_target()
        folder = open_folder(target, self._tags(identity)) if target else None
        place = records_place(records, target)
        attempt = begun.attempt if begun else begin_batch(context, place.objects, identity)
        if attempt.number > 1:
            bill.found("unknown")
        self._check_rendered()
        self._check_afterwards(context)
        key = batch_key(place.objects, identity.key(), attempt.generation, reuse=self.reuse)
        fence = Fence(place.objects, identity.key(), attempt.number)
        places = places_of(key, fence, place, target, self.manifest_path)
        account, allowance = ClaidHook(self.claid_conn_id).account(), Allowance(max_failed_of(self))
        with prompts_of(self.prompts, defaults_of(self), target, self.on_bad_row) as source:
            scan = source.scan(deduplicate=self.deduplicate)
            journal, manifest = places.opened(scan, self.claid_conn_id, account)
            bill.earlier.clear()
            try:
                yield Batch(
                    items=source,
                    job_of=partial(self._item_job, (identity, attempt), account, journal, target),
                    folder=folder,
                    pace=account.pace,
                    journal=journal,
                    manifest=manifest,
                    on_filtered=self.on_filtered,
                    duplicates=scan.duplicates,
                    allowance=allowance,
                    max_credits=self.max_credits,
                    killed=self._stop,
                    report=partial(emit, tags=tags),
                    show=partial(show, pace=account.pace, tags=tags),
                )
            finally:
                manifest.close()

    def _item_job(
        self,
        begun: tuple[Identity, Attempt],
        account: Account,
        journal: Journal,
        target: Target | None,
        item: Item,
    ) -> ImageJob:
        identity, attempt = replace(begun[0], item=item.index), begun[1]
        name = check_name(item.id, "id") if item.id else identity.key()
        # Its own pictures an item may replace, those of another item never.
        attempt = replace(attempt, owner=f"{attempt.owner}-{item.index}")
        # What `reuse` begins anew is the batch, whose key is written down: within it, what is recorded counts.
        order = replace(self._order_of(identity, attempt, item.request), reuse=True)
        is_new = not journal.known(item.index)
        return self._job_of(order, account, journal.records(item.index), name, target, first_try=is_new)


def show(snapshot: Snapshot, pace: Pace, tags: Mapping[str, str]) -> None:
    """Tell the log and the metrics how far a batch is."""
    log.info("%s", snapshot.line(pace))
    gauge(snapshot, tags)


def _resolved(value: Any, context: Context) -> Any:
    """Put the values of other tasks where they are referred to, and render nothing."""
    if resolve := getattr(value, "resolve", None):
        value = resolve(context)
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        return value
    return [_resolved(each, context) for each in value]
