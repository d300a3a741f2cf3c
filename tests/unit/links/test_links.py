"""A picture's URI becomes what a browser can open."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.links.claid import browser_address


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("https://dl.claid.ai/x/1.png", "https://dl.claid.ai/x/1.png"),
        ("s3://bucket/a b/1.png", "https://s3.console.aws.amazon.com/s3/object/bucket?prefix=a%20b/1.png"),
        ("gs://bucket/a+b/1.png", "https://console.cloud.google.com/storage/browser/_details/bucket/a%2Bb/1.png"),
        ("file:///pictures/1.png", "file:///pictures/1.png"),
        ("", ""),
        ("storage://shop/1.png", "storage://shop/1.png"),
        ("abfs://container@account/1.png", "abfs://container@account/1.png"),
        (" https://dl.claid.ai/1\n.png", "https://dl.claid.ai/1.png"),
        ("https://dl.claid.ai/\x1b\u202e.png", "https://dl.claid.ai/??.png"),
        ('s3://b"ad/\ud83d.png', "https://s3.console.aws.amazon.com/s3/object/b%22ad?prefix=%3F.png"),
    ],
)
def test_addresses(uri, address):
    assert browser_address(uri) == address


@pytest.mark.parametrize(
    "uri",
    [
        "javascript:alert(1)", "JavaScript:alert(1)", "java\nscript:alert(1)", "\x01javascript:alert(1)",
        " javascript:x",
        "javascript://dl.claid.ai/%0aalert(1)", "data:text/html,<script>", "vbscript:x", "blob:https://a/1",
        "about:blank",
        "view-source:https://a", "https:javascript", "http:/a", "file:etc", "//a/b", "/a/b", "a", "https://[::1",
        "x://y",
        None, 7, ["https://a"], {}, b"https://a",
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_address_of_a_picture_is_no_link(uri):
    assert browser_address(uri) == ""


@given(st.text(st.characters(), max_size=40) | st.text(max_size=20).map("javascript:".__add__))
def test_no_text_becomes_a_link_that_runs(uri):
    assert browser_address(uri) == "" or re.match(r"[a-z0-9]+://", browser_address(uri))
