"""Credits booked with a slot: given back once, and only if its request surely was not billed."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from airflow_provider_claid.pacing.budget import Budget, BudgetError, Spend, utc_day
from airflow_provider_claid.pacing.pacer import Pacer
from airflow_provider_claid.pacing.schedule import Pace
from airflow_provider_claid.pacing.slot import TooEarlyError
from airflow_provider_claid.pacing.store import MemoryStore
from tests.unit.pacing.conftest import spent, today

FAST = Pace(per_second=1000, per_minute=100_000)
BEFORE, AFTER = "2026-02-28", "2026-03-01"


def test_a_slot_books_its_credits_and_gives_them_back_once():
    async def refund_twice():
        store = MemoryStore()
        async with Pacer(store, FAST).slot(Spend(2, 9)) as slot:
            await slot.send(lambda slot: slot.wait())
            store._budget.book(utc_day(time.time()), Spend(5, 9))
            before = today(store)
            await slot.refund()
            await slot.refund()
            return before, today(store)

    assert asyncio.run(refund_twice()) == (7, 5)


@pytest.mark.parametrize("reason", [ZeroDivisionError, TooEarlyError, asyncio.CancelledError])
def test_a_block_that_ends_before_its_request_could_leave_gives_the_credits_back(reason):
    async def ends():
        store = MemoryStore()
        with pytest.raises(reason):
            async with Pacer(store, FAST).slot(Spend(2, 9)):
                raise reason
        return spent(store)

    assert asyncio.run(ends()) == ({}, 1)


@pytest.mark.parametrize("reason", [None, ZeroDivisionError, asyncio.CancelledError])
def test_a_request_that_may_have_left_keeps_its_credits_however_its_block_ends(reason):
    async def ends():
        store = MemoryStore()
        with suppress(ZeroDivisionError, asyncio.CancelledError):
            async with Pacer(store, FAST).slot(Spend(2, 9)) as slot:
                await slot.wait()
                if reason:
                    raise reason
        return today(store)

    assert asyncio.run(ends()) == 2


def test_one_cancelled_while_it_waits_for_its_time_gives_the_credits_back():
    async def cancelled():
        store = MemoryStore()
        store.close(30)

        async def one():
            async with Pacer(store, FAST).slot(Spend(2, 9)) as slot:
                await slot.send(lambda slot: slot.wait())

        task = asyncio.create_task(one())
        await asyncio.sleep(0.1)
        booked = today(store)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return booked, today(store)

    assert asyncio.run(cancelled()) == (2, 0)


class SlowStore(MemoryStore):
    """A store whose booking takes a while, as a file that others hold."""

    begun = 0

    def book(self, *args, **kwargs):
        self.begun += 1
        time.sleep(0.3)
        return super().book(*args, **kwargs)


def test_one_cancelled_while_it_is_booked_gives_the_credits_back():
    async def cancelled():
        store = SlowStore()
        task = asyncio.create_task(Pacer(store, FAST).slot(Spend(2, 9)).__aenter__())
        while store.begun < 1:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return spent(store)

    assert asyncio.run(cancelled()) == ({}, 1)


def test_one_cancelled_while_it_is_booked_anew_gives_them_back_once():
    async def cancelled():
        store = SlowStore()
        store._budget = Budget({utc_day(time.time()): 5})

        async def one():
            async with Pacer(store, FAST).slot(Spend(2, 9)) as slot:
                await asyncio.sleep(0.1)
                await slot.wait()

        task = asyncio.create_task(one())
        while store.begun < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return spent(store)

    assert asyncio.run(cancelled()) == ({utc_day(time.time()): 5}, 1)


def test_a_slot_missed_at_midnight_is_sent_and_given_back_on_the_new_day(near_midnight):
    async def missed():
        store = MemoryStore()
        async with Pacer(store, FAST).slot(Spend(2, 2)) as slot:
            before = spent(store)[0]
            near_midnight(0.1)
            await asyncio.sleep(0.1)
            await slot.wait()
            after = spent(store)[0]
            await slot.refund()
        return before, after, spent(store)[0]

    assert asyncio.run(missed()) == ({BEFORE: 2}, {AFTER: 2}, {})


def test_a_slot_missed_at_midnight_that_the_new_day_refuses_sends_nothing_and_keeps_nothing(near_midnight):
    async def missed():
        store = MemoryStore()

        async def send():
            async with Pacer(store, FAST).slot(Spend(2, 2)) as slot:
                near_midnight(0.1)
                store.book(FAST, spend=Spend(1, 2))
                await asyncio.sleep(0.1)
                await slot.wait()

        with pytest.raises(BudgetError):
            await send()
        return spent(store)[0]

    assert asyncio.run(missed()) == {AFTER: 1}


def test_a_refused_slot_gives_its_turn_to_the_next():
    async def refused_then_next():
        pace = Pacer(MemoryStore(), FAST)
        with pytest.raises(BudgetError):
            async with pace.slot(Spend(2, 1)):
                pass
        async with asyncio.timeout(60), pace.slot() as slot:
            return slot.at

    assert asyncio.run(refused_then_next()) > 0
