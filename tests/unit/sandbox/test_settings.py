from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_claid.sandbox.settings import ALL_SCOPES, Key, Settings, StorageTarget


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("abc", Key(token="abc", scopes=ALL_SCOPES)),
        ("abc:storage", Key(token="abc", scopes=frozenset({"storage"}))),
        ("abc:image_editing,storage:team", Key(token="abc", scopes={"image_editing", "storage"}, account="team")),
        ("abc::team", Key(token="abc", account="team")),
    ],
)
def test_reads_keys(text, key):
    assert Key.parse(text) == key


@pytest.mark.parametrize("text", ["", "abc:editing", ":storage"])
def test_refuses_bad_keys(text):
    with pytest.raises(ValueError, match=r"Input should be|at least 1"):
        Key.parse(text)


def test_reads_storages():
    assert StorageTarget.parse("a=s3://b/c/d") == StorageTarget(name="a", bucket="b", path="c/d")
    assert StorageTarget.parse("a=gs://b") == StorageTarget(name="a", type="gcs", bucket="b")
    assert StorageTarget.parse("a=/tmp/x") == StorageTarget(name="a", folder=Path("/tmp/x"))


@pytest.mark.parametrize("text", ["a", "a=", "=/tmp", "a=s3://"])
def test_refuses_bad_storages(text):
    with pytest.raises(ValueError, match=r"is not NAME|at least 1|needs a folder or a bucket"):
        StorageTarget.parse(text)


@pytest.mark.parametrize(("given", "latency"), [(2, (2, 2)), ("1-8", (1, 8)), ("0.5", (0.5, 0.5)), ([1, 3], (1, 3))])
def test_latency_is_a_number_or_a_range(given, latency):
    assert Settings(latency=given).latency == latency


@pytest.mark.parametrize("given", ["8-1", -1, "soon", [1], "1-inf"])
def test_refuses_bad_latencies(given):
    with pytest.raises(ValueError, match="latency"):
        Settings(latency=given)


def test_changes_only_what_a_running_sandbox_can_change():
    assert Settings().changed({"per_second": 0}).per_second is None
    with pytest.raises(ValueError, match="port, seed cannot be changed"):
        Settings().changed({"port": 1, "seed": 2, "latency": 1})


def test_keys_stay_out_of_the_text_form():
    assert "sandbox-key" not in repr(Settings())
