"""`output`: pictures written into connected storages."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image

from airflow_provider_claid.sandbox.server import SandboxServer
from airflow_provider_claid.sandbox.settings import StorageTarget


def path_of(image):
    assert image["object_uri"].startswith("file://")
    return Path(image["object_uri"].removeprefix("file://"))


def test_writes_into_a_folder(server, post):
    one, two = post(pictures=2, output="storage://my-storage/a/b/").json()["data"]["output"]
    root = server.settings.storages[0].folder
    for image in (one, two):
        assert image["tmp_url"] is None
        assert image["object_bucket"] == "my-storage"
        assert image["object_key"].startswith("made/a/b/")
        assert path_of(image) == root / image["object_key"]
        assert image["claid_storage_uri"] == f"storage://my-storage/a/b/{path_of(image).name}"
        assert Image.open(path_of(image)).size == (1024, 1024)
    assert one["object_key"] != two["object_key"]
    assert not list((root / ".incoming").iterdir())


def test_the_top_folder_is_a_folder_too(post):
    (image,) = post(output="storage://my-storage/").json()["data"]["output"]
    assert image["object_key"].count("/") == 1
    assert path_of(image).is_file()


@pytest.mark.parametrize("output", ["storage://nobody/a/", "storage://links/a/", "storage://my-storage/../out/"])
def test_400_and_no_bill_for_storages_that_cannot_be_written_to(server, client, post, output):
    links = {"name": "links", "type": "web_folder", "parameters": {"base_url": "https://x.example"}}
    number = client.post("/v1/storage/storages", json=links).json()["data"]["id"]
    answer = post(output=output)
    client.delete(f"/v1/storage/storages/{number}")
    assert answer.status_code == 400
    assert answer.json()["error_type"] == "storage"
    assert server.report()["totals"]["credits"] == 0


def test_a_store_that_refuses_is_billed(server, client, post, last):
    credentials = {"access_key": "a", "secret_access_key": "very-secret"}
    bucket = {"name": "deaf", "type": "s3", "parameters": {"bucket": "b", "credentials": credentials}}
    number = client.post("/v1/storage/storages", json=bucket).json()["data"]["id"]
    answer = post(output="storage://deaf/a/")
    client.delete(f"/v1/storage/storages/{number}")
    assert (answer.status_code, answer.json()["error_type"]) == (400, "storage")
    assert "very-secret" not in answer.text
    assert (last()["credits"], last()["status"]) == (1, 400)


def test_pictures_of_a_lost_answer_are_written_all_the_same(server, post, raw, last):
    server.change(latency=0.1)
    server.fault("generate", "reset", when="after_billing")
    folder = server.settings.storages[0].folder / "made" / "lost"
    with pytest.raises(Exception, match=r"reset|disconnected"):
        post(pictures=2, output="storage://my-storage/lost/")
    assert last()["credits"] == 2
    assert len(list(folder.iterdir())) == 2


def test_faults_on_pictures_spoil_what_is_written(server, post):
    server.fault("picture", "truncated")
    server.fault("picture", "zero")
    broken, empty, whole = post(pictures=3, output="storage://my-storage/spoilt/").json()["data"]["output"]
    with pytest.raises(OSError, match=r"truncated|broken"):
        Image.open(path_of(broken)).load()
    assert path_of(empty).stat().st_size == 0
    Image.open(path_of(whole)).load()


@pytest.fixture
def s3(monkeypatch):
    """An S3 endpoint with a bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "env-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "env-secret")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="pictures")
    yield endpoint, client
    server.stop()


def test_writes_into_buckets(s3):
    import httpx

    endpoint, bucket = s3
    targets = (
        StorageTarget.parse("started=s3://pictures/prefix"),
        StorageTarget.parse("google=gs://pictures"),
    )
    key = {"Authorization": "Bearer sandbox-key"}
    with (
        SandboxServer(latency=0, storages=targets, s3_endpoint=endpoint) as server,
        httpx.Client(base_url=server.url, headers=key, timeout=60) as client,
    ):
        parameters = {"bucket": "pictures", "credentials": {"access_key": "a", "secret_access_key": "s"}}
        client.post("/v1/storage/storages", json={"name": "added", "type": "s3", "parameters": parameters})
        images = {}
        for name in ("started", "google", "added"):
            body = {"input": "a cat", "options": {"number_of_images": 1}, "output": f"storage://{name}/run/"}
            (images[name],) = client.post("/v1/image/generate", json=body).json()["data"]["output"]
    assert images["started"]["object_key"].startswith("prefix/run/")
    assert images["added"]["object_key"].startswith("run/")
    for name, image in images.items():
        scheme = "gs" if name == "google" else "s3"
        assert image["object_uri"] == f"{scheme}://pictures/{image['object_key']}"
        stored = bucket.get_object(Bucket="pictures", Key=image["object_key"])
        assert stored["ContentType"] == "image/png"
        assert Image.open(BytesIO(stored["Body"].read())).size == (1024, 1024)
