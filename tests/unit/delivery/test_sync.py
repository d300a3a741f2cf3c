"""The synchronous shell keeps one loop, leaves nothing behind when it is interrupted, and survives a fork."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_claid.api.errors import ClaidUnknownOutcomeError
from airflow_provider_claid.delivery import sync
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.generate import generate
from airflow_provider_claid.exceptions import airflow_errors

REQUEST = check_request("a red bicycle", 1, 5.0, None)


class Interruption(BaseException):
    """What Airflow's execution timeout is: no Exception."""


@pytest.fixture
def interrupt_after():
    """Raise `Interruption` in the main thread after some seconds, as Airflow's timeout does."""

    def raise_it(*_):
        raise Interruption

    before = signal.signal(signal.SIGALRM, raise_it)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


async def loop_in_use():
    return asyncio.get_running_loop()


def test_calls_share_one_loop_and_an_ordinary_error_keeps_it():
    async def fails():
        raise ValueError("ordinary")

    first = sync.run(loop_in_use())
    with pytest.raises(ValueError, match="ordinary"):
        sync.run(fails())
    assert sync.run(loop_in_use()) is first


def test_threads_have_loops_of_their_own():
    loops = [sync.run(loop_in_use())]

    def other():
        loops.append(sync.run(loop_in_use()))
        sync.close()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert loops[0] is not loops[1]


def test_a_thread_that_ends_leaves_nothing_open(sandbox, account):
    def one_call():
        sync.run(generate(account, REQUEST))

    def in_threads(count):
        for _ in range(count):
            thread = threading.Thread(target=one_call)
            thread.start()
            thread.join()
        time.sleep(0.3)
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    files, threads = in_threads(3)
    more_files, more_threads = in_threads(12)
    assert more_files <= files + 3
    assert more_threads <= threads + 2
    assert sandbox.report()["totals"]["posts"] == 15


def test_an_interruption_stops_the_work_and_closes_the_loop(interrupt_after):
    cleaned = []

    async def long():
        try:
            await asyncio.sleep(30)
        finally:
            cleaned.append(True)

    loop = sync.run(loop_in_use())
    interrupt_after(0.1)
    with pytest.raises(Interruption):
        sync.run(long())
    assert cleaned == [True]
    assert loop.is_closed()
    assert sync.run(loop_in_use()) is not loop


def test_an_interruption_in_a_task_group_comes_out_as_itself(interrupt_after):
    def waits():
        time.sleep(5)

    async def connects():
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0)).add_done_callback(lambda task: interrupt_after(0.05))
            group.create_task(spins())

    async def spins():
        await asyncio.sleep(0.01)
        waits()

    with pytest.raises(Interruption):
        sync.run(connects())


def test_work_that_can_be_asked_to_stop_is_given_time_for_it(interrupt_after):
    ended, stopped = [], []

    async def works():
        while not stopped:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        ended.append(True)

    interrupt_after(0.2)
    with pytest.raises(Interruption):
        sync.run(works(), stop=lambda: stopped.append(True))
    assert ended == [True]


def test_an_interruption_of_a_request_that_left_says_that_it_may_be_paid(sandbox, account, interrupt_after):
    sandbox.fault("generate", "hang", seconds=30)
    interrupt_after(0.5)
    with (
        pytest.raises(ClaidUnknownOutcomeError, match="Interruption after the request left") as caught,
        airflow_errors(),
    ):
        sync.run(generate(account, REQUEST))
    assert isinstance(caught.value.__cause__, Interruption)


@pytest.mark.parametrize("kind", [Interruption, RuntimeError, AirflowException])
@pytest.mark.parametrize(
    ("place", "billed"),
    [
        ("airflow_provider_claid.api.client._read", "unknown"),
        ("airflow_provider_claid.api.client.read_generation", "unknown"),
        ("airflow_provider_claid.delivery.generate.GenerateResult", "yes"),
    ],
)
def test_no_exception_of_any_kind_after_the_request_left_is_retried(sandbox, account, monkeypatch, kind, place, billed):
    """An execution timeout, or a fault of our own, may strike at any line."""

    def struck(*_, **__):
        raise kind("struck")

    monkeypatch.setattr(place, struck)
    with pytest.raises(AirflowFailException) as caught, airflow_errors():
        sync.run(generate(account, REQUEST))
    assert caught.value.billed == billed
    assert sandbox.report()["totals"]["posts"] == 1


def test_an_exception_before_the_request_left_is_left_as_it_is(sandbox, account, monkeypatch):
    def struck(*_, **__):
        raise RuntimeError("struck")

    monkeypatch.setattr("airflow_provider_claid.pacing.pacer.Slot.wait", struck)
    with pytest.raises(RuntimeError, match="struck"), airflow_errors():
        sync.run(generate(account, REQUEST))
    assert sandbox.report()["totals"]["posts"] == 0


def test_a_forked_child_makes_a_loop_and_a_client_of_its_own(sandbox, account):
    parent = sync.run(generate(account, REQUEST))
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def child():
        there.send(sync.run(generate(account, REQUEST)).request_id)
        os._exit(0)

    process = context.Process(target=child)
    process.start()
    assert here.poll(60)
    in_child = here.recv()
    process.join()
    again = sync.run(generate(account, REQUEST))
    assert len({parent.request_id, in_child, again.request_id}) == 3


def test_a_fork_harms_no_other_thread_of_the_parent(sandbox, account):
    go, done, results = threading.Event(), threading.Event(), []

    def two_calls():
        results.append(sync.run(generate(account, REQUEST)).request_id)
        done.set()
        go.wait(60)
        results.append(sync.run(generate(account, REQUEST)).request_id)

    thread = threading.Thread(target=two_calls, daemon=True)
    thread.start()
    assert done.wait(60)
    child = os.fork()
    if child == 0:
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    go.set()
    thread.join(60)
    assert len(results) == 2


def test_a_warm_call_makes_no_loop_and_a_closed_one_is_not_used_again():
    first = sync.run(loop_in_use())
    assert [sync.run(loop_in_use()) for _ in range(3)] == [first] * 3
    sync.close()
    assert first.is_closed()
    assert sync.run(loop_in_use()) is not first
