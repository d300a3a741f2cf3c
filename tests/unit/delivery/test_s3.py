"""An s3:// target through Airflow's own storage and connection, on a local S3 server."""

from __future__ import annotations

import hashlib
import json

import boto3
import pytest
from moto.server import ThreadedMotoServer

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery import job as job_module
from airflow_provider_claid.delivery.checks import check_request, parse_target
from airflow_provider_claid.delivery.job import ImageJob
from airflow_provider_claid.delivery.storage import open_folder
from airflow_provider_claid.delivery.sync import run


@pytest.fixture(scope="module")
def s3_url():
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_url, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    value = {
        "conn_type": "aws",
        "login": "access",
        "password": "secret",
        "extra": {"endpoint_url": s3_url, "region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_MY_AWS", json.dumps(value))
    client = boto3.client(
        "s3", endpoint_url=s3_url, region_name="us-east-1", aws_access_key_id="access", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket="pictures")
    return client


@pytest.mark.parametrize(
    ("save_to", "conn_id"), [("s3://pictures/a b/ü+%/", "my_aws"), ("s3://my_aws@pictures/inline", None)]
)
def test_pictures_are_put_whole_with_their_type(bucket, account, save_to, conn_id):
    target = parse_target(save_to, conn_id)
    request = check_request("a red bicycle", 2, 5.0, None)
    result = run(job_module.run(ImageJob(account, request, "sku 1", target)))
    for number, picture in enumerate(result.pictures, 1):
        assert picture.error is None
        assert "my_aws" not in picture.uri
        assert picture.uri == f"{target.uri}sku 1-{number}.png"
        key = picture.uri.removeprefix("s3://pictures/")
        stored = bucket.get_object(Bucket="pictures", Key=key)
        assert stored["ContentType"] == "image/png"
        assert hashlib.sha256(stored["Body"].read()).hexdigest() == picture.sha256


def test_a_bucket_that_is_not_there_is_an_error_of_each_picture(bucket, account):
    target = parse_target("s3://no-such-bucket/x/", "my_aws")
    result = run(job_module.run(ImageJob(account, check_request("a red bicycle", 1, 5.0, None), "x", target)))
    assert "bucket" in result.pictures[0].error.lower()
    assert result.pictures[0].uri.startswith("http://127.0.0.1")


def test_a_scheme_without_a_file_system_names_the_remedy():
    with pytest.raises(ClaidInputError, match="Install the provider of this scheme"):
        open_folder(parse_target("hdfs2://cluster/x/", None))
