"""Pictures in an output folder are looked at where they are; that this can be done is proven before they are paid."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from airflow_provider_claid.api.errors import (
    ClaidConfigurationError,
    ClaidContentFilteredError,
    ClaidInputError,
    ClaidNotSentError,
    ClaidPictureError,
    ClaidUndeliveredError,
)
from airflow_provider_claid.delivery import job as job_module
from airflow_provider_claid.delivery import looking, storage_map
from airflow_provider_claid.delivery.checks import check_request, parse_target
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.job import ImageJob, deliverable
from airflow_provider_claid.delivery.records.objects import open_objects
from airflow_provider_claid.delivery.records.store import ObjectRecords
from airflow_provider_claid.delivery.sync import run
from airflow_provider_claid.delivery.watching.expected import Promise
from airflow_provider_claid.hooks import look
from airflow_provider_claid.hooks.claid import ClaidHook
from airflow_provider_claid.hooks.order import Order
from airflow_provider_claid.sandbox import writing
from airflow_provider_claid.sandbox.server import SandboxServer
from tests.conftest import KEY

MONDAY = Identity("shop", "monday", "bicycle")


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(looking, "LOOK_FOR", 0.2)
    monkeypatch.setattr(looking, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(looking, "_readable", set())
    storage_map._listed.clear()


class Task:
    """A task with an output folder; each `run` is an attempt of it."""

    def __init__(self, sandbox, output, place):
        self.sandbox, self.output, self.place = sandbox, output, place

    def run(self, prompt="a red bicycle", *, on_filtered="fail", images=1, storage_conn_id=None, kept=True):
        request = check_request(prompt, images, 5.0, self.output)
        order = Order(MONDAY, 0, request, "claid_default", storage_conn_id)
        account = ClaidHook("claid_default").account()
        records = ObjectRecords(open_objects(parse_target(f"file://{self.place}/", None)), MONDAY.key())
        ledger = order.ledger(account, records) if kept else None
        return run(
            job_module.run(ImageJob(account, request, "x", ledger=ledger, look=order.look(), on_filtered=on_filtered))
        )

    def posts(self):
        return self.sandbox.report()["totals"]["posts"]


@pytest.fixture(params=["mapped", "as the sandbox says"])
def task(request, sandbox, claid_connection, monkeypatch, tmp_path):
    """A task whose pictures a sandbox writes into a folder of this machine."""
    task = Task(sandbox, f"storage://my-storage/{tmp_path.name}/", tmp_path)
    if request.param == "mapped":
        root = Path(
            urlsplit(Task(sandbox, "storage://my-storage/where/", tmp_path).run(kept=False).pictures[0].uri).path
        )
        extra = claid_connection["extra"] | {"storages": {"my-storage": f"file://{root.parents[1]}/"}}
        monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(claid_connection | {"extra": extra}))
        sandbox.reset()
    return task


def test_a_good_picture_is_seen(task):
    (picture,) = task.run().pictures
    assert (picture.error, picture.filtered, picture.width) == (None, False, 1024)
    assert task.posts() == 1


@pytest.mark.parametrize("on_filtered", ["fail", "skip", "keep"])
def test_the_black_picture_is_found(task, on_filtered):
    result = task.run("something nsfw", images=2, on_filtered=on_filtered)
    assert [picture.filtered for picture in result.pictures] == [True, True]
    if on_filtered == "fail":
        with pytest.raises(ClaidContentFilteredError, match="2 of 2 pictures black"):
            deliverable(result, on_filtered)
    else:
        assert len(deliverable(result, on_filtered)) == (2 if on_filtered == "keep" else 0)


@pytest.mark.parametrize(
    ("kind", "says"),
    [("truncated", "end is missing"), ("wrong_size", "512x512"), ("html", "no PNG"), ("zero", "0 bytes")],
)
def test_what_is_not_whole_is_no_delivery_and_is_looked_for_again(task, sandbox, kind, says):
    sandbox.fault("picture", kind, times=None)
    result = task.run()
    assert says in result.pictures[0].error
    with pytest.raises(ClaidUndeliveredError, match=says) as caught:
        deliverable(result, "fail")
    assert caught.value.billed == "yes"
    assert task.run().reused
    assert task.posts() == 1


def test_a_picture_that_comes_late_is_waited_for(task, monkeypatch):
    monkeypatch.setattr(looking, "LOOK_FOR", 30.0)
    first = Path(urlsplit(task.run().pictures[0].uri).path)
    data, looks = first.read_bytes(), []
    first.write_bytes(data[:1000])

    async def pause(_):
        looks.append(await asyncio.to_thread(first.write_bytes, data))

    loop = SimpleNamespace(sleep=pause, get_running_loop=asyncio.get_running_loop)
    monkeypatch.setattr(looking, "asyncio", loop)
    assert task.run().pictures[0].error is None
    assert len(looks) == 1


def test_one_that_is_gone_is_no_delivery(task):
    first = task.run().pictures[0]
    Path(urlsplit(first.uri).path).unlink()
    assert "not there" in task.run().pictures[0].error
    assert task.run(on_filtered="keep").pictures[0].error is None


@pytest.fixture
def bucketed(guard, claid_connection, monkeypatch, tmp_path, s3_url):
    """A task whose pictures a sandbox writes into the bucket; the connection maps the storage, `guard` is the way."""
    with SandboxServer(latency=0, per_second=None, per_minute=None, s3_endpoint=s3_url) as server:
        credentials = {"access_key": "access", "secret_access_key": "secret"}
        storage = {"name": "shop", "type": "s3", "parameters": {"bucket": "pictures", "credentials": credentials}}
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        address = f"{server.url}/v1/storage/storages"
        urllib.request.urlopen(
            urllib.request.Request(address, json.dumps(storage).encode(), headers), timeout=10
        ).close()
        extra = claid_connection["extra"] | {"storages": {"shop": "s3://pictures/"}}
        value = claid_connection | {"host": server.url, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(value))
        task = Task(server, f"storage://shop/{tmp_path.name}/", tmp_path)
        task.guard = guard
        yield task


def test_pictures_in_a_bucket_are_looked_at(bucketed):
    result = bucketed.run("something nsfw", images=2, storage_conn_id=bucketed.guard.conn_id)
    assert [picture.filtered for picture in result.pictures] == [True, True]
    assert result.pictures[0].uri.startswith("s3://pictures/")


def test_a_look_is_proven_once_and_costs_at_most_a_list_and_two_reads(bucketed):
    for times in (1, 2):
        bucketed.run(storage_conn_id=bucketed.guard.conn_id, kept=False)
        lists = (
            bucketed.guard.asked("GET") - bucketed.guard.asked("GET", ".png") - bucketed.guard.asked("GET", ".claid")
        )
        assert (lists, bucketed.guard.asked("GET", ".claid-read-check")) == (1 + times, 1)
        assert bucketed.guard.asked("GET", ".png") <= 2 * times


def is_list(request):
    return request["REQUEST_METHOD"] == "GET" and "list-type" in request.get("QUERY_STRING", "")


@pytest.mark.parametrize("on_filtered", ["fail", "skip"])
@pytest.mark.parametrize("denied", [is_list, lambda request: not is_list(request)])
def test_what_cannot_be_read_is_not_paid_for(bucketed, on_filtered, denied):
    bucketed.guard.denies = denied
    with pytest.raises(ClaidConfigurationError) as caught:
        bucketed.run(on_filtered=on_filtered, storage_conn_id=bucketed.guard.conn_id)
    text = str(caught.value)
    assert all(
        part in text for part in ("on_filtered", "storage_conn_id", "storages", "'keep'", bucketed.guard.conn_id)
    )
    assert bucketed.output in text
    assert (bucketed.posts(), caught.value.billed) == (0, "no")


def test_with_keep_it_is_paid_for_and_not_looked_at(bucketed, caplog):
    bucketed.guard.denies = lambda request: True
    (picture,) = bucketed.run("something nsfw", on_filtered="keep", storage_conn_id=bucketed.guard.conn_id).pictures
    assert (picture.filtered, picture.error) == (None, None)
    assert "without a look" in caplog.text


def test_a_missing_bucket_is_not_paid_for(bucketed, claid_connection, monkeypatch):
    extra = claid_connection["extra"] | {"storages": {"shop": "s3://no-such-bucket/"}}
    value = claid_connection | {"host": bucketed.sandbox.url, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(value))
    with pytest.raises(ClaidConfigurationError, match="Create the bucket"):
        bucketed.run(storage_conn_id=bucketed.guard.conn_id)
    assert bucketed.posts() == 0


def test_a_store_that_is_busy_may_be_tried_again_and_is_not_paid_for(bucketed, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        bucketed.guard.url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("AIRFLOW_CONN_LOOK_AWAY", bucketed.guard.connection())
    with pytest.raises(ClaidNotSentError, match="cannot be listed now"):
        bucketed.run(storage_conn_id="look_away")
    assert bucketed.posts() == 0


def test_a_store_that_says_no_after_the_payment_loses_nothing(bucketed):
    looked = looking.look_at

    async def denied(*given, **more):
        bucketed.guard.denies = lambda request: True
        return await looked(*given, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(job_module, "look_at", denied)
        result = bucketed.run(storage_conn_id=bucketed.guard.conn_id)
    with pytest.raises(ClaidUndeliveredError, match="may not be read") as caught:
        deliverable(result, "fail")
    assert caught.value.billed == "yes"
    bucketed.guard.denies = lambda request: False
    again = bucketed.run(storage_conn_id=bucketed.guard.conn_id)
    assert (again.reused, again.pictures[0].filtered, bucketed.posts()) == (True, False, 1)


def test_a_connection_that_is_not_defined_is_not_paid_for(bucketed):
    with pytest.raises(ClaidConfigurationError, match="not defined"):
        bucketed.run(storage_conn_id="nobody")
    assert bucketed.posts() == 0


def test_pictures_that_claid_did_not_write_into_the_folder_are_named(task, sandbox, monkeypatch):
    def only_temporary(*_):
        return writing.image(tmp_url=f"{sandbox.url}/tmp/nowhere.png")

    monkeypatch.setattr(writing.StorageWriter, "write", only_temporary)
    result = task.run()
    with pytest.raises(ClaidPictureError, match="did not write it into storage://my-storage/") as caught:
        deliverable(result, "fail")
    assert type(caught.value) is ClaidPictureError
    assert result.pictures[0].uri in str(caught.value)
    (image,) = result.to_json()["images"]
    assert image["uri"] == result.pictures[0].uri
    assert image["expires_at"] is not None
    assert "again" not in image


def test_a_file_that_a_public_api_names_is_not_read(account):
    class Hook:
        def __init__(self, _):
            pass

        async def aaccount(self):
            return replace(account, endpoint=replace(account.endpoint, base_url="https://api.claid.ai"))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(look, "ClaidHook", Hook)
        with pytest.raises(ClaidInputError, match="object_uri"):
            run(look.OutputLook("claid_default").watch(Promise("file:///etc/hostname.png")))
