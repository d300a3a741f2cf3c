"""Virtual time, and processes with event loops of their own that can be killed or stopped at any await."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(2026, 3, 1, 12, tzinfo=UTC)
START = 5_000.0
MOST_STEPS = 400_000


class World:
    """One run: its clock, its events in order, and whatever was found to be wrong."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = START
        self.counters: Counter[str] = Counter()
        self.faults: list[str] = []
        self.steps = 0
        self.over = False
        self.current: Process | None = None
        self.thread: Any = None
        """The thread that is running now (`threads.Thread`)."""
        self.threads: list[Any] = []
        self.processes: list[Process] = []
        self.runnable: list[Process] = []
        self._events: list[tuple[float, int, Process | None, Any]] = []
        self._order = itertools.count()
        self._tell = tell

    def tell(self, text: str) -> None:
        """Print what happened, in a replay."""
        if self._tell and not self.over:
            who = self.current.name if self.current else "-"
            self._tell(f"{self.now - START:10.3f} {who:<12} {text}")

    def fail(self, text: str) -> None:
        """Note that an invariant is broken; the run ends with it."""
        if self.over:
            return
        self.tell(f"BROKEN: {text}")
        self.faults.append(f"at {self.now - START:.3f} s: {text}")

    def chance(self, probability: float) -> bool:
        """Return True as often as that."""
        return probability > 0 and self.random.random() < probability

    def sleep(self, seconds: float) -> None:
        """Let the thread that is running now stand still."""
        self.thread.sleep(seconds)

    def wall(self) -> datetime:
        """Return the time of day as the process that asks sees it."""
        skew = self.current.skew if self.current else 0.0
        return EPOCH + timedelta(seconds=self.now - START + skew)

    def after(self, delay: float, action: Callable[[], None], process: Process | None = None) -> None:
        """Do something later; if it is a process's, only while that lives, and not while it is stopped."""
        self.push(self.now + delay, action, process)

    def push(self, when: float, item: Any, process: Process | None) -> None:
        """Queue an action, or a handle of a process."""
        heapq.heappush(self._events, (when, next(self._order), process, item))

    def run(self) -> None:
        """Run until nothing is left to happen, or something was found to be wrong."""
        while not self.faults:
            if self.runnable:
                self._run_one()
            elif self._events:
                self._advance()
            else:
                return
            self.steps += 1
            if self.steps > MOST_STEPS:
                self.fail("it does not end")

    def _run_one(self) -> None:
        ready = self.runnable
        process = ready[0] if len(ready) == 1 else ready[self.random.randrange(len(ready))]
        process.step()

    def _advance(self) -> None:
        when, _, process, item = heapq.heappop(self._events)
        if process is not None:
            if process.dead:
                return
            if process.stopped_until > when:
                self.push(process.stopped_until, item, process)
                return
        if isinstance(item, asyncio.Handle):
            if item.cancelled():
                return
            self.now = max(self.now, when)
            assert process is not None
            process.queue(item)
        else:
            self.now = max(self.now, when)
            item()

    def end(self) -> None:
        """Dispose of what is left; nothing that runs in it can have an effect any more."""
        self.over = True
        for process in self.processes:
            process.on_death.clear()
        for process in self.processes:
            process.die()
            process.loop.dispose()
        for thread in self.threads:
            thread.dispose()


class Process:
    """An operating system's process: one event loop, a clock that may be wrong, and an end at any moment."""

    def __init__(self, world: World, name: str, skew: float = 0.0) -> None:
        self.world = world
        self.name = name
        self.skew = skew
        self.dead = False
        self.stopped_until = 0.0
        self.handles = 0
        self.kill_at: int | None = None
        self.stop_at: tuple[int, float] | None = None
        self.on_death: list[Callable[[], None]] = []
        self.loop = Loop(self)
        self._ready: deque[asyncio.Handle] = deque()
        world.processes.append(self)

    @property
    def lives(self) -> bool:
        """True unless it is dead or stopped."""
        return not self.dead and self.stopped_until <= self.world.now

    def queue(self, handle: asyncio.Handle) -> None:
        """Let a handle run soon."""
        if self.dead:
            return
        self._ready.append(handle)
        if len(self._ready) == 1 and self.stopped_until <= self.world.now:
            self.world.runnable.append(self)

    def step(self) -> None:
        """Run one handle, or die or stop instead of it."""
        world = self.world
        self.handles += 1
        if self.handles == self.kill_at:
            world.counters["crashes"] += 1
            world.tell(f"{self.name} is killed")
            self.die()
            return
        if self.stop_at and self.handles == self.stop_at[0]:
            self.stop(self.stop_at[1])
            return
        handle = self._ready.popleft()
        if not self._ready:
            world.runnable.remove(self)
        if handle.cancelled():
            return
        world.current = self
        asyncio._set_running_loop(self.loop)
        try:
            handle._run()
        finally:
            asyncio._set_running_loop(None)
            world.current = None

    def stop(self, seconds: float) -> None:
        """Let nothing of it run for a while, as SIGSTOP does."""
        world = self.world
        world.counters["stops"] += 1
        world.tell(f"{self.name} is stopped for {seconds:.1f} s")
        self.stopped_until = world.now + seconds
        if self in world.runnable:
            world.runnable.remove(self)
        world.push(self.stopped_until, self._wake, None)

    def _wake(self) -> None:
        if self._ready and not self.dead and self not in self.world.runnable:
            self.world.runnable.append(self)

    def die(self) -> None:
        """End as by SIGKILL: nothing of it runs any more, no `finally` and no `except`."""
        if self.dead:
            return
        self.dead = self.loop.closed = True
        if self in self.world.runnable:
            self.world.runnable.remove(self)
        for action in self.on_death:
            action()


class Loop(asyncio.AbstractEventLoop):
    """The event loop of a process: queues into the world, which decides what runs next and what time it is."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.closed = False
        self._world = process.world
        self._tasks: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        return self._world.now

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.process.queue(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._world.push(when, handle, self.process)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._world.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, **options)
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        from tests.simulation.threads import Pool, start

        if isinstance(executor, Pool):
            return asyncio.wrap_future(executor.submit(func, *args), loop=self)
        return asyncio.wrap_future(start(self.process, lambda: func(*args)), loop=self)

    def is_running(self) -> bool:
        return not self.closed

    def is_closed(self) -> bool:
        return self.closed

    def get_debug(self) -> bool:
        return False

    def get_task_factory(self) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.closed:
            self._world.fail(f"the loop of {self.process.name} was told of {context}")

    def dispose(self) -> None:
        """Close the coroutines of a dead process; they find no running loop, so they can do nothing."""
        for task in self._tasks:
            task._log_destroy_pending = False
            if task.done():
                task.cancelled() or task.exception()
                continue
            for _ in range(50):
                with suppress(BaseException):
                    task.get_coro().close()
                    break
        self._tasks.clear()
