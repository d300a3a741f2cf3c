"""Threads of virtual time, as greenlets: what blocks in one can be overtaken, and be left half done by a crash."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from greenlet import GreenletExit, greenlet

from tests.simulation.world import Process, World


class Thread:
    """Runs one function; it is resumed only while its process lives."""

    def __init__(self, process: Process, function: Callable[[], None]) -> None:
        self.process = process
        self._world = process.world
        self._greenlet = greenlet(function)
        self._world.threads.append(self)

    def resume(self) -> None:
        """Go on with the function until it waits or ends."""
        world = self._world
        world.current, world.thread = self.process, self
        try:
            self._greenlet.switch()
        finally:
            world.current = world.thread = None

    def sleep(self, seconds: float) -> None:
        """Wait, from inside."""
        self._world.after(seconds, self.resume, self.process)
        self._greenlet.parent.switch()

    def dispose(self) -> None:
        """End it."""
        if self._greenlet:
            with suppress(BaseException):
                self._greenlet.throw(GreenletExit)


def start(process: Process, function: Callable[[], Any]) -> Future[Any]:
    """Run a function in a thread of its own."""
    future: Future[Any] = Future()
    thread = Thread(process, lambda: _fulfil(future, function))
    process.world.after(0.0, thread.resume, process)
    return future


def _fulfil(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except GreenletExit:
        raise
    except BaseException as fault:  # noqa: BLE001 - as an executor does
        future.set_exception(fault)
    else:
        future.set_result(result)


class Pool:
    """A `ThreadPoolExecutor` of one thread: one function after the other."""

    def __init__(self, *_: Any, **__: Any) -> None:
        loop: Any = asyncio.get_running_loop()
        self._process: Process = loop.process
        self._queue: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._busy = False

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._queue.append((future, lambda: function(*args)))
        if not self._busy:
            self._busy = True
            self._process.world.after(0.0, Thread(self._process, self._work).resume, self._process)
        return future

    def _work(self) -> None:
        while self._queue:
            _fulfil(*self._queue.popleft())
        self._busy = False

    def shutdown(self, **_: Any) -> None:
        """Nothing to do: the thread ends with its work."""


@dataclass
class Line:
    """A connection on which one thing is asked after the other was answered, at `free_at`."""

    free_at: float = 0.0


def remote(world: World, effect: Callable[[], Any], trouble: float, line: Line | None = None) -> Any:
    """
    Have something done elsewhere: its effect comes some time after it was asked for, the answer some time later.

    A share of `trouble` fails before the effect, or after it, or takes very long. What a killed process had asked for
    may still be done.
    """
    thread = world.thread
    if thread is None:
        return effect()
    trip = _trip(world, trouble)
    if line:
        trip.go += max(0.0, line.free_at - world.now)
        line.free_at = world.now + trip.go + trip.back
    survives = world.chance(0.5)

    def arrive() -> None:
        if trip.fault != "before" and (survives or not thread.process.dead):
            trip.reach(effect)

    world.push(world.now + trip.go, arrive, None)
    thread.sleep(trip.go + trip.back)
    return trip.result()


@dataclass
class _Trip:
    """What is asked of a store, on its way there and back."""

    go: float
    back: float
    fault: str | None = None
    value: Any = None
    error: Exception | None = None

    def reach(self, effect: Callable[[], Any]) -> None:
        try:
            self.value = effect()
        except Exception as error:  # noqa: BLE001 - it is the answer
            self.error = error

    def result(self) -> Any:
        if self.fault in {"before", "after"}:
            raise ConnectionResetError(f"the store's answer was lost ({self.fault} it acted)")
        if self.error:
            raise self.error
        return self.value


def _trip(world: World, trouble: float) -> _Trip:
    dice = world.random
    trip = _Trip(dice.random() * 0.05, dice.random() * 0.05)
    if world.chance(trouble):
        trip.fault = dice.choice(("before", "after", "slow", "slow", "late"))
        delay = 20.0 ** (1 + 2 * dice.random())
        trip.go *= delay if trip.fault == "slow" else 1.0
        trip.back *= delay if trip.fault == "late" else 1.0
        world.counters["store_faults" if trip.fault in {"before", "after"} else "store_delays"] += 1
    return trip
