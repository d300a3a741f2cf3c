"""The catalogue Dag as a user runs it: a list in a file, chunks, pictures, and a report whatever happens."""

import json
from pathlib import Path

import pytest

COUNTS = {"delivered", "filtered", "failed", "unknown", "not_started"}


@pytest.fixture
def catalog(claid_connection, dag, tmp_path):
    """Return a function that runs the Dag over these lines, and returns the run."""

    def run(lines, name="prompts.txt", **params):
        prompts = tmp_path / name
        prompts.write_text("\n".join(lines))
        conf = {"prompts": prompts.as_uri(), "folder": f"{tmp_path.as_uri()}/", "chunk": 2} | params
        return dag("claid_catalog").test(run_conf=conf)

    return run


def report_of(run):
    return run.get_task_instance("report").xcom_pull("report")


def test_every_prompt_of_the_list_becomes_a_picture(sandbox, catalog, tmp_path):
    run = catalog(["a red bicycle", "", "a green teapot\u2028in morning light", "a paper lighthouse"])
    assert run.state == "success"
    assert report_of(run) == dict.fromkeys(COUNTS, 0) | {"total": 3, "delivered": 3, "credits": 3}
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 3
    lines = [json.loads(line) for path in (tmp_path / "pictures").rglob("*.jsonl") for line in path.open()]
    assert len(lines) == 3
    assert all(Path(line["uris"][0].removeprefix("file://")).exists() for line in lines)
    assert sandbox.report()["totals"]["credits"] == 3


@pytest.mark.parametrize(("max_failed", "state"), [(0, "failed"), (0.5, "success")])
def test_the_report_tells_of_chunks_that_failed_and_the_run_fails_unless_it_is_allowed(
    sandbox, catalog, max_failed, state
):
    sandbox.fault("generate", "status", status=500, match="teapot")
    run = catalog(["a red bicycle", "a green teapot", "a paper lighthouse"], max_failed=max_failed)
    assert run.state == state
    report = report_of(run)
    assert (report["total"], report["delivered"], report["unknown"]) == (3, 2, 1)


def test_an_id_that_stands_in_two_chunks_is_refused_before_anything_is_paid(sandbox, catalog):
    lines = [json.dumps({"id": name, "prompt": "a red bicycle"}) for name in ("sku-1", "sku-2", "sku-1")]
    assert catalog(lines, "prompts.jsonl").state == "failed"
    assert sandbox.report()["totals"]["posts"] == 0


@pytest.mark.parametrize(("one", "other"), [(42, "42.png"), ("A", "a"), ("é", "e\u0301"), (42.0, "42")])
def test_ids_in_two_chunks_that_name_one_file_are_refused_before_anything_is_paid(sandbox, catalog, one, other):
    # With a byte order mark: the first line counts, too.
    lines = [json.dumps({"id": name, "prompt": "a red bicycle"}) for name in (one, "b", other)]
    assert catalog(["\ufeff" + lines[0], *lines[1:]], "prompts.jsonl").state == "failed"
    assert sandbox.report()["totals"]["posts"] == 0


def test_prompts_without_ids_are_no_twins(sandbox, catalog, tmp_path):
    lines = [json.dumps({"id": name, "prompt": "a red bicycle"}) for name in (None, "", None)]
    assert catalog(lines, "prompts.jsonl").state == "success"
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 3


def test_two_runs_keep_their_pictures_apart(sandbox, catalog, tmp_path):
    lines = [json.dumps({"id": "sku-1", "prompt": "a red bicycle"})]
    assert [catalog(lines, "prompts.jsonl").state for _ in range(2)] == ["success", "success"]
    assert len(list((tmp_path / "pictures").rglob("sku-1-1.png"))) == 2
    assert sandbox.report()["totals"]["credits"] == 2
