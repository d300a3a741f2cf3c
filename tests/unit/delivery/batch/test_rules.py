"""What a batch decides by itself."""

from __future__ import annotations

import pytest

from airflow_provider_claid.api.errors import (
    ClaidAuthenticationError,
    ClaidBatchError,
    ClaidBatchUnfinishedError,
    ClaidBudgetError,
    ClaidCreditsError,
    ClaidError,
    ClaidNotSentError,
    ClaidPermissionError,
    ClaidRateLimitError,
    ClaidUndeliveredError,
    ClaidUnknownOutcomeError,
    ClaidValidationError,
)
from airflow_provider_claid.delivery.batch.endings import ENDINGS, Counts
from airflow_provider_claid.delivery.batch.progress import WINDOW_SECONDS, Progress
from airflow_provider_claid.delivery.batch.rules import (
    NARROWEST,
    STOP_AFTER,
    WIDEST,
    Allowance,
    Breaker,
    Width,
    ending_of,
    verdict,
)
from airflow_provider_claid.delivery.records.submission import Submission
from airflow_provider_claid.pacing.schedule import Pace
from tests.unit.delivery.batch.conftest import intent, result

LOST = ClaidUnknownOutcomeError("gone", billed="unknown")
PACE = Pace(per_second=4, per_minute=120)


def counts(total=10, **endings):
    return Counts(total, dict.fromkeys(ENDINGS, 0) | endings, credits=3)


def submission(outcome):
    return Submission(intent().intent, None if outcome == "open" else result(outcome=outcome).result)


def judged(count, failed=0, on_filtered="fail", cause=None, *, again=False):
    return verdict(count, Allowance(failed), on_filtered, cause, again=again, uri="file:///m.jsonl")


class TestWidth:
    def test_it_follows_the_latency(self):
        width = Width(PACE)
        assert width.limit == NARROWEST + 48
        for _ in range(100):
            width.note(2.0)
        assert width.limit == NARROWEST + 13
        for _ in range(100):
            width.note(30.0)
        assert NARROWEST + 170 < width.limit <= NARROWEST + 180

    def test_it_has_bounds(self):
        assert Width(Pace(per_second=10_000, per_minute=1_000_000)).limit == WIDEST
        slow = Width(Pace(per_second=0.01, per_minute=120))
        assert slow.limit == NARROWEST + 1


class TestBreaker:
    @pytest.mark.parametrize(
        "kind",
        [ClaidAuthenticationError, ClaidCreditsError, ClaidPermissionError, ClaidBudgetError, ClaidNotSentError,
         ClaidRateLimitError],
    )  # fmt: skip
    def test_what_would_happen_to_all_stops_at_once(self, kind):
        error = kind("no")
        assert Breaker().cause(error, "no") is error

    def test_a_prompt_that_is_refused_does_not(self):
        breaker = Breaker()
        assert [breaker.cause(ClaidValidationError("no"), "no") for _ in range(50)] == [None] * 50

    def test_paid_and_undelivered_in_a_row_do(self):
        breaker = Breaker()
        assert [breaker.cause(LOST, "unknown") for _ in range(STOP_AFTER - 1)] == [None] * (STOP_AFTER - 1)
        assert breaker.cause(None, "yes") is None
        for _ in range(STOP_AFTER - 1):
            assert breaker.cause(LOST, "unknown") is None
        cause = breaker.cause(LOST, "unknown")
        assert type(cause) is ClaidBatchError
        assert "10 items in a row" in str(cause)

    def test_a_retry_helps_where_the_last_one_can_be_delivered_later(self):
        breaker = Breaker()
        causes = [breaker.cause(ClaidUndeliveredError("full", billed="yes"), "yes") for _ in range(STOP_AFTER)]
        assert type(causes[-1]) is ClaidBatchUnfinishedError

    def test_what_an_earlier_attempt_lost_does_not(self):
        breaker = Breaker()
        assert [breaker.cause(LOST, "no") for _ in range(50)] == [None] * 50


class TestAllowance:
    @pytest.mark.parametrize(
        ("allowed", "bad", "exceeded"),
        [(0, 0, None), (0, 1, 1), (2, 2, None), (2, 3, 3), (0.3, 3, None), (0.3, 4, 4), (0.05, 1, 1), (0.0, 1, 1)],
    )
    def test_a_count_or_a_share(self, allowed, bad, exceeded):
        assert Allowance(allowed).exceeded(counts(failed=bad, delivered=10 - bad), "fail") == exceeded

    def test_unknown_counts_as_failed_and_filtered_by_the_policy(self):
        count = counts(failed=1, unknown=1, filtered=1)
        assert Allowance(0).exceeded(count, "fail") == 3
        assert Allowance(0).exceeded(count, "skip") == Allowance(0).exceeded(count, "keep") == 2


@pytest.mark.parametrize(
    ("outcomes", "error", "ending"),
    [
        ([], None, "not_started"),
        ([], ClaidNotSentError("no"), "not_started"),
        ([], ClaidBudgetError("no"), "not_started"),
        (["unbilled"], ClaidRateLimitError("no"), "not_started"),
        (["unbilled"], ClaidValidationError("no"), "failed"),
        (["unbilled"], None, "not_started"),
        (["open"], None, "unknown"),
        (["unknown"], LOST, "unknown"),
        (["unknown"], ClaidNotSentError("no"), "unknown"),
        (["unknown", "unbilled"], ClaidValidationError("no"), "unknown"),
        (["done"], None, "failed"),
        (["unknown", "done"], ClaidError("no", billed="yes"), "failed"),
    ],
)
def test_how_an_item_stands_that_was_not_delivered(outcomes, error, ending):
    assert ending_of([submission(outcome) for outcome in outcomes], error) == ending


class TestVerdict:
    def test_all_delivered_is_success(self):
        assert judged(counts(delivered=10)) is None

    def test_what_was_not_begun_is_never_success(self):
        error = judged(counts(delivered=9, not_started=1), failed=9)
        assert type(error) is ClaidBatchUnfinishedError
        assert "9 delivered, 1 not started of 10 items for 3 credits" in str(error)
        assert "file:///m.jsonl" in str(error)

    def test_of_what_is_unknown_the_credits_are_the_most(self):
        error = judged(counts(3, delivered=2, unknown=1))
        assert "2 delivered, 1 unknown of 3 items for up to 3 credits" in str(error)

    @pytest.mark.parametrize(("again", "kind"), [(False, ClaidBatchError), (True, ClaidBatchUnfinishedError)])
    def test_too_many_failures(self, again, kind):
        error = judged(counts(delivered=8, failed=1, unknown=1), again=again, failed=1)
        assert type(error) is kind
        assert "2 of 10 items failed, max_failed=1" in str(error)

    def test_the_cause_comes_out_with_the_counts(self):
        cause = ClaidCreditsError("No credits left.", status=402)
        error = judged(counts(delivered=1, failed=1, not_started=8), cause=cause)
        assert error is cause
        assert error.status == 402
        assert "No credits left. The batch stopped: 1 delivered" in str(error)


class TestProgress:
    def test_it_tells_the_rate_of_the_last_minute_and_the_time_left(self):
        count = counts(1000)
        progress = Progress(0.0, 0)
        for second in range(0, 201, 10):
            count.endings["delivered"] = second * (1 if second <= 100 else 2)
            snapshot = progress.snapshot(float(second), count, 5)
        assert snapshot.rate == pytest.approx(2.0)
        assert snapshot.left == pytest.approx(300.0)
        assert len(progress._moments) <= WINDOW_SECONDS / 10 + 2
        text = snapshot.line(PACE)
        for part in ("400 of 1,000 items are done (40%)", "5 under way", "2.00 a second", "pace is 2.00", "0:05:00"):
            assert part in text

    def test_nothing_done_has_no_end(self):
        snapshot = Progress(0.0, 0).snapshot(0.0, counts(), 0)
        assert (snapshot.rate, snapshot.left) == (0.0, None)
        assert "left" not in snapshot.line(PACE)
