"""The places where the product asks for the time, a thread or a name of its own, led into the simulation."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from unittest.mock import patch

from airflow_provider_claid.api import answers
from airflow_provider_claid.delivery import backoff, clock, job
from airflow_provider_claid.delivery.records import ledger, objects, state
from airflow_provider_claid.pacing import fallback, pacer, slot
from airflow_provider_claid.pacing import store as schedules
from tests.simulation import deferred
from tests.simulation.storage import Store, folder_of
from tests.simulation.threads import Pool
from tests.simulation.world import World


@contextmanager
def patched(world: World, store: Store) -> Iterator[None]:
    """Let the product live in this world, with this store."""
    time = SimpleNamespace(monotonic=lambda: world.now, time=lambda: world.wall().timestamp())
    names = itertools.count(1)
    identifiers = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=f"token{next(names)}"))
    changes = (
        (clock, "now", world.wall),
        (backoff, "time", SimpleNamespace(sleep=world.sleep)),
        (ledger, "uuid", identifiers),
        # Its threads are no real ones; `storage.Line` lets one thing be asked after the other.
        (state, "threading", SimpleNamespace(Lock=nullcontext)),
        (pacer, "ThreadPoolExecutor", Pool),
        (job, "open_folder", lambda target, _: folder_of(store, target)),
        *((place, "time", time) for place in (answers, fallback, slot, schedules, deferred.module())),
    )
    before = random.getstate()
    random.seed(world.seed)
    objects._proven.clear()
    try:
        with ExitStack() as stack:
            for place, name, value in changes:
                stack.enter_context(patch.object(place, name, value))
            yield
    finally:
        random.setstate(before)
