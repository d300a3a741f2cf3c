"""What a person who clears a task gets, and what an automatic retry gets, on real schedulers of three Airflows."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace

import pytest

from airflow_provider_claid.sandbox.server import SandboxServer
from tests.conftest import KEY
from tests.services.airflow_versions import VERSIONS
from tests.services.processes import ServiceMissingError

pytestmark = pytest.mark.timeout(3600)

RUN, TASK = "the-run", "picture"
RED, BLUE = "a red vase", "a blue vase"

DAG = """\
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator


def fail_first(context, result=None):
    if {fails} and context["ti"].try_number == 1:
        raise RuntimeError("after the picture was paid for")


with DAG({dag_id!r}, schedule=None, start_date=datetime(2026, 1, 1)):
    ClaidGenerateImageOperator(
        task_id="picture",
        prompt={prompt!r},
        reuse={reuse},
        retries={retries},
        retry_delay=timedelta(seconds=1),
        save_to={save_to!r},
        records_path={records_path!r},
        post_execute=fail_first,
    )
"""


@dataclass(frozen=True)
class Settings:
    """The Dag as it is at one time."""

    prompt: str = RED
    retries: int = 2
    reuse: bool = True
    fails: bool = False


@dataclass(frozen=True)
class Outcome:
    """Where a run stands: its state, the request whose pictures it has, and the requests billed for its Dag so far."""

    state: str
    request: str
    billed: list[tuple[str, str]]


CLEARED = {
    "rest_kept": (Settings(), Settings()),
    "rest_lowered_to_none": (Settings(retries=3), Settings(retries=0)),
    "cli_lowered_to_none": (Settings(retries=3), Settings(retries=0)),
    "rest_changed": (Settings(), Settings(prompt=BLUE)),
    "rest_lowered_by_one": (Settings(), Settings(retries=1, prompt=BLUE)),
    "cli_lowered_by_one": (Settings(), Settings(retries=1, prompt=BLUE)),
    "rest_lowered_by_two": (Settings(retries=3), Settings(retries=1, prompt=BLUE)),
    "rest_raised": (Settings(retries=0), Settings(retries=1, prompt=BLUE)),
    "rest_anew": (Settings(reuse=False), Settings(reuse=False)),
    "rest_anew_lowered": (Settings(reuse=False), Settings(reuse=False, retries=1)),
}
"""How a Dag is cleared, and what it is before and after that."""

RETRIED = Settings(prompt="try {{ ti.try_number }}", fails=True)
REMADE = (Settings(), Settings(prompt=BLUE))


class Dags:
    """The Dags of this test in an Airflow, and what the sandbox has billed for them."""

    def __init__(self, airflow, dags, folder, sandbox) -> None:
        self.airflow, self._dags, self._folder, self._sandbox = airflow, dags, folder, sandbox

    def write(self, dag_id: str, settings: Settings) -> None:
        """Write a Dag whose prompts begin with its id, which tells its requests from those of others."""
        marked = replace(settings, prompt=f"{dag_id}: {settings.prompt}")
        places = {"save_to": f"file://{self._folder}/pictures/", "records_path": f"file://{self._folder}/records/"}
        new = self._folder / "new.py"
        new.write_text(DAG.format(dag_id=dag_id, **asdict(marked), **places))
        new.replace(self._dags / f"{dag_id}.py")

    def ended(self, dag_id: str) -> Outcome:
        state = self.airflow.wait_run(dag_id, RUN, timeout=900)
        result = self.airflow.xcom(dag_id, RUN, TASK, "claid_result", default={})
        # Airflow 2.11 answers with the text of it.
        result = json.loads(result) if isinstance(result, str) else result
        requests = [one for one in self._sandbox.report()["requests"] if (one["prompt"] or "").startswith(f"{dag_id}:")]
        billed = [(one["request_id"], one["prompt"].removeprefix(f"{dag_id}: ")) for one in requests if one["credits"]]
        return Outcome(state, result.get("request_id", ""), billed)


@pytest.fixture(scope="module", params=list(VERSIONS))
def outcomes(request, tmp_path_factory):
    """For each Dag what its run had come to, before the clear and after it."""
    folder = tmp_path_factory.mktemp(f"airflow-{request.param}")
    for name in ("dags", "records", "pictures"):
        (folder / name).mkdir()
    with SandboxServer(latency=0, per_second=None, per_minute=None, seed=1) as sandbox:
        extra = {"requests_per_second": 100, "requests_per_minute": 10_000, "request_timeout": 10}
        connection = {"conn_type": "claid", "host": sandbox.url, "password": KEY, "extra": extra}
        environment = {
            "AIRFLOW_CONN_CLAID_DEFAULT": json.dumps(connection),
            "AIRFLOW__CLAID__PACING_DIR": str(folder / "pacing"),
        }
        try:
            airflow = VERSIONS[request.param](folder / "home", folder / "dags", environment)
        except ServiceMissingError as cause:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(str(cause))
        with airflow:
            yield run_all(Dags(airflow, folder / "dags", folder, sandbox))


def run_all(dags: Dags) -> dict[str, list[Outcome]]:
    """Run every Dag once, change them all, clear them; and return how each stood before and after."""
    plans = CLEARED | {"retried": (RETRIED, RETRIED), "remade": REMADE}
    airflow = dags.airflow
    for dag_id, (before, _) in plans.items():
        dags.write(dag_id, before)
    for dag_id in plans:
        airflow.trigger_as(dag_id, RUN)
    found = {dag_id: [dags.ended(dag_id)] for dag_id in plans}
    for dag_id, (_, after) in plans.items():
        dags.write(dag_id, after)
    for dag_id, (_, after) in plans.items():
        airflow.wait_retries(dag_id, TASK, after.retries)
    airflow.delete_run("remade", RUN)
    airflow.trigger_as("remade", RUN)
    for dag_id in CLEARED:
        if dag_id.startswith("cli"):
            airflow.command("tasks", "clear", "--yes", dag_id)
        else:
            airflow.clear(dag_id, RUN)
    for dag_id in plans.keys() - {"retried"}:
        found[dag_id].append(dags.ended(dag_id))
    return found


@pytest.mark.parametrize("name", ["rest_kept", "rest_lowered_to_none", "cli_lowered_to_none"])
def test_a_clear_gives_the_recorded_picture_at_once_and_nothing_is_billed(outcomes, name):
    before, after = outcomes[name]
    assert before.state == after.state == "success"
    assert after.billed == before.billed == [(before.request, RED)]
    assert after.request == before.request


CHANGED = ["rest_changed", "rest_lowered_by_one", "cli_lowered_by_one", "rest_lowered_by_two", "rest_raised"]


@pytest.mark.parametrize("name", CHANGED)
def test_a_clear_after_the_prompt_changed_bills_and_returns_the_new_picture(outcomes, name):
    before, after = outcomes[name]
    assert before.state == after.state == "success"
    assert after.billed == [(before.request, RED), (after.request, BLUE)]


@pytest.mark.parametrize("name", ["rest_anew", "rest_anew_lowered"])
def test_a_clear_without_reuse_bills_again(outcomes, name):
    before, after = outcomes[name]
    assert before.state == after.state == "success"
    assert after.billed == [(before.request, RED), (after.request, RED)]


def test_an_automatic_retry_gives_the_recorded_picture_also_if_its_prompt_renders_differently(outcomes):
    (ended,) = outcomes["retried"]
    assert ended == Outcome("success", ended.request, [(ended.request, "try 1")])


def test_a_run_that_was_deleted_and_made_again_with_another_prompt_bills_and_returns_the_new_picture(outcomes):
    before, after = outcomes["remade"]
    assert before.state == after.state == "success"
    assert after.billed == [(before.request, RED), (after.request, BLUE)]
