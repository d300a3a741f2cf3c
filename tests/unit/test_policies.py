"""The retry policy: what costs nothing is retried, when the server says, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_claid import exceptions
from airflow_provider_claid.exceptions import ClaidError, airflow_errors

policies = pytest.importorskip("airflow_provider_claid.policies", exc_type=(ImportError, AttributeError))

RETRIED = {
    "ClaidBatchUnfinishedError",
    "ClaidLostAnswerError",
    "ClaidNotSentError",
    "ClaidRateLimitError",
    "ClaidUnavailableError",
    "ClaidUndeliveredError",
}
INPUT = {"ClaidConfigurationError", "ClaidInputError"}
KINDS = sorted(set(exceptions.__all__) - {"ClaidError"})


def made(name, **facts):
    face = getattr(exceptions, name)
    return face("save_to", "x", "y") if name in INPUT else face("it failed", **facts)


def decide(exception):
    return policies.ClaidRetryPolicy().evaluate(exception, try_number=1, max_tries=3)


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_retried_or_failed(name):
    decision = decide(made(name))
    assert decision.action.value == ("retry" if name in RETRIED else "fail")
    assert name in decision.reason


@pytest.mark.parametrize("name", KINDS)
def test_the_policy_and_the_type_agree(name):
    from airflow.providers.common.compat.sdk import AirflowFailException

    assert issubclass(getattr(exceptions, name), AirflowFailException) == (name not in RETRIED)


@pytest.mark.parametrize("name", sorted(RETRIED))
def test_a_retry_waits_as_long_as_the_server_says(name):
    assert decide(made(name, retry_after=42.5)).retry_delay == timedelta(seconds=42.5)
    assert decide(made(name)).retry_delay is None


@pytest.mark.parametrize("seconds", [1e12, 1.7e12, float("inf"), 10**400, 31_536_000, -5, float("nan"), float("-inf")])
def test_no_wait_parks_a_task_or_overflows(seconds):
    error = made("ClaidRateLimitError", retry_after=seconds)
    for exception in (error, type("Odd", (type(error),), {"retry_after": seconds})("it failed")):
        delay = decide(exception).retry_delay
        assert delay is None or timedelta(0) <= delay <= timedelta(hours=1)


@pytest.mark.parametrize("name", sorted(set(KINDS) - RETRIED - INPUT))
def test_a_wait_makes_no_failure_a_retry(name):
    assert decide(made(name, retry_after=1.0)).action.value == "fail"


@pytest.mark.parametrize("exception", [ValueError("x"), KeyboardInterrupt()])
def test_what_is_not_of_claid_goes_by_the_tasks_settings(exception):
    assert decide(exception).action.value == "default"


def test_what_the_money_was_is_in_the_reason():
    assert "billed unknown" in decide(made("ClaidUnknownOutcomeError", billed="unknown")).reason


def test_the_kinds_of_the_core_are_decided_alike():
    with pytest.raises(ClaidError) as caught, airflow_errors():
        raise exceptions.ClaidRateLimitError("slow down", retry_after=3.0)
    core = type(caught.value).__bases__[0]("slow down", retry_after=3.0)
    assert decide(core).retry_delay == decide(caught.value).retry_delay == timedelta(seconds=3)
