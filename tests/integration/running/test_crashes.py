"""Tasks that are killed at each point of a payment, and what their retry does: nothing is paid twice."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)

POINTS = (
    "before the intent",
    "after the intent",
    "after the first byte",
    "after billing",
    "after the answer",
    "during the copy",
    "before success",
)
LOST = POINTS[2:5]
AT_ONCE = 8
CASES = [
    (way, place, point)
    for way in ("save_to", "output_folder", "neither")
    for place in ("state_store", "records_path")
    for point in POINTS
    if way == "save_to" or point != "during the copy"
]


def outcome(airflow, dag_id, run):
    return {
        "state": airflow.wait_run(dag_id, run),
        "tries": airflow.task_instance(dag_id, run, "generate")["try_number"],
        "log": airflow.task_log(dag_id, run, "generate", try_number=2),
        "uris": airflow.xcom(dag_id, run, "generate", default=None),
        "result": airflow.xcom(dag_id, run, "generate", key="claid_result", default=None),
    }


@pytest.fixture(scope="module")
def finished(running_airflow, running_sandbox, tmp_path_factory):
    """Run all cases; return for each the state of its run, its log, XCom and what was billed for its prompt."""
    folder = tmp_path_factory.mktemp("crashes")
    (folder / "records").mkdir()
    running_sandbox.reset()
    running_sandbox.change(latency=1.0)
    found = {}
    # A few at a time: more would only wait for each other.
    for start in range(0, len(CASES), AT_ONCE):
        runs = {}
        for number, (way, place, point) in list(enumerate(CASES))[start : start + AT_ONCE]:
            conf = {"prompt": f"crash {number}", "kill": point, "records": f"file://{folder}/records/"}
            conf["folder"] = f"file://{folder}/pictures/{number}/"
            runs[number] = f"paid_{way}_{place}", running_airflow.trigger(f"paid_{way}_{place}", conf)
        found |= {CASES[number]: outcome(running_airflow, *run) for number, run in runs.items()}
    requests = running_sandbox.report()["requests"]
    for number, case in enumerate(CASES):
        found[case]["billed"] = sum(each["credits"] for each in requests if each["prompt"] == f"crash {number}")
    running_sandbox.change(latency=0)
    return found


@pytest.mark.parametrize("case", CASES, ids=" - ".join)
def test_a_killed_payment_is_never_made_twice(finished, case):
    way, _, point = case
    run = finished[case]
    assert run["tries"] == 2
    if point == "after the intent":
        assert (run["state"], run["billed"]) == ("failed", 0)
        assert "its outcome is unknown" in run["log"]
        return
    assert run["billed"] == 1
    if point in LOST and way != "output_folder":
        assert run["state"] == "failed"
        assert "up to 1 credits may have been billed" in run["log"]
        assert "to permit one more submission, raise max_submissions" in run["log"]
        return
    assert run["state"] == "success"
    assert run["result"]["reused"] is (point != "before the intent")
    if way != "neither":
        assert [Path(uri.removeprefix("file://")).read_bytes()[:4] for uri in run["uris"]] == [b"\x89PNG"]
