"""Jobs over real sockets: pictures are fetched, checked and stored whole, and what cannot be is named, not lost."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from airflow_provider_claid.api.errors import (
    ClaidContentFilteredError,
    ClaidInputError,
    ClaidPictureError,
    ClaidUndeliveredError,
    ClaidUnknownOutcomeError,
)
from airflow_provider_claid.delivery import job as job_module
from airflow_provider_claid.delivery import pictures
from airflow_provider_claid.delivery.checks import check_request, parse_target
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.job import ImageJob, JobResult, Picture, deliverable
from airflow_provider_claid.delivery.sync import run
from airflow_provider_claid.exceptions import airflow_errors


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(pictures, "FIRST_PAUSE", 0.01)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out" / "deep"


def do(account, folder=None, *, prompt="a red bicycle", images=2, output=None, name="sku"):
    target = parse_target(f"file://{folder}/", None) if folder else None
    request = check_request(prompt, images, 5.0, output)
    return run(job_module.run(ImageJob(account, request, name, target)))


def path_of(uri):
    assert uri.startswith("file:///")
    return Path(uri.removeprefix("file://"))


def downloads(sandbox):
    return sandbox.report()["totals"]["downloads"]


def test_pictures_are_stored_whole_and_described(sandbox, account, folder):
    result = do(account, folder)
    assert [picture.uri for picture in result.pictures] == [f"file://{folder}/sku-{n}.png" for n in (1, 2)]
    assert result.credits == 2
    for picture in result.pictures:
        data = path_of(picture.uri).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (picture.bytes, picture.sha256)
        assert (picture.width, picture.height, picture.mime, picture.filtered) == (1024, 1024, "image/png", False)
        assert picture.expires_at is None
        with Image.open(path_of(picture.uri)) as image:
            image.load()
    assert sorted(os.listdir(folder)) == ["sku-1.png", "sku-2.png"]
    assert result.pictures[0].sha256 != result.pictures[1].sha256


def test_no_key_is_sent_with_a_download(sandbox, account, folder):
    do(account, folder)
    assert downloads(sandbox) == 2
    assert sandbox.report()["totals"]["authorized_downloads"] == 0


def test_without_a_target_the_addresses_are_temporary_and_say_until_when(sandbox, account):
    result = do(account)
    assert all(picture.uri.startswith(sandbox.url) and picture.expires_at for picture in result.pictures)
    assert [(len(picture.sha256), picture.filtered, picture.bytes > 1000) for picture in result.pictures] == [
        (64, False, True)
    ] * 2
    assert downloads(sandbox) == 2


def test_the_black_picture_at_a_temporary_address_is_found(sandbox, account):
    result = do(account, prompt="something nsfw")
    with pytest.raises(ClaidContentFilteredError, match="2 of 2 pictures black"):
        deliverable(result, "fail")
    assert sandbox.report()["totals"]["credits"] == 2


def test_a_picture_that_cannot_be_fetched_from_its_temporary_address_is_an_error(sandbox, account):
    sandbox.fault("picture", "truncated", times=None)
    (picture,) = do(account, images=1).pictures
    assert "end is missing" in picture.error
    assert picture.uri.startswith(sandbox.url)


def test_with_an_output_folder_claid_writes_and_we_copy_nothing(sandbox, account):
    result = do(account, output="storage://my-storage/catalogue/")
    for picture in result.pictures:
        assert path_of(picture.uri).read_bytes().startswith(b"\x89PNG")
        assert (picture.expires_at, picture.filtered, picture.sha256) == (None, None, None)
    assert downloads(sandbox) == 0


def test_a_name_that_is_taken_is_left_alone(account, folder, caplog):
    first, second = do(account, folder, images=1), do(account, folder, images=1)
    for result in (first, second):
        data = path_of(result.pictures[0].uri).read_bytes()
        assert hashlib.sha256(data).hexdigest() == result.pictures[0].sha256
    assert path_of(first.pictures[0].uri).name == "sku-1.png"
    assert re.fullmatch(r"sku-[0-9a-f]{8}-1\.png", path_of(second.pictures[0].uri).name)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert all(part in warning for part in (first.pictures[0].uri, second.pictures[0].uri, "{{ ti.map_index }}"))


PASSING = ["html", "truncated", "short", "wrong_size", "huge", "corrupt", "zero", "garbage", "cut"]


@pytest.mark.parametrize("kind", PASSING)
def test_a_bad_download_is_fetched_again(sandbox, account, folder, kind):
    sandbox.fault("picture", kind, times=2)
    result = do(account, folder, images=1)
    assert result.pictures[0].error is None
    assert sandbox.report()["totals"]["credits"] == 1
    with Image.open(path_of(result.pictures[0].uri)) as image:
        image.load()


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("html", {}, "no PNG"),
        ("truncated", {}, "end is missing"),
        ("short", {}, "download broke"),
        ("wrong_size", {}, "512x512 pixels instead of 1024x1024"),
        ("huge", {}, "at most 67108864"),
        ("corrupt", {}, "damaged"),
        ("zero", {}, "empty"),
        ("status", {"status": 404}, "die after 24 hours"),
        ("status", {"status": 503}, "answered 503"),
        ("reset", {}, "download broke"),
        ("close", {}, "download broke"),
        ("http_redirect", {"location": "http://example.com/1.png"}, "is not https"),
    ],
)
def test_a_download_that_stays_bad_is_named_and_the_good_one_is_kept(sandbox, account, folder, kind, options, says):
    # Both pictures are fetched at once, so the rule may strike either; one that strikes for good leaves the other.
    sandbox.fault("picture", kind, times=None, probability=1.0, **options)
    result = do(account, folder, images=1)
    assert says in result.pictures[0].error
    with pytest.raises(ClaidPictureError, match="1 of 1 pictures could not be delivered") as caught:
        deliverable(result, "fail")
    assert caught.value.billed == "yes"
    assert result.pictures[0].uri in str(caught.value)
    assert os.listdir(folder) == []
    assert sandbox.report()["totals"]["posts"] == 1


def test_one_bad_picture_does_not_lose_its_neighbour(sandbox, account, folder, monkeypatch):
    real = pictures.fetch

    async def second_is_bad(image, **options):
        if "_1" in image.tmp_url.rsplit("/", 1)[-1]:
            raise ClaidPictureError("it is broken", billed="yes")
        return await real(image, **options)

    monkeypatch.setattr(job_module, "fetch", second_is_bad)
    result = do(account, folder)
    assert sum(1 for picture in result.pictures if picture.error) == 1
    assert len(os.listdir(folder)) == 1
    with pytest.raises(ClaidPictureError) as caught:
        deliverable(result, "fail")
    good = next(picture.uri for picture in result.pictures if not picture.error)
    assert f"Delivered: ['{good}']" in str(caught.value)


def test_an_endless_body_is_cut_off_at_the_limit(sandbox, account, folder, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 1024 * 1024)
    monkeypatch.setattr(pictures, "MAX_TRIES", 1)
    sandbox.fault("picture", "huge", stream=True, times=None)
    assert "larger than 1048576 bytes" in do(account, folder, images=1).pictures[0].error


def test_a_download_that_takes_too_long_is_tried_again(sandbox, account, folder, monkeypatch):
    monkeypatch.setattr(pictures, "TIMEOUT", 0.5)
    sandbox.fault("picture", "slow", seconds=20, times=1)
    assert do(account, folder, images=1).pictures[0].error is None


def test_an_expired_address_is_a_clear_error(sandbox, account, folder):
    sandbox.change(picture_hours=1e-9)
    error = do(account, folder, images=1).pictures[0].error
    assert "temporary addresses die after 24 hours" in error


def test_the_black_picture_is_stored_and_flagged(sandbox, account, folder):
    result = do(account, folder, prompt="something nsfw")
    assert all(picture.filtered for picture in result.pictures)
    assert len(os.listdir(folder)) == 2
    with pytest.raises(ClaidContentFilteredError, match="2 of 2 pictures black"):
        deliverable(result, "fail")
    assert deliverable(result, "skip") == []
    assert len(deliverable(result, "keep")) == 2


def test_what_cannot_be_looked_at_is_neither_black_nor_not(account, folder, monkeypatch, caplog):
    monkeypatch.setattr(pictures, "is_black", lambda *_: None)
    assert do(account, folder, images=1).pictures[0].filtered is None
    assert "install one" in caplog.text


def test_an_interruption_does_not_wait_for_a_disk_that_hangs(account, folder, monkeypatch, sandbox):
    hanging, released, ended, sync = threading.Event(), threading.Event(), threading.Event(), os.fsync

    def hang(descriptor):
        # Only after the payment: the proof before it writes too.
        if sandbox.report()["totals"]["posts"]:
            hanging.set()
            released.wait(60)
        sync(descriptor)

    def strike():
        hanging.wait(60)
        os.kill(os.getpid(), signal.SIGALRM)
        # Python drops what is raised in a callback of its garbage collection.
        while not ended.wait(15):
            os.kill(os.getpid(), signal.SIGALRM)

    def give_up(*_):
        if not ended.is_set():
            raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", hang)
    before, striking = signal.signal(signal.SIGALRM, give_up), threading.Thread(target=strike)
    striking.start()
    started = time.monotonic()
    try:
        with pytest.raises(ClaidPictureError, match="KeyboardInterrupt after the request left"), airflow_errors():
            do(account, folder, images=1)
        assert time.monotonic() - started < 50
    finally:
        ended.set()
        released.set()
        striking.join()
        signal.signal(signal.SIGALRM, before)


def test_an_answer_without_pictures_is_unknown(sandbox, account, folder):
    sandbox.fault("generate", "empty_output")
    with pytest.raises(ClaidUnknownOutcomeError, match="without any picture") as caught:
        do(account, folder)
    assert caught.value.billed == "unknown"


def test_fewer_pictures_than_asked_are_a_warning(sandbox, account, folder, caplog):
    sandbox.fault("generate", "fewer")
    assert len(do(account, folder, images=3).pictures) == 2
    assert "2 of 3 pictures" in caplog.text


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s4://bucket/x/", "file system for"),
        ("file:///proc/none/", "may not be used"),
        ("file:///etc/hostname/", "no folder that can be made"),
        ("file:///etc/hostname/deeper/", "no folder that can be made"),
    ],
)
def test_a_target_that_cannot_be_used_stops_before_anything_is_paid(sandbox, account, uri, says):
    request = check_request("a red bicycle", 1, 5.0, None)
    with pytest.raises(ClaidInputError, match=says):
        run(job_module.run(ImageJob(account, request, "x", parse_target(uri, None))))
    assert sandbox.report()["totals"]["posts"] == 0


def test_a_full_disk_after_the_payment_loses_nothing_silently(sandbox, account, folder, monkeypatch):
    sync = os.fsync

    def full(descriptor):
        if sandbox.report()["totals"]["posts"]:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr("os.fsync", full)
    result = do(account, folder, images=1)
    assert all(
        part in result.pictures[0].error for part in ("No space left", f"file://{folder}/sku-1.png", "Make room")
    )
    assert result.pictures[0].uri.startswith(sandbox.url)
    assert os.listdir(folder) == []


def test_a_job_stopped_while_it_copies_says_where_the_pictures_are(sandbox, account, folder):
    sandbox.fault("picture", "hang", seconds=30, times=None)

    async def stopped():
        target = parse_target(f"file://{folder}/", None)
        task = asyncio.create_task(
            job_module.run(ImageJob(account, check_request("a red bicycle", 1, 5.0, None), "x", target))
        )
        while sandbox.report()["totals"]["credits"] == 0:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        task.cancel()
        await task

    with pytest.raises(ClaidPictureError, match="CancelledError after the request left") as caught, airflow_errors():
        run(stopped())
    assert caught.value.billed == "yes"
    assert sandbox.url in str(caught.value)


def test_the_job_key_knows_dag_run_task_and_map_index_and_nothing_else():
    keys = {Identity("d", "r", "t", index).key() for index in (-1, 0, 1)} | {Identity("d", "r2", "t").key()}
    assert len(keys) == 4
    assert Identity("d", "r", "t").key() == Identity("d", "r", "t", -1).key()
    assert Identity("a", "b", "c").key() != Identity("ab", "", "c").key()


@pytest.mark.parametrize("recorded", [True, False])
def test_a_picture_that_is_lost_for_good_keeps_no_retry_from_the_others(recorded):
    lost = Picture(None, error="Claid gave no address for it", again=False)
    later = Picture("https://pictures.test/2.png", error="the store is away")
    there = Picture("s3://b/3.png")
    kind = ClaidUndeliveredError if recorded else ClaidPictureError
    for pictures_of, expected in (((lost, later, there), kind), ((lost, there), ClaidPictureError)):
        with pytest.raises(expected) as caught:
            deliverable(JobResult("r1", 3, pictures_of, recorded=recorded), "fail")
        assert type(caught.value) is expected
