"""The rules of the daily budget, whatever is booked and given back in whichever order."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.pacing.budget import KEPT_DAYS, Budget, BudgetError, Spend, utc_day

DAY = "2026-02-28"
amounts = st.integers(1, 4)
limits = st.integers(1, 40)


@given(limits, st.lists(amounts, max_size=40))
def test_a_day_never_costs_more_than_its_limit_and_refuses_only_what_exceeds_it(limit, requests):
    budget, spent = Budget(), 0
    for credits in requests:
        try:
            budget.book(DAY, Spend(credits, limit))
        except BudgetError as error:
            assert spent + credits > limit
            assert (error.day, error.spent, error.credits, error.limit) == (DAY, spent, credits, limit)
        else:
            spent += credits
        assert budget.days.get(DAY, 0) == spent <= limit


@given(limits, st.lists(amounts, max_size=20))
def test_what_is_given_back_can_be_spent_again(limit, requests):
    budget, booked = Budget(), []
    for credits in requests:
        try:
            budget.book(DAY, Spend(credits, limit))
        except BudgetError:
            continue
        booked.append(credits)
    for credits in booked:
        budget.refund(DAY, credits)
    assert budget.days.get(DAY, 0) == 0
    budget.book(DAY, Spend(limit, limit))


@given(st.dictionaries(st.sampled_from([DAY, "2026-03-01"]), st.integers(0, 9)), st.integers(0, 20))
def test_no_day_falls_below_nothing_and_no_other_day_changes(days, amount):
    budget = Budget(days)
    budget.refund(DAY, amount)
    assert budget.days == {day: max(0, spent - amount) if day == DAY else spent for day, spent in days.items()}


@given(st.lists(st.dates().map(str), min_size=1, max_size=40))
def test_few_days_are_kept_and_always_the_one_just_booked(days):
    budget = Budget()
    for day in days:
        budget.book(day, Spend(1, 100))
        assert budget.days[day] >= 1
        assert len(budget.days) <= KEPT_DAYS


def test_a_clock_that_is_wrong_for_a_while_does_not_forget_today():
    budget = Budget({DAY: 7})
    budget.book("1970-01-01", Spend(1, 10))
    budget.book("2106-02-07", Spend(1, 10))
    assert budget.days[DAY] == 7


def test_a_refusal_says_the_sum_the_limit_and_that_nothing_was_booked():
    with pytest.raises(BudgetError, match=r"^9 of the 10 credits of 2026-02-28 \(UTC\) .* 2 more; nothing was booked$"):
        Budget({DAY: 9}).book(DAY, Spend(2, 10))


def test_a_limit_that_was_lowered_below_the_sum_refuses():
    with pytest.raises(BudgetError):
        Budget({DAY: 9}).book(DAY, Spend(1, 5))


@given(st.dictionaries(st.dates().map(str), st.integers(0, 9)), st.dictionaries(st.dates().map(str), st.integers(0, 9)))
def test_a_replaced_place_counts_no_day_for_less_than_was_seen(found, seen):
    budget = Budget(found)
    budget.remember(Budget(seen))
    assert budget.days == {day: max(found.get(day, 0), seen.get(day, 0)) for day in found | seen}


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (datetime(2026, 2, 28, 23, 59, 59, 999_000, UTC), "2026-02-28"),
        (datetime(2026, 3, 1, tzinfo=UTC), "2026-03-01"),
    ],
)
def test_days_are_those_of_utc(moment, day, monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    assert utc_day(moment.timestamp()) == day


@given(st.dictionaries(st.dates().map(str), st.integers(0, 9)))
def test_a_dumped_budget_comes_back_as_it_was(days):
    assert Budget.load(Budget(days).dump()).days == days


@pytest.mark.parametrize("dumped", [b"", b"{", b"[]", b"{}", b'{"days": 3}', b'{"days": {"2026-02-28": null}}'])
def test_what_is_no_budget_is_refused(dumped):
    with pytest.raises(ValueError, match=r"."):
        Budget.load(dumped)
