"""The request schema is closed; the response schema loses nothing that was paid for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_claid.api.models import GeneratedImage, GenerateRequest, GenerateResponse

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["ext", "mps", "mime", "format", "width", "height", "tmp_url", "object_key", "object_bucket", "object_uri"]


@pytest.mark.parametrize("extra", [{"seed": 1}, {"webhook_url": "https://example.com"}])
def test_an_unknown_request_field_is_refused(extra):
    with pytest.raises(ValidationError, match="Extra inputs"):
        GenerateRequest.model_validate({"input": "a red bicycle", **extra})


def test_what_is_sent_names_the_number_of_pictures():
    body = GenerateRequest.model_validate({"input": "a red bicycle", "options": {"number_of_images": 1}})
    assert '"number_of_images":1' in body.model_dump_json(exclude_none=True)


@pytest.mark.parametrize("nothing", [{}, {"tmp_url": None}, {"tmp_url": ""}])
def test_missing_null_and_empty_are_alike(nothing):
    assert GeneratedImage.model_validate(nothing).tmp_url is None


def test_the_most_lasting_address_comes_first():
    addresses = {"object_uri": "s3://b/k", "claid_storage_uri": "storage://n/k", "tmp_url": "https://t/p"}
    for name in ("object_uri", "claid_storage_uri", "tmp_url"):
        assert GeneratedImage.model_validate(addresses).uri == addresses.pop(name)
    assert GeneratedImage.model_validate({}).uri is None


def test_unknown_response_fields_are_dropped():
    image = GeneratedImage.model_validate({"seed": 7, "tmp_url": "https://example.com/1.png"})
    assert image.model_dump(exclude_none=True) == {"tmp_url": "https://example.com/1.png"}


@given(st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_a_picture_with_odd_values_is_still_a_picture(values):
    read = GeneratedImage.model_validate(values)
    assert read.width is None or isinstance(read.width, int)


@given(json_values)
def test_an_answer_with_odd_values_never_breaks_the_reader(value):
    data = {"input": value, "output": [{"tmp_url": "https://example.com/1.png"}], "profiling": value, "new": value}
    assert GenerateResponse.model_validate(data).output[0].uri == "https://example.com/1.png"
