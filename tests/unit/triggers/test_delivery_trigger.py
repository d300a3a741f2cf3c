"""The event trigger: what is new is told once, over restarts too, and what is half-written waits."""

from __future__ import annotations

import asyncio
import json
import os
from types import SimpleNamespace

import pytest
from PIL import Image

from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.delivery.watching import arrivals, buckets
from airflow_provider_claid.delivery.watching.expected import locate
from airflow_provider_claid.exceptions import ClaidInputError
from airflow_provider_claid.triggers import delivery
from airflow_provider_claid.triggers.claid import ClaidDeliveryEventTrigger


class StateStore:
    """What Airflow 3.3 injects, kept as the JSON it is kept as."""

    def __init__(self):
        self.rows = {}
        self.away = False

    async def aget(self, key, default=None):
        return json.loads(self.rows[key]) if key in self.rows else default

    async def aset(self, key, value):
        if self.away:
            raise RuntimeError("the API server is away")
        self.rows[key] = json.dumps(value)


def draw(path, colour=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.effect_noise((64, 48), 80) if colour is None else Image.new("RGB", (1024, 1024), colour)
    picture.save(path, "PNG")
    return f"file://{path}"


@pytest.fixture
def store():
    return StateStore()


def watcher(folder, store=None, **arguments):
    trigger = ClaidDeliveryEventTrigger(f"file://{folder}/", **arguments)
    trigger.poke_interval = 0.1
    trigger.asset_state_store = store
    return trigger


async def told(trigger, seconds=0.6):
    """Let it run for a while, then stop it as a triggerer does that is rolled out; return what it told."""
    events = []

    async def listen():
        async for event in trigger.run():
            events.append(event.payload)  # noqa: PERF401 - what came before the end counts

    running = asyncio.create_task(listen())
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return events


def uris_of(events):
    return [uri for event in events for uri in event["uris"]]


def test_new_pictures_are_one_event_and_told_once(tmp_path, store):
    first = sorted([draw(tmp_path / "a/1.png"), draw(tmp_path / "a/2 é+.png"), draw(tmp_path / "b/1.png")])

    async def story():
        (event,) = await told(watcher(tmp_path, store))
        assert (event["uris"], event["folder"], event["filtered"]) == (first, f"file://{tmp_path}/", [])
        assert json.loads(json.dumps(event)) == event
        late = draw(tmp_path / "a/3.png")
        assert uris_of(await told(watcher(tmp_path, store))) == [late]
        assert await told(watcher(tmp_path, store)) == []

    asyncio.run(story())


def test_more_than_an_event_holds_come_in_several_the_oldest_first(tmp_path, store, monkeypatch):
    monkeypatch.setattr(arrivals, "MOST_IN_ONE", 2)
    uris = [draw(tmp_path / f"{number}.png") for number in range(5)]
    for number in range(5):
        os.utime(tmp_path / f"{number}.png", (1_000_000 * (9 - number), 1_000_000 * (9 - number)))

    async def story():
        events = await told(watcher(tmp_path, store))
        assert [event["uris"] for event in events] == [[uris[3], uris[4]], [uris[1], uris[2]], [uris[0]]]
        assert await told(watcher(tmp_path, store)) == []

    asyncio.run(story())


def test_a_picture_that_could_not_be_read_is_told_later_although_newer_ones_were(tmp_path, store, monkeypatch):
    old, new = draw(tmp_path / "old.png"), draw(tmp_path / "new.png")
    os.utime(tmp_path / "old.png", (1_000_000, 1_000_000))
    read, answers = buckets.LocalBucket.read, ["busy"]

    def sometimes(self, key, start, end):
        if key.endswith("old.png") and answers:
            raise StoreBusyError(answers.pop())
        return read(self, key, start, end)

    monkeypatch.setattr(buckets.LocalBucket, "read", sometimes)
    assert uris_of(asyncio.run(told(watcher(tmp_path, store)))) == [new, old]


def test_what_nobody_foresaw_is_logged_and_looked_at_again(tmp_path, monkeypatch, caplog):
    uri, walk, answers = draw(tmp_path / "a.png"), buckets.LocalBucket.walk, [RuntimeError("unforeseen")]

    def sometimes(self, prefix):
        if answers:
            raise answers.pop()
        return walk(self, prefix)

    monkeypatch.setattr(buckets.LocalBucket, "walk", sometimes)
    assert uris_of(asyncio.run(told(watcher(tmp_path)))) == [uri]
    assert "RuntimeError: unforeseen" in caplog.text


def test_what_came_while_nobody_watched_is_told_and_nothing_else(tmp_path, store):
    draw(tmp_path / "old.png")

    async def story():
        await told(watcher(tmp_path, store))
        came = [draw(tmp_path / f"{number}.png") for number in range(3)]
        assert uris_of(await told(watcher(tmp_path, store))) == came

    asyncio.run(story())


def test_an_event_that_was_taken_is_not_told_again_although_nothing_was_kept_yet(tmp_path, store):
    draw(tmp_path / "a.png")

    async def story():
        events = watcher(tmp_path, store).run()
        await anext(events)
        assert store.rows == {}
        await events.aclose()
        assert await told(watcher(tmp_path, store)) == []

    asyncio.run(story())


def test_a_picture_that_is_written_again_is_told_again(tmp_path, store):
    draw(tmp_path / "a.png")

    async def story():
        await told(watcher(tmp_path, store))
        draw(tmp_path / "a.png")
        assert len(await told(watcher(tmp_path, store))) == 1

    asyncio.run(story())


def test_half_written_and_empty_pictures_wait_and_black_ones_are_named(tmp_path, store):
    whole = tmp_path / "whole.png"
    draw(whole)
    half, empty = tmp_path / "half.png", tmp_path / "empty.png"
    half.write_bytes(whole.read_bytes()[:-7])
    empty.touch()
    black = draw(tmp_path / "black.png", "black")

    async def story():
        trigger = watcher(tmp_path, store)
        listening = asyncio.create_task(told(trigger, 1.2))
        await asyncio.sleep(0.6)
        half.write_bytes(whole.read_bytes())
        first, second = await listening
        assert first["uris"] == [black, f"file://{whole}"]
        assert first["filtered"] == [black]
        assert second["uris"] == [f"file://{half}"]

    asyncio.run(story())


def test_a_state_store_that_is_away_delays_nothing_and_is_written_later(tmp_path, store):
    store.away = True
    draw(tmp_path / "a.png")

    async def story():
        listening = asyncio.create_task(told(watcher(tmp_path, store), 1.0))
        await asyncio.sleep(0.5)
        store.away = False
        assert len(await listening) == 1
        assert await told(watcher(tmp_path, store)) == []

    asyncio.run(story())


def test_a_watermark_that_cannot_be_read_tells_only_of_what_is_new(tmp_path, store, caplog):
    draw(tmp_path / "a.png")
    os.utime(tmp_path / "a.png", (1_000_000_000, 1_000_000_000))
    store.rows[delivery.STATE_KEY] = json.dumps({"schema": 99})

    async def story():
        assert await told(watcher(tmp_path, store)) == []

    asyncio.run(story())
    assert "cannot be read" in caplog.text


def test_since_leaves_out_what_is_older(tmp_path):
    draw(tmp_path / "a.png")

    async def story():
        assert await told(watcher(tmp_path, since="2999-01-01")) == []

    asyncio.run(story())


def test_a_wrong_connection_is_logged_at_each_look_and_it_goes_on(caplog):
    trigger = ClaidDeliveryEventTrigger("s3://bucket/", storage_conn_id="no_such")
    trigger.poke_interval = 0.1

    async def story():
        assert await told(trigger) == []

    asyncio.run(story())
    assert caplog.text.count("storage_conn_id: got 'no_such', which is not defined") > 1


def test_it_survives_being_written_down():
    trigger = ClaidDeliveryEventTrigger("s3://bucket/a/", since="2026-11-01", storage_conn_id="my_aws")
    path, kwargs = trigger.serialize()
    assert path == "airflow_provider_claid.triggers.claid.ClaidDeliveryEventTrigger"
    assert ClaidDeliveryEventTrigger(**json.loads(json.dumps(kwargs))).serialize() == (path, kwargs)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"folder": "s3://bucket/a"}, "Add the final slash"),
        ({"folder": "https://claid.ai/"}, "cannot be listed"),
        ({"folder": "s3://bucket/", "verify": "some"}, "verify: got 'some'"),
        ({"folder": "s3://bucket/", "since": "soon"}, "since: got 'soon'"),
    ],
)
def test_wrong_arguments_are_refused_when_the_dag_is_serialized_and_not_in_the_triggerer(arguments, says):
    trigger = ClaidDeliveryEventTrigger(**arguments)
    with pytest.raises(ClaidInputError, match=says):
        trigger.serialize()


class Acknowledgement:
    """What Airflow hands to a producer: the payload of an event, and whether its confirmation failed to come."""

    def __init__(self, payload, failed):
        self.broker_payload = payload
        self.outcome = SimpleNamespace(failed=failed)


def test_airflow_acknowledges_before_anything_is_kept_and_what_it_did_not_is_told_again(tmp_path, store):
    uri = draw(tmp_path / "a.png")

    async def one(trigger):
        key = trigger.shared_stream_key()
        assert key == trigger.shared_stream_key()
        producer = type(trigger).create_shared_stream_producer(trigger.serialize()[1])
        raw, mark = await anext(producer.open_stream())
        assert store.rows == {}
        return producer, raw, mark

    async def story():
        trigger = ClaidDeliveryEventTrigger(f"file://{tmp_path}/", poke_interval=1)
        trigger.asset_state_store = store
        producer, raw, mark = await one(trigger)
        await producer.advance([Acknowledgement(mark, failed=1), Acknowledgement(mark, failed=0)])
        assert store.rows == {}
        again = ClaidDeliveryEventTrigger(f"file://{tmp_path}/", poke_interval=1)
        again.asset_state_store = store
        producer, raw, mark = await one(again)
        assert raw["uris"] == [uri]
        (event,) = [event async for event in again.filter_shared_stream(_only(raw))]
        assert event.payload == raw
        await producer.advance([Acknowledgement(mark, failed=0)])
        assert await told(watcher(tmp_path, store)) == []

    asyncio.run(story())


async def _only(raw):
    yield raw


def test_a_picture_has_one_id_in_whatever_event_it_is(tmp_path, store):
    """Told but not kept, as when the triggerer is killed; another picture comes, and the event is another one."""
    first = draw(tmp_path / "b.png")

    async def story():
        (before,) = await told(watcher(tmp_path))
        second = draw(tmp_path / "a.png")
        (again,) = await told(watcher(tmp_path))
        return second, before, again

    second, before, again = asyncio.run(story())
    assert before["uris"] == [first]
    assert again["uris"] == [second, first]
    assert again["ids"][1] == before["ids"][0] != again["ids"][0]
    assert "delivery" not in again


def test_a_picture_that_is_written_again_has_another_id(tmp_path):
    async def story():
        draw(tmp_path / "a.png")
        (before,) = await told(watcher(tmp_path))
        draw(tmp_path / "a.png")
        os.utime(tmp_path / "a.png", (2_000_000_000, 2_000_000_000))
        (after,) = await told(watcher(tmp_path))
        return before["ids"], after["ids"]

    before, after = asyncio.run(story())
    assert len(before) == len(after) == 1
    assert before != after


def test_a_path_object_is_the_folder_that_it_stands_for(tmp_path):
    uri = draw(tmp_path / "a.png")
    trigger = ClaidDeliveryEventTrigger(tmp_path, poke_interval=1)
    assert trigger.serialize()[1]["folder"] == f"file://{tmp_path}/"
    assert uris_of(asyncio.run(told(trigger))) == [uri]


def test_without_a_state_store_it_is_a_stream_of_its_own(tmp_path):
    assert watcher(tmp_path).shared_stream_key() is None


def test_a_state_store_that_does_not_say_what_was_told_is_waited_for(tmp_path, store, caplog):
    uri, answers, aget = draw(tmp_path / "a.png"), [ValueError("Task has 2 concrete inlets")], store.aget

    async def sometimes(key, default=None):
        if answers:
            raise answers.pop()
        return await aget(key, default)

    store.aget = sometimes
    assert uris_of(asyncio.run(told(watcher(tmp_path, store)))) == [uri]
    assert "Task has 2 concrete inlets. Watchers of two assets need arguments that differ" in caplog.text


def test_the_event_holds_no_connection(tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "Locator", lambda *_: SimpleNamespace(folder=_folder))
    draw(tmp_path / "a.png")

    (event,) = asyncio.run(told(ClaidDeliveryEventTrigger(f"s3://my_conn@{tmp_path}/", poke_interval=1)))
    assert "my_conn" not in json.dumps(event)


async def _folder(uri):
    return locate(f"file://{uri.partition('@')[2]}", "folder", None)
