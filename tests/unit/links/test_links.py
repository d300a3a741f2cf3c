"""A picture's URI becomes what a browser can open."""

from __future__ import annotations

import pytest

from airflow_provider_claid.links.claid import browser_address


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("https://dl.claid.ai/x/1.png", "https://dl.claid.ai/x/1.png"),
        ("s3://bucket/a b/1.png", "https://s3.console.aws.amazon.com/s3/object/bucket?prefix=a%20b/1.png"),
        ("gs://bucket/a+b/1.png", "https://console.cloud.google.com/storage/browser/_details/bucket/a%2Bb/1.png"),
        ("file:///pictures/1.png", "file:///pictures/1.png"),
        ("", ""),
    ],
)
def test_addresses(uri, address):
    assert browser_address(uri) == address
