"""The sensor run by Airflow's own task runner, in its three modes: one answer, one error, one reason."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest
from PIL import Image

MODES = {
    "poke": {"mode": "poke", "deferrable": False},
    "reschedule": {"mode": "reschedule", "deferrable": False},
    "deferrable": {"deferrable": True},
}


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


def draw(path, size=(300, 200)):
    """Write a picture the way everybody should: beside, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    Image.effect_noise(size, 80).save(beside, "PNG")
    beside.replace(path)
    return f"file://{path}"


def later(seconds, action, *arguments):
    timer = threading.Timer(seconds, action, arguments)
    timer.start()
    return timer


@pytest.fixture
def run_sensor(dag, monkeypatch):
    def run(**arguments):
        monkeypatch.setenv("TEST_ARGUMENTS", json.dumps(arguments))
        finished = dag("waits_for_pictures").test()
        return finished, finished.get_task_instance("wait"), finished.get_task_instance("hand_on")

    return run


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_wait_for_the_last_picture_and_hand_on_the_same_uris(run_sensor, pictures, mode):
    uris = [draw(pictures / "b é.png"), f"file://{pictures}/a+100%.png"]
    timer = later(1.5, draw, pictures / "a+100%.png")
    run, _, after = run_sensor(images=uris, **MODES[mode])
    timer.join()
    assert run.state == "success"
    assert after.xcom_pull("hand_on") == uris


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_wait_for_as_many_as_expected_in_a_folder(run_sensor, pictures, mode):
    uris = sorted([draw(pictures / "1.png"), draw(pictures / "below" / "2.png")])
    (pictures / "notes.txt").write_text("no picture")
    (pictures / "3.png").write_bytes((pictures / "1.png").read_bytes()[:-1])
    timer = later(1.5, draw, pictures / "3.png")
    run, _, after = run_sensor(folder=f"file://{pictures}/", expected_count=3, **MODES[mode])
    timer.join()
    assert run.state == "success"
    assert after.xcom_pull("hand_on") == sorted([*uris, f"file://{pictures}/3.png"])


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_list_at_the_timeout_what_is_missing_and_why(run_sensor, pictures, log_text, mode):
    whole = draw(pictures / "whole.png")
    (pictures / "web.png").write_text("<html>502 Bad Gateway</html>")
    images = [whole, f"file://{pictures}/web.png", f"file://{pictures}/absent.png"]
    run, wait, _ = run_sensor(images=images, timeout=1.2, **MODES[mode])
    assert (run.state, wait.state) == ("failed", "failed")
    text = log_text.text
    assert "AirflowSensorTimeout" in text
    assert "1 of 3 pictures are delivered" in text
    assert "absent.png (it is not there)" in text
    assert "web.png (it is no PNG, JPEG, WebP or AVIF" in text


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_honour_soft_fail(run_sensor, pictures, mode):
    run, wait, _ = run_sensor(images=[f"file://{pictures}/absent.png"], timeout=1, soft_fail=True, **MODES[mode])
    assert (run.state, wait.state) == ("success", "skipped")


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_fail_at_once_for_a_connection_that_is_not_there(run_sensor, log_text, mode):
    started = time.monotonic()
    run, wait, _ = run_sensor(images=["s3://bucket/a.png"], storage_conn_id="no_such", **MODES[mode])
    assert (run.state, wait.state, wait.try_number) == ("failed", "failed", 1)
    assert "storage_conn_id: got 'no_such', which is not defined" in log_text.text
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", ["soft_fail", "never_fail"])
def test_all_modes_skip_what_cannot_be_mended_too_where_that_is_wanted(run_sensor, mode, policy):
    run, wait, _ = run_sensor(images=["s3://bucket/a.png"], storage_conn_id="no_such", **{policy: True}, **MODES[mode])
    assert (run.state, wait.state) == ("success", "skipped")


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_fail_for_a_black_picture_as_soon_as_it_is_seen(run_sensor, pictures, log_text, mode):
    Image.new("RGB", (1024, 1024)).save(pictures / "black.png")
    images = [f"file://{pictures}/black.png"] + ([] if mode == "reschedule" else [f"file://{pictures}/absent.png"])
    run, wait, _ = run_sensor(images=images, **MODES[mode])
    assert (run.state, wait.try_number) == ("failed", 1)
    assert "made 1 pictures black" in log_text.text


@pytest.mark.parametrize("mode", MODES)
def test_what_was_there_before_since_does_not_count(run_sensor, pictures, mode):
    old, new = pictures / "old.png", pictures / "new.png"
    draw(old)
    long_ago = time.time() - 86_400
    os.utime(old, (long_ago, long_ago))
    draw(new)
    since = "{{ macros.datetime.now(macros.dateutil.tz.UTC) - macros.timedelta(hours=1) }}"
    run, _, after = run_sensor(folder=f"file://{pictures}/", expected_count="{{ 1 }}", since=since, **MODES[mode])
    assert run.state == "success"
    assert after.xcom_pull("hand_on") == [f"file://{new}"]


@pytest.mark.parametrize("key", ["return_value", "claid_result"])
@pytest.mark.parametrize("where", ["save_to", "output_folder", "neither"])
@pytest.mark.usefixtures("claid_connection")
def test_the_operators_xcom_is_what_the_sensor_takes(dag, monkeypatch, tmp_path, key, where):
    places = {"save_to": f"file://{tmp_path}/a b/", "output_folder": "storage://my-storage/ü b/"}
    monkeypatch.setenv("TEST_GENERATE", json.dumps({where: places[where]} if where in places else {}))
    monkeypatch.setenv("TEST_XCOM_KEY", key)
    run = dag("generates_and_waits").test()
    assert run.state == "success"
    generated = run.get_task_instance("wait", map_index=-1).xcom_pull("generate", map_indexes=[0, 1])
    assert run.get_task_instance("wait").xcom_pull("wait") == [uri for uris in generated for uri in uris]


@pytest.mark.parametrize("mapped", ["nothing", "generate", "both"])
@pytest.mark.usefixtures("claid_connection", "bucket")
def test_the_connection_that_the_operator_stored_by_is_the_one_the_sensor_asks(dag, monkeypatch, log_text, mapped):
    """The URIs do not name it; the default of the scheme, which exists, would be another place."""
    elsewhere = {"conn_type": "aws", "extra": {"endpoint_url": "http://127.0.0.1:9", "region_name": "eu-west-1"}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(elsewhere))
    monkeypatch.setenv("TEST_GENERATE", json.dumps({"save_to": "s3://my_aws@pictures/a b/"}))
    monkeypatch.setenv("TEST_MAPPED", mapped)
    run = dag("generates_and_waits").test()
    assert run.state == "success", log_text.text
    found = run.get_task_instance("wait", map_index=1 if mapped == "both" else -1).xcom_pull("wait", map_indexes=None)
    assert len(list(found)) == {"nothing": 2, "generate": 4, "both": 2}[mapped]
    assert "my_aws" not in str(list(found))


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_skip_the_task_where_every_picture_is_black_and_left_out(run_sensor, pictures, log_text, mode):
    Image.new("RGB", (1024, 1024)).save(pictures / "black.png")
    timer = later(1.5, (pictures / "black.png").replace, pictures / "late.png")
    run, wait, after = run_sensor(images=[f"file://{pictures}/late.png"], on_filtered="skip", **MODES[mode])
    timer.join()
    assert (run.state, wait.state, after.state) == ("success", "skipped", "skipped")
    assert f"{pictures}/late.png" in log_text.text


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_leave_out_only_what_is_black(run_sensor, pictures, mode):
    Image.new("RGB", (1024, 1024)).save(pictures / "black.png")
    images = [f"file://{pictures}/black.png", draw(pictures / "good.png")]
    run, _, after = run_sensor(images=images, on_filtered="skip", **MODES[mode])
    assert (run.state, after.xcom_pull("hand_on")) == ("success", images[1:])
