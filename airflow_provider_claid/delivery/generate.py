"""One generation: checked, paced, sent at most once, and sent again only where nothing can have been billed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from airflow_provider_claid.api.client import ClaidClient
from airflow_provider_claid.api.errors import (
    ClaidError,
    ClaidNotSentError,
    ClaidRateLimitError,
)
from airflow_provider_claid.api.models import GeneratedImage, GenerateRequest
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.backoff import doubling
from airflow_provider_claid.pacing.headers import RateLimit
from airflow_provider_claid.pacing.pacer import pacer

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


async def generate(account: Account, request: GenerateRequest) -> GenerateResult:
    """
    Generate pictures; costs 1 credit each. Waits for the account's pace first, in this process and all others.

    Tried again, a few times, only where nothing was billed: the request did not leave, or was refused with 429.
    Raises a kind of `ClaidError`.
    """
    client = ClaidClient(account.endpoint)
    pace = pacer(account.name, account.pace, account.pacing_dir)
    for tries in range(1, MAX_TRIES + 1):
        async with pace.slot() as slot:
            try:
                answer = await slot.send(partial(client.generate, request))
            except ClaidRateLimitError as error:
                error.retry_after = await pace.refused(slot, error.rate_headers, error.retry_after)
                pause = pause_after(error, tries)
            except ClaidNotSentError as error:
                pause = pause_after(error, tries)
            else:
                rate_limit = pace.accepted(slot, answer.rate_headers)
                images = answer.response.output or ()
                return GenerateResult(request.input, images, answer.request_id, rate_limit, datetime.now(UTC))
        log.warning("Try %d of %d was not billed; the next in %.1f s at the earliest.", tries, MAX_TRIES, pause)
        await asyncio.sleep(pause)
    raise AssertionError("pause_after raises after the last try")


def pause_after(error: ClaidError, tries: int, jitter: float | None = None) -> float:
    """
    Decide how many seconds to wait before the next try, or raise the error where there is to be none.

    Where the server said how long, the request waits at the pacer, which the refusal has closed; else it backs off,
    doubling, with `jitter` (0 to 1).
    """
    if tries >= MAX_TRIES or not error.retryable or (error.retry_after or 0) > LONGEST_PAUSE:
        raise error
    log.warning("%s", error)
    if error.retry_after is not None:
        return 0.0
    return doubling(FIRST_PAUSE, tries, jitter)
