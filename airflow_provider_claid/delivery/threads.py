"""The threads for what blocks: storage, disks and decoding. Bounded, and never waited for when work is interrupted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async

WIDTH = 8

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_pools: dict[int, ThreadPoolExecutor] = {}
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def in_thread(function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Run a function that blocks in one of this process's threads; a forked child has threads of its own."""
    pool = _pools.get(os.getpid())
    if pool is None:
        pool = _pools.setdefault(os.getpid(), ThreadPoolExecutor(WIDTH, thread_name_prefix="claid-storage"))
    # Whoever has no thread yet waits here: a loop that hands over hundreds in a row stops for each, while threads run.
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(WIDTH)):
        # asgiref's way, not the loop's: a look-up of an Airflow connection from this thread must find a triggerer's
        # loop, and what is logged there must carry the names of its task.
        return await sync_to_async(function, thread_sensitive=False, executor=pool)(*arguments)
