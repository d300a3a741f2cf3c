"""What a sandbox is told at its start, and what may be changed while it runs."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from airflow_provider_claid.sandbox.certificates import checked_name

Scope = Literal["image_editing", "image_generation", "video_generation", "storage"]
ALL_SCOPES: frozenset[Scope] = frozenset({"image_editing", "image_generation", "video_generation", "storage"})
WindowKind = Literal["sliding", "fixed", "anchored"]
DEFAULT_KEY = "sandbox-key"
DEFAULT_STORAGE = "my-storage"

LIVE = frozenset(
    {
        "count_refused",
        "credits",
        "expired_status",
        "filtered_words",
        "latency",
        "per_minute",
        "per_second",
        "picture_hours",
        "window",
    }
)
"""The settings that `PATCH /_sandbox/settings` may change; the others need a restart."""


class Key(BaseModel):
    """An API key: its text, its scopes, and the account whose windows and credits it shares."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: Annotated[str, Field(min_length=1, repr=False)]
    scopes: frozenset[Scope] = ALL_SCOPES
    account: Annotated[str, Field(min_length=1)] = "default"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `TOKEN`, `TOKEN:scope,scope` or `TOKEN:scope,scope:account`; no scopes means all of them."""
        token, _, rest = text.partition(":")
        scopes, _, account = rest.partition(":")
        return cls.model_validate(
            {
                "token": token,
                "scopes": frozenset(scopes.split(",")) if scopes else ALL_SCOPES,
                "account": account or "default",
            }
        )


class StorageTarget(BaseModel):
    """A storage that is connected from the start: a folder of this machine, or a bucket and a prefix."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=50)]
    type: Literal["s3", "gcs"] = "s3"
    folder: Path | None = None
    bucket: str = ""
    path: str = ""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.folder is None) == (not self.bucket):
            raise ValueError("a storage needs a folder or a bucket, and not both")
        return self

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `NAME=DIR`, `NAME=s3://bucket/prefix` or `NAME=gs://bucket/prefix`."""
        name, separator, place = text.partition("=")
        if not separator or not place:
            raise ValueError(f"{text!r} is not NAME=DIR, NAME=s3://bucket/prefix or NAME=gs://bucket/prefix")
        for scheme, kind in (("s3://", "s3"), ("gs://", "gcs")):
            if place.startswith(scheme):
                bucket, _, path = place.removeprefix(scheme).partition("/")
                return cls.model_validate({"name": name, "type": kind, "bucket": bucket, "path": path})
        return cls(name=name, folder=Path(place).expanduser().resolve())


class Settings(BaseModel):
    """
    Everything a sandbox can be told.

    `latency` is seconds, or a range of seconds as `(1, 8)` or `"1-8"`. A limit of None (or 0) is no limit.
    `credits` is what each account has to spend, None without end. `folder` is where the default storage
    writes; None is a temporary folder that goes away with the sandbox. `plain` pictures have one colour behind their
    prompt, which is a fifth of the work. `seed` repeats latencies, fault probabilities and drawings.
    `https` serves TLS with a certificate for this machine and `names`, by an authority whose file is in
    `certificates`; None is a temporary folder that goes away with the sandbox.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    keys: Annotated[tuple[Key, ...], Field(min_length=1)] = (Key(token=DEFAULT_KEY),)
    storages: tuple[StorageTarget, ...] = ()
    folder: Path | None = None
    s3_endpoint: str | None = None
    window: WindowKind = "sliding"
    per_second: Annotated[int, Field(ge=1)] | None = 4
    per_minute: Annotated[int, Field(ge=1)] | None = 120
    count_refused: bool = False
    latency: tuple[float, float] = (1.0, 1.0)
    picture_hours: Annotated[float, Field(gt=0)] = 24.0
    expired_status: Literal[403, 404] = 404
    credits: Annotated[int, Field(ge=0)] | None = None
    filtered_words: frozenset[str] = frozenset({"nsfw", "gore"})
    plain: bool = False
    seed: int | None = None
    keep_alive: Annotated[float, Field(gt=0)] = 5.0
    https: bool = False
    names: tuple[str, ...] = ()
    certificates: Path | None = None

    @field_validator("per_second", "per_minute", mode="before")
    @classmethod
    def _zero_is_no_limit(cls, value: Any) -> Any:
        return None if value == 0 else value

    @field_validator("latency", mode="before")
    @classmethod
    def _one_number_is_a_range(cls, value: Any) -> Any:
        if isinstance(value, str):
            low, _, high = value.partition("-")
            return (low, high or low)
        return (value, value) if isinstance(value, int | float) else value

    @field_validator("latency")
    @classmethod
    def _latency_is_in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] < float("inf"):
            raise ValueError("latency is seconds >= 0, or a range such as 1-8")
        return value

    @field_validator("names")
    @classmethod
    def _names_can_be_certified(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(checked_name(name) for name in value)

    @field_validator("names", "certificates")
    @classmethod
    def _only_https_is_certified(cls, value: Any, info: ValidationInfo) -> Any:
        if value and not info.data.get("https"):
            raise ValueError("it needs https")
        return value

    @field_validator("filtered_words")
    @classmethod
    def _words_are_compared_in_lower_case(cls, value: frozenset[str]) -> frozenset[str]:
        return frozenset(word.casefold() for word in value)

    def changed(self, changes: dict[str, Any]) -> "Settings":
        """Return these settings with `changes` to fields of `LIVE`; anything else is a ValueError."""
        if fixed := sorted(changes.keys() - LIVE):
            can = ", ".join(sorted(LIVE))
            raise ValueError(f"{', '.join(fixed)} cannot be changed in a running sandbox, only {can}")
        return Settings.model_validate({**self.model_dump(), **changes})
