"""
The messages of Claid's API (facts: Claid API §2 and §6).

Requests are closed, as Claid's own schema is. Responses are open: a picture that was paid for is never lost because a
field is missing, null, "", odd or new. Of a response only the fields below are kept, cleaned and within bounds, so that
they can be recorded and shown whatever a server adds.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictStr,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from airflow_provider_claid.api.text import one_line

MIN_PROMPT, MAX_PROMPT = 3, 1024
MIN_IMAGES, MAX_IMAGES = 1, 4
MIN_GUIDANCE, GUIDANCE_BELOW = 1.0, 50.0
MAX_OUTPUT = 4096
CREDITS_PER_IMAGE = 1
TEMPORARY_HOURS = 24
MAX_TEXT = 1024
"""Characters that are kept of a text of an answer, which is as long as a key of S3 can be."""
MAX_SIDE = 1_000_000


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


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")  # noqa: TRY004 - pydantic reads ValueError
    return value


def _address(value: str) -> str:
    # Here, because a Dag file, which knows the requests, reads no answer.
    from airflow_provider_claid.api import addresses

    found = addresses.accepted(value, files=True)
    if found is None:
        raise ValueError("no address")
    return found


Text = Annotated[str, AfterValidator(lambda value: one_line(value, MAX_TEXT))]
Side = Annotated[int, BeforeValidator(_no_truth), Field(ge=1, le=MAX_SIDE)]
Megapixels = Annotated[float, BeforeValidator(_no_truth), Field(gt=0, le=MAX_SIDE, allow_inf_nan=False)]
Uri = Annotated[str, AfterValidator(_address)]


class _Answer(BaseModel):
    """An answer: unknown fields are dropped, and a value that is "", of the wrong type or odd counts as missing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

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

    ext: Text | None = None
    mps: Megapixels | None = None
    mime: Text | None = None
    format: Text | None = None
    width: Side | None = None
    height: Side | None = None
    tmp_url: Uri | None = None
    object_key: Text | None = None
    object_bucket: Text | None = None
    object_uri: Uri | None = None
    claid_storage_uri: Uri | None = None

    @property
    def uri(self) -> str | None:
        """The most lasting address: `object_uri`, else `claid_storage_uri`, else `tmp_url` (24 hours)."""
        return self.object_uri or self.claid_storage_uri or self.tmp_url


class GenerateInput(_Answer):
    """`data.input`: the prompt as Claid understood it."""

    text: Text | None = None


class GenerateResponse(_Answer):
    """`data` of a successful generation; `api.outputs` reads it from any shape of answer."""

    input: GenerateInput | None = None
    output: tuple[GeneratedImage, ...] | None = None


class StorageParameters(_Answer):
    """Where a connected storage points to: `bucket` and `path` (s3, gcs) or `base_url` (web_folder)."""

    bucket: Text | None = None
    path: Text | None = None
    base_url: Text | None = None


class Storage(_Answer):
    """A storage connected to the account (`GET /v1/storage/storages`); credentials are never in it."""

    id: int | None = None
    name: Text | None = None
    type: Text | None = None
    parameters: StorageParameters | None = None
    created_at: Text | None = None
