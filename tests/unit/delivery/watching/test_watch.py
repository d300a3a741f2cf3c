"""Looking for pictures on this machine and on a local S3 server: what counts, what is asked, and how often."""

from __future__ import annotations

import asyncio
import io
import os
from functools import partial

import pytest
from PIL import Image

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidInputError, ClaidUnavailableError
from airflow_provider_claid.delivery.watching.expected import locate, wanted
from airflow_provider_claid.delivery.watching.report import handed_on
from airflow_provider_claid.delivery.watching.watch import Located, Place, Watch


def drawn(format="PNG", size=(64, 48)):
    out = io.BytesIO()
    Image.effect_noise(size, 80).save(out, format)
    return out.getvalue()


PNG = drawn()
BIG = drawn(size=(300, 200))


def watch(images=None, folder=None, count=None, since=None, conn_id=None, loopback=False, **options):
    want = wanted(images, folder, count, since)

    async def located():
        places = tuple(Place(promise, locate(promise.uri, "images", conn_id)) for promise in want.images)
        return Located(places, locate(folder, "folder", conn_id) if folder else None, loopback)

    return Watch(want, located, **options)


def look(each):
    return asyncio.run(each.look())


@pytest.fixture
def calls(monkeypatch):
    """The requests that s3fs makes, by operation."""
    from s3fs import S3FileSystem

    made = []
    original = S3FileSystem._call_s3

    async def counted(self, method, *arguments, **keywords):
        made.append(method)
        return await original(self, method, *arguments, **keywords)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    monkeypatch.setattr(S3FileSystem, "call_s3", lambda self, *a, **k: _sync(self, counted, *a, **k))
    return made


def _sync(fs, function, *arguments, **keywords):
    from fsspec.asyn import sync

    return sync(fs.loop, partial(function, fs), *arguments, **keywords)


def put(bucket, key, data=BIG):
    bucket.put_object(Bucket="pictures", Key=key, Body=data)
    return f"s3://pictures/{key}"


def test_what_was_verified_is_not_read_again_and_what_changed_is(bucket, calls):
    uris = [put(bucket, f"never-again/{number}.png") for number in range(5)]
    each = watch(images=[*uris, "s3://pictures/never-again/late.png"], conn_id="my_aws")
    asyncio.run(_twice(each, calls, expected=[{"list_objects_v2": 1, "get_object": 10}, {"list_objects_v2": 1}]))
    put(bucket, "never-again/3.png", drawn("JPEG", (300, 200)))
    put(bucket, "never-again/late.png")
    calls.clear()
    report = look(each)
    assert report.done
    assert calls.count("get_object") == 4


async def _twice(each, calls, expected):
    for requests in expected:
        calls.clear()
        report = await each.look()
        assert {name: calls.count(name) for name in set(calls)} == requests
        assert not report.done


def test_a_small_picture_takes_one_read(bucket, calls):
    uri = put(bucket, "small/a.png", drawn(size=(20, 20)))
    assert look(watch(images=[uri], conn_id="my_aws")).done
    assert calls.count("get_object") == 1


def test_pictures_in_many_folders_of_one_bucket_take_one_list(bucket, calls):
    uris = [put(bucket, f"many/{number:03}/a.png") for number in range(40)]
    assert look(watch(images=uris, conn_id="my_aws", verify="exists")).done
    assert calls == ["list_objects_v2"]


def test_another_process_goes_on_from_what_this_one_verified(bucket, calls):
    uris = [put(bucket, f"go-on/{number}.png") for number in range(5)]
    first = watch(images=[*uris, "s3://pictures/go-on/late.png"], conn_id="my_aws")
    look(first)
    put(bucket, "go-on/late.png")
    put(bucket, "go-on/1.png", drawn("WEBP", (300, 200)))
    calls.clear()
    assert look(watch(images=[*uris, "s3://pictures/go-on/late.png"], conn_id="my_aws", verified=first.verified())).done
    assert calls.count("get_object") == 4


FAULTY = {
    "zero bytes": (b"", "it has 0 bytes"),
    "half": (PNG[: len(PNG) // 2], "its end is missing"),
    "one byte short": (PNG[:-1], "its end is missing"),
    "a web page": (b"<html><body>502 Bad Gateway</body></html>" * 200, "it is no PNG, JPEG, WebP or AVIF"),
    "another size": (drawn(size=(65, 48)), "it is 65x48 pixels instead of 64x48"),
    "another type": (drawn("JPEG"), "it is image/jpeg instead of image/png"),
}
PROMISE = {"width": 64, "height": 48, "mime": "image/png"}


@pytest.mark.parametrize("verify", ["header", "full"])
@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_object_is_not_delivered_yet_and_is_once_it_is_whole(tmp_path, fault, verify):
    data, says = FAULTY[fault]
    path = tmp_path / "a.png"
    path.write_bytes(data)
    each = watch(images={"images": [{"uri": f"file://{path}", **PROMISE}]}, verify=verify)
    report = look(each)
    assert (report.delivered, report.done) == ((), False)
    assert says in report.missing[f"file://{path}"]
    path.write_bytes(PNG)
    os.utime(path, (1, 1))
    assert look(each).delivered == (f"file://{path}",)


def test_the_promised_number_of_bytes_is_compared_with_the_list(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    image = {"uri": f"file://{tmp_path}/a.png", "bytes": len(PNG) + 1}
    assert look(watch(images={"images": [image]}, verify="exists")).missing == {
        image["uri"]: f"it has {len(PNG)} of {len(PNG) + 1} bytes"
    }


def test_a_vanishing_bad_store_is_a_reason_and_not_an_end(tmp_path, monkeypatch, bucket):
    from airflow_provider_claid.delivery.store_errors import StoreBusyError
    from airflow_provider_claid.delivery.watching import buckets

    uri = put(bucket, "busy/a.png")
    each = watch(images=[uri], conn_id="my_aws")

    def busy(*_):
        raise StoreBusyError("the store did not answer well (SlowDown)")

    with monkeypatch.context() as patch:
        patch.setattr(buckets.S3Bucket, "_page", busy)
        assert look(each).missing == {uri: "the store did not answer well (SlowDown)"}
    assert look(each).done


def test_a_picture_that_vanishes_between_list_and_read_is_missing(tmp_path, monkeypatch):
    from airflow_provider_claid.delivery.watching import buckets

    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    read = buckets.LocalBucket.read

    def vanish(self, key, start, end):
        path.unlink(missing_ok=True)
        return read(self, key, start, end)

    monkeypatch.setattr(buckets.LocalBucket, "read", vanish)
    assert look(watch(images=[f"file://{path}"])).missing == {f"file://{path}": "it is not there any more"}


def test_a_missing_bucket_ends_it_with_the_remedy(bucket):
    with pytest.raises(ClaidConfigurationError, match=r"'my_aws' for s3://no-such-bucket/.*Create the bucket"):
        look(watch(images=["s3://no-such-bucket/a.png"], conn_id="my_aws"))


def test_a_folder_counts_pictures_below_it_and_nothing_else(tmp_path):
    for name in ("a.png", "deep/er/b.PNG", ".c.png", "notes.txt", "d.png.part"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    report = look(watch(folder=f"file://{tmp_path}/", count=2))
    assert report.delivered == (f"file://{tmp_path}/a.png", f"file://{tmp_path}/deep/er/b.PNG")
    assert report.where == f"file://{tmp_path}/"


def test_a_folder_that_is_not_there_yet_holds_nothing_yet(tmp_path):
    assert look(watch(folder=f"file://{tmp_path}/none/", count=1)).missing == {}


@pytest.mark.parametrize("policy", ["fail", "skip", "keep"])
@pytest.mark.parametrize("verify", ["header", "full"])
def test_the_black_picture_goes_by_the_policy(tmp_path, policy, verify):
    Image.new("RGB", (1024, 1024)).save(tmp_path / "black.png")
    (tmp_path / "good.png").write_bytes(PNG)
    uris = [f"file://{tmp_path}/black.png", f"file://{tmp_path}/good.png"]
    report = look(watch(images=uris, verify=verify))
    if policy == "fail":
        with pytest.raises(Exception, match="made 1 pictures black"):
            handed_on(report, policy)
    else:
        assert handed_on(report, policy) == (uris[1:] if policy == "skip" else uris)


def test_the_place_that_cannot_be_asked_for_yet_is_a_reason(tmp_path):
    answers = [ClaidUnavailableError("Claid is away"), None]
    (tmp_path / "a.png").write_bytes(PNG)
    uri = f"file://{tmp_path}/a.png"
    want = wanted([uri], None, None, None)

    async def located():
        if error := answers.pop(0):
            raise error
        return Located((Place(want.images[0], locate(uri, "images", None)),))

    each = Watch(want, located)
    assert "Claid is away" in look(each).summary()
    assert look(each).done


def test_temporary_addresses_are_looked_at_and_expired_ones_end_it(sandbox, account):
    from airflow_provider_claid.delivery import generate as generate_module
    from airflow_provider_claid.delivery.checks import check_request
    from airflow_provider_claid.delivery.sync import run

    result = run(generate_module.generate(account, check_request("a red bicycle", 2, 5.0, None)))
    uris = [image.tmp_url for image in result.images]
    assert look(watch(images=uris, loopback=True)).delivered == tuple(uris)
    assert "not https" in look(watch(images=uris)).summary()
    sandbox.fault("picture", "html", times=None)
    assert "it is no PNG" in look(watch(images=uris, loopback=True)).summary()
    sandbox.clear_faults()
    assert "answered 404" in look(watch(images=[uris[0][:-5] + "x.png"], loopback=True)).summary()
    past = {"images": [{"uri": uris[0], "expires_at": "2026-01-01T00:00:00+00:00"}]}
    with pytest.raises(ClaidInputError, match="died at 2026-01-01"):
        look(watch(images=past, loopback=True))


def test_what_was_verified_less_is_read_again_for_more(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG[:-9])
    uri = f"file://{tmp_path}/a.png"
    first = watch(images=[uri], verify="exists")
    assert look(first).done
    assert not look(watch(images=[uri], verify="header", verified=first.verified())).done


def test_one_picture_of_a_folder_that_may_not_be_read_is_its_own_fault_and_all_of_them_the_connections(
    tmp_path, monkeypatch
):
    from airflow_provider_claid.delivery.watching import buckets

    for name in ("good.png", "denied.png"):
        (tmp_path / name).write_bytes(PNG)
    read, denied = buckets.LocalBucket.read, ["denied.png"]

    def refused(self, key, start, end):
        if key.endswith(tuple(denied)):
            raise ClaidConfigurationError("storage_conn_id", "a connection", "one that may read")
        return read(self, key, start, end)

    monkeypatch.setattr(buckets.LocalBucket, "read", refused)
    report = look(watch(folder=f"file://{tmp_path}/", count=1))
    assert report.delivered == (f"file://{tmp_path}/good.png",)
    denied.append("good.png")
    with pytest.raises(ClaidConfigurationError):
        look(watch(folder=f"file://{tmp_path}/", count=1))


def test_plain_http_of_another_host_is_refused_before_it_is_asked(claid_connection):
    from airflow_provider_claid.hooks.watch import watch_for

    with pytest.raises(ClaidInputError, match="an http address"):
        look(watch_for(wanted(["http://192.0.2.1/a.png"], None, None, None), "claid_default", None))
