"""Assets of the scheme `storage`: Airflow normalises and checks them by this provider."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import Asset
from airflow.sdk.lineage import HookLineageCollector
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.assets.claid import convert_asset_to_openlineage, create_asset, dataset_name, sanitize_uri
from airflow_provider_claid.get_provider_info import get_provider_info


def test_airflow_asks_this_provider_about_the_scheme():
    known = ProvidersManagerTaskRuntime()
    assert known.asset_uri_handlers["storage"] is sanitize_uri
    assert known.asset_factories["storage"] is create_asset
    assert known.asset_to_openlineage_converters["storage"] is convert_asset_to_openlineage


def test_airflow_2_finds_the_same_under_the_older_name():
    assert get_provider_info()["dataset-uris"] == get_provider_info()["asset-uris"]


@pytest.mark.parametrize(
    ("uri", "normal"),
    [
        ("storage://my-storage/folder/", "storage://my-storage/folder"),
        ("storage://my-storage/a b/ü/", "storage://my-storage/a b/ü"),
        ("STORAGE://My-Storage/folder", "storage://My-Storage/folder"),
        ("storage://my-storage/", "storage://my-storage/"),
        ("storage://my-storage", "storage://my-storage/"),
    ],
)
def test_final_slashes_do_not_make_another_asset(uri, normal):
    asset = Asset(uri=uri)
    assert (asset.uri, asset.normalized_uri) == (normal, normal)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("storage:///folder/", "name of the storage is missing"),
        ("storage://my_conn@name/folder/", "connection id does not belong there"),
        ("storage://name/folder/?version=1", "leave out the [?]"),
    ],
)
def test_what_is_wrong_is_named(uri, says):
    with pytest.raises(ValueError, match=says) as caught:
        Asset(uri=uri)
    assert "my_conn" not in str(caught.value)


PARTS = st.text("abcXYZ 019._-+üß%", min_size=1, max_size=12)


@given(PARTS, st.lists(PARTS, max_size=4))
def test_what_is_normal_stays_as_it_is(name, folders):
    asset = create_asset(name=name, folder="/".join(folders))
    assert Asset(uri=asset.uri) == Asset(uri=f"{asset.uri.rstrip('/')}/", name=asset.uri)
    assert sanitize_uri(urlsplit(asset.uri)) == urlsplit(asset.uri)


@pytest.mark.parametrize("folder", ["a/b", "/a/b/", "a/b/"])
def test_the_factory_serves_hook_lineage(folder):
    asset = HookLineageCollector().create_asset(
        scheme="storage", asset_kwargs={"name": "my-storage", "folder": folder}, asset_extra={"credits": 1}
    )
    assert (asset.uri, asset.extra) == ("storage://my-storage/a/b", {"credits": 1})
    assert create_asset(name="my-storage").uri == "storage://my-storage/"


DATASETS = [
    ("storage://my-storage/folder/", ("storage://my-storage", "folder")),
    ("storage://my-storage/", ("storage://my-storage", "/")),
    ("s3://bucket/a/b/", ("s3://bucket", "a/b")),
    ("s3://bucket/a/prompts.csv", ("s3://bucket", "a/prompts.csv")),
    ("s3://bucket/", ("s3://bucket", "/")),
    ("file:///tmp/x/", ("file", "/tmp/x")),
    ("s3a://bucket/a/", ("s3://bucket", "a")),
    ("gcs://bucket/a/", ("gs://bucket", "a")),
    ("gs://bucket/a/", ("gs://bucket", "a")),
    ("abfs://container/a/", ("abfs://container", "a")),
    ("https://example.com/a/", ("https://example.com", "a")),
]


@pytest.mark.parametrize(("uri", "names"), DATASETS)
def test_datasets_have_openlineages_names(uri, names):
    assert dataset_name(uri) == names


@pytest.mark.parametrize(("uri", "names"), DATASETS[:6])
def test_airflows_own_converters_give_the_same_names(uri, names):
    pytest.importorskip("airflow.providers.openlineage")
    from airflow.providers.common.compat.openlineage.utils.utils import translate_airflow_asset

    dataset = translate_airflow_asset(Asset(uri=uri), None)
    assert (dataset.namespace, dataset.name) == names
