"""A retry or a rerun goes on behind the last finished item: it pays nothing twice, and copies what was not copied."""

from __future__ import annotations

import shutil

import pytest

from airflow_provider_claid.delivery.batch import journal as journal_module
from airflow_provider_claid.delivery.batch import run as run_module
from airflow_provider_claid.delivery.batch import writer
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.records import ledger
from airflow_provider_claid.delivery.records.objects import LocalObjects
from airflow_provider_claid.delivery.storage import LocalFolder
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.exceptions import (
    ClaidBatchError,
    ClaidBatchUnfinishedError,
    ClaidInputError,
    ClaidNotSentError,
    ClaidRecordsError,
)
from airflow_provider_claid.hooks.batch import Places
from tests.unit.operators.batch.conftest import add_up, path_of, prompts_of, require_pictures

KEY = Identity("shop", "monday", "batch").key()


def lose(sandbox, **options):
    sandbox.fault("generate", "reset", when="after_billing", **options)


def journal_of(task):
    return task.folder / "claid-records" / KEY


def records_of(task):
    return sorted(path.name for path in journal_of(task).iterdir() if path.suffix != ".attempt")


def test_a_second_run_pays_nothing_and_writes_no_records(task):
    first = task.run(prompts_of(6))
    before = records_of(task)
    assert task.run(prompts_of(6)) == first
    assert task.posts() == 6
    assert records_of(task) == before
    task.epoch = 1
    assert task.run(prompts_of(6)) == first
    assert task.posts() == 6


def test_cleared_without_reuse_it_pays_anew_and_its_retry_does_not(task):
    first = task.run(prompts_of(3), reuse=False)
    assert task.run(prompts_of(3), reuse=False) == first
    assert task.posts() == 3
    task.epoch = 1
    second = task.run(prompts_of(3), reuse=False)
    assert task.run(prompts_of(3), reuse=False) == second
    assert second["manifest"] != first["manifest"]
    assert task.posts() == 6


@pytest.mark.parametrize(
    ("prompts", "arguments"),
    [
        (prompts_of(4), {}), ("file:///nowhere/prompts.csv", {}), (["a good one", ""], {}),
        (prompts_of(3), {"claid_conn_id": "nobody"}), (prompts_of(3), {"records_path": "file:///nowhere/records/"}),
    ],
)  # fmt: skip
def test_an_error_of_a_later_attempt_does_not_say_that_nothing_was_sent(task, prompts, arguments):
    with pytest.raises(ClaidInputError, match="Nothing was sent"):
        task.run(["a good one", ""])
    task.run(prompts_of(3))
    with pytest.raises(ClaidInputError) as caught:
        task.run(prompts, **arguments)
    assert caught.value.billed == "unknown"
    assert "Nothing was sent" not in str(caught.value)


@pytest.mark.parametrize("before", [True, False])
def test_reuse_that_is_edited_between_two_tries_pays_nothing_anew(task, before):
    first = task.run(prompts_of(3), reuse=before)
    assert task.run(prompts_of(3), reuse=not before) == first
    assert task.posts() == 3


def test_nor_does_one_that_is_edited_between_the_tries_after_a_clearing(task, monkeypatch):
    class Killed(BaseException):
        pass

    with monkeypatch.context() as patched:
        refuse(patched, KEY)
        task.fail(ClaidBatchUnfinishedError, prompts_of(3))
    task.epoch = 1
    with monkeypatch.context() as patched:
        patched.setattr(Places, "opened", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            task.run(prompts_of(3))
    assert task.run(prompts_of(3), reuse=False)["delivered"] == 3
    assert task.posts() == 3


def test_what_was_made_without_reuse_is_reused_when_the_task_is_cleared_with_it(task):
    task.run(prompts_of(3), reuse=False)
    task.epoch = 1
    second = task.run(prompts_of(3), reuse=False)
    task.epoch = 5
    assert task.run(prompts_of(3)) == second
    task.epoch = 9
    assert task.run(prompts_of(3), reuse=False) != second
    assert task.posts() == 9


def test_cleared_without_reuse_a_lost_answer_is_not_taken_for_the_one_before(storing, sandbox):
    arguments = storing.arguments | {"own_folder": True, "reuse": False, "reconcile_timeout": 0.2}
    storing.run(["a red bicycle"], **arguments)
    (first,) = storing.manifest
    storing.epoch = 1
    lose(sandbox)
    storing.run(["a red bicycle"], **arguments)
    (second,) = storing.manifest
    assert second["uris"] != first["uris"]
    assert storing.credits() == 2


def test_other_prompts_under_the_same_name_are_refused(task):
    task.run(prompts_of(3))
    error = task.fail(ClaidInputError, [*prompts_of(2), "another one"])
    assert "reuse=False" in str(error)
    assert task.posts() == 3


def test_only_what_failed_is_sent_again(task, sandbox):
    sandbox.fault("generate", "status", status=422, match="number 2", times=1)
    task.fail(ClaidBatchError, prompts_of(5))
    result = task.run(prompts_of(5))
    assert (result["delivered"], result["credits"], task.credits()) == (5, 5, 5)
    assert sorted(task.prompts_sent()) == sorted([*prompts_of(5), "picture number 2"])
    assert task.manifest[2]["submissions"] == 1


def test_what_was_paid_and_not_copied_is_copied(task, sandbox, monkeypatch):
    publish = LocalFolder.publish

    def full(folder, name, *rest, **options):
        if "000001" in name:
            raise OSError(28, "No space left on device")
        return publish(folder, name, *rest, **options)

    with monkeypatch.context() as patched:
        patched.setattr(LocalFolder, "publish", full)
        error = task.fail(ClaidBatchUnfinishedError, prompts_of(3))
    assert "1 of 3 items failed" in str(error)
    (failed,) = (line for line in task.manifest if line["outcome"] == "failed")
    assert (failed["index"], failed["credits"], failed["error"]["billed"]) == (1, 1, "yes")
    assert "No space left" in failed["error"]["message"]
    result = task.run(prompts_of(3))
    assert (result["delivered"], result["credits"], task.posts()) == (3, 3, 3)
    require_pictures(task.manifest)


def named(*ids):
    return [{"prompt": f"picture number {number}", "id": each} for number, each in enumerate(ids)]


def refuse(monkeypatch, *names):
    """Let the disk refuse pictures of these names, as one does that are too long for it."""
    publish = LocalFolder.publish

    def refused(folder, name, *given, **options):
        if name.startswith(names):
            raise OSError(36, "File name too long")
        return publish(folder, name, *given, **options)

    monkeypatch.setattr(LocalFolder, "publish", refused)


def test_billed_pictures_are_had_under_corrected_ids(task, monkeypatch):
    refuse(monkeypatch, "bad")
    task.fail(ClaidBatchUnfinishedError, named("one", "bad", "three", "bad-too"))
    assert (task.outcomes.count("delivered"), task.credits()) == (2, 4)
    result = task.run(named("one", "two", "third", "four"))
    assert (result["delivered"], task.posts(), task.credits()) == (4, 4, 4)
    # What is delivered stays where it is.
    assert [line["id"] for line in task.manifest] == ["one", "two", "three", "four"]
    assert [path_of(uri).name for line in task.manifest for uri in line["uris"]] == [
        "one-1.png", "two-1.png", "three-1.png", "four-1.png"
    ]  # fmt: skip
    require_pictures(task.manifest)


def test_what_is_delivered_keeps_its_name_and_the_log_says_so(task, caplog):
    task.run([{"prompt": "a red bicycle", "id": "a"}, {"prompt": "a teapot", "id": "b"}])
    task.run([{"prompt": "a red bicycle", "id": "red-1"}, {"prompt": "a teapot", "id": "b"}])
    assert "1 delivered items keep the names of the ids that they had, 'a' the first" in caplog.text
    assert [line["id"] for line in task.manifest] == ["a", "b"]
    assert task.posts() == 2


@pytest.mark.parametrize("taken", ["one", "ONE"])
def test_a_corrected_id_must_not_be_that_of_another_delivered_item(task, monkeypatch, taken):
    refuse(monkeypatch, "bad")
    task.fail(ClaidBatchUnfinishedError, named("one", "bad"))
    before = (task.folder / "one-1.png").read_bytes()
    error = task.fail(ClaidInputError, named("uno", taken))
    assert "which names pictures of prompt 1" in str(error)
    assert (task.folder / "one-1.png").read_bytes() == before
    assert task.posts() == 2


def test_a_prompt_that_is_changed_beside_its_id_is_another_batch(task, monkeypatch):
    refuse(monkeypatch, "bad")
    task.fail(ClaidBatchUnfinishedError, named("one", "bad"))
    task.fail(ClaidInputError, [*named("one"), {"prompt": "another picture", "id": "two"}])
    assert task.posts() == 2


@pytest.mark.parametrize("submissions", [1, 2])
def test_a_lost_answer_is_paid_again_only_if_that_was_allowed(task, sandbox, submissions):
    lose(sandbox, match="number 1")
    kind = ClaidBatchError if submissions == 1 else ClaidBatchUnfinishedError
    task.fail(kind, prompts_of(3), max_submissions=submissions)
    assert task.outcomes == ["delivered", "unknown", "delivered"]
    assert task.manifest[1]["error"]["kind"] in {"ClaidUnknownOutcomeError", "ClaidLostAnswerError"}
    if submissions == 1:
        task.fail(ClaidBatchError, prompts_of(3))
        assert (task.posts(), task.result["credits"], task.outcomes[1]) == (3, 3, "unknown")
    else:
        result = task.run(prompts_of(3), max_submissions=2)
        assert (task.posts(), result["delivered"], result["credits"]) == (4, 3, 4)
        assert task.manifest[1]["submissions"] == 2


def test_answers_lost_for_good_are_not_paid_a_third_time_nor_do_they_stop_the_others(task, sandbox):
    lose(sandbox, match="number 1", times=None)
    for kind in (ClaidBatchUnfinishedError, ClaidBatchError, ClaidBatchError):
        task.fail(kind, prompts_of(3), max_submissions=2)
    assert sorted(task.prompts_sent()) == sorted([*prompts_of(3), "picture number 1"])
    assert task.manifest[1]["credits"] == 2


def test_many_that_an_earlier_attempt_has_lost_do_not_stop_the_rest(task, sandbox, monkeypatch):
    """As after a kill: their requests were under way, and nothing may be sent for them any more."""
    prompts = prompts_of(20)
    lose(sandbox, times=14)
    with monkeypatch.context() as patched:
        patched.setattr(run_module.Breaker, "cause", lambda *_: None)
        task.fail(ClaidBatchError, prompts)
    assert task.outcomes.count("unknown") == 14
    (task.folder / f"claid-{KEY}.jsonl").unlink()
    error = task.fail(ClaidBatchError, prompts)
    assert "14 of 20 items failed" in str(error)
    assert "stopped" not in str(error)
    assert task.posts() == 20


def test_pictures_of_a_lost_answer_are_found_in_the_items_own_folder(storing, sandbox):
    lose(sandbox, times=3)
    result = storing.run(prompts_of(6), own_folder=True, reconcile_timeout=5, **storing.arguments)
    assert (result["delivered"], result["credits"], storing.credits(), storing.posts()) == (6, 6, 6, 6)
    require_pictures(storing.manifest)


def test_in_a_shared_folder_they_are_not_guessed_at(storing, sandbox):
    lose(sandbox)
    storing.fail(ClaidBatchError, prompts_of(3), reconcile_timeout=0.2, **storing.arguments)
    assert sorted(storing.outcomes) == ["delivered", "delivered", "unknown"]


def test_without_its_manifest_a_batch_pays_nothing_and_copies_nothing_anew(task, monkeypatch):
    monkeypatch.setattr(writer, "SETTLE_EVERY", 0.0)
    first = task.run(prompts_of(5))
    assert (journal_of(task) / "settled").exists()
    before = {path.name: path.stat().st_mtime_ns for path in task.folder.glob("*.png")}
    path_of(first["manifest"]).unlink()
    assert task.run(prompts_of(5)) == first
    assert task.posts() == 5
    assert {path.name: path.stat().st_mtime_ns for path in task.folder.glob("*.png")} == before


def test_without_its_manifest_and_with_dead_addresses_its_images_are_found_where_they_are(task, sandbox):
    first = task.run(prompts_of(4))
    path_of(first["manifest"]).unlink()
    sandbox.change(picture_hours=1e-9)
    assert task.run(prompts_of(4)) == first
    assert task.outcomes == ["delivered"] * 4
    require_pictures(task.manifest)
    assert task.posts() == 4


def test_without_its_records_a_person_has_to_clear_it_and_what_is_in_the_manifest_is_not_paid_again(task):
    first = task.run(prompts_of(5))
    shutil.rmtree(journal_of(task))
    error = task.fail(ClaidRecordsError, prompts_of(5))
    assert "no earlier try of this task has left a mark" in str(error)
    task.epoch = 2
    assert task.run(prompts_of(5)) == first
    assert task.posts() == 5


def test_records_that_cannot_be_read_stop_all(task, sandbox):
    lose(sandbox)
    task.fail(ClaidBatchError, prompts_of(2))
    (journal_of(task) / "000001").write_bytes(b"garbage")
    task.fail(ClaidRecordsError, prompts_of(2))
    assert task.posts() == 2


def test_an_attempt_whose_records_are_busy_is_tried_again_by_airflow(task, monkeypatch):
    def busy(*_):
        raise StoreBusyError("the disk is on fire")

    monkeypatch.setattr("airflow_provider_claid.delivery.backoff.STORE_PAUSE", 0.001)
    monkeypatch.setattr(LocalObjects, "get", busy)
    error = task.fail(ClaidNotSentError, prompts_of(2))
    assert "on fire" in str(error)
    assert task.posts() == 0


def test_the_result_of_an_attempt_that_still_runs_is_waited_for(task, sandbox, monkeypatch):
    """A worker that Airflow takes for dead goes on, while the retry has begun: that one ends the batch."""
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(journal_module, "REFRESH_SECONDS", 0.05)
    sandbox.change(latency=0.5)
    with ThreadPoolExecutor(2) as pool:
        both = [task.attempt(prompts_of(8)) for _ in range(2)]
        # Whichever comes first: one try that two processes have begun.
        both[1].args[0]["ti"].try_number = 1
        attempts = [pool.submit(attempt) for attempt in both]
        overtaken = [fault for fault in (attempt.exception() for attempt in attempts) if fault]
    for fault in overtaken:
        assert type(fault) is ClaidBatchUnfinishedError
        assert "A later attempt of this batch has begun" in str(fault)
    assert len(overtaken) < 2
    assert task.result["delivered"] == 8
    assert (task.posts(), task.credits()) == (8, 8)
    assert sorted(task.prompts_sent()) == prompts_of(8)
    require_pictures(task.manifest)
    assert add_up(task.result) == 8


def test_an_intent_that_a_killed_attempt_left_open_is_given_up_at_last(task, configure, monkeypatch):
    configure(request_timeout=1)
    monkeypatch.setattr(ledger, "SPARE", 0.0)
    submit = ledger.Ledger.submit

    class Killed(BaseException):
        pass

    async def die(each, send, door):
        await each._claim(door)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(ledger.Ledger, "submit", lambda each, *given: (
            die(each, *given) if each.identity.item == 1 else submit(each, *given)))  # fmt: skip
        with pytest.raises(Killed):
            task.run(prompts_of(3))
    assert task.outcomes[1] == "unknown"
    result = task.run(prompts_of(3), max_submissions=2)
    assert (result["delivered"], task.posts()) == (3, 3)
    assert task.manifest[1]["credits"] == 2


def test_ids_that_no_disk_or_store_takes_cost_nothing(task, bucket):
    prompts = [{"prompt": "a red bicycle", "id": "sku"}, {"prompt": "a teapot", "id": "商品" * 40}]
    assert "item 2: id: got" in str(task.fail(ClaidInputError, prompts))
    folder = f"s3://my_aws@pictures/{'x' * 900}/"
    prompts = [{"prompt": "a red bicycle", "id": "x" * 150}]
    (task.folder / "records").mkdir()
    task.number = 0
    places = {"save_to": folder, "records_path": f"file://{task.folder}/records/"}
    assert "at most 107 bytes" in str(task.fail(ClaidInputError, prompts, **places))
    assert task.posts() == 0


def test_pictures_that_were_paid_for_can_be_had_under_corrected_names(task, monkeypatch):
    wrong, right = ([{"prompt": "a red bicycle", "id": name}] for name in ("sku-1", "sku-2"))
    publish = LocalFolder.publish
    monkeypatch.setattr(LocalFolder, "publish", lambda *_: (_ for _ in ()).throw(OSError(36, "File name too long")))
    task.fail(ClaidBatchUnfinishedError, wrong)
    monkeypatch.setattr(LocalFolder, "publish", publish)
    assert task.run(right)["delivered"] == 1
    assert (task.posts(), task.credits()) == (1, 1)
    assert [path.name for path in task.folder.glob("*.png")] == ["sku-2-1.png"]
    assert task.manifest[0]["id"] == "sku-2"


def test_a_picture_is_never_written_over_that_of_another_prompt(task, sandbox):
    names = ["A", "b"]
    sandbox.fault("generate", "status", status=422, match="teapot")
    task.fail(
        ClaidBatchError, [{"prompt": p, "id": i} for p, i in zip(("a red bicycle", "a teapot"), names, strict=True)]
    )
    sandbox.clear_faults()
    swapped = [{"prompt": "a red bicycle", "id": "c"}, {"prompt": "a teapot", "id": "a.png"}]
    before = (task.folder / "A-1.png").read_bytes()
    error = task.fail(ClaidInputError, swapped)
    assert "the id 'A' for prompt 2, which names pictures of prompt 1" in str(error)
    assert (task.folder / "A-1.png").read_bytes() == before
    assert task.run([swapped[0], {"prompt": "a teapot", "id": "d"}])["delivered"] == 2
    require_pictures(task.manifest)


def test_a_line_says_what_an_earlier_try_may_have_cost_whatever_ends_this_one(task, sandbox):
    lose(sandbox, match="number 1")
    task.fail(ClaidBatchUnfinishedError, prompts_of(2), max_submissions=2)
    sandbox.fault("generate", "status", status=422, match="number 1")
    task.fail(ClaidBatchError, prompts_of(2), max_submissions=2)
    line = task.manifest[1]
    assert (line["outcome"], line["credits"]) == ("unknown", 1)
    assert line["error"]["billed"] == "unknown"


def test_so_does_one_whose_records_cannot_be_asked_this_time(task, sandbox, monkeypatch):
    def busy(*_):
        raise StoreBusyError("the disk is on fire")

    lose(sandbox, match="number 1")
    task.fail(ClaidBatchUnfinishedError, prompts_of(2), max_submissions=2)
    monkeypatch.setattr(journal_module.Journal, "read", busy)
    task.fail(ClaidNotSentError, prompts_of(2), max_submissions=2)
    line = task.manifest[1]
    assert (line["outcome"], line["credits"]) == ("unknown", 1)
    assert line["error"]["billed"] == "unknown"
