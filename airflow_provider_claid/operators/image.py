"""The operator for one prompt."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowSkipException, conf

from airflow_provider_claid.delivery.checks import Target, check_name
from airflow_provider_claid.exceptions import airflow_errors, revived
from airflow_provider_claid.links.claid import RESULT_KEY, ClaidPictureLink
from airflow_provider_claid.operators.arguments import STAND_INS, check_literals, no_records, request_of, target_of
from airflow_provider_claid.operators.base import ClaidGenerateOperator, epoch_of, identity_of, tags_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_claid.delivery.job import ImageJob, JobResult
    from airflow_provider_claid.hooks.order import Order

log = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(hours=24)
"""For how long a deferred request waits for its turn at the most, without an `execution_timeout`."""


class ClaidGenerateImageOperator(ClaidGenerateOperator):
    """
    Turn one prompt into 1 to 4 pictures, stored and checked; costs 1 credit each (Claid API §2 and §8).

    Returns the list of picture URIs. XCom `claid_result` holds plain JSON: request id, credits, and each picture's
    URI, size, type, bytes, SHA-256, whether the content filter made it black, and when its address expires.

    A request is sent again only if it surely was not billed. What was sent is recorded before it leaves, so that a
    retry, also of a worker that was killed, takes the recorded pictures, looks for lost ones, or says what may have
    been billed. Without a `records_path` the records are in the task state store of Airflow 3.3 and newer; only without
    records at all does the retry of a killed task pay again.

    Events of `outlets` carry the URIs, the credits, the request id and the SHA-256 of the prompt as their extra; an
    `AssetAlias` gets one for the folder of the pictures. Hook lineage and OpenLineage get the folder as output.

    Takes the arguments of `ClaidGenerateOperator` too. With neither `save_to` nor `output_folder` the addresses of the
    pictures die in 24 hours.

    :param prompt: the text, 3 to 1024 characters (templated).
    :param filename: what the copies are called; `-1.png`, `-2.png` … are added (templated). Default: the job key.
        Mapped tasks need names that differ, `{{ ti.map_index }}` say: an equal name is overwritten.
    :param deferrable: pay in the triggerer, without a worker slot while the request waits for its turn and its answer;
        the pictures are copied on a worker. Needs a `records_path`. None follows `[operators] default_deferrable`, and
        runs on the worker where there are no records.
    """

    template_fields: Sequence[str] = ("prompt", "filename", *ClaidGenerateOperator.template_fields)
    operator_extra_links: Sequence[BaseOperatorLink] = (ClaidPictureLink(),)

    def __init__(
        self, *, prompt: str, filename: str | None = None, deferrable: bool | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.prompt = prompt
        self.filename = filename
        self.deferrable = deferrable
        with airflow_errors():
            check_literals(self)
            if deferrable and not self.records_path and not conf.get("claid", "records_path", fallback=""):
                raise no_records("deferrable", "True")

    def execute(self, context: Context) -> list[str]:
        """Pay for the pictures once, bring them to where they last, and return their URIs; or defer to do so."""
        from airflow_provider_claid.delivery.job import run

        with airflow_errors(tags_of(context)):
            order, records = self._order(context), self._records_uri()
            if self._defers(records):
                self._defer(order, str(records))
            return self._deliver(context, self._job(context, order, records), run)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[str]:
        """Take the answer that the trigger has recorded and bring the pictures to where they last; pays for nothing."""
        from airflow_provider_claid.delivery.job import collect

        with airflow_errors(tags_of(context)):
            if event["status"] != "paid":
                raise revived(event["error"])
            job = self._job(context, self._order(context), self._records_uri())
            return self._deliver(context, job, partial(collect, event=event))

    def _order(self, context: Context) -> Order:
        self._check_map_index(context)
        target_of(self)
        request = request_of({name: getattr(self, name) for name in STAND_INS})
        return self._order_of(identity_of(context), epoch_of(context), request, self.filename)

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
        from airflow_provider_claid.hooks.claid import ClaidHook
        from airflow_provider_claid.hooks.records import records_of

        name, target, ti = self._name(order), self._connected_target(), context["ti"]
        if target is None and not self.output_folder:
            log.warning("Neither save_to nor output_folder: the addresses of these pictures die in 24 hours.")
        account = ClaidHook(self.claid_conn_id).account()
        kept = records_of(records, order.identity, context)
        self._require_records(kept=kept is not None)
        return self._job_of(
            order,
            account,
            kept,
            name,
            target,
            patience=self._patience(ti),
            first_try=ti.try_number == 1 and ti.max_tries == self.retries,
        )

    def _name(self, order: Order) -> str:
        return check_name(self.filename) if self.filename else order.identity.key()

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
        from airflow_provider_claid.delivery.job import all_filtered, deliverable
        from airflow_provider_claid.hooks.claid import ClaidHook
        from airflow_provider_claid.lineage import announce, delivery_of

        result = sync.run(work(job))
        self._hand_over(context, result, job.target)
        uris = deliverable(result, self.on_filtered)
        if not uris:
            raise AirflowSkipException(str(all_filtered(result)))
        self._delivery = delivery_of(result, uris, job.request.input)
        announce(context, self.outlets, ClaidHook(self.claid_conn_id), self._delivery)
        return uris

    def _hand_over(self, context: Context, result: JobResult, target: Target | None) -> None:
        value = result.to_json() | {"storage_conn_id": target.conn_id if target else self.storage_conn_id}
        for number, picture in enumerate(result.pictures, 1):
            log.info("Picture %d: %s", number, picture.error or picture.uri)
        log.info("Request %s: %d credits, %d pictures.", result.request_id, result.credits, len(result.pictures))
        context["ti"].xcom_push(key=RESULT_KEY, value=value)
