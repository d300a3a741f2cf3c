"""
One submission as it is written down: the intent before the request leaves, the result after it.

Plain JSON of schema 1. A result names the intent that it ends by its `token`, so that an older one, left behind when a
person deleted the intent, counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from airflow_provider_claid.api.bill import current_bill
from airflow_provider_claid.api.errors import Billed
from airflow_provider_claid.api.models import CREDITS_PER_IMAGE, GeneratedImage, GenerateRequest
from airflow_provider_claid.delivery.identity import Identity

SCHEMA = 1

Outcome = Literal["done", "adopted", "unknown", "unbilled"]
"""`done`: Claid's answer is kept. `adopted`: it was lost, its pictures were found. `unknown`: it may have cost."""


@dataclass(frozen=True)
class Intent:
    """
    That a request is about to leave. It may not leave `SEND_WITHIN` seconds later, and is given up at `lost_at`.

    `first` is the number of the job's first submission: a changed prompt begins another job. `generation` is that
    of the attempt: retries of Airflow keep it, clearing by a person raises it. `request` is what was asked for,
    `output` the folder that Claid is really given: with `own_folder`, one of this submission alone.
    """

    identity: Identity
    number: int
    first: int
    generation: int
    token: str
    fingerprint: str
    request: GenerateRequest
    output: str | None
    at: datetime
    lost_at: datetime

    @property
    def sent(self) -> GenerateRequest:
        """The request as it is sent."""
        return self.request.model_copy(update={"output": self.output})

    @property
    def owns_folder(self) -> bool:
        """True where nothing but this submission writes into `output`."""
        return self.output != self.request.output

    @property
    def credits(self) -> int:
        """What it costs at most."""
        return self.request.options.number_of_images * CREDITS_PER_IMAGE

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "schema": SCHEMA,
            **asdict(self.identity),
            "number": self.number,
            "first": self.first,
            "generation": self.generation,
            "token": self.token,
            "fingerprint": self.fingerprint,
            "request": self.request.model_dump(mode="json"),
            "output": self.output,
            "at": self.at.isoformat(),
            "lost_at": self.lost_at.isoformat(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Intent:
        """Read what `to_json` wrote; raises a kind of LookupError, TypeError or ValueError for anything else."""
        require_schema(value)
        return cls(
            _identity(value),
            int(value["number"]),
            int(value["first"]),
            int(value["generation"]),
            _text(value, "token"),
            _text(value, "fingerprint"),
            GenerateRequest.model_validate(value["request"]),
            value["output"],
            _moment(value["at"]),
            _moment(value["lost_at"]),
        )


@dataclass(frozen=True)
class Result:
    """
    What became of a request; `images` as Claid described them, `message` the error if there was one.

    `generation` is that of the last attempt which took these pictures for its own, if it was a later one. `copies` has
    the SHA-256 of each file in a local folder that this job has written for it, by name.
    """

    token: str
    outcome: Outcome
    billed: Billed
    at: datetime
    request_id: str | None = None
    images: tuple[GeneratedImage, ...] = ()
    message: str = ""
    generation: int | None = None
    copies: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "schema": SCHEMA,
            "token": self.token,
            "outcome": self.outcome,
            "billed": self.billed,
            "at": self.at.isoformat(),
            "request_id": self.request_id,
            "images": [image.model_dump(mode="json", exclude_none=True) for image in self.images],
            "message": self.message,
            "generation": self.generation,
            "copies": dict(self.copies),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Result:
        """Read what `to_json` wrote; raises a kind of LookupError, TypeError or ValueError for anything else."""
        require_schema(value)
        if value["outcome"] not in get_args(Outcome) or value["billed"] not in get_args(Billed):
            raise ValueError(f"outcome {value['outcome']!r}, billed {value['billed']!r}")
        return cls(
            _text(value, "token"),
            value["outcome"],
            value["billed"],
            _moment(value["at"]),
            value["request_id"],
            tuple(GeneratedImage.model_validate(image) for image in value["images"]),
            str(value["message"]),
            None if value["generation"] is None else int(value["generation"]),
            {str(name): str(sha256) for name, sha256 in value["copies"].items()},
        )


@dataclass(frozen=True)
class Submission:
    """One submission of a job, and where its record is; without `result` it is open: on its way, or left by a crash."""

    intent: Intent
    result: Result | None
    where: str = ""

    @property
    def number(self) -> int:
        """Its number, from 1."""
        return self.intent.number

    @property
    def generation(self) -> int:
        """The latest generation of the task that this submission belongs to."""
        taken = self.result.generation if self.result else None
        return self.intent.generation if taken is None else max(taken, self.intent.generation)

    @property
    def state(self) -> Literal["open"] | Outcome:
        """How it stands."""
        return self.result.outcome if self.result else "open"

    @property
    def delivered(self) -> bool:
        """True where the pictures are known."""
        return self.state in {"done", "adopted"}

    @property
    def billed(self) -> Billed:
        """Whether it cost credits, as far as is known."""
        return self.result.billed if self.result else "unknown"

    @property
    def credits(self) -> int:
        """What it cost, at most where that is not known."""
        if self.billed == "no":
            return 0
        return len(self.result.images) * CREDITS_PER_IMAGE if self.result and self.delivered else self.intent.credits

    def describe(self) -> dict[str, Any]:
        """Return plain JSON for whoever asks what was paid for."""
        intent, result = self.intent, self.result
        return {
            **asdict(intent.identity),
            "number": intent.number,
            "at": intent.at.isoformat(),
            "prompt": intent.request.input,
            "number_of_images": intent.request.options.number_of_images,
            "output": intent.output,
            "outcome": self.state,
            "billed": self.billed,
            "credits": self.credits,
            "request_id": result.request_id if result else None,
            "images": [image.uri for image in result.images] if result else [],
            "message": result.message if result else "",
            "record": self.where,
        }


def latest(history: Sequence[Submission]) -> Submission:
    """
    Return the submission of a task that was made, or taken, last, of those in order of their numbers.

    Where a person has deleted a record, a later submission has its number: the order alone does not tell.
    """
    generation = max(each.generation for each in history)
    return [each for each in history if each.generation == generation][-1]


def note(submission: Submission) -> None:
    """Let the open bill know of what an earlier attempt paid, so that no error of this one says that nothing was."""
    if submission.result:
        note_result(submission.result)
    else:
        current_bill().found(submission.billed)


def note_result(result: Result) -> None:
    """Do so by what became of the request."""
    current_bill().found(result.billed, receipt_of(result), result.request_id)


def receipt_of(result: Result) -> str:
    """Say what was made and where it is; "" if that is not known."""
    return f"Request {result.request_id} made {[image.uri for image in result.images]}." if result.images else ""


def fingerprint(request: GenerateRequest, conn_id: str, base_url: str) -> str:
    """Return what tells one wish from another: the request and where it goes; not the key, which may be renewed."""
    wish = {"request": request.model_dump(mode="json"), "conn_id": conn_id, "base_url": base_url}
    return hashlib.sha256(json.dumps(wish, sort_keys=True).encode()).hexdigest()[:32]


def _identity(value: Mapping[str, Any]) -> Identity:
    names = (_text(value, "dag_id"), _text(value, "run_id"), _text(value, "task_id"))
    item = value.get("item")
    return Identity(*names, int(value["map_index"]), None if item is None else int(item))


def packed(value: Mapping[str, Any]) -> bytes:
    """Return JSON in UTF-8; half a surrogate pair, as in the name of a file that is no UTF-8, is escaped."""
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace")


def require_schema(value: Mapping[str, Any]) -> None:
    """Raise a LookupError or ValueError for what another version wrote."""
    if value["schema"] != SCHEMA:
        raise ValueError(f"schema {value['schema']!r}; this version reads {SCHEMA}")


def _text(value: Mapping[str, Any], name: str) -> str:
    if not isinstance(value[name], str):
        raise TypeError(f"{name} is {value[name]!r:.40}")
    return str(value[name])


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return moment.astimezone(UTC)
