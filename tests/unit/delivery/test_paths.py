"""Path objects are taken for the URIs that they stand for; what would be read differently elsewhere is refused."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from upath import UPath

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.paths import as_uri, as_uris


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (ObjectStoragePath("s3://bucket/a/b.png"), "s3://bucket/a/b.png"),
        (ObjectStoragePath("s3://conn@bucket/b.png"), "s3://conn@bucket/b.png"),
        (ObjectStoragePath("s3://bucket/b.png", conn_id="conn"), "s3://conn@bucket/b.png"),
        (ObjectStoragePath("file:///data/a b.png"), "file:///data/a b.png"),
        (ObjectStoragePath("/data/b.png"), "file:///data/b.png"),
        (UPath("s3://bucket/a b#?%20.png"), "s3://bucket/a b#?%20.png"),
        (UPath("file:///data/ü.png"), "file:///data/ü.png"),
        (UPath("local:///data/b.png"), "file:///data/b.png"),
        (UPath("/data/b.png"), "file:///data/b.png"),
        (Path("/data/a b#?%20.png"), "file:///data/a b#?%20.png"),
        (PurePosixPath("//data/b.png"), "file:///data/b.png"),
        (Path("/data/{{ ds }}/b.png"), "file:///data/{{ ds }}/b.png"),
        (ObjectStoragePath("s3://bucket/{{ ds }}/b.png"), "s3://bucket/{{ ds }}/b.png"),
    ],
    ids=repr,
)
def test_a_path_object_is_its_uri(path, uri):
    assert as_uri(path) == uri


@pytest.mark.parametrize("folder", ["/data/f", "/data/f/"])
def test_a_folder_gets_the_final_slash_that_path_objects_do_not_keep(folder):
    assert as_uri(Path(folder), folder=True) == "file:///data/f/"
    assert as_uri(ObjectStoragePath(f"s3://conn@bucket{folder}"), folder=True) == "s3://conn@bucket/data/f/"


def test_the_root_of_a_bucket_and_of_this_machine_are_folders():
    assert as_uri(ObjectStoragePath("s3://bucket/"), folder=True) == "s3://bucket/"
    assert as_uri(Path("/"), folder=True) == "file:///"


@pytest.mark.parametrize("value", ["s3://bucket/f", "data/f", "", None, 7, ["a"], {"a": 1}])
def test_anything_else_is_left_as_it_is(value):
    assert as_uri(value, folder=True) is value
    assert as_uris(value) is value


def test_path_objects_in_a_list_are_read_too():
    assert as_uris([Path("/a.png"), "s3://b/c.png"]) == ["file:///a.png", "s3://b/c.png"]


@pytest.mark.parametrize("path", [Path("data/b.png"), UPath("b.png"), ObjectStoragePath("data/b.png")])
def test_a_relative_path_is_refused_by_name(path):
    with pytest.raises(ClaidInputError, match=r"images: got the relative path .*b\.png"):
        as_uri(path, "images")


def test_a_path_with_options_that_only_it_knows_is_refused_and_they_are_not_shown():
    with pytest.raises(ClaidInputError, match=r"storage options \(key, secret\)") as caught:
        as_uri(UPath("s3://bucket/b.png", key="AKIA", secret="hidden"), "folder")
    assert "hidden" not in str(caught.value)
