"""The daily budget: refused before sending, given back where nothing was billed, kept where something may be."""

from __future__ import annotations

import multiprocessing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.api.errors import (
    ClaidBudgetError,
    ClaidNotSentError,
    ClaidUnknownOutcomeError,
    ClaidValidationError,
)
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.generate import generate
from airflow_provider_claid.delivery.sync import run
from airflow_provider_claid.pacing.budget import Budget, BudgetError, Spend
from airflow_provider_claid.pacing.sqlite import SQLiteStore, file_name
from airflow_provider_claid.pacing.store import MemoryStore
from tests.conftest import UNPACED, make_account
from tests.pacing_stores import age_mark


@pytest.fixture
def limited(sandbox, tmp_path):
    return make_account(sandbox.url, tmp_path, daily_credits=3)


def do(account, images=1):
    return run(generate(account, check_request("a red bicycle", images, 5.0, None)))


def posts(sandbox):
    return sandbox.report()["totals"]["posts"]


def test_what_exceeds_the_day_is_refused_before_sending_with_the_sum_and_the_limit(sandbox, limited):
    do(limited, images=2)
    with pytest.raises(ClaidBudgetError, match=r"2 of the 3 credits .* are spent or booked, too many for 2 more"):
        do(limited, images=2)
    assert posts(sandbox) == 1
    do(limited)
    with pytest.raises(ClaidBudgetError):
        do(limited)
    assert posts(sandbox) == 2


@pytest.mark.parametrize("status", [429, 422])
def test_credits_of_a_refusal_are_given_back(sandbox, limited, status):
    sandbox.fault("generate", "status", status=status)
    if status == 429:
        do(limited, images=3)
    else:
        with pytest.raises(ClaidValidationError):
            do(limited, images=3)
        do(limited, images=3)
    with pytest.raises(ClaidBudgetError):
        do(limited)


def test_credits_of_an_unknown_outcome_are_not_given_back(sandbox, limited):
    sandbox.fault("generate", "reset", when="after_billing")
    with pytest.raises(ClaidUnknownOutcomeError):
        do(limited, images=3)
    with pytest.raises(ClaidBudgetError):
        do(limited)


def test_it_fails_closed_where_it_cannot_be_booked(sandbox, limited):
    (limited.pacing_dir / file_name(limited.name)).write_bytes(b"this is no database" * 100)
    with pytest.raises(ClaidNotSentError, match="daily_credits cannot be booked"):
        do(limited)
    assert posts(sandbox) == 0


def book_many(folder, times, queue):
    store, booked = SQLiteStore(folder, "shared"), 0
    for _ in range(times):
        try:
            store.book(UNPACED, spend=Spend(2, 51))
            booked += 2
        except BudgetError:
            continue
    queue.put(booked)


def test_processes_reach_the_limit_together_and_never_exceed_it(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    folder = tmp_path / "pacing"
    folder.mkdir(mode=0o700)
    processes = [context.Process(target=book_many, args=(folder, 20, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    booked = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    assert sum(booked) == 50


def test_it_survives_a_reboot_which_the_schedule_does_not(tmp_path, monkeypatch):
    folder = tmp_path / "pacing"
    folder.mkdir(mode=0o700)
    SQLiteStore(folder, "one").book(UNPACED, spend=Spend(3, 4))
    monkeypatch.setattr("airflow_provider_claid.pacing.sqlite.boot_id", lambda: "another boot")
    age_mark(folder, 80)
    with pytest.raises(BudgetError):
        SQLiteStore(folder, "one").book(UNPACED, spend=Spend(2, 4))


def test_a_missed_slot_moves_its_credits_to_the_day_on_which_it_is_sent(monkeypatch):
    store, now = MemoryStore(), [86_399.0]
    monkeypatch.setattr("airflow_provider_claid.pacing.store.time.time", lambda: now[0])
    missed = store.book(UNPACED, spend=Spend(3, 3))
    now[0] += 2
    again = store.book(UNPACED, instead_of=missed, spend=Spend(3, 3))
    assert (missed.day, again.day) == ("1970-01-01", "1970-01-02")
    now[0] -= 2
    assert store.book(UNPACED, spend=Spend(3, 3)).day == "1970-01-01"


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=60), st.integers(1, 20))
def test_a_day_never_costs_more_than_its_limit_nor_less_than_nothing(steps, limit):
    budget, expected = Budget(), 0
    for refunded, credits in steps:
        if refunded:
            budget.refund("2026-01-01", credits)
            expected = max(0, expected - credits)
        else:
            try:
                budget.book("2026-01-01", Spend(credits, limit))
                expected += credits
            except BudgetError:
                assert expected + credits > limit
        assert budget.days.get("2026-01-01", 0) == expected <= limit
