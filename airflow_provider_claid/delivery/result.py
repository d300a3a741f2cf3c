"""What became of a paid job: its pictures, as XCom and manifests tell them, and which of them are handed on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from airflow_provider_claid.api.errors import ClaidContentFilteredError, ClaidPictureError, ClaidUndeliveredError
from airflow_provider_claid.delivery import clock
from airflow_provider_claid.delivery.checks import OnFiltered


@dataclass(frozen=True)
class Picture:
    """
    A delivered picture, or why it is not: `error` is None for one that is where `uri` says, checked if we copied it.

    Sizes in pixels and bytes; `filtered` None: not looked at; `expires_at` in ISO 8601, None for one that lasts.
    `again` False: no later attempt can deliver it.
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
    again: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for XCom."""
        facts = asdict(self)
        del facts["again"]
        return facts


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
        images = [picture.to_json() for picture in self.pictures]
        expires = [image["expires_at"] for image in images if image["expires_at"]]
        return {
            "request_id": self.request_id,
            "credits": self.credits,
            "images": images,
            "expires_at": min(expires, default=None),
            "submissions": self.submissions,
            "reused": self.reused,
        }


def deliverable(result: JobResult, on_filtered: OnFiltered) -> list[str]:
    """
    Return the URIs to hand on, in order; raise if a picture is missing or, by the policy, black.

    With `on_filtered` "skip" the list is empty if all are black: `all_filtered` says so.
    """
    if failed := [(index, picture) for index, picture in enumerate(result.pictures, 1) if picture.error]:
        stored = [picture.uri for picture in result.pictures if not picture.error]
        causes = "; ".join(f"picture {index}: {picture.error} ({picture.uri})" for index, picture in failed)
        message = (
            f"{len(failed)} of {len(result.pictures)} pictures could not be delivered. {causes}. Delivered: {stored}"
        )
        # One that is lost for good does not keep a retry from those that can still be had.
        again = result.recorded and any(_is_there_yet(picture) for _, picture in failed)
        kind = ClaidUndeliveredError if again else ClaidPictureError
        raise kind(message, billed="yes", request_id=result.request_id)
    if on_filtered == "fail" and any(picture.filtered for picture in result.pictures):
        raise all_filtered(result)
    return [str(picture.uri) for picture in result.pictures if not picture.filtered or on_filtered == "keep"]


def all_filtered(result: JobResult) -> ClaidContentFilteredError:
    """Return the error that names the black pictures, and says what was billed."""
    black = [picture.uri for picture in result.pictures if picture.filtered]
    count = f"{len(black)} of {len(result.pictures)}"
    message = f"Claid's content filter made {count} pictures black: {black}. Change the prompt"
    return ClaidContentFilteredError(message, billed="yes", request_id=result.request_id)


def _is_there_yet(picture: Picture) -> bool:
    """Tell whether a later attempt may deliver a picture that was not delivered."""
    return picture.again and (picture.expires_at is None or clock.now() < datetime.fromisoformat(picture.expires_at))
