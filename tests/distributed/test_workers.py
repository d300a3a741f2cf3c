"""A catalogue over two workers: at the account's pace, paid once, and ended also if one of them is lost."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks import ideal
from tests.distributed import catalogue
from tests.distributed.catalogue import PROMPTS, billed, is_readable, paid
from tests.distributed.deployment import PER_MINUTE, PER_SECOND

pytestmark = pytest.mark.timeout(600)

COUNTS = ("delivered", "filtered", "failed", "unknown", "not_started")


def check_pace(deployed):
    """
    Check that hardly anything was refused: two cores that run all of this may keep a request from leaving in time.

    That nothing is, where they are free, is measured by `benchmarks.workers`.
    """
    totals = deployed.report(newest=0)["totals"]
    print(f"Refused: {totals['refused']} of {totals['posts']}")
    # Without a common pace it is more than one for each.
    assert totals["refused"]["total"] <= totals["posts"] / 20
    assert totals["refused"]["minute"] == 0


def check_sums(run):
    """Check that the manifests, the counts of the chunks and the Dag's report tell the same of every prompt."""
    lines = list(run.lines())
    assert Counter(line["prompt"] for line in lines) == Counter(run.prompts)
    outcomes = Counter(line["outcome"] for line in lines)
    report = run.report()
    assert outcomes == Counter({name: report[name] for name in COUNTS})
    assert (report["total"], report["credits"]) == (PROMPTS, sum(line["credits"] for line in lines))
    return lines


def check_delivered(lines, credits):
    """Check that each picture handed on was paid for once and is whole."""
    delivered = [line for line in lines if line["outcome"] == "delivered"]
    assert {credits[line["prompt"]] for line in delivered} == {1}
    assert [line["prompt"] for line in delivered if list(map(is_readable, line["uris"])) != [True]] == []
    return delivered


def test_two_workers_bring_a_catalogue_to_its_end_at_one_pace(workers):
    run = catalogue.start(workers, "undisturbed")
    assert run.wait(300) == "success"
    taken, best = ideal.reached(workers.report()["requests"], PER_SECOND, PER_MINUTE)
    print(f"\n{PROMPTS} pictures in {taken:.1f} s, ideal {best:.1f} s: {best / taken:.3f}")
    check_pace(workers)
    credits = billed(workers)
    assert credits == dict.fromkeys(run.prompts, 1)
    assert len(check_delivered(check_sums(run), credits)) == PROMPTS


def test_a_catalogue_and_deferred_generations_outlive_a_lost_worker(workers):
    airflow = workers.airflow
    run = catalogue.start(workers, "disturbed", max_failed=0.2)
    airflow.wait_for(lambda: paid(workers) >= PROMPTS / 5, 180, "a fifth is paid")
    prompts = [f"deferred {number}" for number in range(60)]
    folder = f"file://{workers.folder}/deferred/"
    (workers.folder / "deferred" / "records").mkdir(parents=True)
    deferred = airflow.trigger("deferred_pictures", {"prompts": prompts, "folder": folder})
    airflow.wait_for(lambda: paid(workers, "deferred ") >= 5, 120, "some of the deferred ones are paid")
    lost = airflow.wait_for(lambda: airflow.task_processes("worker-1"), 60, "a task of worker-1")
    airflow.kill("worker-1")

    assert airflow.wait_run("deferred_pictures", deferred, 400) == "success"
    assert run.wait(400) == "success"
    tries = Counter(task["try_number"] for task in airflow.task_instances("deferred_pictures", deferred))
    print(f"\n{len(lost)} tasks lost; tries of the chunks {run.tries()}, of the deferred tasks {tries}; {run.report()}")
    assert max(run.tries()) > 1
    check_pace(workers)
    credits = billed(workers)
    assert max(credits.values()) == 1
    lines = check_sums(run)
    check_delivered(lines, credits)
    assert {line["outcome"] for line in lines} <= {"delivered", "unknown"}
    assert {prompt: credits[prompt] for prompt in prompts} == dict.fromkeys(prompts, 1)
    for number in range(len(prompts)):
        uris = airflow.xcom("deferred_pictures", deferred, "generate", map_index=number)
        assert [is_readable(uri) for uri in uris] == [True]
