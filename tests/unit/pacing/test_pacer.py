"""The pacer over real time: turns, missed slots, the brake, and what is said once."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from itertools import pairwise

import pytest

from airflow_provider_claid.pacing import pacer as pacer_module
from airflow_provider_claid.pacing.pacer import Pacer, pacer
from airflow_provider_claid.pacing.place import Place
from airflow_provider_claid.pacing.postgres import PostgresStore
from airflow_provider_claid.pacing.redis import RedisStore
from airflow_provider_claid.pacing.schedule import Pace
from airflow_provider_claid.pacing.slot import TOLERANCE, TooEarlyError
from airflow_provider_claid.pacing.sqlite import SQLiteStore
from airflow_provider_claid.pacing.store import MemoryStore

QUICK = Pace(per_second=50.0, per_minute=10_000)
MINUTE_USED_UP = {"ratelimit-limit": "120, 120;w=60, 4;w=1", "ratelimit-remaining": "0", "ratelimit-reset": "30"}
SECOND_USED_UP = {"ratelimit-limit": "4, 120;w=60, 4;w=1", "ratelimit-remaining": "-1", "ratelimit-reset": "1"}


@pytest.fixture(autouse=True)
def _nothing_said_yet(monkeypatch):
    monkeypatch.setattr(pacer_module, "_warned_of_others", False)


async def departure(slot, takes=0.0):
    """Stand for a request: open a connection, leave at the slot's time, wait for the answer."""
    await slot.wait()
    left = time.monotonic()
    slot.sent()
    await asyncio.sleep(takes)
    return left


async def send_all(pace, count, takes=0.0):
    async def one():
        async with pace.slot() as slot:
            return await slot.send(lambda slot: departure(slot, takes))

    return sorted(await asyncio.gather(*(one() for _ in range(count))))


def test_departures_keep_the_spacing_while_answers_overlap():
    times = asyncio.run(send_all(Pacer(MemoryStore(), QUICK), 30, takes=0.3))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) > 0.0
    assert times[-1] - times[0] >= 29 * 0.021 - 0.02
    assert times[-1] - times[0] < 29 * 0.021 + 2.0


def test_only_one_booking_is_outstanding():
    async def second_waits():
        pace = Pacer(MemoryStore(), Pace())
        async with pace.slot() as first:
            task = asyncio.create_task(pace.slot().__aenter__())
            await asyncio.sleep(0.05)
            assert not task.done()
            first.sent()
            return await task

    assert asyncio.run(second_waits()).at > 0


def test_a_failed_request_gives_its_turn_back():
    async def fail_then_book():
        pace = Pacer(MemoryStore(), QUICK)
        with pytest.raises(ZeroDivisionError):
            async with pace.slot():
                raise ZeroDivisionError
        async with asyncio.timeout(60), pace.slot() as slot:
            return slot

    assert asyncio.run(fail_then_book()).at > 0


def test_a_missed_slot_is_given_back_and_booked_anew():
    async def miss():
        pace = Pacer(MemoryStore(), Pace(per_second=4, per_minute=2))
        async with pace.slot() as slot:
            missed = slot.at
            await asyncio.sleep(0.1)
            await slot.wait()
            return slot.at - missed, len(pace._store._schedule.bookings)

    moved, bookings = asyncio.run(miss())
    assert moved >= 0.1 - TOLERANCE
    assert bookings == 1


def test_a_slot_that_moved_far_away_is_no_wait_on_an_open_connection():
    async def far():
        pace = Pacer(MemoryStore(), Pace())
        async with pace.slot() as slot:
            await asyncio.sleep(0.05)
            pace._store.close(30)
            with pytest.raises(TooEarlyError):
                await slot.wait()
            return True

    assert asyncio.run(far())


def test_a_request_that_opens_slowly_is_started_again_at_its_new_time():
    async def slow_then_fast():
        pace, starts = Pacer(MemoryStore(), Pace()), []

        async def request(slot):
            starts.append(time.monotonic())
            if len(starts) == 1:
                await asyncio.sleep(0.1)
                pace._store.close(2.5)
            return await departure(slot)

        async with pace.slot() as slot:
            return starts, await slot.send(request)

    starts, left = asyncio.run(slow_then_fast())
    assert len(starts) == 2
    assert 0.8 < left - starts[1] < 1.3


def test_a_busy_loop_sends_all_the_same():
    async def busy():
        pace = Pacer(MemoryStore(), Pace())

        async def hog():
            while True:
                time.sleep(0.03)  # noqa: ASYNC251 - this is the fault
                await asyncio.sleep(0)

        neighbour = asyncio.create_task(hog())
        async with asyncio.timeout(60), pace.slot() as slot:
            left = await slot.send(departure)
        neighbour.cancel()
        return left

    assert asyncio.run(busy()) > 0


def test_a_connection_that_stalls_does_not_hold_the_turn():
    async def stalled_then_next():
        pace = Pacer(MemoryStore(), Pace())

        async def stalls(_):
            await asyncio.sleep(30)

        async def first():
            async with pace.slot() as slot:
                await slot.send(stalls)

        task = asyncio.create_task(first())
        await asyncio.sleep(0.05)
        async with asyncio.timeout(25), pace.slot() as slot:
            left = await slot.send(departure)
        task.cancel()
        return left

    assert asyncio.run(stalled_then_next()) > 0


def test_a_loop_that_has_ended_is_forgotten_with_its_thread(pacing_dir):
    async def use():
        async with pacer("ended", Pace(), pacing_dir).slot():
            pass

    asyncio.run(use())
    before = threading.active_count()
    for _ in range(10):
        asyncio.run(use())
    time.sleep(0.2)
    assert threading.active_count() <= before + 1


def test_a_refusal_nobody_here_explains_is_named_once(caplog):
    async def refused_twice():
        pace = Pacer(MemoryStore(), Pace())
        for _ in range(2):
            async with pace.slot() as slot:
                await pace.refused(slot, SECOND_USED_UP, None)

    with caplog.at_level(logging.WARNING):
        asyncio.run(refused_twice())
    assert caplog.text.count("another host, container or user uses this account") == 1


@pytest.mark.parametrize(
    ("shared", "remedy"),
    [(False, "Set pacing_conn_id in the connection of each"), (True, "use the same pacing_conn_id")],
)
def test_who_is_refused_for_others_is_told_what_to_set(shared, remedy, caplog):
    async def refused():
        pace = Pacer(MemoryStore(), Pace(), shared=shared)
        async with pace.slot() as slot:
            await pace.refused(slot, SECOND_USED_UP, None)

    with caplog.at_level(logging.WARNING):
        asyncio.run(refused())
    assert remedy in caplog.text
    assert "another OS user (run_as_user) or another [claid] pacing_dir is another schedule" in caplog.text


def test_refusals_that_our_own_bookings_explain_are_not_blamed_on_others(caplog):
    async def refused_after_four():
        pace = Pacer(MemoryStore(), Pace())
        for _ in range(3):
            pace._store.book(pace.pace)
        async with pace.slot() as slot:
            await pace.refused(slot, SECOND_USED_UP, None)

    with caplog.at_level(logging.WARNING):
        asyncio.run(refused_after_four())
    assert "another host" not in caplog.text


def test_the_headers_of_an_accepted_request_brake_where_others_used_the_minute(caplog):
    async def accepted():
        pace = Pacer(MemoryStore(), Pace())
        async with pace.slot() as slot:
            limit = pace.accepted(slot, MINUTE_USED_UP)
        async with pace.slot() as slot:
            return limit, slot.at - time.monotonic()

    limit, ahead = asyncio.run(accepted())
    assert limit.remaining == 0
    assert 29 < ahead < 32
    assert "counted more requests" in caplog.text


def test_what_answers_say_of_the_minute_reaches_the_schedule_and_of_the_second_does_not():
    async def accepted(headers):
        pace = Pacer(MemoryStore(), Pace())
        async with pace.slot() as slot:
            pace.accepted(slot, headers)
        await pace.step(lambda: None)
        return slot.at, pace._store._schedule.window

    minute = {**MINUTE_USED_UP, "ratelimit-remaining": "119"}
    at, window = asyncio.run(accepted(minute))
    assert window.earliest < at + 30 < window.latest
    assert 0 <= window.fastest < 2
    assert asyncio.run(accepted({**SECOND_USED_UP, "ratelimit-remaining": "3"}))[1] is None
    assert asyncio.run(accepted({name: minute[name] for name in ("ratelimit-limit", "ratelimit-remaining")}))[1] is None


def test_an_answer_is_worth_more_than_its_brake():
    async def ending():
        pace = Pacer(MemoryStore(), Pace())
        async with pace.slot() as slot:
            pace.close()
            return pace.accepted(slot, MINUTE_USED_UP)

    assert asyncio.run(ending()).remaining == 0


def test_a_lower_limit_that_claid_announces_is_kept(caplog):
    async def announced():
        pace = Pacer(MemoryStore(), Pace())
        async with pace.slot() as slot:
            headers = {"ratelimit-limit": "60, 60;w=60, 2;w=1", "ratelimit-remaining": "59", "ratelimit-reset": "60"}
            pace.accepted(slot, headers)
            pace.accepted(slot, headers)
        return pace.pace

    assert asyncio.run(announced()) == Pace(2, 60)
    assert caplog.text.count("the lower limit is kept") == 2


def test_a_higher_limit_that_claid_announces_is_not_taken():
    async def announced():
        pace = Pacer(MemoryStore(), Pace())
        async with pace.slot() as slot:
            pace.accepted(slot, {"ratelimit-limit": "600, 600;w=60, 20;w=1", "ratelimit-remaining": "599"})
        return pace.pace

    assert asyncio.run(announced()) == Pace()


def test_a_lower_limit_is_kept_no_longer_than_claid_says_so():
    async def announced(*limits):
        pace, seen = Pacer(MemoryStore(), Pace()), []
        async with pace.slot() as slot:
            for limit in limits:
                pace.accepted(slot, {"ratelimit-limit": limit, "ratelimit-remaining": "1", "ratelimit-reset": "1"})
                seen.append(pace.pace)
        return seen

    assert asyncio.run(announced("1;w=60", "120, 120;w=60, 4;w=1")) == [Pace(4.0, 1), Pace()]
    assert asyncio.run(announced("1, 1;w=1", "30;w=60", "900, 900;w=60, 50;w=1"))[1:] == [Pace(1, 30), Pace()]


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        (SECOND_USED_UP, 0.95, 1.3),
        ({**SECOND_USED_UP, "ratelimit-reset": "3"}, 2.95, 3.3),
        ({**SECOND_USED_UP, "ratelimit-reset": "1764345600000"}, 0.95, 1.3),
        ({"ratelimit-limit": "4, 4;w=1", "ratelimit-remaining": "0"}, 0.95, 1.3),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "7"}, 7.9, 8.3),
        ({"ratelimit-reset": "7"}, 7.9, 8.3),
        ({"ratelimit": "limit=4, remaining=0, reset=2"}, 1.95, 2.3),
        ({**MINUTE_USED_UP, "ratelimit-remaining": "55"}, 0.95, 1.3),
        ({**MINUTE_USED_UP, "ratelimit-reset": "1764345600"}, 60.9, 61.3),
        ({}, 0.95, 1.3),
    ],
)
def test_a_refusal_that_our_bookings_do_not_explain_waits_as_the_server_says(headers, least, most):
    async def refused():
        pace = Pacer(MemoryStore(), Pace())
        async with pace.slot() as slot:
            before = time.monotonic()
            retry_after = await pace.refused(slot, headers, None)
            after = time.monotonic()
        again = pace._store.book(Pace()).due
        return retry_after, again - after, again - before

    retry_after, from_after, from_before = asyncio.run(refused())
    assert from_before >= least
    assert from_after <= most
    assert (retry_after is None) == (headers == {})
    assert (retry_after or 0) <= most


def test_a_refused_second_that_our_own_bookings_explain_only_widens_the_spacing():
    async def refused_after_four():
        pace = Pacer(MemoryStore(), Pace())
        for _ in range(3):
            pace._store.book(pace.pace)
        async with pace.slot() as slot:
            await pace.refused(slot, {**SECOND_USED_UP, "ratelimit-reset": "30"}, None)
            return pace._store.book(Pace()).at - slot.at

    assert asyncio.run(refused_after_four()) < 0.5


def test_one_pacer_per_loop_and_account_and_one_store_per_account(pacing_dir):
    async def both():
        return pacer("a", Pace(), pacing_dir), pacer("a", Pace(), pacing_dir), pacer("b", Pace(), pacing_dir)

    first, again, other = asyncio.run(both())
    elsewhere, _, _ = asyncio.run(both())
    assert first is again
    assert first is not other
    assert first is not elsewhere
    assert first._store is elsewhere._store


def test_each_place_has_a_store_of_its_own(pacing_dir):
    places = [
        None,
        Place("redis", "r", "store", 1),
        Place("postgres", "p", "store", 1),
        Place("redis", "r", "other", 1),
    ]

    async def stores():
        return [pacer("placed", Pace(), pacing_dir, place)._store for place in [*places, *places]]

    found = asyncio.run(stores())
    assert found[:4] == found[4:]
    assert len(set(map(id, found))) == 4
    first = [type(store._first) for store in found[:4]]
    assert first == [SQLiteStore, RedisStore, PostgresStore, RedisStore]
    assert all(store._second._first.path.parent == pacing_dir for store in found[1:4])
