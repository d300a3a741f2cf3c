"""What outlets are told, by Airflow's own accessors of a running task."""

from __future__ import annotations

import hashlib
import json

import pytest
from airflow.providers.common.compat.lineage.entities import File
from airflow.providers.common.compat.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_claid.delivery.job import JobResult, Picture
from airflow_provider_claid.hooks.claid import ClaidHook
from airflow_provider_claid.lineage import _alias_extra, add_event, announce, delivery_of

PROMPT = "a red bicycle, and what nobody should read"


@pytest.fixture
def context():
    return {"outlet_events": OutletEventAccessors()}


def delivery(*uris, expires_at=None):
    pictures = tuple(Picture(uri, expires_at=expires_at) for uri in uris)
    return delivery_of(JobResult("request-1", len(uris), pictures), uris, PROMPT)


def aliased(context, alias):
    return [(event.dest_asset_key.uri, event.extra) for event in context["outlet_events"][alias].asset_alias_events]


def test_the_prompt_is_only_there_as_its_hash():
    told = delivery("s3://bucket/a/1.png")
    assert told.extra == {
        "uris": ["s3://bucket/a/1.png"],
        "credits": 1,
        "request_id": "request-1",
        "prompt_sha256": hashlib.sha256(PROMPT.encode()).hexdigest(),
    }
    assert json.loads(json.dumps(told.extra)) == told.extra
    assert "bicycle" not in repr(told)


def test_only_what_is_handed_on_is_told():
    pictures = (Picture("s3://bucket/a/1.png"), Picture("s3://bucket/b/2.png", filtered=True))
    told = delivery_of(JobResult("r", 2, pictures), ["s3://bucket/a/1.png"], PROMPT)
    assert (told.extra["uris"], told.extra["credits"]) == (["s3://bucket/a/1.png"], 2)
    assert told.folders == {"s3://bucket/a/": 1}


def test_an_asset_keeps_what_others_said_of_it(context):
    asset = Asset("pictures")
    context["outlet_events"][asset].extra["mine"] = 1
    add_event(context, asset, delivery("file:///x/1.png"))
    assert context["outlet_events"][asset].extra == {"mine": 1, **delivery("file:///x/1.png").extra}


def test_an_alias_gets_an_asset_for_each_folder(context):
    alias, told = AssetAlias("folders"), delivery("s3://b/x/1.png", "s3://b/x/2.png", "storage://my-storage/y/3.png")
    add_event(context, alias, told)
    assert aliased(context, alias) == [("s3://b/x", told.extra), ("storage://my-storage/y", told.extra)]


@pytest.mark.parametrize("folder", ["s3://bucket/folder/", "s3://bucket/", "file:///folder/", "storage://name/folder/"])
def test_that_asset_is_the_one_named_by_save_to(context, folder):
    alias = AssetAlias("folders")
    add_event(context, alias, delivery(f"{folder}sku-1.png"))
    (event,) = context["outlet_events"][alias].asset_alias_events
    assert event.dest_asset_key.to_asset() == Asset(folder)


def test_an_alias_is_told_in_ascii_for_the_sake_of_mysql(context):
    alias, told = AssetAlias("folders"), delivery("s3://bucket/a b/ü%20/猫/1.png")
    add_event(context, alias, told)
    assert aliased(context, alias) == [("s3://bucket/a b/%C3%BC%20/%E7%8C%AB", told.extra)]


@pytest.mark.parametrize("version", ["2.11.2", "3.0.0", "3.1.0"])
def test_older_airflows_that_hash_the_extra_of_an_alias_get_no_list(version):
    extra = delivery("s3://b/x/1.png").extra
    told = _alias_extra(extra, version)
    assert dict(frozenset(told.items())) == {**extra, "uris": '["s3://b/x/1.png"]'}
    assert _alias_extra(extra, "3.2.0") == extra


def test_temporary_addresses_are_in_no_folder(context):
    alias = AssetAlias("folders")
    add_event(context, alias, delivery("https://example.com/tmp/1.png", expires_at="2026-01-01T00:00:00+00:00"))
    assert aliased(context, alias) == []


@pytest.mark.parametrize("outlet", [File(url="s3://bucket/x"), "s3://bucket/x", object()])
def test_other_outlets_are_left_alone(context, outlet):
    add_event(context, outlet, delivery("file:///x/1.png"))
    assert len(context["outlet_events"]) == 0


def test_a_fault_is_a_warning_and_the_next_outlet_is_told(context, caplog):
    broken, good, alias = Asset.ref(name="no supervisor knows it here"), Asset("pictures"), AssetAlias("folders")
    told = delivery(f"s3://bucket/{'x' * 1500}/1.png")
    announce(context, [broken, alias, good], ClaidHook(), told)
    assert context["outlet_events"][good].extra == told.extra
    assert aliased(context, alias) == []
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.partition(" could not")[0] for text in warnings] == [
        "The event of outlet 'no supervisor knows it here'",
        "The event of outlet 'folders'",
    ]
    assert "bicycle" not in caplog.text
