"""The services are what the other tests take them for."""

from __future__ import annotations

import errno
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.providers.microsoft.azure.hooks.wasb import WasbHook
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

ONCE = Config(retries={"total_max_attempts": 1}, read_timeout=1)
STRANGE = ["a b", "a+b", "100%", "%20", "é ü/ß", "日本", "a&b=c", "x#y?z", "~q'\"q", "a//b"]


def refusal(call, *arguments, **keywords):
    with pytest.raises(ClientError) as caught:
        call(*arguments, **keywords)
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


def connect(monkeypatch, connection):
    """Define an Airflow connection and return its id: a new one, as Airflow keeps a file system for each id."""
    name = f"c{uuid.uuid4().hex}"
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    return name


@pytest.fixture
def s3(rgw):
    return rgw.client(config=ONCE)


@pytest.fixture
def folder(rgw_bucket):
    return ObjectStoragePath(f"s3://{rgw_bucket}/folder/", conn_id="rgw")


class TestGateway:
    def test_object_with_content_type_metadata_and_tags(self, s3, rgw_bucket):
        where = {"Bucket": rgw_bucket, "Key": "a/b.png"}
        about = {"ContentType": "image/png", "Metadata": {"k": "v"}, "Tagging": "kind=picture&name=a%20b"}
        s3.put_object(**where, Body=b"0123456789", **about)
        head = s3.head_object(**where)
        assert (head["ContentType"], head["ContentLength"], head["Metadata"]) == ("image/png", 10, {"k": "v"})
        tags = s3.get_object_tagging(**where)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"kind": "picture", "name": "a b"}
        part = s3.get_object(**where, Range="bytes=2-4")
        assert (part["Body"].read(), part["ContentRange"]) == (b"234", "bytes 2-4/10")

    def test_more_objects_than_one_page_holds(self, rgw, s3, rgw_bucket, folder):
        keys = [f"folder/{number:04}" for number in range(1_005)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: s3.put_object(Bucket=rgw_bucket, Key=key, Body=b""), keys))
        rgw.forget_requests()
        first = s3.list_objects_v2(Bucket=rgw_bucket)
        assert (first["KeyCount"], first["IsTruncated"]) == (1_000, True)
        rest = s3.list_objects_v2(Bucket=rgw_bucket, ContinuationToken=first["NextContinuationToken"])
        assert [entry["Key"] for entry in first["Contents"] + rest["Contents"]] == keys
        assert len(list(folder.iterdir())) == 1_005
        lists = [request for request in rgw.requests() if "list-type=2" in request.path]
        assert len(lists) >= 4

    @pytest.mark.parametrize("key", STRANGE)
    def test_strange_key(self, s3, rgw_bucket, key):
        s3.put_object(Bucket=rgw_bucket, Key=key, Body=key.encode())
        assert s3.get_object(Bucket=rgw_bucket, Key=key)["Body"].read() == key.encode()
        assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=rgw_bucket)["Contents"]] == [key]

    def test_exclusive_create(self, s3, rgw_bucket):
        where = {"Bucket": rgw_bucket, "Key": "once", "IfNoneMatch": "*"}
        s3.put_object(**where, Body=b"first")
        assert refusal(s3.put_object, **where, Body=b"second") == (412, "PreconditionFailed")
        assert s3.get_object(Bucket=rgw_bucket, Key="once")["Body"].read() == b"first"

    def test_of_many_exclusive_creates_at_once_one_wins(self, rgw, rgw_bucket):
        clients = [rgw.client(config=ONCE) for _ in range(8)]
        together = threading.Barrier(8)

        def create(client):
            together.wait()
            try:
                client.put_object(Bucket=rgw_bucket, Key="once", Body=b"x", IfNoneMatch="*")
            except ClientError as error:
                return error.response["ResponseMetadata"]["HTTPStatusCode"]
            return 200

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(create, clients))
        assert answers.count(200) == 1
        assert set(answers) <= {200, 409, 412}

    def test_wrong_secret_stranger_and_what_is_missing(self, rgw, s3, rgw_bucket):
        s3.put_object(Bucket=rgw_bucket, Key="private", Body=b"x")
        wrong = rgw.client(aws_secret_access_key="wrong")
        stranger = rgw.client(aws_access_key_id=rgw.stranger_access_key, aws_secret_access_key=rgw.stranger_secret_key)
        assert refusal(wrong.list_objects_v2, Bucket=rgw_bucket) == (403, "SignatureDoesNotMatch")
        assert refusal(stranger.list_objects_v2, Bucket=rgw_bucket) == (403, "AccessDenied")
        assert refusal(stranger.get_object, Bucket=rgw_bucket, Key="private") == (403, "AccessDenied")
        assert refusal(stranger.put_object, Bucket=rgw_bucket, Key="own", Body=b"") == (403, "AccessDenied")
        assert refusal(s3.list_objects_v2, Bucket="nowhere") == (404, "NoSuchBucket")
        assert refusal(s3.put_object, Bucket="nowhere", Key="k", Body=b"") == (404, "NoSuchBucket")
        assert refusal(s3.get_object, Bucket=rgw_bucket, Key="nothing") == (404, "NoSuchKey")


class TestGatewayThroughAirflow:
    def test_hook(self, s3, rgw_bucket):
        hook = S3Hook(aws_conn_id="rgw")
        hook.load_bytes(b"picture", "a b+c", rgw_bucket)
        assert hook.read_key("a b+c", rgw_bucket) == "picture"
        assert s3.get_object(Bucket=rgw_bucket, Key="a b+c")["Body"].read() == b"picture"

    def test_content_type_tags_and_range(self, s3, rgw_bucket, folder):
        path = f"{folder.path}/a.png"
        folder.fs.pipe_file(path, b"0123456789", ContentType="image/png", Tagging="kind=picture")
        where = {"Bucket": rgw_bucket, "Key": "folder/a.png"}
        assert s3.head_object(**where)["ContentType"] == "image/png"
        assert s3.get_object_tagging(**where)["TagSet"] == [{"Key": "kind", "Value": "picture"}]
        assert folder.fs.get_tags(path) == {"kind": "picture"}
        assert folder.fs.cat_file(path, start=2, end=5) == b"234"
        assert (folder / "a.png").read_bytes() == b"0123456789"

    def test_many_parts(self, s3, rgw_bucket, folder):
        large = bytes(12 * 2**20)
        with (folder / "large").open("wb", block_size=5 * 2**20) as file:
            file.write(large)
        head = s3.head_object(Bucket=rgw_bucket, Key="folder/large")
        assert head["ContentLength"] == len(large)
        assert head["ETag"].strip('"').partition("-")[2]

    @pytest.mark.parametrize("key", STRANGE)
    def test_strange_key(self, s3, rgw_bucket, folder, key):
        folder.fs.pipe_file(f"{folder.path}/{key}", key.encode())
        assert s3.get_object(Bucket=rgw_bucket, Key=f"folder/{key}")["Body"].read() == key.encode()
        assert folder.fs.cat_file(f"{folder.path}/{key}") == key.encode()

    def test_exclusive_create(self, s3, rgw_bucket, folder):
        folder.fs.pipe_file(f"{folder.path}/once", b"first", mode="create")
        with pytest.raises(OSError, match=f"Errno {errno.EINVAL}") as caught:
            folder.fs.pipe_file(f"{folder.path}/once", b"second", mode="create")
        assert caught.value.__cause__.response["Error"]["Code"] == "PreconditionFailed"
        assert s3.get_object(Bucket=rgw_bucket, Key="folder/once")["Body"].read() == b"first"

    def test_wrong_secret_and_stranger(self, rgw, rgw_bucket, monkeypatch):
        stranger = {"login": rgw.stranger_access_key, "password": rgw.stranger_secret_key}
        for change in ({"password": "wrong"}, stranger):
            name = connect(monkeypatch, rgw.airflow_connection(**change))
            path = ObjectStoragePath(f"s3://{rgw_bucket}/x", conn_id=name)
            with pytest.raises(PermissionError):
                path.fs.pipe_file(path.path, b"x")


class TestAccessLog:
    def test_all_that_was_asked_and_nothing_else(self, rgw, s3, rgw_bucket):
        where = {"Bucket": rgw_bucket, "Key": "a b"}
        rgw.forget_requests()
        assert rgw.requests() == []
        s3.put_object(**where, Body=b"0123456789")
        s3.head_object(**where)
        s3.get_object(**where)["Body"].read()
        s3.get_object(**where, Range="bytes=2-4")["Body"].read()
        s3.list_objects_v2(Bucket=rgw_bucket, Prefix="a")
        refusal(s3.get_object, Bucket=rgw_bucket, Key="nothing")
        key = f"/{rgw_bucket}/a%20b"
        listing = f"/{rgw_bucket}?list-type=2&prefix=a&encoding-type=url"
        assert rgw.requests() == [
            ("PUT", key, 200, None),
            ("HEAD", key, 200, None),
            ("GET", key, 200, None),
            ("GET", key, 206, "bytes=2-4"),
            ("GET", listing, 200, None),
            ("GET", f"/{rgw_bucket}/nothing", 404, None),
        ]
        rgw.forget_requests()
        assert rgw.requests() == []

    def test_complete_at_once_with_many_clients(self, rgw, rgw_bucket):
        clients = [rgw.client(config=ONCE) for _ in range(16)]
        for _ in range(5):
            rgw.forget_requests()
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(lambda client: [client.list_objects_v2(Bucket=rgw_bucket) for _ in range(20)], clients))
            assert len(rgw.requests()) == 320


class TestGatewayInTrouble:
    def test_busy(self, rgw, s3, rgw_bucket):
        where = {"Bucket": rgw_bucket, "Key": "a"}
        s3.put_object(**where, Body=b"before")
        rgw.forget_requests()
        with rgw.busy() as url:
            busy = rgw.client(endpoint_url=url, config=ONCE)
            for _ in range(20):
                assert refusal(busy.put_object, **where, Body=bytes(100_000)) == (503, "SlowDown")
                assert refusal(busy.list_objects_v2, Bucket=rgw_bucket) == (503, "SlowDown")
                assert refusal(busy.head_object, **where)[0] == 503
            assert [request.status for request in rgw.requests()] == [503] * 60
        assert s3.get_object(**where)["Body"].read() == b"before"

    def test_busy_for_s3fs(self, rgw, rgw_bucket, monkeypatch):
        # Without this botocore tries five times, for each of five times that s3fs does.
        retries = {"config_kwargs": {"retries": {"total_max_attempts": 1}}}
        name = connect(monkeypatch, rgw.airflow_connection(extra=retries))
        path = ObjectStoragePath(f"s3://{rgw_bucket}/a", conn_id=name)
        path.write_bytes(b"x")
        with rgw.busy(), pytest.raises(OSError, match=f"Errno {errno.EBUSY}"):
            path.fs.pipe_file(path.path, b"y")
        assert path.read_bytes() == b"x"

    def test_busy_many_times_at_once(self, rgw, rgw_bucket):
        clients = [rgw.client(config=ONCE) for _ in range(8)]
        with rgw.busy(), ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda client: refusal(client.list_objects_v2, Bucket=rgw_bucket), clients * 10))
        assert set(answers) == {(503, "SlowDown")}

    def test_hangs_and_goes_on(self, rgw, s3, rgw_bucket):
        with rgw.pause():
            with pytest.raises(ReadTimeoutError):
                s3.list_objects_v2(Bucket=rgw_bucket)
            assert isinstance(rgw.requests(), list)
        assert s3.list_objects_v2(Bucket=rgw_bucket)["KeyCount"] == 0

    def test_refuses_connections_and_comes_back_with_all_it_had(self, rgw, s3, rgw_bucket):
        s3.put_object(Bucket=rgw_bucket, Key="kept", Body=b"x")
        rgw.stop_gateway()
        with pytest.raises(EndpointConnectionError):
            s3.list_objects_v2(Bucket=rgw_bucket)
        rgw.start_gateway()
        rgw.forget_requests()
        assert s3.get_object(Bucket=rgw_bucket, Key="kept")["Body"].read() == b"x"
        rgw.restart_gateway()
        assert s3.get_object(Bucket=rgw_bucket, Key="kept")["Body"].read() == b"x"
        assert [request.method for request in rgw.requests()] == ["GET", "GET"]


class TestAzurite:
    def test_hook(self, azurite, azure_container):
        WasbHook("azurite").load_string("picture", azure_container, "a b+c")
        assert azurite.client().get_blob_client(azure_container, "a b+c").download_blob().readall() == b"picture"

    def test_object_with_content_type(self, azurite, azure_container):
        from azure.storage.blob import ContentSettings

        folder = ObjectStoragePath(f"abfs://{azure_container}/folder/", conn_id="azurite")
        path = f"{folder.path}/a.png"
        folder.fs.pipe_file(path, b"0123456789", content_settings=ContentSettings(content_type="image/png"))
        (folder / "b").write_bytes(b"")
        assert folder.fs.cat_file(path, start=2, end=5) == b"234"
        assert (folder / "a.png").read_bytes() == b"0123456789"
        assert sorted(entry.name for entry in folder.iterdir()) == ["a.png", "b"]
        properties = azurite.client().get_blob_client(azure_container, "folder/a.png").get_blob_properties()
        assert properties.content_settings.content_type == "image/png"

    @pytest.mark.parametrize("key", STRANGE)
    def test_strange_key(self, azurite, azure_container, key):
        folder = ObjectStoragePath(f"abfs://{azure_container}/folder/", conn_id="azurite")
        folder.fs.pipe_file(f"{folder.path}/{key}", key.encode())
        assert azurite.client().get_blob_client(azure_container, f"folder/{key}").download_blob().readall()
        assert folder.fs.cat_file(f"{folder.path}/{key}") == key.encode()

    def test_exclusive_create(self, azurite, azure_container):
        from azure.core.exceptions import ResourceExistsError

        blob = azurite.client().get_blob_client(azure_container, "once")
        blob.upload_blob(b"first")
        with pytest.raises(ResourceExistsError):
            blob.upload_blob(b"second")

    def test_wrong_key(self, azurite, azure_container, monkeypatch):
        from azure.core.exceptions import HttpResponseError

        with pytest.raises(HttpResponseError, match="AuthorizationFailure"):
            azurite.client("d3Jvbmc=").get_container_client(azure_container).exists()
        name = connect(monkeypatch, azurite.wrong_key_connection())
        path = ObjectStoragePath(f"abfs://{azure_container}/x", conn_id=name)
        with pytest.raises(Exception, match="AuthorizationFailure"):
            path.fs.pipe_file(path.path, b"x")
