"""The whole way on real stores: the operator pays, pictures are stored, the sensor sees them."""

from __future__ import annotations

import json
import urllib.request

import pytest
from azure.storage.blob import BlobClient

from airflow_provider_claid.delivery import sync
from airflow_provider_claid.delivery.watching.expected import wanted
from airflow_provider_claid.exceptions import ClaidConfigurationError, airflow_errors
from airflow_provider_claid.hooks.watch import watch_for
from airflow_provider_claid.sandbox.server import SandboxServer
from tests.conftest import KEY

pytestmark = pytest.mark.usefixtures("claid_connection")


@pytest.fixture
def storing_sandbox(rgw, rgw_bucket, claid_connection, monkeypatch):
    """A sandbox that writes the outputs for `storage://shop/` into the bucket, under the prefix `claid/`."""
    with SandboxServer(latency=0, per_second=None, per_minute=None, s3_endpoint=rgw.url) as server:
        parameters = {
            "bucket": rgw_bucket,
            "path": "/claid/",
            "credentials": {"access_key": rgw.access_key, "secret_access_key": rgw.secret_key},
        }
        storage = {"name": "shop", "type": "s3", "parameters": parameters}
        request = urllib.request.Request(
            f"{server.url}/v1/storage/storages",
            json.dumps(storage).encode(),
            {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()
        monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(claid_connection | {"host": server.url}))
        yield server


def run(dag, monkeypatch, key="return_value", **arguments):
    monkeypatch.setenv("TEST_GENERATE", json.dumps(arguments))
    monkeypatch.setenv("TEST_XCOM_KEY", key)
    finished = dag("generates_and_waits").test()
    assert finished.state == "success"
    generated = finished.get_task_instance("wait").xcom_pull("generate", map_indexes=[0, 1])
    uris = finished.get_task_instance("wait").xcom_pull("wait")
    assert uris == [uri for each in generated for uri in each]
    return uris


@pytest.mark.parametrize("key", ["return_value", "claid_result"])
def test_claid_writes_into_the_store_and_the_sensor_sees_it(storing_sandbox, rgw, rgw_bucket, dag, monkeypatch, key):
    folder = "storage://shop/summer é/"
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(rgw.airflow_connection()))
    uris = run(dag, monkeypatch, key, output_folder=folder)
    assert len(uris) == 4
    for uri in uris:
        assert uri.startswith(f"s3://{rgw_bucket}/claid/summer é/")
        stored = rgw.client().head_object(Bucket=rgw_bucket, Key=uri.removeprefix(f"s3://{rgw_bucket}/"))
        assert stored["ContentType"] == "image/png"
    with airflow_errors():
        want = wanted(None, folder, 4, None)
        assert set(sync.run(watch_for(want, "claid_default", "rgw").look()).delivered) == set(uris)
    assert storing_sandbox.report()["totals"]["credits"] == 4


def test_copies_have_their_content_type_and_their_tags(rgw, rgw_bucket, sandbox, dag, monkeypatch):
    uris = run(
        dag,
        monkeypatch,
        "claid_result",
        save_to=f"s3://{rgw_bucket}/a+b é/",
        storage_conn_id="rgw",
        filename="sku {{ ti.map_index }}",
        object_tags=True,
    )
    assert uris[0] == f"s3://{rgw_bucket}/a+b é/sku 0-1.png"
    for uri in uris:
        address = {"Bucket": rgw_bucket, "Key": uri.removeprefix(f"s3://{rgw_bucket}/")}
        head = rgw.client().head_object(**address)
        assert (head["ContentType"], len(head["Metadata"]["claidsha256"])) == ("image/png", 64)
        tags = {each["Key"]: each["Value"] for each in rgw.client().get_object_tagging(**address)["TagSet"]}
        assert (tags["dag_id"], tags["task_id"]) == ("generates_and_waits", "generate")
        assert tags["run_id"].startswith("manual__")
    assert sandbox.report()["totals"]["credits"] == 4


def test_azure_copies_are_delivered_and_faults_named(azurite, azure_container, sandbox, dag, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_WASB_DEFAULT", json.dumps(azurite.airflow_connection()))
    uris = run(
        dag, monkeypatch, "claid_result", save_to=f"abfs://{azure_container}/a b é/", filename="{{ ti.map_index }}"
    )
    for uri in uris:
        name = uri.removeprefix(f"abfs://{azure_container}/")
        blob = BlobClient.from_connection_string(azurite.connection_string(), azure_container, name)
        assert blob.get_blob_properties().content_settings.content_type == "image/png"
        assert len(blob.get_blob_properties().metadata["claidsha256"]) == 64

    def look(images=None, folder=None, count=None, conn_id="azurite"):
        with airflow_errors():
            return sync.run(watch_for(wanted(images, folder, count, None), "claid_default", conn_id).look())

    assert look(folder=f"abfs://{azure_container}/", count=4).done
    assert look([f"abfs://{azure_container}/none.png"]).missing == {
        f"abfs://{azure_container}/none.png": "it is not there"
    }
    with pytest.raises(ClaidConfigurationError, match="Create the bucket"):
        look(["abfs://no-such-container/a.png"])
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", json.dumps(azurite.wrong_key_connection()))
    with pytest.raises(ClaidConfigurationError, match=r"credentials|may not be read"):
        look(uris, conn_id="wrong")
