"""The operator for one prompt."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowSkipException, conf

from airflow_provider_claid.api.errors import ClaidError, ClaidUndeliveredError
from airflow_provider_claid.exceptions import airflow_errors, revived
from airflow_provider_claid.links.claid import RESULT_KEY, ClaidPictureLink
from airflow_provider_claid.operators.arguments import (
    STAND_INS,
    check_literals,
    name_of,
    no_records,
    request_of,
    settle,
)
from airflow_provider_claid.operators.base import ClaidGenerateOperator, identity_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_claid.delivery.account import Account
    from airflow_provider_claid.delivery.job import ImageJob, JobResult
    from airflow_provider_claid.delivery.records.store import Records
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
        Mapped tasks need names that differ, `{{ ti.map_index }}` say: one that several share is refused.
    :param deferrable: pay in the triggerer, without a worker slot while the request waits for its turn and its answer;
        the pictures are copied on a worker. Needs a `records_path`. None follows `[operators] default_deferrable`, and
        runs on the worker where there are no records.
    """

    template_fields: Sequence[str] = ("prompt", "filename", *ClaidGenerateOperator.template_fields)
    operator_extra_links: Sequence[BaseOperatorLink] = (ClaidPictureLink(),)
    _is_named = False
    """Whether the file name is data, not an argument."""

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
        from airflow_provider_claid.delivery import sync
        from airflow_provider_claid.delivery.job import prove, run

        with self._working(context):
            settled = self._settled(context)
            job = self._job(context, settled)
            if settled.deferred_to:
                sync.run(prove(job))
                self._defer(settled.order, settled.deferred_to)
            return self._deliver(context, job, settled.order, run)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[str]:
        """Take the answer that the trigger has recorded and bring the pictures to where they last; pays for nothing."""
        from airflow_provider_claid.delivery.job import collect
        from airflow_provider_claid.hooks.records import recorded_in

        with self._working(context):
            if event["status"] != "paid":
                raise revived(event["error"])
            with note_paid(event):
                order = _order_in(event)
                account = order.keyless_account()
                try:
                    records = recorded_in(event["records_path"], order.identity)
                except ClaidError as fault:
                    if "answer" not in event:
                        raise
                    # It could not be recorded, and this event is all there is of it.
                    log.warning("The pictures are delivered without their record: %s", fault)
                    records = None
                job = self._job_of(order, account, records, order.name, order.target)
                return self._deliver(context, job, order, partial(collect, event=event))

    def _settled(self, context: Context) -> Settled:
        """
        Resolve and check all that paying and delivering need, in every mode, before a request can leave.

        That is: the records, the arguments, what Airflow does after `execute`, the Claid connection and the HTTP
        client, and the target; `delivery.job.prove` then asks the stores. What is settled here is not looked at again
        once it is paid for.
        """
        from airflow_provider_claid.hooks.claid import ClaidHook
        from airflow_provider_claid.hooks.records import begin, recorded_request
        from airflow_provider_claid.operators.mapping import require_own_name

        settle(self)
        identity, place = identity_of(context), self._records_uri()
        begun = self._begun or begin(context, place, identity)
        self._require_records(kept=begun.records is not None)
        self._check_rendered()
        self._check_afterwards(context)
        if not self._is_named:
            require_own_name(self, context)
        elif (asked := recorded_request(begun)) is not None and asked.input != self.prompt:
            log.warning("%r came with another prompt than the recorded one, which does not get it.", self.filename)
            self.filename = None
        request = request_of({name: getattr(self, name) for name in STAND_INS})
        account, target = ClaidHook(self.claid_conn_id).account(), self._connected_target()
        name = name_of(self, identity.key(), target)
        if target is None and not request.output:
            log.warning("Neither save_to nor output_folder: the addresses of these pictures die in 24 hours.")
        endpoint = {"base_url": account.endpoint.base_url, "timeout": account.endpoint.timeout}
        order = self._order_of(identity, begun.attempt, request, name=name, target=target, **endpoint)
        return Settled(order, account, begun.records, place if self._defers(place) else None)

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
        from airflow_provider_claid.triggers.generate import GRACE, ClaidGenerateTrigger

        wait = self.execution_timeout or LONGEST_WAIT
        deadline = time.time() + wait.total_seconds()
        self.defer(
            trigger=ClaidGenerateTrigger(order=order.to_json(), records_path=records, deadline=deadline),
            method_name="execute_complete",
            # Airflow's own timeout only catches a trigger that is not heard of any more.
            timeout=wait + timedelta(seconds=order.timeout + order.reconcile_timeout + GRACE),
        )

    def _job(self, context: Context, settled: Settled) -> ImageJob:
        ti, order = context["ti"], settled.order
        return self._job_of(
            order,
            settled.account,
            settled.records,
            order.name,
            order.target,
            patience=self._patience(ti),
            first_try=order.attempt == 1,
        )

    def _patience(self, ti: Any) -> float:
        """Return the seconds that a busy server may ask to wait here; a retry waits without a worker slot."""
        from airflow_provider_claid.delivery.generate import LONGEST_PAUSE

        if getattr(self, "retry_policy", None) is None or ti.try_number > (ti.max_tries or 0):
            return LONGEST_PAUSE
        from airflow_provider_claid.policies import PATIENCE, ClaidRetryPolicy

        return PATIENCE if isinstance(self.retry_policy, ClaidRetryPolicy) else LONGEST_PAUSE

    def _deliver(
        self,
        context: Context,
        job: ImageJob,
        order: Order,
        work: Callable[[ImageJob], Coroutine[Any, Any, JobResult]],
    ) -> list[str]:
        """Return the URIs to hand on; raises `AirflowSkipException` where `on_filtered` skips them all."""
        from airflow_provider_claid.delivery import sync
        from airflow_provider_claid.delivery.job import all_filtered, deliverable
        from airflow_provider_claid.hooks.claid import ClaidHook
        from airflow_provider_claid.lineage import announce, delivery_of

        result = sync.run(work(job))
        self._hand_over(context, result, order)
        if uris := deliverable(result, order.on_filtered):
            self._delivery = delivery_of(result, uris, order.request.input)
            announce(context, self.outlets, ClaidHook(order.claid_conn_id), self._delivery)
            return uris
        # After XCom: Airflow skips the task, and what is downstream of it.
        raise AirflowSkipException(str(all_filtered(result)))

    def _hand_over(self, context: Context, result: JobResult, order: Order) -> None:
        conn_id = order.target.conn_id if order.target else order.storage_conn_id
        for number, picture in enumerate(result.pictures, 1):
            log.info("Picture %d: %s", number, picture.error or picture.uri)
        log.info("Request %s: %d credits, %d pictures.", result.request_id, result.credits, len(result.pictures))
        context["ti"].xcom_push(key=RESULT_KEY, value=result.to_json() | {"storage_conn_id": conn_id})


@dataclass(frozen=True)
class Settled:
    """What a task has resolved and checked before it may pay; `deferred_to` are the records of one that defers."""

    order: Order
    account: Account
    records: Records | None
    deferred_to: str | None


@contextmanager
def note_paid(event: Mapping[str, Any]) -> Iterator[None]:
    """Have every error say that it was billed: the trigger has paid, as its event tells."""
    try:
        yield
    except ClaidError as error:
        error.billed = "yes"
        raise


def _order_in(event: Mapping[str, Any]) -> Order:
    from airflow_provider_claid.hooks.order import Order

    try:
        return Order.from_json(event["order"])
    except (KeyError, ValueError) as fault:
        message = f"The event of the trigger is of another version of this provider ({fault}); a retry reads the record"
        raise ClaidUndeliveredError(message, billed="yes") from fault
