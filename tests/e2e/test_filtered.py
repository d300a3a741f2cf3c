"""Black pictures of the content filter, by Airflow's own task runner: what the task becomes, wherever they are."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.usefixtures("claid_connection")

PLACES = ["save_to", "output_folder", "neither"]


@pytest.fixture
def run_one(dag, monkeypatch, tmp_path):
    places = {
        "save_to": {"save_to": f"file://{tmp_path}/"},
        "output_folder": {"output_folder": f"storage://my-storage/{tmp_path.name}/"},
        "neither": {},
    }

    def run(where, **arguments):
        arguments = {"prompt": "something nsfw", "number_of_images": 2, **places[where], **arguments}
        monkeypatch.setenv("TEST_ARGUMENTS", json.dumps(arguments))
        return dag("one_picture").test().get_task_instance("generate")

    return run


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(("on_filtered", "state"), [("fail", "failed"), ("skip", "skipped"), ("keep", "success")])
def test_the_policy_holds_wherever_the_pictures_are(sandbox, run_one, where, on_filtered, state, log_text):
    ti = run_one(where, on_filtered=on_filtered)
    assert ti.state == state
    images = ti.xcom_pull("generate", key="claid_result")["images"]
    assert [image["filtered"] for image in images] == [True, True]
    assert (sandbox.report()["totals"]["posts"], sandbox.report()["totals"]["credits"]) == (1, 2)
    if on_filtered != "keep":
        assert "2 of 2 pictures black" in log_text.text
        assert ti.xcom_pull("generate") is None
    if on_filtered == "skip":
        assert "billed" in log_text.text
