"""A running scheduler and triggerer, and a real store: sensors wait there, and a Dag starts by itself."""

from __future__ import annotations

import io

import pytest
from PIL import Image

pytestmark = pytest.mark.timeout(300)

ON_DELIVERY = "claid_on_delivery"


def drawn(size=(300, 200)):
    out = io.BytesIO()
    Image.effect_noise(size, 80).save(out, "PNG")
    return out.getvalue()


PNG = drawn()


@pytest.fixture
def put(rgw):
    def put_object(key, data=PNG):
        rgw.client().put_object(Bucket="deliveries", Key=key, Body=data)
        return f"s3://deliveries/{key}"

    return put_object


def taken(airflow, at_least):
    """Wait for as many pictures in runs of the example Dag; return those of all runs, in the order of the runs."""

    def uris():
        runs = [run for run in airflow.runs(ON_DELIVERY) if run["state"] == "success"]
        pulled = [airflow.xcom(ON_DELIVERY, run["dag_run_id"], "take", default=[]) for run in runs]
        return [uri for each in pulled for uri in each]

    airflow.wait_for(lambda: len(uris()) >= at_least, 120, f"{at_least} pictures taken")
    return uris()


def told(airflow, pictures):
    """Wait until the watermark, of twelve characters a picture, knows this many: within a second after their event."""

    def kept():
        return len(airflow.asset_state("claid_deliveries")["claid_delivery_watermark"]["kept"]) == 12 * pictures

    airflow.wait_for(kept, 30, f"{pictures} pictures known to be told")


def test_a_dag_starts_by_itself_when_pictures_arrive_and_restarts_neither_repeat_nor_lose_one(running_airflow, put):
    expected = [put("run/a b.png"), put("run/below/é+.png")]
    half = put("run/half.png", PNG[:-9])
    assert sorted(taken(running_airflow, 2)) == sorted(expected)
    put("run/half.png")
    assert sorted(taken(running_airflow, 3)) == sorted([*expected, half])
    told(running_airflow, 3)
    running_airflow.stop("triggerer")
    expected += [half, put("run/while-away.png")]
    running_airflow.start("triggerer")
    assert sorted(taken(running_airflow, 4)) == sorted(expected)
    told(running_airflow, 4)
    running_airflow.kill("triggerer")
    expected.append(put("run/while-killed.png"))
    running_airflow.start("triggerer")
    assert sorted(taken(running_airflow, 5)) == sorted(expected)


def test_a_deferred_sensor_outlives_a_killed_triggerer_and_returns_the_pictures(running_airflow, put):
    first = put("deferred/1.png")
    run = running_airflow.trigger("waits_deferred", {"folder": "s3://deliveries/deferred/", "count": 2})
    running_airflow.wait_task("waits_deferred", run, "wait", ["deferred"])
    running_airflow.kill("triggerer")
    running_airflow.start("triggerer")
    second = put("deferred/2.png")
    assert running_airflow.wait_run("waits_deferred", run) == "success"
    assert running_airflow.xcom("waits_deferred", run, "wait") == [first, second]


def test_a_deferred_sensor_says_at_its_timeout_what_is_missing(running_airflow, put):
    put("in-vain/cut.png", PNG[:-1])
    run = running_airflow.trigger("waits_in_vain", {"folder": "s3://deliveries/in-vain/", "count": 2})
    assert running_airflow.wait_run("waits_in_vain", run) == "failed"
    log = running_airflow.task_log("waits_in_vain", run, "wait")
    assert "AirflowSensorTimeout" in log
    assert "0 of 2 pictures are delivered in s3://deliveries/in-vain/" in log
    assert "cut.png (its end is missing" in log


def test_a_rescheduled_sensor_reads_no_picture_twice(running_airflow, rgw, put):
    uris = [put(f"rescheduled/{number}.png") for number in range(3)]
    rgw.forget_requests()
    run = running_airflow.trigger("waits_rescheduled", {"folder": "s3://deliveries/rescheduled/", "count": 4})
    lists = "prefix=rescheduled"
    running_airflow.wait_for(lambda: sum(lists in each.path for each in rgw.requests()) >= 2, 60, "two looks")
    uris.append(put("rescheduled/3.png"))
    assert running_airflow.wait_run("waits_rescheduled", run) == "success"
    assert running_airflow.xcom("waits_rescheduled", run, "wait") == uris
    reads = [each.path for each in rgw.requests() if each.range and "/rescheduled/" in each.path]
    assert len(reads) == 2 * len(uris)
