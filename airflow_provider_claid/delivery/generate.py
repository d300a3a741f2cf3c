"""One generation: checked, paced, sent at most once, and sent again only where nothing can have been billed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from airflow_provider_claid.api.answers import Answer
from airflow_provider_claid.api.client import ClaidClient
from airflow_provider_claid.api.errors import (
    ClaidError,
    ClaidNotSentError,
    ClaidRateLimitError,
    ClaidUnknownOutcomeError,
)
from airflow_provider_claid.api.models import GeneratedImage, GenerateRequest
from airflow_provider_claid.delivery import clock
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.backoff import doubling
from airflow_provider_claid.delivery.budget import budgeted_slot
from airflow_provider_claid.delivery.departure import Door
from airflow_provider_claid.delivery.records.ledger import Ledger
from airflow_provider_claid.delivery.stop import Stop
from airflow_provider_claid.pacing.headers import RateLimit
from airflow_provider_claid.pacing.pacer import pacer
from airflow_provider_claid.pacing.slot import Slot

log = logging.getLogger(__name__)

MAX_TRIES = 6
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 120.0
"""Seconds that a worker slot is held for a server that asks to wait; a longer wait is left to Airflow's retry."""


@dataclass(frozen=True)
class GenerateResult:
    """What one paid request gave: the pictures as Claid described them, and when the answer came."""

    prompt: str
    images: tuple[GeneratedImage, ...]
    request_id: str | None
    rate_limit: RateLimit | None
    answered_at: datetime


async def generate(
    account: Account,
    request: GenerateRequest,
    ledger: Ledger | None = None,
    *,
    stop: Stop | None = None,
    patience: float = LONGEST_PAUSE,
) -> GenerateResult:
    """
    Generate pictures; costs 1 credit each. Waits for the account's pace first, in this process and all others.

    Tried again, a few times, only where nothing was billed: the request did not leave, or was refused with 429. With a
    `ledger` each submission is recorded before it leaves. A server that asks to wait longer than `patience` seconds
    is left to Airflow. Raises a kind of `ClaidError`.
    """
    pace = pacer(account.name, account.pace, account.pacing_dir, account.pacing_place)
    client, stop = ClaidClient(account.endpoint), stop or Stop()
    for tries in range(1, MAX_TRIES + 1):
        send = partial(_send, client, request, ledger, partial(Door, stop, asyncio.get_running_loop().time()))
        async with budgeted_slot(pace, account, request) as slot:
            try:
                answer = await slot.send(send)
            except ClaidRateLimitError as error:
                await slot.refund()
                error.retry_after = await pace.refused(slot, error.rate_headers, error.retry_after)
                pause = pause_after(error, tries, patience)
            except ClaidNotSentError as error:
                if stop.is_asked:
                    raise
                await slot.refund()
                pause = pause_after(error, tries, patience)
            else:
                rate_limit = pace.accepted(slot, answer.rate_headers)
                images = answer.response.output or ()
                return GenerateResult(request.input, images, answer.request_id, rate_limit, clock.now())
        log.warning("Try %d of %d was not billed; the next in %.1f s at the earliest.", tries, MAX_TRIES, pause)
        await asyncio.sleep(pause)
    raise AssertionError("pause_after raises after the last try")


async def _send(
    client: ClaidClient, request: GenerateRequest, ledger: Ledger | None, door_of: Callable[[Slot], Door], slot: Slot
) -> Answer:
    if ledger is None:
        return await _submit(client, request, door_of(slot))
    return await ledger.submit(partial(_submit, client), door_of(slot))


async def _submit(client: ClaidClient, request: GenerateRequest, door: Door) -> Answer:
    answer = await client.generate(request, door)
    if not answer.response.output:
        message = "Claid answered without any picture"
        raise ClaidUnknownOutcomeError(message, billed="unknown", status=200, request_id=answer.request_id)
    return answer


def pause_after(error: ClaidError, tries: int, patience: float = LONGEST_PAUSE, jitter: float | None = None) -> float:
    """
    Decide how many seconds to wait before the next try, or raise the error where there is to be none.

    Where the server said how long, the request waits at the pacer, which the refusal has closed; else it backs off,
    doubling, with `jitter` (0 to 1).
    """
    if tries >= MAX_TRIES or not error.retryable or (error.retry_after or 0) > patience:
        raise error
    log.warning("%s", error)
    if error.retry_after is not None:
        return 0.0
    return doubling(FIRST_PAUSE, tries, jitter)
