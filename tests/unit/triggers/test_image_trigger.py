"""The sensor's trigger: plain JSON in and out, one event, an absolute deadline, and a loop that stays free."""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from PIL import Image

from airflow_provider_claid.delivery.watching import buckets
from airflow_provider_claid.sensors.claid import ClaidImageSensor
from airflow_provider_claid.triggers.claid import ClaidImageTrigger


def draw(path):
    Image.effect_noise((64, 48), 80).save(path, "PNG")
    return f"file://{path}"


def import_string(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def restored(trigger):
    path, kwargs = trigger.serialize()
    assert json.loads(json.dumps(kwargs)) == kwargs
    return import_string(path)(**kwargs)


def only_event(trigger):
    async def events():
        return [event.payload async for event in trigger.run()]

    (payload,) = asyncio.run(events())
    assert json.loads(json.dumps(payload)) == payload
    return payload


@pytest.mark.parametrize(
    "arguments",
    [
        {"images": ["s3://b/a.png", "storage://s/b.png"]},
        {"images": {"images": [{"uri": "s3://b/a.png", "width": 3, "sha256": "ab"}], "storage_conn_id": "my_aws"}},
        {"folder": "gs://b/f/", "expected_count": 3, "since": "2026-11-01T10:00:00.5+02:00"},
        {"images": "file:///a.png", "verify": "full", "min_bytes": 9, "on_filtered": "skip", "max_wait": 7.0},
        {"images": "file:///a.png", "poke_interval": 3.0, "exponential_backoff": True, "deadline": 17.5},
    ],
)
def test_it_survives_being_written_down(arguments):
    trigger = ClaidImageTrigger(**arguments)
    assert restored(trigger).serialize() == trigger.serialize()


def test_its_event_has_the_uris(tmp_path):
    uris = [draw(tmp_path / "b.png"), draw(tmp_path / "a.png")]
    assert only_event(restored(ClaidImageTrigger(images=uris))) == {"status": "delivered", "uris": uris}


def test_the_deadline_is_absolute_and_one_look_is_made_even_after_it(tmp_path):
    trigger = ClaidImageTrigger(images=[f"file://{tmp_path}/a.png"], deadline=time.time() - 3600, poke_interval=1)
    event = only_event(trigger)
    assert event["status"] == "timeout"
    assert "0 of 1 pictures" in event["message"]
    assert "a.png (it is not there)" in event["message"]
    draw(tmp_path / "a.png")
    assert only_event(restored(trigger))["status"] == "delivered"


def test_a_restart_does_not_extend_the_deadline(tmp_path):
    deadline = time.time() + 2.5
    trigger = ClaidImageTrigger(images=[f"file://{tmp_path}/a.png"], deadline=deadline, poke_interval=1)

    async def cut_short():
        running = asyncio.create_task(anext(trigger.run()))
        await asyncio.sleep(1.5)
        running.cancel()

    asyncio.run(cut_short())
    assert trigger.serialize()[1]["deadline"] == deadline
    assert only_event(restored(trigger))["status"] == "timeout"


def test_what_no_waiting_mends_is_an_event_with_the_error():
    event = only_event(ClaidImageTrigger(images=["s3://b/a.png"], storage_conn_id="no_such"))
    assert event["status"] == "failed"
    assert event["error"]["kind"] == "ClaidConfigurationError"
    assert event["error"]["field"] == "storage_conn_id"


def test_two_hundred_of_them_touch_the_store_in_eight_threads_and_never_in_the_loop(tmp_path, monkeypatch):
    threads = set()

    def watched(method):
        def call(self, *arguments):
            threads.add(threading.current_thread())
            return method(self, *arguments)

        return call

    for name in ("find", "read"):
        monkeypatch.setattr(buckets.LocalBucket, name, watched(getattr(buckets.LocalBucket, name)))
    images = [draw(tmp_path / f"{number}.png") for number in range(5)]

    async def crowd():
        triggers = [ClaidImageTrigger(images=images, deadline=time.time() + 60) for _ in range(200)]
        events = await asyncio.gather(*(anext(trigger.run()) for trigger in triggers))
        assert {event.payload["status"] for event in events} == {"delivered"}

    asyncio.run(crowd())
    assert threading.current_thread() not in threads
    assert len(threads) <= 8


@pytest.mark.parametrize("path", ["triggers.claid.ClaidImageTrigger", "triggers.claid.ClaidDeliveryEventTrigger"])
def test_it_is_stored_by_the_documented_path_and_found_by_it(path):
    kind = import_string(f"airflow_provider_claid.{path}")
    trigger = kind("s3://b/f/") if "Delivery" in path else kind(images="s3://b/a.png")
    assert trigger.serialize()[0] == f"airflow_provider_claid.{path}"


def test_one_that_was_stored_by_its_old_path_is_found_too():
    from airflow_provider_claid.triggers.claid import ClaidDeliveryEventTrigger, ClaidGenerateTrigger

    old = "airflow_provider_claid.triggers"
    assert import_string(f"{old}.delivery.ClaidDeliveryEventTrigger") is ClaidDeliveryEventTrigger
    assert import_string(f"{old}.generate.ClaidGenerateTrigger") is ClaidGenerateTrigger


class Own(ClaidImageTrigger):
    """A user's own."""


def test_a_users_own_trigger_keeps_its_path():
    assert Own(images="s3://b/a.png").serialize()[0] == f"{__name__}.Own"


def test_where_all_is_black_and_left_out_the_task_is_skipped(tmp_path):
    Image.new("RGB", (1024, 1024)).save(tmp_path / "a.png")
    trigger = ClaidImageTrigger(images=f"file://{tmp_path}/a.png", on_filtered="skip")
    event = only_event(trigger)
    assert event["status"] == "skipped"
    assert f"{tmp_path}/a.png" in event["message"]
    sensor = ClaidImageSensor(task_id="wait", images=trigger.images, on_filtered="skip", deferrable=True)
    with pytest.raises(AirflowSkipException, match="1 pictures black"):
        sensor.execute_complete({}, event)
    with pytest.raises(AirflowSkipException, match="1 pictures black"):
        sensor.execute({})


def test_path_objects_are_written_down_as_their_uris(tmp_path):
    uri = draw(tmp_path / "a.png")
    assert only_event(restored(ClaidImageTrigger(images=[tmp_path / "a.png"])))["uris"] == [uri]
    assert only_event(restored(ClaidImageTrigger(folder=tmp_path, expected_count=1)))["uris"] == [uri]
