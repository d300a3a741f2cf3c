"""What a request that ends in an unusual way does to the day's credits, and what Airflow sees of a refusal."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_claid.api import errors
from airflow_provider_claid.delivery import generate as generate_module
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.departure import Door
from airflow_provider_claid.delivery.generate import generate
from airflow_provider_claid.delivery.stop import Stop
from airflow_provider_claid.delivery.sync import run
from airflow_provider_claid.hooks.claid import ClaidHook
from airflow_provider_claid.pacing.sqlite import SQLiteStore, file_name
from tests.conftest import make_account

REQUEST = check_request("a red bicycle", 2, 5.0, None)


@pytest.fixture
def limited(sandbox, tmp_path):
    return make_account(sandbox.url, tmp_path, daily_credits=10)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(generate_module, "FIRST_PAUSE", 0.01)


def spent(account):
    store = SQLiteStore(account.pacing_dir, account.name)
    return store._step(lambda _schedule, _now, budget: sum(budget.days.values()), budgeted=True)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 413, 422, 429])
def test_whatever_claid_refuses_costs_no_credits(sandbox, limited, status):
    sandbox.fault("generate", "status", status=status, times=None)
    with pytest.raises(errors.ClaidError) as caught:
        run(generate(limited, REQUEST))
    assert caught.value.billed == "no"
    assert spent(limited) == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 502},
        {"kind": "reset", "when": "before_billing"},
        {"kind": "close", "billed": True},
        {"kind": "garbage"},
    ],
)
def test_whatever_may_have_been_billed_keeps_its_credits(sandbox, limited, fault):
    sandbox.fault("generate", times=None, **fault)
    with pytest.raises(errors.ClaidError) as caught:
        run(generate(limited, REQUEST))
    assert caught.value.billed != "no"
    assert spent(limited) == 2


def test_tries_that_did_not_leave_cost_no_credits(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    account = make_account(f"http://127.0.0.1:{port}", tmp_path, daily_credits=2)
    with pytest.raises(errors.ClaidNotSentError, match="connect"):
        run(generate(account, REQUEST))
    assert spent(account) == 0


def test_a_task_that_is_stopped_at_the_door_costs_no_credits(sandbox, limited):
    with pytest.raises(errors.ClaidNotSentError, match="was stopped"):
        run(generate(limited, REQUEST, stop=Stop(asked=True)))
    assert spent(limited) == 0
    assert sandbox.report()["totals"]["posts"] == 0


def test_a_try_that_came_too_late_to_the_door_costs_no_credits_and_the_next_does(sandbox, limited, monkeypatch):
    real, turned_back = Door.wait, []

    async def late_once(door):
        await real(door)
        if not turned_back:
            turned_back.append(door)
            raise errors.ClaidNotSentError("The request came to its turn too late for its record")

    monkeypatch.setattr(Door, "wait", late_once)
    assert len(run(generate(limited, REQUEST)).images) == 2
    assert len(turned_back) == sandbox.report()["totals"]["posts"] == 1
    assert spent(limited) == 2


@pytest.mark.parametrize(("left", "credits"), [(False, 0), (True, 2)])
def test_a_cancelled_request_costs_credits_only_if_it_may_have_left(sandbox, limited, left, credits):
    sandbox.fault("generate", "hang", seconds=20, times=None)

    async def cancelled():
        if not left:
            generate_module.pacer(limited.name, limited.pace, limited.pacing_dir)._store.close(30)
        task = asyncio.create_task(generate(limited, REQUEST))
        await asyncio.sleep(0.1)
        while left and sandbox.report()["totals"]["posts"] == 0:
            await asyncio.sleep(0.02)
        booked = spent(limited)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return booked

    assert run(cancelled()) == 2
    assert spent(limited) == credits


def test_an_account_without_a_limit_counts_nothing(account):
    run(generate(account, REQUEST))
    assert spent(account) == 0


@pytest.fixture
def hook(claid_connection, monkeypatch):
    value = {**claid_connection, "extra": {**claid_connection["extra"], "daily_credits": "3"}}
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(value))
    return ClaidHook()


def test_airflow_does_not_retry_what_the_day_refuses(sandbox, hook):
    hook.generate("a red bicycle", number_of_images=2)
    with pytest.raises(AirflowFailException, match=r"2 of the 3 credits of 2.*not billed") as caught:
        hook.generate("a red bicycle", number_of_images=2)
    assert (type(caught.value).__name__, caught.value.billed) == ("ClaidBudgetError", "no")
    assert sandbox.report()["totals"]["posts"] == 1


def test_airflow_retries_what_could_not_be_booked(sandbox, hook, tmp_path):
    (tmp_path / "pacing").mkdir(mode=0o700)
    account = hook.account()
    (account.pacing_dir / file_name(account.name)).write_bytes(b"this is no database" * 100)
    with pytest.raises(AirflowException, match="daily_credits cannot be booked") as caught:
        hook.generate("a red bicycle")
    assert not isinstance(caught.value, AirflowFailException)
    assert str(tmp_path / "pacing") in str(caught.value)
    assert sandbox.report()["totals"]["posts"] == 0


def test_airflow_does_not_retry_what_a_folder_that_cannot_be_used_refuses(sandbox, hook, tmp_path):
    (tmp_path / "pacing").mkdir(mode=0o700)
    (tmp_path / "pacing").chmod(0o777)
    with pytest.raises(AirflowFailException, match=r"\[claid\] pacing_dir: got .*mode 0777.*[Cc]hmod 700"):
        hook.generate("a red bicycle")
    assert sandbox.report()["totals"]["posts"] == 0
