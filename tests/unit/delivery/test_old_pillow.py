"""Wheels of Pillow before 11.3 decode no AVIF (Pillow #7983, Willow #172): what is paid for is delivered anyway."""

from __future__ import annotations

import io

import pytest
from PIL import Image, features

from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.api.models import GeneratedImage
from airflow_provider_claid.delivery import images
from airflow_provider_claid.delivery.pictures import examine
from airflow_provider_claid.delivery.watching.expected import Promise
from airflow_provider_claid.delivery.watching.inspection import inspect


@pytest.fixture
def avif(monkeypatch):
    """A picture that is small enough to be suspicious, and a Pillow that cannot decode it."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((1024, 1024)).convert("RGB").save(buffer, "AVIF")
    monkeypatch.delitem(Image.OPEN, "AVIF")
    monkeypatch.setattr(Image, "ID", [each for each in Image.ID if each != "AVIF"])
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    images._has_decoder.cache_clear()
    yield buffer.getvalue()
    images._has_decoder.cache_clear()


def test_a_picture_that_is_paid_for_is_taken(avif):
    image = GeneratedImage(tmp_url="https://claid.example/x.avif", width=1024, height=1024)
    assert examine(avif, image).filtered is None


def test_a_sensor_says_at_once_that_it_cannot_look_at_each_pixel(avif):
    def read(start, end):
        return avif[start:end]

    promise = Promise("s3://bucket/x.avif")
    assert inspect(promise, len(avif), read, "header").fault is None
    with pytest.raises(ClaidConfigurationError, match="verify: got 'full', and the installed Pillow has no decoder"):
        inspect(promise, len(avif), read, "full")
