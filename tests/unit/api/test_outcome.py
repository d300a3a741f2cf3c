"""The table of outcomes: what each failure means for the bill, and that only harmless ones may be repeated."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_claid import exceptions
from airflow_provider_claid.api import errors
from airflow_provider_claid.api.outcome import Outcome, of_answer, of_silence

TABLE = [
    (200, Outcome.ANSWER_LOST),
    (301, Outcome.REFUSED),
    (303, Outcome.UNKNOWN),
    (307, Outcome.REFUSED),
    (400, Outcome.REFUSED),
    (401, Outcome.UNAUTHENTICATED),
    (402, Outcome.NO_CREDITS),
    (403, Outcome.NOT_PERMITTED),
    (404, Outcome.REFUSED),
    (408, Outcome.UNKNOWN),
    (409, Outcome.REFUSED),
    (413, Outcome.REFUSED),
    (422, Outcome.INVALID),
    (429, Outcome.RATE_LIMITED),
    (500, Outcome.UNKNOWN),
    (502, Outcome.UNKNOWN),
    (503, Outcome.UNKNOWN),
    (504, Outcome.UNKNOWN),
    (599, Outcome.UNKNOWN),
]


@pytest.mark.parametrize(("status", "outcome"), TABLE)
def test_each_status_has_its_outcome(status, outcome):
    assert of_answer(status, readable=False) is outcome


def test_a_readable_success_is_done_and_billed():
    assert of_answer(200, readable=True) is Outcome.DONE
    assert Outcome.DONE.value.billed == "yes"


def test_silence_is_judged_by_whether_a_byte_left():
    assert of_silence(sent=False) is Outcome.NOT_SENT
    assert of_silence(sent=True) is Outcome.UNKNOWN


@pytest.mark.parametrize("status", range(200, 600))
def test_whatever_may_have_been_billed_is_never_retryable(status):
    verdict = of_answer(status, readable=False).value
    assert verdict.error is not None
    assert verdict.billed == "no" or not verdict.error.retryable


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.DONE])
def test_airflow_retries_exactly_what_is_retryable(outcome):
    face = getattr(exceptions, outcome.value.error.__name__)
    assert issubclass(face, AirflowFailException) is not face.retryable


def test_only_what_costs_nothing_or_was_allowed_by_max_submissions_is_retryable():
    retryable = {name for name in exceptions.__all__ if getattr(errors, name).retryable}
    costs_nothing = {"ClaidNotSentError", "ClaidRateLimitError", "ClaidUnavailableError", "ClaidUndeliveredError"}
    assert retryable == costs_nothing | {"ClaidBatchUnfinishedError", "ClaidLostAnswerError"}
