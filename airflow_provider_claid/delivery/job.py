"""One job: a request that is paid once, and its pictures brought to where they last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_claid.api.bill import current_bill
from airflow_provider_claid.api.errors import (
    ClaidContentFilteredError,
    ClaidError,
    ClaidPictureError,
    ClaidUndeliveredError,
)
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
from airflow_provider_claid.delivery.payment import Paid, Search, pay, recorded
from airflow_provider_claid.delivery.pictures import Fetched, fetch, stored
from airflow_provider_claid.delivery.records.ledger import Ledger
from airflow_provider_claid.delivery.stop import Stop
from airflow_provider_claid.delivery.storage import Folder, open_folder
from airflow_provider_claid.delivery.threads import in_thread

log = logging.getLogger(__name__)

FRESH_SECONDS = 30.0
"""Seconds from when the record was read after which a copy asks it again whether it is still wanted."""


@dataclass(frozen=True)
class ImageJob:
    """
    What is asked for and where it goes: to `target`, as `name` with -1, -2 … added, or else where Claid put it.

    `tags` are put on the copies, where the store of `target` has tags. Without a `ledger` nothing is recorded. `search`
    is how pictures of a lost answer are found, `patience` the seconds that a busy server may ask to wait.
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


@dataclass(frozen=True)
class Picture:
    """
    A delivered picture, or why it is not: `error` is None for one that is where `uri` says, checked if we copied it.

    Sizes in pixels and bytes; `filtered` None: not looked at; `expires_at` in ISO 8601, None for one that lasts.
    """

    uri: str | None
    width: int | None = None
    height: int | None = None
    mime: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    filtered: bool | None = None
    expires_at: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class JobResult:
    """
    A paid job: the request id, the credits it cost as we count them, and each picture.

    `submissions` is how often it may have been paid, `reused` whether that was in an earlier attempt, `recorded`
    whether another attempt can deliver it without paying.
    """

    request_id: str | None
    credits: int
    pictures: tuple[Picture, ...]
    submissions: int = 1
    reused: bool = False
    recorded: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for XCom: lists, because Airflow stores a tuple as an object of its own."""
        images = [asdict(picture) for picture in self.pictures]
        expires = [image["expires_at"] for image in images if image["expires_at"]]
        return {
            "request_id": self.request_id,
            "credits": self.credits,
            "images": images,
            "expires_at": min(expires, default=None),
            "submissions": self.submissions,
            "reused": self.reused,
        }


async def run(job: ImageJob) -> JobResult:
    """
    Pay for the pictures and bring them to where they last; costs 1 credit each, or nothing if they are recorded.

    The target is opened first: an unknown scheme, a folder that cannot be written or broken credentials cost nothing.
    Afterwards every picture is tried by itself: one that cannot be delivered is in the result with its `error`.
    """
    folder = await opened(job)
    return await deliver(job, await order(job), folder)


async def collect(job: ImageJob, event: Mapping[str, Any]) -> JobResult:
    """Bring the pictures that a trigger paid for, as its event says, to where they last; pays for nothing."""
    folder = await opened(job)
    if job.ledger is None:
        raise ValueError("nothing is recorded without a ledger")
    return await deliver(job, await recorded(job.ledger, event), folder)


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
    """Open the target; None where there is none."""
    return await in_thread(open_folder, job.target, job.tags) if job.target else None


def deliverable(result: JobResult, on_filtered: OnFiltered) -> list[str]:
    """Return the URIs to hand on, in order; raise if a picture is missing or, by the policy, black."""
    if failed := [(index, picture) for index, picture in enumerate(result.pictures, 1) if picture.error]:
        stored = [picture.uri for picture in result.pictures if not picture.error]
        causes = "; ".join(f"picture {index}: {picture.error} ({picture.uri})" for index, picture in failed)
        message = (
            f"{len(failed)} of {len(result.pictures)} pictures could not be delivered. {causes}. Delivered: {stored}"
        )
        again = result.recorded and all(_is_there_yet(picture) for _, picture in failed)
        kind = ClaidUndeliveredError if again else ClaidPictureError
        raise kind(message, billed="yes", request_id=result.request_id)
    black = [picture.uri for picture in result.pictures if picture.filtered]
    kept = [picture for picture in result.pictures if not picture.filtered or on_filtered == "keep"]
    if black and (on_filtered == "fail" or not kept):
        count = f"{len(black)} of {len(result.pictures)}"
        message = f"Claid's content filter made {count} pictures black: {black}. Change the prompt"
        raise ClaidContentFilteredError(message, billed="yes", request_id=result.request_id)
    return [str(picture.uri) for picture in kept]


async def deliver(job: ImageJob, paid: Paid, folder: Folder | None) -> JobResult:
    """Bring what is paid for to where it lasts; a picture that cannot be delivered is in the result with its error."""
    result, read_at = paid.result, asyncio.get_running_loop().time()
    if (came := len(result.images)) < (asked := job.request.options.number_of_images):
        log.warning("Claid gave %d of %d pictures.", came, asked)
    if folder is None:
        pictures = tuple(_as_it_is(image, result) for image in result.images)
    else:
        copies = (_copy(job, paid, folder, number, read_at) for number in range(1, came + 1))
        pictures = tuple(await asyncio.gather(*copies))
    kept = job.ledger is not None and paid.unkept is None
    return JobResult(result.request_id, came * CREDITS_PER_IMAGE, pictures, paid.times, paid.reused, kept)


def _as_it_is(image: GeneratedImage, result: GenerateResult) -> Picture:
    temporary = image.uri is not None and image.uri == image.tmp_url
    expires_at, error = _expiry(result) if temporary else None, None
    if image.uri is None:
        error = "Claid gave no address for it"
    elif temporary and expires_at and clock.now() >= datetime.fromisoformat(expires_at):
        error = f"its address died at {expires_at}; clear the task with reuse=False to pay for another"
    return Picture(image.uri, image.width, image.height, image.mime, expires_at=expires_at, error=error)


def _is_there_yet(picture: Picture) -> bool:
    """Tell whether a picture that was not delivered can still be fetched."""
    return picture.expires_at is None or clock.now() < datetime.fromisoformat(picture.expires_at)


async def _copy(job: ImageJob, paid: Paid, folder: Folder, number: int, read_at: float) -> Picture:
    image, name, result = paid.result.images[number - 1], f"{job.name}-{number}", paid.result
    try:
        # An earlier attempt may have put it there already, and temporary addresses die.
        if paid.reused and (found := await stored(folder, name, image, result.answered_at)):
            return _picture(*found)
        fetched = await fetch(image, allow_loopback=job.account.endpoint.is_local)
        name = f"{name}.{fetched.header.extension}"
        await _require_wanted(job, paid, read_at)
        uri = await in_thread(folder.publish, name, fetched.data, fetched.header.mime)
        current_bill().copies += 1
        return _picture(uri, fetched)
    except Exception as cause:  # noqa: BLE001 - paid for: whatever went wrong must not lose its neighbours
        reason = cause.message if isinstance(cause, ClaidError) else f"{type(cause).__name__}: {cause}"
        log.warning("Picture %d of request %s was not delivered: %s", number, result.request_id, reason)
        return Picture(image.uri, expires_at=_expiry(result), error=reason)


async def _require_wanted(job: ImageJob, paid: Paid, read_at: float) -> None:
    """Raise where a task that stood still meanwhile would put its pictures over those of a later wish."""
    if job.ledger is None or paid.number is None or asyncio.get_running_loop().time() < read_at + FRESH_SECONDS:
        return
    if await job.ledger.is_overtaken(paid.number):
        raise ClaidPictureError("a later attempt asked for another picture of this name", billed="yes")


def _picture(uri: str, fetched: Fetched) -> Picture:
    header = fetched.header
    return Picture(
        uri,
        header.width,
        header.height,
        header.mime,
        len(fetched.data),
        fetched.sha256,
        filtered=fetched.filtered,
    )


def _expiry(result: GenerateResult) -> str:
    return (result.answered_at + timedelta(hours=TEMPORARY_HOURS)).isoformat(timespec="seconds")
