"""The threads for what blocks: storage, disks and decoding. Bounded, and never waited for when work is interrupted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

WIDTH = 8

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_pools: dict[int, ThreadPoolExecutor] = {}


async def in_thread(function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Run a function that blocks in one of this process's threads; a forked child has threads of its own."""
    pool = _pools.get(os.getpid())
    if pool is None:
        pool = _pools.setdefault(os.getpid(), ThreadPoolExecutor(WIDTH, thread_name_prefix="claid-storage"))
    return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
