"""A job gets its own pictures, whatever others have stored under the same name, and none of theirs is touched."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_provider_claid.delivery import files, pictures, proof, publishing
from airflow_provider_claid.delivery import job as job_module
from airflow_provider_claid.delivery.checks import check_request, parse_target
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.job import ImageJob
from airflow_provider_claid.delivery.records.objects import open_objects
from airflow_provider_claid.delivery.records.store import ObjectRecords
from airflow_provider_claid.delivery.storage import open_folder
from airflow_provider_claid.delivery.sync import run
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.hooks.order import Order

MONDAY, TUESDAY = Identity("shop", "monday", "bicycle"), Identity("shop", "tuesday", "bicycle")


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(pictures, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(proof, "_proven", {})


class Shop:
    """Tasks that share a folder and a name; each `run` is an attempt of one of them."""

    def __init__(self, sandbox, account, target, place):
        self.sandbox, self.account, self.target = sandbox, account, target
        self.place = place

    def run(self, identity=MONDAY, *, epoch=0, prompt="a red bicycle", name="sku", kept=True, images=1):
        request = check_request(prompt, images, 5.0, None)
        records = ObjectRecords(open_objects(parse_target(f"file://{self.place}/", None)), identity.key())
        ledger = Order(identity, epoch, request, "claid_default").ledger(self.account, records) if kept else None
        job = ImageJob(self.account, request, name, self.target, ledger=ledger, owner=identity.key())
        return run(job_module.run(job))

    def one(self, *given, **more):
        """Make an attempt that delivers one picture; return its URI and SHA-256, as it is stored."""
        (picture,) = self.run(*given, **more).pictures
        assert picture.error is None
        assert self.stored(picture.uri) == picture.sha256
        return picture.uri, picture.sha256

    def stored(self, uri):
        data = open_folder(self.target).read(uri.removeprefix(self.target.uri))
        return hashlib.sha256(data).hexdigest() if data is not None else None

    def put(self, uri, data):
        raise NotImplementedError

    def credits(self):
        return self.sandbox.report()["totals"]["credits"]

    def downloads(self):
        return self.sandbox.report()["totals"]["downloads"]


@pytest.fixture(params=["s3", "s3 that knows no conditions", "file", "file without links"])
def shop(request, sandbox, account, tmp_path, monkeypatch):
    place = tmp_path / "records"
    place.mkdir()
    if request.param.startswith("file"):
        target = parse_target(f"file://{tmp_path}/pictures/", None)
        made = Shop(sandbox, account, target, place)
        made.put = lambda uri, data: Path(uri.removeprefix("file://")).write_bytes(data)
        if "without" in request.param:
            monkeypatch.setattr(files, "create", partial(no_links, files.create))
        return made
    guard, bucket = request.getfixturevalue("guard"), request.getfixturevalue("bucket")
    guard.overlooks_conditions = "no conditions" in request.param
    made = Shop(sandbox, account, parse_target(f"s3://pictures/{tmp_path.name}/", guard.conn_id), place)
    made.put = lambda uri, data: bucket.put_object(Bucket="pictures", Key=uri.removeprefix("s3://pictures/"), Body=data)
    return made


def no_links(create, path, content, mode=0o666):
    """Of two mounts the one with the pictures has no links; the records are on another."""
    if path.parent.name == "pictures":
        raise files.NoHardLinksError(1, "Operation not permitted", str(path))
    return create(path, content, mode)


def test_a_retry_gets_the_picture_of_its_own_run(shop):
    monday = shop.one(MONDAY)
    tuesday = shop.one(TUESDAY)
    downloads = shop.downloads()
    assert shop.one(MONDAY) == monday
    assert shop.one(TUESDAY) == tuesday
    assert monday[0].endswith("/sku-1.png")
    assert tuesday[0] != monday[0]
    assert tuesday[1] != monday[1]
    assert (shop.credits(), shop.downloads()) == (2, downloads)


def test_what_another_has_put_over_it_is_not_taken_for_it(shop):
    uri, sha256 = shop.one(MONDAY)
    theirs = b"a picture of somebody else"
    shop.put(uri, theirs)
    again, same = shop.one(MONDAY)
    assert same == sha256
    assert again != uri
    assert shop.stored(uri) == hashlib.sha256(theirs).hexdigest()
    assert shop.credits() == 1


def test_an_address_that_died_is_a_clear_error_and_never_anothers_picture(shop, sandbox):
    uri, _ = shop.one(MONDAY)
    shop.put(uri, b"a picture of somebody else")
    sandbox.change(picture_hours=1e-9)
    (picture,) = shop.run(MONDAY).pictures
    assert "temporary addresses die" in picture.error


def test_a_picture_that_is_there_needs_no_address_any_more(shop, sandbox):
    first = shop.one(MONDAY)
    sandbox.change(picture_hours=1e-9)
    assert shop.one(MONDAY) == first


def test_mapped_tasks_with_one_name_never_overwrite_each_other(shop):
    stored = [shop.one(replace(MONDAY, map_index=index)) for index in range(3)]
    assert len({uri for uri, _ in stored}) == len({sha256 for _, sha256 in stored}) == 3
    for uri, sha256 in stored:
        assert shop.stored(uri) == sha256
    assert [shop.one(replace(MONDAY, map_index=index)) for index in range(3)] == stored


def test_a_later_wish_of_the_task_replaces_the_earlier_one(shop):
    uri, sha256 = shop.one(MONDAY)
    later = shop.one(MONDAY, epoch=1, prompt="a blue bicycle")
    assert later[0] == uri
    assert later[1] != sha256
    assert shop.one(MONDAY, epoch=1, prompt="a blue bicycle") == later


def test_black_pictures_of_two_tasks_are_two_pictures(shop):
    stored = [shop.one(identity, prompt="something nsfw") for identity in (MONDAY, TUESDAY)]
    assert len({sha256 for _, sha256 in stored}) == 1
    uri, _ = shop.one(TUESDAY, epoch=1, prompt="a blue bicycle")
    assert shop.stored(stored[0][0]) == stored[0][1]
    assert uri != stored[0][0]


def test_without_records_nothing_is_overwritten_either(shop):
    theirs = shop.one(TUESDAY, kept=False)
    ours = shop.one(MONDAY, kept=False)
    assert ours[0] != theirs[0]
    assert shop.stored(theirs[0]) == theirs[1]


def test_a_crash_after_the_write_leaves_one_picture(shop, monkeypatch):
    folder = type(open_folder(shop.target))
    publish = folder.publish

    def dies(*given, **more):
        publish(*given, **more)
        raise RuntimeError("the worker was killed")

    with monkeypatch.context() as patched:
        patched.setattr(folder, "publish", dies)
        (picture,) = shop.run(MONDAY).pictures
    assert "was killed" in picture.error
    uri, _ = shop.one(MONDAY)
    assert uri == f"{shop.target.uri}sku-1.png"
    assert shop.credits() == 1


def test_two_attempts_at_once_store_one_picture(sandbox, account, tmp_path):
    """The second has looked for the picture before the first has stored it."""
    shop = Shop(sandbox, account, parse_target(f"file://{tmp_path}/pictures/", None), tmp_path / "records")
    (tmp_path / "records").mkdir()
    first, sha256 = shop.one()
    stored = Path(urlsplit(first).path)
    stored.unlink()
    records = ObjectRecords(open_objects(parse_target(f"file://{shop.place}/", None)), MONDAY.key())
    noted = records.read(1).result
    records.finish(1, replace(noted, copies={}))
    ledger = Order(MONDAY, 0, check_request("a red bicycle", 1, 5.0, None), "claid_default").ledger(account, records)
    publisher = publishing.Publisher(open_folder(shop.target), "sku", request_id="r", number=1, copies=ledger)
    image = noted.images[0]

    async def both():
        assert await publisher.find(1, image, ["png"]) is None
        there = await pictures.fetch(image, allow_loopback=True)
        records.finish(1, noted)
        await in_thread(stored.write_bytes, there.data)
        return await publisher.publish(1, image, there)

    assert run(both()) == first
    assert shop.stored(first) == sha256


def test_each_picture_of_an_answer_is_its_own(shop):
    first = shop.run(MONDAY, images=3)
    assert [picture.uri for picture in first.pictures] == [f"{shop.target.uri}sku-{n}.png" for n in (1, 2, 3)]
    again = shop.run(MONDAY, images=3)
    assert [picture.sha256 for picture in again.pictures] == [picture.sha256 for picture in first.pictures]
    assert again.reused


def test_a_corrected_name_gets_the_pictures_too(shop):
    uri, sha256 = shop.one(MONDAY)
    assert shop.one(MONDAY, name="corrected") == (f"{shop.target.uri}corrected-1.png", sha256)
    assert shop.stored(uri) == sha256
    assert shop.credits() == 1


@pytest.mark.parametrize(
    "put", [Path.mkdir, lambda path: path.symlink_to(path.name), lambda path: path.symlink_to("nowhere")]
)
@pytest.mark.parametrize("dead", [False, True])
def test_what_cannot_be_read_under_its_name_keeps_no_picture_back(sandbox, account, tmp_path, put, dead):
    (tmp_path / "records").mkdir()
    shop = Shop(sandbox, account, parse_target(f"file://{tmp_path}/images/", None), tmp_path / "records")
    (tmp_path / "images").mkdir()
    put(tmp_path / "images" / "sku-1.png")
    uri, sha256 = shop.one(MONDAY)
    if dead:
        sandbox.fault("picture", "status", status=404, times=None)
    assert shop.one(MONDAY) == (uri, sha256)
    assert uri != f"file://{tmp_path}/images/sku-1.png"


def test_objects_say_whose_they_are_and_no_more(bucket, guard, sandbox, account, tmp_path):
    shop = Shop(sandbox, account, parse_target(f"s3://pictures/{tmp_path.name}/", guard.conn_id), tmp_path)
    result = shop.run(MONDAY)
    key = result.pictures[0].uri.removeprefix("s3://pictures/")
    told = bucket.head_object(Bucket="pictures", Key=key)["Metadata"]
    assert set(told) == {"claidjob", "claidrequest", "claidpicture", "claidsha256"}
    assert (told["claidjob"], told["claidrequest"]) == (MONDAY.key(), result.request_id)
    assert told["claidsha256"] == result.pictures[0].sha256
    # A first delivery costs one request of the store, beyond the proof.
    assert [method for method, path in guard.seen if path.endswith(key)] == ["PUT"]


def test_nothing_is_noted_where_objects_tell(guard, sandbox, account, tmp_path):
    shop = Shop(sandbox, account, parse_target(f"s3://pictures/{tmp_path.name}/", guard.conn_id), tmp_path)
    for _ in range(2):
        shop.one(MONDAY)
    (result,) = tmp_path.glob("*/1.result")
    assert json.loads(result.read_bytes())["copies"] == {}


def test_local_folders_hold_the_pictures_only(sandbox, account, tmp_path):
    shop = Shop(sandbox, account, parse_target(f"file://{tmp_path}/pictures/", None), tmp_path)
    shop.one(MONDAY)
    assert os.listdir(tmp_path / "pictures") == ["sku-1.png"]
    (result,) = tmp_path.glob("*/1.result")
    sha256 = shop.stored(f"{shop.target.uri}sku-1.png")
    assert json.loads(result.read_bytes())["copies"] == {"sku-1.png": sha256}


@pytest.mark.parametrize(("ext", "first"), [("png", "png"), ("JPEG", "jpg"), (None, "png"), ("tiff", None)])
def test_the_promised_end_is_looked_for_first(ext, first):
    from airflow_provider_claid.api.models import GeneratedImage

    promised, others = publishing.extensions_of(GeneratedImage(ext=ext))
    assert promised == ([first] if first else [])
    assert sorted(promised + others) == ["avif", "jpg", "png", "webp"]
