"""The synchronous shell: runs the asynchronous core from ordinary code, and leaves no request behind."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from airflow_provider_claid.api import client
from airflow_provider_claid.api.errors import ClaidError

T = TypeVar("T")


class _Local(threading.local):
    runner: asyncio.Runner | None = None


_local = _Local()
_inherited: list[asyncio.Runner] = []


def refuse_inside_loop(instead: str) -> None:
    """Raise a RuntimeError that names what to await `instead`, if this thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"This thread runs an event loop already: await {instead} instead. Nothing was sent.")


def run(work: Coroutine[Any, Any, T]) -> T:
    """
    Run the work to its end in this thread's event loop, which stays open for the next call (2.5 ms against 39).

    Anything that is not an ordinary exception (an execution timeout, an interrupt) stops the work and closes the
    loop; if the work was in the middle of something that may have been paid for, its error says so and is raised
    instead.
    """
    verdict: list[ClaidError] = []

    async def observed() -> T:
        try:
            return await work
        except ClaidError as error:
            verdict.append(error)
            raise

    if _local.runner is None:
        _local.runner = asyncio.Runner()
    try:
        return _local.runner.run(observed())
    except Exception:
        raise
    except BaseException as interruption:
        close()
        if verdict:
            raise verdict[0] from interruption
        raise


def close() -> None:
    """Stop what runs in this thread's event loop, close its connections and the loop."""
    runner, _local.runner = _local.runner, None
    if runner is not None:
        with suppress(Exception):
            runner.run(_wind_up())
        runner.close()


async def _wind_up() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await client.close()


def _after_fork() -> None:
    """Leave the parent's loop alone: even to collect it would unregister the parent's sockets."""
    if _local.runner is not None:
        _inherited.append(_local.runner)
        _local.runner = None


os.register_at_fork(after_in_child=_after_fork)
