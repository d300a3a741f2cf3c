"""One job: a request that is paid once, and its pictures brought to where they last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_claid.api.bill import current_bill
from airflow_provider_claid.api.errors import ClaidError, ClaidPictureError
from airflow_provider_claid.api.models import (
    CREDITS_PER_IMAGE,
    TEMPORARY_HOURS,
    GeneratedImage,
    GenerateRequest,
)
from airflow_provider_claid.delivery import clock
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.checks import OnFiltered, Target
from airflow_provider_claid.delivery.generate import LONGEST_PAUSE, GenerateResult, generate
from airflow_provider_claid.delivery.looking import Look, look_at, prove_readable
from airflow_provider_claid.delivery.payment import Paid, Search, pay, recorded
from airflow_provider_claid.delivery.pictures import Fetched, fetch
from airflow_provider_claid.delivery.publishing import Publisher, extensions_of
from airflow_provider_claid.delivery.records.ledger import Ledger
from airflow_provider_claid.delivery.result import JobResult, Picture, all_filtered, deliverable
from airflow_provider_claid.delivery.stop import Stop
from airflow_provider_claid.delivery.storage import Folder, open_folder
from airflow_provider_claid.delivery.threads import in_thread

__all__ = [
    "ImageJob",
    "JobResult",
    "Picture",
    "all_filtered",
    "collect",
    "deliver",
    "deliverable",
    "order",
    "prove",
    "require_readable",
    "run",
]

log = logging.getLogger(__name__)

FRESH_SECONDS = 30.0
"""Seconds from when the record was read after which a copy asks it again whether it is still wanted."""


@dataclass(frozen=True)
class ImageJob:
    """
    What is asked for and where it goes: to `target`, as `name` with -1, -2 … added, or else where Claid put it.

    `tags` are put on the copies, where the store of `target` has tags. Without a `ledger` nothing is recorded. `search`
    is how pictures of a lost answer are found, `patience` the seconds that a busy server may ask to wait. `owner` is
    the name by which the task's own earlier pictures are known, or "". `look` is how pictures in the request's `output`
    are looked at; with `on_filtered` "keep" that may be impossible.
    """

    account: Account
    request: GenerateRequest
    name: str
    target: Target | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    ledger: Ledger | None = None
    search: Search | None = None
    stop: Stop = field(default_factory=Stop)
    patience: float = LONGEST_PAUSE
    first_try: bool = False
    owner: str = ""
    look: Look | None = None
    on_filtered: OnFiltered = "fail"


async def run(job: ImageJob) -> JobResult:
    """
    Pay for the pictures and bring them to where they last; costs 1 credit each, or nothing if they are recorded.

    What delivery needs is proven first: a target that cannot be written, an output folder whose pictures cannot be
    looked at, or broken credentials cost nothing. Afterwards every picture is tried by itself: one that cannot be
    delivered is in the result with its `error`.
    """
    folder = await prove(job)
    return await deliver(job, await order(job), folder)


async def prove(job: ImageJob) -> Folder | None:
    """Prove what delivery needs of the stores, and return the opened target; pays for nothing."""
    folder = await opened(job)
    await require_readable(job)
    return folder


async def collect(job: ImageJob, event: Mapping[str, Any]) -> JobResult:
    """Bring the pictures that a trigger paid for, as its event says, to where they last; pays for nothing."""
    paid = await recorded(job.ledger, event, job.request)
    try:
        folder = await opened(job)
    except ClaidError:
        if job.ledger is not None:
            # Whether a retry can find the answer decides whether there is to be one.
            await _is_kept(job.ledger, paid)
        raise
    return await deliver(job, paid, folder)


async def order(job: ImageJob) -> Paid:
    """Pay for the pictures, or find them recorded."""
    if job.ledger is None:
        return Paid(await generate(job.account, job.request, stop=job.stop, patience=job.patience))
    return await pay(
        job.account,
        job.ledger,
        search=job.search,
        stop=job.stop,
        patience=job.patience,
        first_try=job.first_try,
    )


async def opened(job: ImageJob) -> Folder | None:
    """Open the target and prove that it can be written into; None where there is none."""
    return await in_thread(open_folder, job.target, job.tags) if job.target else None


async def require_readable(job: ImageJob) -> None:
    """Prove, before they are paid for, that the pictures in the output folder can be looked at, if they have to be."""
    if job.look is not None and job.request.output is not None and job.on_filtered != "keep":
        await prove_readable(job.look, job.request.output)


async def deliver(job: ImageJob, paid: Paid, folder: Folder | None) -> JobResult:
    """Bring what is paid for to where it lasts; a picture that cannot be delivered is in the result with its error."""
    result, came = paid.result, len(paid.result.images)
    if came < (asked := job.request.options.number_of_images):
        log.warning("Claid gave %d of %d pictures.", came, asked)
    if folder is None:
        tasks = [_picture_in_place(job, image, result) for image in result.images]
    else:
        ledger, read_at = job.ledger, asyncio.get_running_loop().time()
        publisher = Publisher(
            folder,
            job.name,
            owner=job.owner,
            request_id=result.request_id,
            number=paid.number,
            copies=ledger,
        )
        tasks = [_copy(job, paid, publisher, number, read_at) for number in range(1, came + 1)]
    pictures = tuple(await asyncio.gather(*tasks))
    kept = job.ledger is not None and await _is_kept(job.ledger, paid)
    return JobResult(result.request_id, came * CREDITS_PER_IMAGE, pictures, paid.times, paid.reused, kept)


async def _is_kept(ledger: Ledger, paid: Paid) -> bool:
    """Tell whether the answer is recorded; one that the store did not take is offered once more."""
    kept = paid.unkept is None or (paid.number is not None and await ledger.keep(paid.number, paid.unkept))
    if kept:
        current_bill().alone = False
    return kept


async def _picture_in_place(job: ImageJob, image: GeneratedImage, result: GenerateResult) -> Picture:
    """Look at a picture where Claid put it; never raises a `ClaidError`."""
    if image.uri is None:
        return Picture(None, error="Claid gave no address for it", again=False)
    expires_at = _expiry(result)
    if image.uri != image.tmp_url:
        return await _in_storage(job, image)
    if job.request.output is not None:
        error = (
            f"Claid did not write it into {job.request.output}, it is only at this address, which dies at "
            f"{expires_at}: fetch it from there. Look whether the storage still takes what Claid writes"
        )
        return _described(image, expires_at=expires_at, error=error, again=False)
    if clock.now() >= datetime.fromisoformat(expires_at):
        error = _died(expires_at)
        return _described(image, expires_at=expires_at, error=error)
    try:
        fetched = await fetch(image, allow_loopback=job.account.endpoint.is_local)
    except ClaidPictureError as fault:
        return _described(image, expires_at=expires_at, error=fault.message)
    return _picture(image.uri, fetched, expires_at)


async def _in_storage(job: ImageJob, image: GeneratedImage) -> Picture:
    if job.look is None:
        return _described(image)
    is_kept = job.on_filtered == "keep"
    seen = await look_at(job.look, image, once=is_kept)
    if is_kept and seen.black is None:
        log.warning("The picture %s is handed on without a look: %s", image.uri, seen.fault)
        return _described(image)
    return _described(image, filtered=seen.black, error=seen.fault)


def _described(image: GeneratedImage, **facts: Any) -> Picture:
    """Return what Claid says of a picture that is where it says."""
    return Picture(image.uri, image.width, image.height, image.mime, **facts)


async def _copy(job: ImageJob, paid: Paid, publisher: Publisher, number: int, read_at: float) -> Picture:
    image, result = paid.result.images[number - 1], paid.result
    promised, others = extensions_of(image)
    try:
        # An earlier attempt may have put it there already, and temporary addresses die.
        if paid.reused and (found := await publisher.find(number, image, promised)):
            return _picture(*found)
        try:
            fetched = await fetch(image, allow_loopback=job.account.endpoint.is_local)
        except ClaidPictureError:
            if paid.reused and (found := await publisher.find(number, image, others)):
                return _picture(*found)
            raise
        await _require_wanted(job, paid, read_at)
        uri = await publisher.publish(number, image, fetched)
        current_bill().copies += 1
        return _picture(uri, fetched)
    except Exception as cause:  # noqa: BLE001 - paid for: whatever went wrong must not lose its neighbours
        reason = cause.message if isinstance(cause, ClaidError) else f"{type(cause).__name__}: {cause}"
        expires_at = _expiry(result)
        if isinstance(cause, ClaidPictureError) and clock.now() >= datetime.fromisoformat(expires_at):
            reason = f"{reason}: {_died(expires_at)}"
        log.warning("Picture %d of request %s was not delivered: %s", number, result.request_id, reason)
        return Picture(image.uri, expires_at=expires_at, error=reason, again=image.tmp_url is not None)


async def _require_wanted(job: ImageJob, paid: Paid, read_at: float) -> None:
    """Raise where a task that stood still meanwhile would put its pictures over those of a later wish."""
    if job.ledger is None or paid.number is None or asyncio.get_running_loop().time() < read_at + FRESH_SECONDS:
        return
    if await job.ledger.is_overtaken(paid.number):
        raise ClaidPictureError("a later attempt asked for another picture of this name", billed="yes")


def _picture(uri: str, fetched: Fetched, expires_at: str | None = None) -> Picture:
    header = fetched.header
    return Picture(
        uri,
        header.width,
        header.height,
        header.mime,
        len(fetched.data),
        fetched.sha256,
        filtered=fetched.filtered,
        expires_at=expires_at,
    )


def _died(expires_at: str) -> str:
    return f"its address died at {expires_at}; clear the task with reuse=False to pay for another"


def _expiry(result: GenerateResult) -> str:
    return (result.answered_at + timedelta(hours=TEMPORARY_HOURS)).isoformat(timespec="seconds")
