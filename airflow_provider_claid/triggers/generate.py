"""The trigger that pays for pictures in the triggerer: no worker slot is held while the request waits for its turn."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_claid.api.bill import current_bill
from airflow_provider_claid.api.errors import ClaidError, ClaidLostAnswerError, ClaidNotSentError
from airflow_provider_claid.delivery.stop import Stop
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.exceptions import described
from airflow_provider_claid.metrics import measured
from airflow_provider_claid.triggers.paths import documented_path

if TYPE_CHECKING:
    from airflow_provider_claid.delivery.account import Account
    from airflow_provider_claid.delivery.payment import Paid
    from airflow_provider_claid.delivery.records.store import Records
    from airflow_provider_claid.hooks.order import Order

log = logging.getLogger(__name__)

LET_FINISH = 240.0
"""Seconds that a request which has left may take to end once the trigger is cancelled; Airflow may kill it before."""

GRACE = 180.0
"""Seconds beyond all known waits before Airflow gives up a trigger that it hears nothing of."""

GLANCE = 0.05


class ClaidGenerateTrigger(BaseTrigger):
    """
    Pay for the pictures of `ClaidGenerateImageOperator`, once, whatever runs this trigger how often; 1 credit each.

    The record comes first: a second run of the same trigger, in another process or after a restart, waits for the
    result of the first. All triggers of a process share its connections to Claid and the account's pace.

    :param order: the job as plain JSON (`hooks.order.Order`); it holds no secret.
    :param records_path: the folder of the records.
    :param deadline: Unix time in seconds from which on nothing may leave any more; absolute, so that a restart does
        not extend it. A request that has left is waited for.

    Its one event is `{"status": "paid", "number": 1, "times": 1, "reused": false, "order": {...}, "records_path": …}`,
    `number` being that of the record with Claid's answer, or `{"status": "failed", "error": {...}}`. `answer` is in it
    only if it could not be recorded. The order comes along because the task that goes on knows of nothing else.
    """

    def __init__(
        self,
        *,
        order: Mapping[str, Any] | None = None,
        records_path: str = "",
        deadline: float | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        # Nothing is checked here: a trigger that another version has stored fails by its event, which says why.
        self.order = order or {}
        self.records_path = records_path
        self.deadline = deadline
        self._unknown = unknown
        self._stop = Stop()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path, the documented one, and the arguments, plain JSON."""
        return documented_path(self), {
            "order": dict(self.order),
            "records_path": self.records_path,
            "deadline": self.deadline,
            **self._unknown,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Pay, or find what is paid for, and tell of it."""
        with measured():
            try:
                event = await self._event()
            except ClaidError as error:
                event = {"status": "failed", "error": described(error)}
        yield TriggerEvent(event)

    async def on_kill(self) -> None:
        """Let nothing leave any more; what has left is recorded by `run`."""
        self._stop.asked = True

    async def _event(self) -> dict[str, Any]:
        try:
            paid = await self._shielded()
        except ClaidError as error:
            await in_thread(self._look_back, error)
            raise
        event = {
            "status": "paid",
            "number": paid.number,
            "times": paid.times,
            "reused": paid.reused,
            "order": dict(self.order),
            "records_path": self.records_path,
        }
        return event if paid.unkept is None else event | {"answer": paid.unkept.to_json()}

    async def _shielded(self) -> Paid:
        """Do the work in a task of its own, which a cancellation reaches only before or after its request."""
        work = asyncio.create_task(self._pay())
        # A triggerer that ends cancels all tasks that its loop knows of, and waits for this one, which waits for work.
        asyncio.tasks._unregister_task(work)  # noqa: SLF001 - asyncio documents it for tasks kept apart
        try:
            async with asyncio.timeout(self._left()):
                return await asyncio.shield(work)
        except TimeoutError:
            await self._let_finish(work)
            if work.done() and not work.cancelled():
                return work.result()
            raise self._too_late() from None
        except asyncio.CancelledError:
            await self._let_finish(work)
            raise

    @staticmethod
    def _too_late() -> ClaidError:
        billed = current_bill().billed
        if billed == "no":
            return ClaidNotSentError("The turn of this request did not come before the task's deadline")
        message = "The task's deadline came before it was known what became of the request; a retry looks for that"
        return ClaidLostAnswerError(message, billed=billed)

    async def _let_finish(self, work: asyncio.Task[Paid]) -> None:
        """Let a request that has left end, and its result be recorded; end everything else."""
        self._stop.asked = True
        until = time.monotonic() + LET_FINISH
        while self._stop.under_way and not work.done() and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(GLANCE)
        work.cancel()
        await asyncio.wait([work], timeout=GLANCE * 100)

    async def _pay(self) -> Paid:
        try:
            order, records, account = await in_thread(self._opened)
        except StoreBusyError as busy:
            # An earlier run of this trigger may have paid.
            from airflow_provider_claid.hooks.records import unknown_now

            raise unknown_now(busy) from busy
        # What it imports is loaded by now, in that thread.
        from airflow_provider_claid.delivery.payment import pay

        ledger, first_try = order.ledger(account, records), order.attempt == 1
        return await pay(account, ledger, search=order.search(), stop=self._stop, first_try=first_try)

    def _look_back(self, error: ClaidError) -> None:
        """Let an error that says "not billed" know what an earlier run of this trigger has paid; never raises."""
        if error.billed != "no" or current_bill().billed != "no":
            return
        from airflow_provider_claid.hooks.order import Order
        from airflow_provider_claid.hooks.records import note_paid, recorded_in

        try:
            order = Order.from_json(self.order)
            records = recorded_in(self.records_path, order.identity)
            note_paid(records, order.ledger(order.keyless_account(), records).asked)
        except (ClaidError, StoreBusyError, ValueError):
            # Store, record or order cannot be read.
            error.billed = "unknown"

    def _opened(self) -> tuple[Order, Records, Account]:
        from airflow_provider_claid.hooks.claid import ClaidHook
        from airflow_provider_claid.hooks.order import Order
        from airflow_provider_claid.hooks.records import records_of

        try:
            order = Order.from_json(self.order)
        except ValueError as fault:
            raise self._of_another_version(str(fault)) from fault
        if self._unknown:
            raise self._of_another_version(f"unknown arguments: {', '.join(sorted(self._unknown))}")
        records = records_of(self.records_path, order.identity, order.attempt)
        return order, records, ClaidHook(order.claid_conn_id).account()

    @staticmethod
    def _of_another_version(fault: str) -> ClaidError:
        # It may have paid when it ran there; what a retry may do is decided by the records.
        message = f"This trigger was stored by another version of this provider ({fault}); a retry reads the records"
        return ClaidLostAnswerError(message, billed="unknown")

    def _left(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.time())
