"""One job: a request that is paid once, and its pictures brought to where they last."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from airflow_provider_claid.api.errors import (
    ClaidContentFilteredError,
    ClaidError,
    ClaidPictureError,
    ClaidUnknownOutcomeError,
)
from airflow_provider_claid.api.models import (
    CREDITS_PER_IMAGE,
    TEMPORARY_HOURS,
    GeneratedImage,
    GenerateRequest,
)
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.checks import OnFiltered, Target
from airflow_provider_claid.delivery.generate import GenerateResult, generate
from airflow_provider_claid.delivery.pictures import fetch
from airflow_provider_claid.delivery.storage import Folder, open_folder
from airflow_provider_claid.delivery.threads import in_thread

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """What a job is called over all its tries: Dag, run, task and map index, never the try number."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    def key(self) -> str:
        """Return the job key, 20 hexadecimal digits."""
        joined = "\0".join((self.dag_id, self.run_id, self.task_id, str(self.map_index)))
        return hashlib.sha256(joined.encode()).hexdigest()[:20]

    def tags(self) -> dict[str, str]:
        """Return the tags by which a stored picture tells its task; `map_index` is that of a mapped task."""
        tags = {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": self.task_id}
        return tags if self.map_index < 0 else tags | {"map_index": str(self.map_index)}


@dataclass(frozen=True)
class ImageJob:
    """
    What is asked for and where it goes: to `target`, as `name` with -1, -2 … added, or else where Claid put it.

    `tags` are put on the copies, where the store of `target` has tags.
    """

    account: Account
    request: GenerateRequest
    name: str
    target: Target | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


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
    """A paid job: the request id, the credits it cost as we count them, and each picture."""

    request_id: str | None
    credits: int
    pictures: tuple[Picture, ...]
    submissions: int = 1
    reused: bool = False

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
    Pay for the pictures and bring them to where they last; costs 1 credit each.

    The target is opened first: an unknown scheme, a folder that cannot be written or broken credentials cost nothing.
    Afterwards every picture is tried by itself: one that cannot be delivered is in the result with its `error`.
    """
    folder = await in_thread(open_folder, job.target, job.tags) if job.target else None
    result = await generate(job.account, job.request)
    if not result.images:
        message = "Claid answered without any picture"
        raise ClaidUnknownOutcomeError(message, billed="unknown", status=200, request_id=result.request_id)
    if (came := len(result.images)) < job.request.options.number_of_images:
        log.warning("Claid gave %d of %d pictures.", came, job.request.options.number_of_images)
    pictures = await _deliver(job, result, folder)
    return JobResult(result.request_id, came * CREDITS_PER_IMAGE, pictures)


def deliverable(result: JobResult, on_filtered: OnFiltered) -> list[str]:
    """Return the URIs to hand on, in order; raise if a picture is missing or, by the policy, black."""
    if failed := [(index, picture) for index, picture in enumerate(result.pictures, 1) if picture.error]:
        stored = [picture.uri for picture in result.pictures if not picture.error]
        causes = "; ".join(f"picture {index}: {picture.error} ({picture.uri})" for index, picture in failed)
        message = (
            f"{len(failed)} of {len(result.pictures)} pictures could not be delivered. {causes}. Delivered: {stored}"
        )
        raise ClaidPictureError(message, billed="yes", request_id=result.request_id)
    black = [picture.uri for picture in result.pictures if picture.filtered]
    kept = [picture for picture in result.pictures if not picture.filtered or on_filtered == "keep"]
    if black and (on_filtered == "fail" or not kept):
        count = f"{len(black)} of {len(result.pictures)}"
        message = f"Claid's content filter made {count} pictures black: {black}. Change the prompt"
        raise ClaidContentFilteredError(message, billed="yes", request_id=result.request_id)
    return [str(picture.uri) for picture in kept]


async def _deliver(job: ImageJob, result: GenerateResult, folder: Folder | None) -> tuple[Picture, ...]:
    if folder is None:
        return tuple(_as_it_is(image, result) for image in result.images)
    tasks = (_copy(job, result, folder, number) for number in range(1, len(result.images) + 1))
    return tuple(await asyncio.gather(*tasks))


def _as_it_is(image: GeneratedImage, result: GenerateResult) -> Picture:
    temporary = image.uri is not None and image.uri == image.tmp_url
    return Picture(
        image.uri,
        image.width,
        image.height,
        image.mime,
        expires_at=_expiry(result) if temporary else None,
        error=None if image.uri else "Claid gave no address for it",
    )


async def _copy(job: ImageJob, result: GenerateResult, folder: Folder, number: int) -> Picture:
    image = result.images[number - 1]
    try:
        fetched = await fetch(image, allow_loopback=job.account.endpoint.is_loopback)
        name = f"{job.name}-{number}.{fetched.header.extension}"
        uri = await in_thread(folder.publish, name, fetched.data, fetched.header.mime)
    except Exception as cause:  # noqa: BLE001 - paid for: whatever went wrong must not lose its neighbours
        reason = cause.message if isinstance(cause, ClaidError) else f"{type(cause).__name__}: {cause}"
        log.warning("Picture %d of request %s was not delivered: %s", number, result.request_id, reason)
        return Picture(image.uri, expires_at=_expiry(result), error=reason)
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
