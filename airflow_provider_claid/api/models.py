"""
The messages of Claid's API (facts: Claid API §2 and §6).

Requests are closed, as Claid's own schema is. Responses are open: a picture that was paid for is never lost
because a field is missing, null, "" or new.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidatorFunctionWrapHandler, field_validator

MIN_PROMPT, MAX_PROMPT = 3, 1024
MIN_IMAGES, MAX_IMAGES = 1, 4
MIN_GUIDANCE, GUIDANCE_BELOW = 1.0, 50.0
MAX_OUTPUT = 4096
CREDITS_PER_IMAGE = 1
TEMPORARY_HOURS = 24


class GenerateOptions(BaseModel):
    """`options` of a generation: how many pictures (1 credit each) and how closely they follow the prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number_of_images: Annotated[int, Field(strict=True, ge=MIN_IMAGES, le=MAX_IMAGES)] = 4
    guidance_scale: Annotated[float, Field(strict=True, ge=MIN_GUIDANCE, lt=GUIDANCE_BELOW, allow_inf_nan=False)] = 5.0


class GenerateRequest(BaseModel):
    """The body of `POST /v1/image/generate`; without `options` Claid makes, and bills, four pictures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Annotated[StrictStr, Field(min_length=MIN_PROMPT, max_length=MAX_PROMPT)]
    options: GenerateOptions = GenerateOptions()
    output: (
        Annotated[StrictStr, Field(max_length=MAX_OUTPUT, pattern=r"^storage://[^/?#\s][^/?#]*/(?:[^?#]*/)?$")] | None
    ) = None


class _Answer(BaseModel):
    """An answer: unknown fields are kept, and a value that is "" or of the wrong type counts as missing."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @field_validator("*", mode="wrap")
    @classmethod
    def _blank_is_missing(cls, value: Any, accept: ValidatorFunctionWrapHandler) -> Any:
        if value is None or value == "":
            return None
        try:
            return accept(value)
        except ValueError:
            return None


class GeneratedImage(_Answer):
    """One picture of an answer; sizes in pixels, `mps` in megapixels, addresses as Claid gave them."""

    ext: str | None = None
    mps: float | None = None
    mime: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    tmp_url: str | None = None
    object_key: str | None = None
    object_bucket: str | None = None
    object_uri: str | None = None
    claid_storage_uri: str | None = None

    @property
    def uri(self) -> str | None:
        """The most lasting address: `object_uri`, else `claid_storage_uri`, else `tmp_url` (24 hours)."""
        return self.object_uri or self.claid_storage_uri or self.tmp_url


class GenerateInput(_Answer):
    """`data.input`: the prompt as Claid understood it."""

    text: str | None = None


class GenerateResponse(_Answer):
    """`data` of a successful generation."""

    input: GenerateInput | None = None
    output: tuple[GeneratedImage, ...] | None = None
    profiling: dict[str, Any] | None = None


class StorageParameters(_Answer):
    """Where a connected storage points to: `bucket` and `path` (s3, gcs) or `base_url` (web_folder)."""

    bucket: str | None = None
    path: str | None = None
    base_url: str | None = None


class Storage(_Answer):
    """A storage connected to the account (`GET /v1/storage/storages`); credentials are never in it."""

    id: int | None = None
    name: str | None = None
    type: str | None = None
    parameters: StorageParameters | None = None
    created_at: str | None = None
