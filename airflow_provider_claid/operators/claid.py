"""Operators that turn prompts into stored, checked pictures."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.checks import OnFiltered, Target, check_name
from airflow_provider_claid.delivery.stop import Stop
from airflow_provider_claid.exceptions import airflow_errors, revived
from airflow_provider_claid.links.claid import RESULT_KEY, ClaidPictureLink
from airflow_provider_claid.operators.arguments import STAND_INS, check_literals, no_records, request_of, target_of

# What only a running task needs (the HTTP client, the pacer) is imported where it runs: every parse would pay.
if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_claid.delivery.job import ImageJob, JobResult
    from airflow_provider_claid.hooks.order import Order
    from airflow_provider_claid.lineage import Delivery

log = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(hours=24)
"""For how long a deferred request waits for its turn at the most, without an `execution_timeout`."""


class ClaidGenerateImageOperator(BaseOperator):
    """
    Turn one prompt into 1 to 4 pictures, stored and checked; costs 1 credit each (Claid API §2 and §8).

    Returns the list of picture URIs. XCom `claid_result` holds plain JSON: request id, credits, and each picture's
    URI, size, type, bytes, SHA-256, whether the content filter made it black, and when its address expires.

    A request is sent again only if it surely was not billed. What was sent is recorded before it leaves, so that a
    retry, also of a worker that was killed, takes the recorded pictures, looks for lost ones, or says what may have
    been billed. Only without records does the retry of a killed task pay again.

    Events of `outlets` carry the URIs, the credits, the request id and the SHA-256 of the prompt as their extra; an
    `AssetAlias` gets one for the folder of the pictures. Hook lineage and OpenLineage get the folder as output.

    :param prompt: the text, 3 to 1024 characters (templated).
    :param number_of_images: 1 to 4 (templated).
    :param guidance_scale: how closely to follow the prompt, at least 1 and below 50; 5 to 7 is usual (templated).
    :param output_folder: `storage://name/folder/` of a storage connected to Claid, which writes there (templated).
    :param save_to: the URI of a folder, any `ObjectStoragePath` such as `s3://bucket/folder/` or `file:///folder/`,
        into which the pictures are copied after a check (templated). With neither, the addresses die in 24 hours.
    :param filename: what the copies are called; `-1.png`, `-2.png` … are added (templated). Default: the job key.
        Mapped tasks need names that differ, `{{ ti.map_index }}` say: an equal name is overwritten.
    :param claid_conn_id: the Airflow connection with the API key (templated).
    :param storage_conn_id: the Airflow connection for `save_to`; None is the default of its scheme (`aws_default` for
        s3) where that is defined, else the machine's own credentials (templated).
    :param on_filtered: what a black picture of Claid's content filter does: `fail` the task, once all pictures are
        stored and in XCom; `skip` leaves it out of the returned list; `keep` returns it, flagged in `claid_result`.
    :param object_tags: put the tags `dag_id`, `run_id`, `task_id` and, in a mapped task, `map_index` on the copies in
        S3 and Azure; other stores have none. Needs the right `s3:PutObjectTagging` (without it pictures are stored
        untagged, with a warning), and S3 charges about 0.01 USD a month for 10,000 tags.
    :param deferrable: pay in the triggerer, without a worker slot while the request waits for its turn and its answer;
        the pictures are copied on a worker. Needs a `records_path`. None follows `[operators] default_deferrable`, and
        runs on the worker where there are no records.
    :param max_submissions: how often the job may be paid for in all, over all retries of Airflow. 1: a request whose
        outcome is unknown is never sent again, which can cost a picture. 2: it is sent once more, which can cost
        twice the credits; and so on. Above 1 it needs records.
    :param records_path: the URI of a folder for the records that keep retries from paying again, any store that
        refuses to create an object twice: S3, Google Cloud, Azure, `file://` (templated). Default: `[claid]
        records_path`, else the task state store of Airflow 3.3 and newer; without any, retries are not protected. One
        per deployment: the runs of two may have the same names. Rights: to put and to get.
    :param reuse: what a person who clears the task gets. True: the recorded pictures, for nothing, unless the request
        changed; False: new pictures, paid again. An automatic retry never pays again for what is recorded.
    :param own_folder: add a folder of its own to `output_folder`, for each job: only then are pictures of a lost answer
        found for certain, and not paid again.
    :param reconcile_timeout: seconds for which the pictures of a lost answer are looked for in `output_folder`.
    """

    template_fields: Sequence[str] = (
        "prompt",
        "number_of_images",
        "guidance_scale",
        "output_folder",
        "save_to",
        "filename",
        "records_path",
        "claid_conn_id",
        "storage_conn_id",
    )
    operator_extra_links = (ClaidPictureLink(),)
    ui_color = "#e9e4ff"
    _delivery: Delivery | None = None

    def __init__(
        self,
        *,
        prompt: str,
        number_of_images: int | str = 1,
        guidance_scale: float | str = 5.0,
        output_folder: str | None = None,
        save_to: str | None = None,
        filename: str | None = None,
        claid_conn_id: str = "claid_default",
        storage_conn_id: str | None = None,
        deferrable: bool | None = None,
        max_submissions: int = 1,
        records_path: str | None = None,
        reuse: bool = True,
        on_filtered: OnFiltered = "fail",
        object_tags: bool = False,
        own_folder: bool = False,
        reconcile_timeout: float = 120,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prompt = prompt
        self.number_of_images = number_of_images
        self.guidance_scale = guidance_scale
        self.output_folder = output_folder
        self.save_to = save_to
        self.filename = filename
        self.claid_conn_id = claid_conn_id
        self.storage_conn_id = storage_conn_id
        self.deferrable = deferrable
        self.max_submissions = max_submissions
        self.records_path = records_path
        self.reuse = reuse
        self.on_filtered = on_filtered
        self.object_tags = object_tags
        self.own_folder = own_folder
        self.reconcile_timeout = reconcile_timeout
        self._stop = Stop()
        with airflow_errors():
            check_literals(self)
            if deferrable and not records_path and not conf.get("claid", "records_path", fallback=""):
                raise no_records("deferrable", "True")

    def execute(self, context: Context) -> list[str]:
        """Pay for the pictures once, bring them to where they last, and return their URIs; or defer to do so."""
        from airflow_provider_claid.delivery.job import run

        with airflow_errors(_tags(context)):
            order, records = self._order(context), self._records_uri()
            if self._defers(records):
                self._defer(order, str(records))
            return self._deliver(context, self._job(context, order, records), run)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[str]:
        """Take the answer that the trigger has recorded and bring the pictures to where they last; pays for nothing."""
        from airflow_provider_claid.delivery.job import collect

        with airflow_errors(_tags(context)):
            if event["status"] != "paid":
                raise revived(event["error"])
            job = self._job(context, self._order(context), self._records_uri())
            return self._deliver(context, job, partial(collect, event=event))

    def on_kill(self) -> None:
        """Let no request leave any more. One that has left goes on: its answer is recorded if there is time."""
        self._stop.asked = True

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:
        """Return the folder of the pictures for OpenLineage, which asks in a fork of the process that has executed."""
        from airflow_provider_claid.lineage import operator_lineage

        return operator_lineage(self._delivery)

    def _order(self, context: Context) -> Order:
        from airflow_provider_claid.delivery.identity import Identity
        from airflow_provider_claid.hooks.order import Order

        self._check_map_index(context)
        target_of(self)
        ti = context["ti"]
        return Order(
            Identity(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index),
            int(ti.max_tries or 0),
            request_of({name: getattr(self, name) for name in STAND_INS}),
            self.claid_conn_id,
            self.storage_conn_id,
            self.max_submissions,
            self.reuse,
            self.own_folder,
            self.reconcile_timeout,
        )

    def _records_uri(self) -> str | None:
        from airflow_provider_claid.hooks.records import records_uri

        return records_uri(self.records_path)

    def _defers(self, records: str | None) -> bool:
        wanted = self.deferrable
        if wanted is None:
            wanted = conf.getboolean("operators", "default_deferrable", fallback=False)
        if wanted and records is None:
            if self.deferrable:
                raise no_records("deferrable", "True")
            log.info("[operators] default_deferrable is set; without records_path this operator runs on the worker.")
        return bool(wanted and records)

    def _defer(self, order: Order, records: str) -> NoReturn:
        from airflow_provider_claid.hooks.claid import ClaidHook
        from airflow_provider_claid.triggers.generate import GRACE, ClaidGenerateTrigger

        account = ClaidHook(self.claid_conn_id).account()
        wait = self.execution_timeout or LONGEST_WAIT
        deadline = time.time() + wait.total_seconds()
        self.defer(
            trigger=ClaidGenerateTrigger(order=order.to_json(), records_path=records, deadline=deadline),
            method_name="execute_complete",
            # Airflow's own timeout only catches a trigger that is not heard of any more.
            timeout=wait + timedelta(seconds=account.endpoint.timeout + self.reconcile_timeout + GRACE),
        )

    def _job(self, context: Context, order: Order, records: str | None) -> ImageJob:
        from airflow_provider_claid.delivery.job import ImageJob
        from airflow_provider_claid.hooks.claid import ClaidHook
        from airflow_provider_claid.hooks.records import records_of
        from airflow_provider_claid.hooks.storage import storage_connection

        target, ti = target_of(self), context["ti"]
        name = check_name(self.filename) if self.filename else order.identity.key()
        if target is not None:
            target = replace(target, conn_id=storage_connection(target.conn_id, target.scheme))
        elif self.storage_conn_id:
            storage_connection(self.storage_conn_id, "")
        if target is None and not self.output_folder:
            log.warning("Neither save_to nor output_folder: the addresses of these pictures die in 24 hours.")
        account = ClaidHook(self.claid_conn_id).account()
        kept = records_of(records, order.identity, context)
        if kept is None and self.max_submissions > 1:
            raise no_records("max_submissions", str(self.max_submissions))
        return ImageJob(
            account,
            order.request,
            name,
            target,
            order.identity.tags() if self.object_tags else {},
            order.ledger(account, kept) if kept else None,
            order.search(),
            self._stop,
            self._patience(ti),
            first_try=ti.try_number == 1 and ti.max_tries == self.retries,
        )

    def _patience(self, ti: Any) -> float:
        """Return the seconds that a busy server may ask to wait here; a retry waits without a worker slot."""
        from airflow_provider_claid.delivery.generate import LONGEST_PAUSE

        if getattr(self, "retry_policy", None) is None or ti.try_number > (ti.max_tries or 0):
            return LONGEST_PAUSE
        from airflow_provider_claid.policies import PATIENCE, ClaidRetryPolicy

        return PATIENCE if isinstance(self.retry_policy, ClaidRetryPolicy) else LONGEST_PAUSE

    def _deliver(
        self, context: Context, job: ImageJob, work: Callable[[ImageJob], Coroutine[Any, Any, JobResult]]
    ) -> list[str]:
        from airflow_provider_claid.delivery import sync
        from airflow_provider_claid.delivery.job import deliverable
        from airflow_provider_claid.hooks.claid import ClaidHook
        from airflow_provider_claid.lineage import announce, delivery_of

        result = sync.run(work(job))
        self._hand_over(context, result, job.target)
        uris = deliverable(result, self.on_filtered)
        self._delivery = delivery_of(result, uris, job.request.input)
        announce(context, self.outlets, ClaidHook(self.claid_conn_id), self._delivery)
        return uris

    def _check_map_index(self, context: Context) -> None:
        """Render what Airflow renders after execute: a fault in it then would fail, and retry, a paid task."""
        template = getattr(self, "map_index_template", None)
        if template is None:
            return
        try:
            self.get_template_env().from_string(template).render(context)
        except Exception as cause:
            fix = f"It fails with {type(cause).__name__}: {cause}."
            raise ClaidInputError("map_index_template", f"{template!r:.80}", "a template that renders", fix) from cause

    def _hand_over(self, context: Context, result: JobResult, target: Target | None) -> None:
        value = result.to_json() | {"storage_conn_id": target.conn_id if target else self.storage_conn_id}
        for number, picture in enumerate(result.pictures, 1):
            log.info("Picture %d: %s", number, picture.error or picture.uri)
        log.info("Request %s: %d credits, %d pictures.", result.request_id, result.credits, len(result.pictures))
        context["ti"].xcom_push(key=RESULT_KEY, value=value)


def _tags(context: Context) -> dict[str, str]:
    """Return the tags that Airflow gives the metrics of this task."""
    return dict(getattr(context["ti"], "stats_tags", None) or {})
