"""Records on real stores: how many requests they make, and what happens when the store fails, hangs, denies or lies."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid

import pytest

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidNotSentError, ClaidRecordsError
from airflow_provider_claid.delivery import generate as generate_module
from airflow_provider_claid.delivery import sync
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.payment import pay
from airflow_provider_claid.delivery.records import ledger, objects
from airflow_provider_claid.hooks.order import Order
from airflow_provider_claid.hooks.records import recorded_in

IDENTITY = Identity("shop", "monday", "bicycle")


@pytest.fixture(autouse=True)
def _one_try(monkeypatch):
    monkeypatch.setattr(generate_module, "MAX_TRIES", 1)
    monkeypatch.setattr(objects, "_proven", set())


@pytest.fixture
def place(rgw_bucket):
    return f"s3://rgw@{rgw_bucket}/records/"


def attempt(account, place, identity=IDENTITY, first_try=False):
    order = Order(identity, 0, check_request("a red bicycle", 1, 5.0, None), "claid_default")
    return pay(account, order.ledger(account, recorded_in(place, identity)), first_try=first_try)


def do(account, place, **options):
    return sync.run(attempt(account, place, **options))


def posts(sandbox):
    return sandbox.report()["totals"]["posts"]


def connect(monkeypatch, connection):
    name = f"c{uuid.uuid4().hex}"
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    return name


def test_a_first_try_makes_two_requests_and_a_process_one_more_for_the_proof(sandbox, account, place, rgw):
    made = []
    for number in range(3):
        rgw.forget_requests()
        do(account, place, identity=Identity("shop", "monday", str(number)), first_try=True)
        made.append([(each.method, each.status) for each in rgw.requests()])
    assert made[0] == [("PUT", 200), ("PUT", 412), ("PUT", 200)]
    assert made[1:] == [[("PUT", 200)] * 2] * 2
    assert posts(sandbox) == 3


def test_a_retry_reads_the_record_and_pays_nothing(sandbox, account, place, rgw):
    first = do(account, place, first_try=True)
    rgw.forget_requests()
    again = do(account, place)
    assert (again.result.images, again.reused) == (first.result.images, True)
    assert "PUT" not in {each.method for each in rgw.requests()}
    assert posts(sandbox) == 1


def test_what_is_read_takes_one_request_and_its_end_two(sandbox, account, place, rgw):
    do(account, place, identity=Identity("shop", "monday", "first"), first_try=True)
    rgw.forget_requests()
    do(account, place)
    # Behind a record that a person has deleted there may be another one.
    end = [("GET", 404), ("GET", 404)]
    assert [(each.method, each.status) for each in rgw.requests()] == [*end, ("PUT", 200), ("PUT", 200)]
    rgw.forget_requests()
    do(account, place)
    # Intent and result, and no second intent.
    assert [(each.method, each.status) for each in rgw.requests()] == [("GET", 206), ("GET", 206), *end]


def test_attempts_at_once_pay_once(sandbox, account, place):
    sandbox.change(latency=0.5)
    found = []
    threads = [threading.Thread(target=lambda: found.append(do(account, place, first_try=True))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({paid.result.request_id for paid in found}) == 1
    assert (len(found), posts(sandbox)) == (6, 1)


def test_the_rights_to_put_and_to_get_are_enough(sandbox, account, rgw, rgw_bucket, monkeypatch):
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": ["arn:aws:iam:::user/stranger"]},
        "Action": ["s3:PutObject", "s3:GetObject"],
        "Resource": f"arn:aws:s3:::{rgw_bucket}/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    rgw.client().put_bucket_policy(Bucket=rgw_bucket, Policy=json.dumps(policy))
    stranger = rgw.airflow_connection(login=rgw.stranger_access_key, password=rgw.stranger_secret_key)
    place = f"s3://{connect(monkeypatch, stranger)}@{rgw_bucket}/records/"
    # S3 denies what is not there to those who may not list.
    assert do(account, place).reused is False
    assert do(account, place).reused is True
    assert posts(sandbox) == 1


@pytest.mark.parametrize("wrong", ["stranger", "secret", "bucket", "connection"])
def test_what_a_person_must_mend_is_named_and_nothing_is_sent(sandbox, account, rgw, rgw_bucket, monkeypatch, wrong):
    changes = {
        "stranger": {"login": rgw.stranger_access_key, "password": rgw.stranger_secret_key},
        "secret": {"password": "wrong"},
    }
    conn_id = connect(monkeypatch, rgw.airflow_connection(**changes.get(wrong, {})))
    bucket = "no-such-bucket" if wrong == "bucket" else rgw_bucket
    with pytest.raises(ClaidConfigurationError) as caught:
        do(account, f"s3://{'nobody' if wrong == 'connection' else conn_id}@{bucket}/records/", first_try=True)
    says = {"stranger": "PutObject", "secret": "SignatureDoesNotMatch", "bucket": "no-such-bucket"}
    assert says.get(wrong, "which is not defined") in str(caught.value)
    assert rgw.secret_key not in str(caught.value)
    assert posts(sandbox) == 0


@pytest.mark.parametrize("trouble", ["busy", "away", "hanging"])
def test_a_store_that_fails_before_the_request_stops_it(sandbox, account, place, rgw, monkeypatch, trouble):
    do(account, place, identity=Identity("shop", "monday", "before"))
    monkeypatch.setattr(ledger, "STEP_SECONDS", 3.0)
    troubles = {"busy": rgw.busy, "hanging": rgw.pause}
    if trouble == "away":
        rgw.stop_gateway()
        try:
            with pytest.raises(ClaidNotSentError, match="records of this task cannot be used now"):
                do(account, place, first_try=True)
        finally:
            rgw.start_gateway()
    else:
        with troubles[trouble](), pytest.raises(ClaidNotSentError, match="records of this task cannot be used now"):
            do(account, place, first_try=True)
    assert posts(sandbox) == 1


def test_a_store_that_fails_after_the_answer_does_not_lose_it(sandbox, account, place, rgw, monkeypatch):
    do(account, place, identity=Identity("shop", "monday", "before"))
    monkeypatch.setattr(ledger, "STEP_SECONDS", 3.0)
    monkeypatch.setattr(ledger, "KEEP_TRYING", 1.0)
    sandbox.change(latency=1.0)
    timer = threading.Timer(0.6, rgw.stop_gateway)
    timer.start()
    try:
        paid = do(account, place, first_try=True)
    finally:
        timer.join()
        rgw.start_gateway()
    assert len(paid.result.images) == 1
    assert paid.unkept is not None
    assert posts(sandbox) == 2


def test_an_outage_that_ends_while_the_result_is_tried_again_costs_nothing(sandbox, account, place, rgw):
    do(account, place, identity=Identity("shop", "monday", "before"))
    sandbox.change(latency=1.0)
    timers = [threading.Timer(0.6, rgw.stop_gateway), threading.Timer(4.0, rgw.start_gateway)]
    for timer in timers:
        timer.start()
    paid = do(account, place, first_try=True)
    for timer in timers:
        timer.join()
    assert paid.unkept is None
    assert do(account, place).reused is True
    assert posts(sandbox) == 2


@pytest.mark.parametrize("data", [b"", b"<html>", b'{"schema": 99}', b"\xff\xfe"])
def test_garbage_in_place_of_a_record_is_an_error_and_not_no_record(sandbox, account, place, rgw, rgw_bucket, data):
    key = f"records/{IDENTITY.key()}/1.intent"
    rgw.client().put_object(Bucket=rgw_bucket, Key=key, Body=data)
    for first_try in (True, False):
        with pytest.raises(ClaidRecordsError, match="cannot be read") as caught:
            do(account, place, first_try=first_try)
        assert key in str(caught.value)
    assert posts(sandbox) == 0


def test_azure_keeps_records_too(sandbox, account, azure_container):
    place = f"abfs://azurite@{azure_container}/records/"
    assert do(account, place).reused is False
    assert do(account, place).reused is True
    assert posts(sandbox) == 1


def test_a_full_disk_stops_the_request(sandbox, account, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k tmpfs {small}") != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        (small / "records").mkdir()
        (small / "filler").write_bytes(bytes(64 * 1024))
        with pytest.raises(ClaidNotSentError, match="No space left"):
            do(account, f"file://{small}/records/")
        (small / "filler").unlink()
        started = time.monotonic()
        assert do(account, f"file://{small}/records/").reused is False
        assert time.monotonic() - started < 30
    finally:
        os.system(f"umount {small}")
    assert posts(sandbox) == 1
