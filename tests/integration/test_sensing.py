"""Pictures in a real S3 store: every fault that can be had there, what the sensor says of it, and what it asks."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
import uuid

import pytest
from PIL import Image

from airflow_provider_claid.delivery import sync
from airflow_provider_claid.delivery.watching.expected import wanted
from airflow_provider_claid.delivery.watching.report import handed_on
from airflow_provider_claid.exceptions import ClaidConfigurationError, ClaidContentFilteredError, airflow_errors
from airflow_provider_claid.hooks.watch import watch_for
from airflow_provider_claid.triggers.claid import ClaidDeliveryEventTrigger, ClaidImageTrigger

STRANGE = ["a b.png", "a+b.png", "100%.png", "%20.png", "é ü/ß.png", "日本.png", "a&b=c.png", "x#y?z.png"]


def drawn(format="PNG", size=(300, 200)):
    out = io.BytesIO()
    Image.effect_noise(size, 80).save(out, format)
    return out.getvalue()


PNG = drawn()


@pytest.fixture
def put(rgw, rgw_bucket):
    client = rgw.client()

    def put_object(key, data=PNG):
        client.put_object(Bucket=rgw_bucket, Key=key, Body=data)
        return f"s3://{rgw_bucket}/{key}"

    return put_object


def watch(images=None, folder=None, count=None, since=None, conn_id="rgw", **options):
    return watch_for(wanted(images, folder, count, since), "claid_default", conn_id, **options)


def look(each):
    with airflow_errors():
        return sync.run(each.look())


def connect(monkeypatch, connection):
    """Define an Airflow connection and return its id: a new one, as Airflow keeps a file system for each id."""
    name = f"c{uuid.uuid4().hex}"
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    return name


def requests(rgw):
    made = rgw.requests()
    lists = [each for each in made if "list-type=2" in each.path]
    return len(lists), len([each for each in made if each.range]), len(made)


@pytest.mark.parametrize("verify", ["exists", "header", "full"])
def test_strange_keys_are_delivered_and_the_uri_holds_no_connection(put, rgw_bucket, verify):
    uris = [put(key) for key in STRANGE]
    named = [uri.replace("s3://", "s3://rgw@") for uri in uris]
    assert look(watch(images=named, conn_id=None, verify=verify)).delivered == tuple(uris)
    report = look(watch(folder=f"s3://{rgw_bucket}/", count=len(STRANGE), verify=verify))
    assert sorted(report.delivered) == sorted(uris)


FAULTY = {
    "zero bytes": (b"", "it has 0 bytes"),
    "half-written": (PNG[: len(PNG) // 2], "its end is missing"),
    "one byte short": (PNG[:-1], "its end is missing"),
    "a web page": (b"<html><body>502 Bad Gateway</body></html>" * 300, "it is no PNG"),
    "another size": (drawn(size=(301, 200)), "it is 301x200 pixels instead of 300x200"),
    "another type": (drawn("JPEG"), "it is image/jpeg instead of image/png"),
}


@pytest.mark.parametrize("verify", ["header", "full"])
@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_object_is_not_delivered_until_it_is_whole(put, fault, verify):
    data, says = FAULTY[fault]
    uri = put("a.png", data)
    each = watch(images={"images": [{"uri": uri, "width": 300, "height": 200, "mime": "image/png"}]}, verify=verify)
    report = look(each)
    assert not report.done
    assert says in report.missing[uri]
    put("a.png")
    assert look(each).delivered == (uri,)


def test_a_wrong_number_of_bytes_shows_in_the_list_and_a_wrong_sum_in_full(put, rgw):
    uri = put("a.png")
    rgw.forget_requests()
    short = {"images": [{"uri": uri, "bytes": len(PNG) + 1}]}
    assert f"it has {len(PNG)} of {len(PNG) + 1} bytes" in look(watch(images=short)).summary()
    assert requests(rgw) == (1, 0, 1)
    other = {"images": [{"uri": uri, "bytes": len(PNG), "sha256": "0" * 64}]}
    assert "SHA-256" in look(watch(images=other, verify="full")).summary()


def test_an_upload_that_has_not_ended_is_not_there(rgw, rgw_bucket):
    client = rgw.client()
    upload = client.create_multipart_upload(Bucket=rgw_bucket, Key="a.png")
    client.upload_part(Bucket=rgw_bucket, Key="a.png", PartNumber=1, UploadId=upload["UploadId"], Body=PNG)
    assert look(watch(images=[f"s3://{rgw_bucket}/a.png"])).missing == {f"s3://{rgw_bucket}/a.png": "it is not there"}
    client.abort_multipart_upload(Bucket=rgw_bucket, Key="a.png", UploadId=upload["UploadId"])


@pytest.mark.parametrize("policy", ["fail", "skip", "keep"])
def test_the_black_picture_goes_by_the_policy_and_only_it_is_decoded(put, rgw, policy):
    black = io.BytesIO()
    Image.new("RGB", (1024, 1024)).save(black, "PNG")
    uris = [put("black.png", black.getvalue()), put("good.png")]
    rgw.forget_requests()
    report = look(watch(images=uris))
    assert requests(rgw) in {(1, 3, 4), (1, 4, 5)}
    if policy == "fail":
        with pytest.raises(ClaidContentFilteredError), airflow_errors():
            handed_on(report, policy)
    else:
        assert handed_on(report, policy) == (uris[1:] if policy == "skip" else uris)


def test_a_thousand_pictures_take_two_lists_and_two_reads_each_and_none_twice(put, rgw, rgw_bucket):
    client = rgw.client()
    keys = [f"catalogue/{number:04}.png" for number in range(1000)]
    threads = [
        threading.Thread(
            target=lambda part: [client.put_object(Bucket=rgw_bucket, Key=key, Body=PNG) for key in part],
            args=(keys[start::4],),
        )
        for start in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    uris = [f"s3://{rgw_bucket}/{key}" for key in keys]
    each = watch(images=[*uris, f"s3://{rgw_bucket}/catalogue/9999.png"])
    rgw.forget_requests()
    assert len(look(each).delivered) == 1000
    lists, ranges, made = requests(rgw)
    assert lists <= 2
    assert ranges <= 2000
    assert made == lists + ranges
    rgw.forget_requests()
    put("catalogue/9999.png")
    assert look(each).done
    lists, ranges, _ = requests(rgw)
    assert lists <= 2
    assert ranges == 2


def test_a_missing_bucket_a_denied_read_and_wrong_keys_end_it_with_the_remedy(rgw, put, monkeypatch):
    uri = put("a.png")
    stranger = connect(
        monkeypatch, rgw.airflow_connection(login=rgw.stranger_access_key, password=rgw.stranger_secret_key)
    )
    unknown = connect(monkeypatch, rgw.airflow_connection(login="nobody"))
    wrong = connect(monkeypatch, rgw.airflow_connection(password="wrong"))
    for images, conn_id, says in [
        (["s3://no-such-bucket/a.png"], "rgw", "Create the bucket"),
        ([uri], stranger, "rights to list and to read"),
        ([uri], unknown, "InvalidAccessKeyId"),
        ([uri], wrong, "SignatureDoesNotMatch"),
        ([uri], "no_such_connection", "which is not defined"),
    ]:
        with pytest.raises(ClaidConfigurationError, match=says) as caught:
            look(watch(images=images, conn_id=conn_id))
        assert conn_id in str(caught.value)
        assert rgw.secret_key not in str(caught.value)


def test_a_read_that_is_denied_where_the_list_is_not_ends_it_too(rgw, put, rgw_bucket, monkeypatch):
    put("a.png")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": ["arn:aws:iam:::user/stranger"]},
                "Action": "s3:ListBucket",
                "Resource": f"arn:aws:s3:::{rgw_bucket}",
            }
        ],
    }
    rgw.client().put_bucket_policy(Bucket=rgw_bucket, Policy=json.dumps(policy))
    stranger = connect(
        monkeypatch, rgw.airflow_connection(login=rgw.stranger_access_key, password=rgw.stranger_secret_key)
    )
    assert look(watch(images=[f"s3://{rgw_bucket}/a.png"], conn_id=stranger, verify="exists")).done
    with pytest.raises(ClaidConfigurationError, match="may not be read"):
        look(watch(images=[f"s3://{rgw_bucket}/a.png"], conn_id=stranger))


def test_a_503_and_a_gateway_that_is_away_are_reasons_and_no_end(rgw, put):
    uri = put("a.png")
    each = watch(images=[uri])
    with rgw.busy():
        started = time.monotonic()
        assert "the store did not answer well" in look(each).missing[uri]
        assert time.monotonic() - started < 15
    rgw.stop_gateway()
    try:
        assert "the store did not answer well" in look(each).missing[uri]
    finally:
        rgw.start_gateway()
    assert look(each).delivered == (uri,)


def test_a_picture_that_vanishes_between_list_and_read_is_missing(rgw, put, rgw_bucket, monkeypatch):
    from airflow_provider_claid.delivery.watching import buckets

    uri, client = put("a.png"), rgw.client()
    read = buckets.ObjectBucket.read

    def deleted_first(self, key, start, end):
        client.delete_object(Bucket=rgw_bucket, Key=key)
        return read(self, key, start, end)

    with monkeypatch.context() as patch:
        patch.setattr(buckets.ObjectBucket, "read", deleted_first)
        assert look(watch(images=[uri])).missing == {uri: "it is not there any more"}
    assert look(watch(images=[uri])).missing == {uri: "it is not there"}


def test_what_was_there_before_since_does_not_count(rgw, put, rgw_bucket):
    put("old.png")
    time.sleep(1.1)
    since = put("new.png") and rgw.client().head_object(Bucket=rgw_bucket, Key="new.png")["LastModified"]
    report = look(watch(folder=f"s3://{rgw_bucket}/", count=1, since=since))
    assert report.delivered == (f"s3://{rgw_bucket}/new.png",)


def test_the_trigger_says_the_same_and_outlives_a_busy_store(rgw, put):
    uri = put("a.png")

    async def event(seconds):
        trigger = ClaidImageTrigger(
            images=[uri], storage_conn_id="rgw", poke_interval=1, deadline=time.time() + seconds
        )
        return (await anext(trigger.run())).payload

    assert asyncio.run(event(20)) == {"status": "delivered", "uris": [uri]}
    with rgw.busy():
        timed_out = asyncio.run(event(1))
    assert timed_out["status"] == "timeout"
    assert "the store did not answer well" in timed_out["message"]


def test_deliveries_are_told_once_and_half_written_ones_later(put, rgw_bucket):
    whole, half = put("run/whole.png"), put("run/half.png", PNG[:-9])

    async def story():
        trigger = ClaidDeliveryEventTrigger(f"s3://{rgw_bucket}/run/", storage_conn_id="rgw", poke_interval=1)
        events = trigger.run()
        first = await anext(events)
        assert first.payload["uris"] == [whole]
        put("run/half.png")
        assert (await anext(events)).payload["uris"] == [half]
        await events.aclose()

    asyncio.run(story())
