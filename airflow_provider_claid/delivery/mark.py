"""Whose a stored picture is: pure rules, by which one job never takes or overwrites the picture of another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Whose = Literal["same", "ours", "other"]
"""The very picture; an earlier one of the same task; anybody else's."""

_NAMES = {"owner": "claidjob", "request_id": "claidrequest", "picture": "claidpicture", "sha256": "claidsha256"}
"""Of the metadata: plain letters, which S3, Google, Azure and proxies all leave as they are."""


@dataclass(frozen=True)
class Mark:
    """
    What a stored picture tells of itself; "" where it tells nothing. No secrets.

    `owner` is random, and in the marks of the task's attempts; `request_id` is Claid's, `picture` names one picture of
    one answer, `sha256` its bytes.
    """

    owner: str = ""
    request_id: str = ""
    picture: str = ""
    sha256: str = ""

    def metadata(self) -> dict[str, str]:
        """Return the metadata of an object: printable ASCII, at most 128 characters each."""
        told = {name: re.sub(r"[^ -~]", "_", getattr(self, field))[:128] for field, name in _NAMES.items()}
        return {name: value for name, value in told.items() if value}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Mark:
        """Read what `metadata` gave, whatever the store made of the case of the names."""
        told = {name.lower(): value for name, value in metadata.items()}
        return cls(**{field: told.get(name, "") for field, name in _NAMES.items()})


def picture_id(request_id: str | None, address: str | None, number: int) -> str:
    """
    Name one picture of one answer: 16 hexadecimal digits and its number.

    By its temporary address too: a request id comes from a header that whatever lies between may have set.
    """
    digest = hashlib.sha256(f"{request_id}\0{address}".encode(errors="backslashreplace")).hexdigest()
    return f"{digest[:16]}-{number}"


def whose(there: Mark, wanted: Mark) -> Whose:
    """Tell whose a picture is that stands under the name of the one `wanted` there."""
    if wanted.picture and (there.picture, there.sha256) == (wanted.picture, wanted.sha256):
        return "same"
    return "ours" if wanted.owner and there.owner == wanted.owner else "other"


def names(stem: str, picture: str, extension: str) -> tuple[str, str]:
    """Return the name of a picture, and the one that it gets where that is another job's: 9 bytes longer."""
    digits, _, number = picture.partition("-")
    return f"{stem}-{number}.{extension}", f"{stem}-{digits[:8]}-{number}.{extension}"
