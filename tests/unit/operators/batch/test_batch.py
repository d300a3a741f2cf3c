"""Many prompts in one task: each ends in the manifest, is paid once, and lies where it was to be put."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from types import SimpleNamespace

import pytest

from airflow_provider_claid.delivery.batch import run as run_module
from airflow_provider_claid.delivery.checks import parse_target
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.storage import open_folder
from airflow_provider_claid.exceptions import (
    ClaidBatchError,
    ClaidConfigurationError,
    ClaidInputError,
    ClaidValidationError,
)
from tests.unit.operators.batch.conftest import add_up, path_of, prompts_of, read_manifest, require_pictures

KEY = Identity("shop", "monday", "batch").key()


def test_every_prompt_is_paid_once_and_stored(task):
    result = task.run(prompts_of(20))
    assert result == task.result
    expected = {"total": 20, "delivered": 20, "filtered": 0, "failed": 0, "unknown": 0, "not_started": 0, "credits": 20}
    assert {name: result[name] for name in expected} == expected
    assert (task.credits(), task.posts()) == (20, 20)
    lines = task.manifest
    assert [line["index"] for line in lines] == list(range(20))
    assert [line["prompt"] for line in lines] == prompts_of(20)
    require_pictures(lines)
    assert task.xcoms["_link_ClaidManifestLink"] == result["manifest"]
    assert result["manifest"] == f"file://{task.folder}/claid-{KEY}.jsonl"


def test_a_line_of_the_manifest_tells_all_of_an_item(task):
    task.run([{"prompt": "a red bicycle", "id": "sku-1", "number_of_images": 2}])
    (line,) = task.manifest
    (request,) = (each for each in task.report()["requests"] if each["method"] == "POST")
    expected = {
        "index": 0, "id": "sku-1", "prompt": "a red bicycle", "outcome": "delivered", "credits": 2, "submissions": 1,
        "error": None, "duplicate_of": None, "request_id": request["request_id"],
        "uris": [f"file://{task.folder}/sku-1-{number}.png" for number in (1, 2)],
    }  # fmt: skip
    assert {name: line[name] for name in expected} == expected
    assert [image["uri"] for image in line["images"]] == line["uris"]
    assert line["images"][0]["width"] == 1024
    assert line["images"][0]["filtered"] is False


def test_rows_have_ids_numbers_and_scales_of_their_own(task):
    task.run(
        [
            {"prompt": "one two", "id": "first.png", "number_of_images": 2},
            {"prompt": "three four", "guidance_scale": 7},
        ],
        number_of_images="3",
        guidance_scale=6.0,
    )
    assert sorted(path.name for path in task.folder.glob("*.png")) == [
        *(f"{KEY}-000001-{number}.png" for number in (1, 2, 3)), "first-1.png", "first-2.png",
    ]  # fmt: skip
    assert [line["credits"] for line in task.manifest] == [2, 3]
    assert task.credits() == 5


def test_equal_prompts_are_paid_for_each(task):
    task.run(["a red bicycle"] * 3)
    assert task.credits() == 3
    require_pictures(task.manifest)


def test_deduplicated_they_are_paid_for_once(task):
    prompts = ["a red bicycle", {"prompt": "a red bicycle", "id": "twin"}, "a teapot", "a red bicycle"]
    result = task.run(prompts, deduplicate=True)
    assert (task.credits(), result["credits"], result["delivered"]) == (2, 2, 4)
    lines = task.manifest
    assert [line["duplicate_of"] for line in lines] == [None, 0, None, 0]
    assert lines[0]["uris"] == lines[1]["uris"] == lines[3]["uris"]
    assert [line["credits"] for line in lines] == [1, 0, 1, 0]
    assert lines[1]["id"] == "twin"


def test_duplicates_of_an_item_that_fails_end_as_it_does_and_are_delivered_with_it(task, sandbox):
    sandbox.fault("generate", "status", status=422)
    task.fail(ClaidBatchError, ["a red bicycle"] * 3, deduplicate=True)
    assert task.outcomes == ["failed"] * 3
    result = task.run(["a red bicycle"] * 3, deduplicate=True)
    assert (task.outcomes, task.credits(), result["credits"]) == (["delivered"] * 3, 1, 1)


@pytest.mark.parametrize(("policy", "error"), [("fail", True), ("skip", False), ("keep", False)])
def test_filtered_pictures(task, policy, error):
    prompts = ["a red bicycle", "some gore here", "a teapot"]
    if error:
        task.fail(ClaidBatchError, prompts, on_filtered=policy)
        assert task.run(prompts, on_filtered=policy, max_failed=1)["filtered"] == 1
    else:
        task.run(prompts, on_filtered=policy)
    assert task.outcomes == ["delivered", "filtered", "delivered"]
    black = task.manifest[1]
    assert black["images"][0]["filtered"] is True
    assert len(black["uris"]) == (1 if policy == "keep" else 0)
    assert (black["error"] is None) == (policy != "fail")
    assert task.credits() == 3


@pytest.mark.parametrize("kind", ["txt", "csv", "jsonl"])
def test_prompts_come_from_a_file(task, tmp_path, kind):
    lines = {
        "txt": "a red bicycle\na teapot\n",
        "csv": "id,prompt\none,a red bicycle\ntwo,a teapot\n",
        "jsonl": '{"prompt": "a red bicycle"}\n"a teapot"\n',
    }
    (tmp_path / f"prompts.{kind}").write_text(lines[kind])
    task.run(f"file://{tmp_path}/prompts.{kind}")
    assert [line["prompt"] for line in task.manifest] == ["a red bicycle", "a teapot"]
    assert task.credits() == 2


def test_prompts_records_pictures_and_manifest_in_a_bucket(task, bucket, tmp_path):
    prefix = tmp_path.name
    bucket.put_object(Bucket="pictures", Key=f"{prefix}/prompts.txt", Body="\n".join(prompts_of(12)).encode())
    arguments = {"save_to": f"s3://my_aws@pictures/{prefix}/out/"}
    result = task.run(f"s3://pictures/{prefix}/prompts.txt", **arguments)
    assert (result["delivered"], task.credits()) == (12, 12)
    assert result["manifest"] == f"s3://pictures/{prefix}/out/claid-{KEY}.jsonl"
    names = [entry["Key"] for entry in bucket.list_objects_v2(Bucket="pictures", Prefix=prefix)["Contents"]]
    assert not [name for name in names if ".parts/" in name]
    assert len([name for name in names if name.endswith(".png")]) == 12
    assert f"{prefix}/out/claid-records/{KEY}/head" in names
    body = bucket.get_object(Bucket="pictures", Key=f"{prefix}/out/claid-{KEY}.jsonl")["Body"].read()
    lines = [json.loads(line) for line in body.splitlines()]
    assert [line["index"] for line in lines] == list(range(12))
    assert "my_aws" not in body.decode()
    assert task.run(f"s3://pictures/{prefix}/prompts.txt", **arguments) == result
    assert task.posts() == 12
    assert list(task.operator._delivery.folders) == [f"s3://pictures/{prefix}/out/"]
    assert task.operator._delivery.sources == (f"s3://pictures/{prefix}/prompts.txt",)


def test_bad_rows_stop_all_before_anything_is_paid_or_are_left_out(task):
    prompts = ["a red bicycle", "ab", {"prompt": "a teapot", "number_of_images": 9}, "a chair"]
    error = task.fail(ClaidInputError, prompts)
    assert "2 bad rows" in str(error)
    assert task.posts() == 0
    assert task.run(prompts, on_bad_row="skip")["total"] == 2
    assert [line["prompt"] for line in task.manifest] == ["a red bicycle", "a chair"]


def test_the_manifest_goes_where_it_is_wanted_and_only_for_this_batch(task, tmp_path):
    path = f"file://{tmp_path}/manifests/monday.jsonl"
    assert task.run(prompts_of(2), manifest_path=path)["manifest"] == path
    assert [line["outcome"] for line in read_manifest(path)] == ["delivered"] * 2
    mine = read_manifest(path)[0]["batch"]
    error = task.fail(ClaidInputError, prompts_of(3), manifest_path=path)
    assert mine in str(error)
    assert len(re.findall(r"[0-9a-f]{32}", str(error))) == 2
    assert task.posts() == 2


def test_a_prompt_that_claid_refuses_fails_alone(task, sandbox):
    sandbox.fault("generate", "status", status=422, match="number 3")
    error = task.fail(ClaidBatchError, prompts_of(8))
    assert "1 of 8 items failed, max_failed=0" in str(error)
    assert f"{task.folder}/claid-{KEY}.jsonl" in str(error)
    assert task.outcomes == ["delivered"] * 3 + ["failed"] + ["delivered"] * 4
    assert task.manifest[3]["error"]["kind"] == ClaidValidationError.__name__
    assert task.manifest[3]["error"]["billed"] == "no"
    assert (add_up(task.result), task.result["credits"], task.credits()) == (8, 7, 7)


@pytest.mark.parametrize("allowed", [2, 0.25])
def test_some_may_fail(task, sandbox, allowed):
    sandbox.fault("generate", "status", status=422, times=2)
    result = task.run(prompts_of(8), max_failed=allowed)
    assert (result["failed"], result["delivered"]) == (2, 6)
    sandbox.fault("generate", "status", status=422, times=None)
    task.epoch = 1
    task.fail(
        ClaidBatchError, prompts_of(8), reuse=False, max_failed=allowed, manifest_path=f"file://{task.folder}/2.jsonl"
    )


def test_claid_writes_into_a_folder_for_each_item(storing):
    prompts = prompts_of(5)
    result = storing.run(prompts, own_folder=True, **storing.arguments)
    assert result["delivered"] == 5
    uris = [uri for line in storing.manifest for uri in line["uris"]]
    folders = [path_of(uri).parent.name for uri in uris]
    assert [name.rpartition("-")[0] for name in folders] == [f"{KEY}-{index:06d}-1" for index in range(5)]
    require_pictures(storing.manifest)
    assert result["manifest"].startswith(storing.arguments["records_path"])


def test_without_a_place_for_records_nothing_is_sent(task):
    error = task.fail(ClaidConfigurationError, prompts_of(2), output_folder="storage://my-storage/x/")
    assert "records_path" in str(error)
    assert task.posts() == 0


def test_progress_is_logged_and_measured(task, sandbox, monkeypatch, caplog):
    gauges = {}

    class Heard:
        gauge = staticmethod(lambda name, value, tags: gauges.setdefault(name, []).append(value))
        incr = staticmethod(lambda name, count=1, rate=1, *, tags=None: gauges.setdefault(name, []).append(count))
        timing = staticmethod(lambda *_, **__: None)

    monkeypatch.setattr("airflow.providers.common.compat.sdk.Stats", Heard, raising=False)
    monkeypatch.setattr(run_module, "LOG_EVERY", 0.05)
    sandbox.change(latency=0.5)
    with caplog.at_level(logging.INFO):
        task.run(prompts_of(4))
    shown = [record.getMessage() for record in caplog.records if "items are done" in record.getMessage()]
    assert len(shown) >= 3
    # When all four have left depends on how fast the disk is.
    assert any("0 of 4 items are done (0%), 4 under way" in each for each in shown[:-1])
    assert "4 of 4 items are done (100%), 0 under way" in shown[-1]
    assert "4 delivered of 4 items for 4 credits" in shown[-1]
    assert gauges["claid.batch.done"][-1] == 4
    assert gauges["claid.batch.left"][0] == 4
    assert max(gauges["claid.batch.under_way"]) == 4
    assert sum(gauges["claid.credits"]) == sum(gauges["claid.copies"]) == 4


def test_an_asset_is_told_of_the_counts(task):
    from airflow.providers.common.compat.sdk import Asset

    asset = Asset(f"file://{task.folder}/")
    event = SimpleNamespace(extra={})
    task.context = {"outlet_events": {asset: event}}
    result = task.run(prompts_of(3), outlets=[asset])
    assert event.extra == result


def test_no_key_is_in_the_log_the_records_or_the_manifest(task, sandbox, tmp_path, caplog):
    from tests.conftest import KEY as SECRET

    sandbox.fault("generate", "status", status=422, echo_key=True)
    with caplog.at_level(logging.DEBUG):
        task.fail(ClaidBatchError, prompts_of(3))
    assert SECRET not in caplog.text
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_two_deployments_with_the_same_names_keep_their_images_apart(task, bucket, guard, tmp_path, kind):
    folder = f"file://{tmp_path}/pictures/" if kind == "file" else f"s3://{guard.conn_id}@pictures/{tmp_path.name}/"
    target = parse_target(folder, None)
    told = {}
    for deployment in ("production", "staging"):
        (tmp_path / deployment).mkdir()
        task.number = 0
        records = f"file://{tmp_path}/{deployment}/"
        prompt = {"prompt": f"a bicycle in {deployment}", "id": "sku"}
        task.run([prompt], save_to=folder, records_path=records, manifest_path=f"{records}all.jsonl")
        ((told[deployment],),) = [line["images"] for line in task.manifest]
    stored = open_folder(target)
    for image in told.values():
        data = stored.read(image["uri"].rpartition("/")[2])
        assert hashlib.sha256(data).hexdigest() == image["sha256"]
    assert told["production"]["uri"] != told["staging"]["uri"]
