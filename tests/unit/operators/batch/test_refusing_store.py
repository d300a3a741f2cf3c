"""A batch whose store takes no pictures, or whose pictures cannot be looked at, does not go on paying."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_claid.delivery import looking, proof, storage_map
from airflow_provider_claid.delivery.batch.manifest import Manifest
from airflow_provider_claid.delivery.records import ledger
from airflow_provider_claid.exceptions import ClaidBatchError, ClaidBatchUnfinishedError, ClaidConfigurationError
from airflow_provider_claid.operators.claid import ClaidGenerateBatchOperator
from tests.unit.operators.batch.conftest import prompts_of


@pytest.fixture(autouse=True)
def _nothing_proven(monkeypatch):
    monkeypatch.setattr(proof, "_proven", {})
    monkeypatch.setattr(looking, "_readable", set())
    monkeypatch.setattr(looking, "LOOK_FOR", 0.2)
    storage_map._listed.clear()


@pytest.fixture
def places(guard, tmp_path):
    """Pictures in a bucket, records and manifests on this machine."""
    records = tmp_path / "records"
    records.mkdir()
    return {
        "save_to": f"s3://pictures/{tmp_path.name}/",
        "storage_conn_id": guard.conn_id,
        "records_path": f"file://{records}/",
        "manifest_path": f"file://{tmp_path}/first.jsonl",
    }


def test_a_denied_put_costs_nothing(task, guard, places):
    guard.denies = lambda request: request["REQUEST_METHOD"] == "PUT"
    error = task.fail(ClaidConfigurationError, prompts_of(30), **places)
    assert all(part in str(error) for part in ("save_to", guard.conn_id, "PutObject"))
    assert task.posts() == 0


def test_a_store_that_says_no_in_the_midst_of_it_stops_it_and_loses_nothing(task, guard, places, configure):
    # As slowly as is usual: what is under way when the store says no is paid for.
    configure(requests_per_second=10, requests_per_minute=1_000)

    def denies(request):
        return request["REQUEST_METHOD"] == "PUT" and task.posts() >= 5

    guard.denies = denies
    error = task.fail(ClaidConfigurationError, prompts_of(30), **places)
    assert "PutObject" in str(error)
    assert error.billed == "yes"
    paid = task.posts()
    assert 5 <= paid <= 10
    guard.denies = lambda request: False
    configure()
    result = task.run(prompts_of(30), **places)
    assert (result["delivered"], result["credits"], task.posts()) == (30, 30, 30)


@pytest.mark.parametrize("manifest", ["file", "bucket"])
def test_one_whose_credentials_expire_may_be_retried_with_new_ones(task, guard, places, configure, manifest):
    """Tokens of a role, of Vault or of Google last for an hour (airflow #62013, #16770), a batch may last for many."""
    configure(requests_per_second=10, requests_per_minute=1_000)
    if manifest == "bucket":
        del places["manifest_path"]
    guard.denial = "400 Bad Request", "ExpiredToken"
    guard.denies = lambda request: task.posts() >= 5
    error = task.fail(ClaidBatchUnfinishedError, prompts_of(30), **places)
    assert not isinstance(error, AirflowFailException) and "have expired" in str(error)
    paid = task.posts()
    assert error.billed in {"yes", "unknown"} and 5 <= paid < 30
    # One that is not accepted from the start pays nothing.
    task.fail(ClaidConfigurationError, prompts_of(30), **places)
    assert task.posts() == paid
    guard.denies = lambda request: False
    configure()
    result = task.run(prompts_of(30), **places)
    assert (result["delivered"], result["credits"], task.posts()) == (30, 30, 30)


def test_an_answer_that_no_place_takes_is_told_with_its_addresses(task, guard, places, configure, monkeypatch, caplog):
    """Records are below `save_to` by default: what is under way when their credentials expire is recorded nowhere."""
    monkeypatch.setattr(ledger, "KEEP_TRYING", 0.0)
    monkeypatch.setattr(ledger, "SPARE", 1.0)
    task.sandbox.change(latency=0.6)
    configure(requests_per_second=10, requests_per_minute=1_000, request_timeout=2)
    del places["records_path"]
    guard.denial = "400 Bad Request", "ExpiredToken"
    guard.denies = lambda request: task.posts() >= 8
    task.fail(ClaidBatchUnfinishedError, prompts_of(12), **places)
    paid = [line for line in task.manifest if line["credits"]]
    assert len(paid) == task.credits() >= 8
    said = " ".join(record.getMessage() for record in caplog.records if "is not recorded" in record.getMessage())
    for line in paid:
        assert line["error"] is None or "before an answer came" not in line["error"]["message"]
    assert all(line["images"][0]["uri"] and line["request_id"] for line in paid)
    assert sum(line["images"][0]["uri"] in said for line in paid) >= 5
    guard.denies = lambda request: False
    task.sandbox.change(latency=0)
    task.fail(ClaidBatchError, prompts_of(12), **places)
    # A retry cannot know the answers; their addresses stay in the manifest, for a person.
    lost = [line for line in task.manifest if line["outcome"] == "unknown"]
    assert lost and all(line["images"][0]["uri"] and line["request_id"] for line in lost)


def test_one_refused_picture_does_not_stop_it(task, guard, places):
    refused = []

    def denies(request):
        if request["REQUEST_METHOD"] == "PUT" and request["PATH_INFO"].endswith(".png") and not refused:
            refused.append(request)
            return True
        return False

    guard.denies = denies
    task.run(prompts_of(5), max_failed=1, **places)
    assert (task.result["delivered"], task.result["failed"]) == (4, 1)
    assert task.run(prompts_of(5), **places)["delivered"] == task.posts() == 5


def test_items_of_two_tasks_with_the_same_ids_keep_their_pictures(task, guard, places, bucket):
    rows = [{"id": f"sku {number}", "prompt": f"picture {number}"} for number in range(3)]
    task.run(rows, **places)
    first = [(line["uris"], line["images"][0]["sha256"]) for line in task.manifest]
    places |= {"manifest_path": places["manifest_path"].replace("first", "other")}
    other = ClaidGenerateBatchOperator(task_id="other", prompts=rows, **places)
    instance = task.attempt(rows, **places).args[0]["ti"]
    instance.task_id, instance.try_number = "other", 1
    summary = other.execute({"ti": instance})
    assert summary["delivered"] == 3
    for uris, sha256 in first:
        key = uris[0].removeprefix("s3://pictures/")
        assert bucket.head_object(Bucket="pictures", Key=key)["Metadata"]["claidsha256"] == sha256


def test_an_item_never_replaces_the_picture_of_another_one(task, sandbox, guard, places, bucket, tmp_path, monkeypatch):
    """Its line is not written yet, and an id that is corrected then is that of its picture."""
    key, add = f"{tmp_path.name}/b-1.png", Manifest.add

    class Killed(BaseException):
        pass

    def die(manifest, line):
        if line.outcome == "delivered":
            raise Killed
        add(manifest, line)

    def rows(*ids):
        return [{"prompt": f"picture {number}", "id": each} for number, each in enumerate(ids)]

    sandbox.fault("generate", "status", status=422, match="picture 0")
    with monkeypatch.context() as patched:
        patched.setattr(Manifest, "add", die)
        with pytest.raises(Killed):
            task.run(rows("a", "b"), **places)
    sandbox.clear_faults()
    before = bucket.head_object(Bucket="pictures", Key=key)["ETag"]
    assert task.run(rows("b", "c"), **places)["delivered"] == 2
    assert bucket.head_object(Bucket="pictures", Key=key)["ETag"] == before
    assert task.run(rows("b", "c"), **places)["delivered"] == 2


def test_black_pictures_in_an_output_folder_are_filtered(storing):
    result = storing.run(["something nsfw", "a red bicycle"], on_filtered="skip", **storing.arguments)
    assert (result["delivered"], result["filtered"]) == (1, 1)
    assert [line["images"][0]["filtered"] for line in storing.manifest] == [True, False]
    assert storing.manifest[0]["uris"] == []


def test_an_output_folder_that_cannot_be_read_costs_nothing(task, guard, configure, tmp_path):
    configure(storages={"my-storage": "s3://no-such-bucket/"})
    error = task.fail(
        ClaidConfigurationError,
        prompts_of(5),
        output_folder="storage://my-storage/x/",
        storage_conn_id=guard.conn_id,
        records_path=f"file://{tmp_path}/",
    )
    assert all(part in str(error) for part in ("on_filtered", "'keep'", "storages"))
    assert task.posts() == 0
