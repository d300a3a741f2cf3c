"""The synchronous shell: runs the asynchronous core from ordinary code, and leaves no request behind."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from airflow_provider_claid.api import client
from airflow_provider_claid.pacing import pacer

T = TypeVar("T")

STOP_SECONDS = 5.0
"""Seconds for which work that is to stop may still take answers and write them down."""


class _Shell:
    """An event loop of one thread; it is closed with the thread."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self._closed = False
        self._pid = os.getpid()

    def close(self) -> None:
        """Stop what runs in the loop, close its connections and the loop."""
        if self._closed:
            return
        self._closed = True
        with suppress(Exception):
            self.runner.run(_wind_up())
        self.runner.close()

    def __del__(self) -> None:
        if os.getpid() != self._pid:
            # A fork ends the other threads. Even to collect a loop of theirs would unregister the parent's sockets.
            _inherited.append(self)
            return
        # Inside another loop, which may collect this one, nothing can be awaited: its sockets go with it.
        if not sys.is_finalizing() and not _inside_loop():
            with suppress(Exception):
                self.close()


class _Local(threading.local):
    shell: _Shell | None = None


_local = _Local()
_inherited: list[_Shell] = []


def refuse_inside_loop(instead: str) -> None:
    """Raise a RuntimeError that names what to await `instead`, if this thread runs an event loop."""
    if _inside_loop():
        raise RuntimeError(f"This thread runs an event loop already: await {instead} instead. Nothing was sent.")


def run(work: Coroutine[Any, Any, T], *, stop: Callable[[], None] | None = None) -> T:
    """
    Run the work to its end in this thread's event loop, which stays open for the next call (2.5 ms against 39).

    Anything that is not an ordinary exception (an execution timeout, an interrupt) stops the work and closes the
    loop, so that no request is left behind. Work that can be asked to `stop` is given `STOP_SECONDS` for it first.
    """
    shell = _local.shell = _local.shell or _Shell()
    try:
        # The context of this call, not of the loop's making: the open bill is in it.
        return shell.runner.run(work, context=contextvars.copy_context())
    except Exception:
        raise
    except BaseException as fault:
        try:
            if stop is not None:
                stop()
                shell.runner.run(_let_end(STOP_SECONDS))
        finally:
            close()
        if isinstance(fault, BaseExceptionGroup):
            raise _interruption(fault) from fault
        raise


def _interruption(fault: BaseException) -> BaseException:
    """Return what a signal handler raised: a task group, of anyio's connect say, wraps what strikes inside of it."""
    while isinstance(fault, BaseExceptionGroup):
        fault = next((one for one in fault.exceptions if not isinstance(one, Exception)), fault.exceptions[0])
    return fault


def close() -> None:
    """Stop what runs in this thread's event loop, close its connections and the loop."""
    shell, _local.shell = _local.shell, None
    if shell is not None:
        shell.close()


def _inside_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _let_end(seconds: float) -> None:
    """Wait for what was interrupted from outside, and is still in the loop."""
    if rest := asyncio.all_tasks() - {asyncio.current_task()}:
        ended, _ = await asyncio.wait(rest, timeout=seconds)
        # What they raise is less than what interrupted them.
        await asyncio.gather(*ended, return_exceptions=True)


async def _wind_up() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    pacer.close()
    await client.close()


def _after_fork() -> None:
    """Leave the parent's loop of this thread to `_Shell.__del__`, which leaves it alone."""
    _local.shell = None


os.register_at_fork(after_in_child=_after_fork)
