"""`/_sandbox/…`."""

from __future__ import annotations

import httpx
import pytest


@pytest.fixture
def control(server):
    """A client without a key."""
    with httpx.Client(base_url=f"{server.url}/_sandbox", timeout=60) as client:
        yield client


def test_faults_can_be_added_listed_and_dropped(control, post):
    rule = {"on": "generate", "kind": "status", "status": 503, "times": None}
    added = control.post("/faults", json=rule)
    assert (added.status_code, added.json()) == (201, rule)
    assert post().status_code == 503
    assert control.get("/faults").json() == [{**rule, "matched": 1, "struck": 1}]
    assert control.delete("/faults").status_code == 204
    assert control.get("/faults").json() == []
    assert post().status_code == 200


@pytest.mark.parametrize(
    "rule",
    [{}, [], {"on": "generate", "kind": "x"}, {"on": "generate", "kind": "status"}, {"on": "picture", "kind": "fewer"}],
)
def test_bad_faults_are_refused(control, rule):
    answer = control.post("/faults", json=rule)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["msg"]


def test_the_report(control, client, post, last):
    control.post("/faults", json={"on": "generate", "kind": "status", "status": 500, "after": 1})
    post("a red cat", 2, headers={"User-Agent": "tester/1"})
    post("a blue cat")
    url = post("a green cat", output="storage://my-storage/a/").json()["data"]["output"][0]["object_uri"]
    assert url
    last()
    report = control.get("/report").json()
    assert report["totals"] == {
        "posts": 3,
        "accepted": 3,
        "refused": {"total": 0, "second": 0, "minute": 0},
        "credits": 3,
        "pictures": 3,
        "downloads": 0,
        "authorized_downloads": 0,
        "connections": report["totals"]["connections"],
        "dropped_connections": 0,
    }
    assert report["statuses"] == {"200": 2, "500": 1}
    assert report["user_agents"]["tester/1"] == 1
    assert report["accounts"] == {"default": {"credits_left": None}, "other": {"credits_left": None}}
    first, second, third = report["requests"]
    assert first["monotonic"] < second["monotonic"] < third["monotonic"]
    assert first["seconds"] >= 0
    del first["monotonic"], first["wall"], first["seconds"], first["request_id"]
    assert first == {
        "method": "POST",
        "path": "/v1/image/generate",
        "user_agent": "tester/1",
        "authorization": True,
        "account": "default",
        "prompt": "a red cat",
        "images": 2,
        "output": None,
        "credits": 2,
        "fault": None,
        "status": 200,
    }
    assert (second["fault"], second["status"], second["credits"]) == ("status", 500, 0)
    assert third["output"] == "storage://my-storage/a/"
    assert [one["prompt"] for one in control.get("/report?newest=1").json()["requests"]] == ["a green cat"]
    assert control.get("/report?newest=0").json()["requests"] == []
    assert control.get("/report?newest=-1").status_code == 422
    assert "sandbox-key" not in control.get("/report").text


def test_reset_forgets_all_but_settings_and_storages(control, post):
    control.patch("/settings", json={"per_minute": 1, "credits": 5})
    control.post("/faults", json={"on": "generate", "kind": "garbage", "after": 9})
    url = post().json()["data"]["output"][0]["tmp_url"]
    assert post().status_code == 429
    assert control.post("/reset").status_code == 204
    assert httpx.get(url).status_code == 404
    assert control.get("/faults").json() == []
    assert post().status_code == 200
    report = control.get("/report").json()
    assert (report["totals"]["posts"], report["accounts"]["default"]["credits_left"]) == (1, 4)
    assert control.get("/settings").json()["per_minute"] == 1


def test_settings_can_be_read_and_changed(control, post):
    changed = control.patch("/settings", json={"latency": "1-8", "window": "fixed", "per_second": 0})
    assert changed.status_code == 200
    assert (changed.json()["latency"], changed.json()["window"], changed.json()["per_second"]) == (
        [1, 8],
        "fixed",
        None,
    )
    shown = control.get("/settings")
    assert shown.json() == changed.json()
    assert "sandbox-key" not in shown.text


@pytest.mark.parametrize(
    "changes",
    [[], {"port": 1}, {"unknown": 1}, {"latency": -1}, {"window": "round"}, {"credits": -1}, {"per_minute": "x"}],
)
def test_bad_settings_are_refused_and_change_nothing(control, changes):
    before = control.get("/settings").json()
    answer = control.patch("/settings", json=changes)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["msg"]
    assert control.get("/settings").json() == before
