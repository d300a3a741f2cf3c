"""An s3:// target through Airflow's own storage and connection, on a local S3 server."""

from __future__ import annotations

import hashlib
import logging
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery import job as job_module
from airflow_provider_claid.delivery.checks import check_request, parse_target
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.job import ImageJob
from airflow_provider_claid.delivery.object_folder import tag_value
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


def test_a_scheme_without_a_file_system_names_the_remedy():
    with pytest.raises(ClaidInputError, match="Install the provider of this scheme"):
        open_folder(parse_target("hdfs2://cluster/x/", None))


TAGS = {"dag_id": "catalogue & more", "run_id": "manual__2026-01-01T00:00:00+00:00", "task_id": "group.bild_ä"}


def job(account, target, images=1, tags=TAGS):
    request = check_request("a red bicycle", images, 5.0, None)
    return run(job_module.run(ImageJob(account, request, "sku", target, tags)))


def tags_of(bucket, uri):
    tags = bucket.get_object_tagging(Bucket="pictures", Key=uri.removeprefix("s3://pictures/"))["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in tags}


def test_objects_carry_the_tags_in_characters_that_the_store_accepts(bucket, account):
    (picture,) = job(account, parse_target("s3://pictures/tagged/", "my_aws")).pictures
    assert tags_of(bucket, picture.uri) == TAGS | {"dag_id": "catalogue _ more"}


def test_without_tags_none_are_sent(bucket, account):
    (picture,) = job(account, parse_target("s3://pictures/untagged/", "my_aws"), tags={}).pictures
    assert tags_of(bucket, picture.uri) == {}


def test_a_missing_right_to_tag_loses_no_picture(bucket, account, guard, caplog):
    guard.denies = lambda request: "HTTP_X_AMZ_TAGGING" in request
    (picture,) = job(account, parse_target("s3://pictures/refused/", guard.conn_id)).pictures
    assert picture.error is None
    assert tags_of(bucket, picture.uri) == {}
    # Found out by the proof, before anything was paid.
    assert guard.asked("PUT", "sku-1.png") == 1
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "need the right s3:PutObjectTagging" in warning
    assert "Access Denied" in warning


def test_a_store_without_tags_is_a_line_in_the_log(account, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    result = job(account, parse_target(f"file://{tmp_path}/", None), images=2)
    assert [picture.error for picture in result.pictures] == [None, None]
    assert sum("have no tags" in record.getMessage() for record in caplog.records) == 1


def test_a_mapped_task_is_tagged_with_its_map_index():
    assert Identity("d", "r", "t").tags() == {"dag_id": "d", "run_id": "r", "task_id": "t"}
    assert Identity("d", "r", "t", 0).tags() == {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": "0"}


@given(st.text(max_size=600))
@example("\U00010400" * 200)
@example("a" + "\U00010400" * 200)
@example("\ud800")
def test_a_tag_is_always_one_that_the_store_accepts(value):
    for_s3, for_azure = tag_value(value, "s3"), tag_value(value, "abfss")
    assert all(char.isalnum() or char in " +-=._:/@" for char in for_s3)
    assert re.fullmatch("[A-Za-z0-9 +=._:/-]*", for_azure)
    assert len(for_s3.encode("utf-16-le")) <= 512
    assert len(for_azure) <= 256


@given(st.text("abcXYZ 019+-=._:/", max_size=256), st.sampled_from(["s3", "s3a", "abfs"]))
def test_what_the_store_accepts_is_left_as_it_is(value, scheme):
    assert tag_value(value, scheme) == value
