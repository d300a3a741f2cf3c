"""Credits booked in a file: over processes, boots and lost files."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from airflow_provider_claid.pacing import fallback, sqlite
from airflow_provider_claid.pacing.budget import BudgetError, Spend, utc_day
from airflow_provider_claid.pacing.fallback import FallbackStore
from airflow_provider_claid.pacing.pacer import host_store
from airflow_provider_claid.pacing.schedule import Pace
from airflow_provider_claid.pacing.sqlite import SQLiteStore
from airflow_provider_claid.pacing.store import MemoryStore, StoreError
from tests.pacing_stores import age_mark
from tests.unit.pacing.conftest import spent, today

FAST = Pace(per_second=1000, per_minute=100_000)
ONE_A_MINUTE = Pace(per_second=1000, per_minute=1)


@pytest.fixture
def sqlite_store(pacing_dir):
    return SQLiteStore(pacing_dir, "account")


SPENDER = """
import sys
from pathlib import Path
from airflow_provider_claid.pacing.budget import BudgetError, Spend
from airflow_provider_claid.pacing.schedule import Pace
from airflow_provider_claid.pacing.sqlite import SQLiteStore
store, credits, booked = SQLiteStore(Path(sys.argv[1]), "account"), int(sys.argv[2]), 0
print("ready", flush=True); sys.stdin.readline()
for number in range(30):
    if number % 5 == 0:
        store.book(Pace(1000, 100_000))
    try:
        booking = store.book(Pace(1000, 100_000), spend=Spend(credits, 200))
    except BudgetError:
        continue
    if number % 10 == 9:
        store.refund(booking)
    else:
        booked += credits
print(booked)
"""


def test_processes_spend_exactly_the_limit(sqlite_store, pacing_dir):
    command = [sys.executable, "-c", SPENDER, str(pacing_dir)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    spenders = [subprocess.Popen([*command, str(credits)], **pipes) for credits in (1, 2, 3, 4, 1, 2, 3, 4)]
    assert [spender.stdout.readline() for spender in spenders] == ["ready\n"] * 8
    for spender in spenders:
        spender.stdin.write("\n")
        spender.stdin.flush()
    booked = sum(int(spender.communicate(timeout=60)[0]) for spender in spenders)
    assert booked == today(sqlite_store)
    assert booked <= 200
    sqlite_store.book(FAST, spend=Spend(200 - booked, 200))
    with pytest.raises(BudgetError):
        sqlite_store.book(FAST, spend=Spend(1, 200))


def test_a_forked_child_spends_of_the_same_budget(sqlite_store):
    sqlite_store.book(FAST, spend=Spend(1, 2))
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: sqlite_store.book(FAST, spend=Spend(1, 2)))
    child.start()
    child.join()
    assert child.exitcode == 0
    with pytest.raises(BudgetError):
        sqlite_store.book(FAST, spend=Spend(1, 2))


def test_the_budget_outlives_a_boot_and_the_schedule_does_not(pacing_dir, monkeypatch):
    SQLiteStore(pacing_dir, "account").book(ONE_A_MINUTE, spend=Spend(3, 4))
    monkeypatch.setattr(sqlite, "boot_id", lambda: "another boot")
    age_mark(pacing_dir, 80)
    store = SQLiteStore(pacing_dir, "account")
    assert store.book(ONE_A_MINUTE).due <= time.monotonic()
    with pytest.raises(BudgetError, match="3 of the 4 credits"):
        store.book(FAST, spend=Spend(2, 4))


def test_only_steps_with_credits_wait_for_the_disk_and_where_there_are_any_no_checkpoint_goes_without(sqlite_store):
    def level():
        return sqlite_store._connection.execute("PRAGMA synchronous").fetchone()[0]

    off, normal, full = range(3)
    sqlite_store.book(FAST)
    assert level() == off
    booking = sqlite_store.book(FAST, spend=Spend(1, 9))
    assert level() == full
    sqlite_store.book(FAST)
    assert level() == normal
    sqlite_store.disconnect()
    sqlite_store.book(FAST)
    assert level() == normal
    sqlite_store.refund(booking)
    assert level() == full


def test_a_process_killed_after_booking_has_spent(pacing_dir, sqlite_store):
    code = SPENDER.replace("print(booked)", "print(booked, flush=True); sys.stdin.readline()")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code, str(pacing_dir), "1"], **pipes)
    process.stdout.readline()
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "27\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert today(sqlite_store) == 27


def test_a_deleted_file_is_made_again_with_what_was_spent(sqlite_store, pacing_dir):
    sqlite_store.book(FAST, spend=Spend(3, 4))
    for file in pacing_dir.iterdir():
        file.unlink()
    with pytest.raises(BudgetError):
        sqlite_store.book(FAST, spend=Spend(2, 4))
    sqlite_store.book(FAST, spend=Spend(1, 4))
    assert spent(SQLiteStore(pacing_dir, "account")) == ({utc_day(time.time()): 4}, 2)


def test_what_was_spent_is_known_after_another_process_made_the_file_again(sqlite_store, pacing_dir):
    sqlite_store.book(FAST, spend=Spend(3, 4))
    for file in pacing_dir.iterdir():
        file.unlink()
    other = SQLiteStore(pacing_dir, "account")
    other.book(FAST, spend=Spend(1, 4))
    with pytest.raises(BudgetError, match="3 of the 4 credits"):
        sqlite_store.book(FAST, spend=Spend(2, 4))


def test_credits_that_another_process_gave_back_are_not_counted_again(sqlite_store, pacing_dir):
    booking = sqlite_store.book(FAST, spend=Spend(3, 4))
    sqlite_store.disconnect()
    SQLiteStore(pacing_dir, "account").refund(booking)
    assert sqlite_store.book(FAST, spend=Spend(4, 4)).credits == 4


def test_a_file_that_is_no_database_is_refused_once_and_then_made_again_with_what_was_spent(sqlite_store):
    sqlite_store.book(FAST, spend=Spend(3, 4))
    sqlite_store.disconnect()
    for file in sqlite_store.path.parent.iterdir():
        file.unlink()
    sqlite_store.path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        sqlite_store.book(FAST, spend=Spend(1, 4))
    sqlite_store.book(FAST, spend=Spend(1, 4))
    assert today(sqlite_store) == 4


def test_the_table_of_credits_is_not_touched_without_a_spend(sqlite_store):
    statements = []
    sqlite_store.book(FAST, spend=Spend(1, 4))
    sqlite_store._connection.set_trace_callback(statements.append)
    sqlite_store.book(FAST)
    assert statements
    assert not any("budget" in statement for statement in statements)


@pytest.fixture
def locked(sqlite_store, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    sqlite_store.book(FAST, spend=Spend(1, 9))
    sqlite_store.disconnect()
    holder = sqlite3.connect(sqlite_store.path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    yield
    holder.close()


@pytest.mark.usefixtures("locked")
def test_no_other_store_books_credits_while_the_first_fails(sqlite_store):
    second = MemoryStore()
    guarded = FallbackStore(sqlite_store, second)
    for _ in range(2):
        with pytest.raises(StoreError, match="locked"):
            guarded.book(FAST, spend=Spend(1, 9))
    assert spent(second) == ({}, 0)
    guarded.book(FAST)
    assert spent(second)[1] == 1


def test_credits_are_booked_again_at_once_when_the_first_store_works(sqlite_store):
    guarded = FallbackStore(sqlite_store, MemoryStore())
    sqlite_store.path.mkdir()
    guarded.book(FAST)
    sqlite_store.path.rmdir()
    assert time.monotonic() < guarded._again_at
    assert guarded.book(FAST, spend=Spend(1, 9)).credits == 1
    assert today(sqlite_store) == 1


def test_the_spare_folders_of_a_host_never_book_credits(tmp_path):
    broken = tmp_path / "open"
    broken.mkdir()
    broken.chmod(0o777)
    with pytest.raises(StoreError, match=f"{broken}.*chmod 700"):
        host_store(f"account of {tmp_path}", broken).book(FAST, spend=Spend(1, 9))


@pytest.mark.usefixtures("locked")
def test_credits_that_cannot_be_given_back_stay_booked_with_one_warning(sqlite_store, caplog):
    booking = fallback.Booking(0.0, 0.0, credits=1, day=utc_day(time.time()))
    guarded = FallbackStore(sqlite_store, MemoryStore())
    with caplog.at_level(logging.WARNING):
        guarded.refund(booking)
        guarded.refund(booking)
    assert len(caplog.records) == 1
    assert "stay booked" in caplog.text
