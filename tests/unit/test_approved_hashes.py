"""Hosts in FIPS mode have SHA-2 alone: `hashlib.blake2b` and `md5` raise there (streamlit #15148, twine #706)."""

from __future__ import annotations

import hashlib

import pytest

from airflow_provider_claid.delivery.prompts.tally import digest_of
from airflow_provider_claid.hooks.claid import ClaidHook
from airflow_provider_claid.pacing.store import key_of

pytestmark = pytest.mark.usefixtures("claid_connection")


def test_a_host_in_fips_mode_generates(sandbox, monkeypatch):
    def refused(*arguments, **options):
        raise ValueError("[digital envelope routines] unsupported")

    for name in ("blake2b", "blake2s", "md5", "sha1"):
        monkeypatch.setattr(hashlib, name, refused)
    assert len(ClaidHook().generate("a red bicycle").images) == 1
    assert key_of("shop") and digest_of("sku-1")
