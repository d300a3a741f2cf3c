"""An s3:// target through Airflow's own storage and connection, on a local S3 server."""

from __future__ import annotations

import hashlib

import pytest

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery import job as job_module
from airflow_provider_claid.delivery.checks import check_request, parse_target
from airflow_provider_claid.delivery.job import ImageJob
from airflow_provider_claid.delivery.storage import open_folder
from airflow_provider_claid.delivery.sync import run


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
