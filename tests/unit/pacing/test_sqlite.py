"""The SQLite store survives what happens to files, processes, clocks and disks."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest

from airflow_provider_claid.pacing import fallback, sqlite
from airflow_provider_claid.pacing.fallback import FallbackStore
from airflow_provider_claid.pacing.schedule import Pace
from airflow_provider_claid.pacing.sqlite import SQLiteStore, check_folder, file_name, spare_folders
from airflow_provider_claid.pacing.store import MemoryStore, StoreError

ONE_A_MINUTE = Pace(per_second=1000, per_minute=1)
FAST = Pace(per_second=1000, per_minute=100_000)


@pytest.fixture
def sqlite_store(pacing_dir):
    return SQLiteStore(pacing_dir, "account")


@pytest.fixture
def guarded(sqlite_store):
    return FallbackStore(sqlite_store, MemoryStore())


def test_the_file_name_holds_no_account_and_no_key():
    assert "secret" not in file_name("secret")
    assert file_name("secret") != file_name("other")


def test_processes_share_one_schedule(pacing_dir):
    code = (
        "import json,sys\n"
        "from pathlib import Path\n"
        "from airflow_provider_claid.pacing.sqlite import SQLiteStore\n"
        "from airflow_provider_claid.pacing.schedule import Pace\n"
        "store = SQLiteStore(Path(sys.argv[1]), 'account')\n"
        "print(json.dumps([store.book(Pace(100, 10_000)).due for _ in range(100)]))\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(pacing_dir)], stdout=subprocess.PIPE) for _ in range(4)
    ]
    times = sorted(due for process in processes for due in json.loads(process.communicate()[0]))
    assert len(times) == 400
    assert all(later - earlier > 0.0104 for earlier, later in pairwise(times))


def test_a_forked_child_uses_a_connection_of_its_own(sqlite_store):
    first = sqlite_store.book(ONE_A_MINUTE)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=lambda: there.send(sqlite_store.book(ONE_A_MINUTE).due))
    child.start()
    assert here.recv() - first.due > 60.249
    child.join()
    assert child.exitcode == 0
    assert sqlite_store.book(ONE_A_MINUTE).due - first.due > 120.49


def test_a_fork_in_the_middle_of_a_step_harms_neither(sqlite_store, monkeypatch):
    sqlite_store.book(FAST)
    inside = threading.Event()
    real = sqlite_store._read

    def slow(connection):
        inside.set()
        time.sleep(0.3)
        return real(connection)

    monkeypatch.setattr(sqlite_store, "_read", slow)
    thread = threading.Thread(target=lambda: sqlite_store.book(ONE_A_MINUTE))
    thread.start()
    inside.wait()
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def child():
        sqlite_store.book(FAST)
        there.send("booked")

    process = context.Process(target=child)
    process.start()
    thread.join()
    assert here.poll(60)
    assert here.recv() == "booked"
    process.join()


def test_a_child_keeps_to_the_file_after_its_parent_has_ended(pacing_dir):
    code = (
        "import os, sys, time, json\n"
        "from pathlib import Path\n"
        "from airflow_provider_claid.pacing.sqlite import SQLiteStore\n"
        "from airflow_provider_claid.pacing.schedule import Pace\n"
        "store = SQLiteStore(Path(sys.argv[1]), 'account'); store.book(Pace(1000, 1))\n"
        "if os.fork(): os._exit(0)\n"
        "store.book(Pace(1000, 1)); print('child', flush=True)\n"
        "sys.stdin.readline(); print(store.book(Pace(1000, 1)).due, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(pacing_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "child\n"
    other = SQLiteStore(pacing_dir, "account")
    third = other.book(ONE_A_MINUTE).due
    other.disconnect()
    process.stdin.write("\n")
    process.stdin.flush()
    assert float(process.stdout.readline()) - third > 60.249
    process.stdin.close()
    process.stdout.close()
    process.wait()


def test_a_fresh_file_is_opened_by_many_at_once(pacing_dir):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from airflow_provider_claid.pacing.sqlite import SQLiteStore\n"
        "from airflow_provider_claid.pacing.schedule import Pace\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for n in range(24): SQLiteStore(Path(sys.argv[1]), f'account {n}').book(Pace(1000, 100_000))\n"
        "print('fine')\n"
    )
    command = [sys.executable, "-c", code, str(pacing_dir)]
    openers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    assert [opener.stdout.readline() for opener in openers] == ["ready\n"] * 6
    for opener in openers:
        opener.stdin.write("\n")
        opener.stdin.flush()
    assert [opener.communicate(timeout=60)[0] for opener in openers] == ["fine\n"] * 6


def test_processes_that_cannot_use_the_folder_share_another_of_this_host(tmp_path, monkeypatch):
    broken = tmp_path / "open"
    broken.mkdir()
    broken.chmod(0o777)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from airflow_provider_claid.pacing.pacer import host_store\n"
        "from airflow_provider_claid.pacing.schedule import Pace\n"
        "print(host_store(sys.argv[2], Path(sys.argv[1])).book(Pace()).due)\n"
    )
    command = [sys.executable, "-c", code, str(broken), f"account of {tmp_path}"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(8)]
    times = sorted(float(process.communicate()[0]) for process in processes)
    assert all(later - earlier > 4 * 0.25 for earlier, later in pairwise(times))
    for folder in spare_folders(broken):
        for file in folder.glob(f"{file_name(command[-1])}*"):
            file.unlink()


def test_without_any_store_processes_spread_their_first_requests():
    waits = [MemoryStore(start_within=16.0).book(Pace()).due - time.monotonic() for _ in range(50)]
    assert max(waits) > 4.0
    assert len({round(wait) for wait in waits}) > 5


def test_a_deleted_file_is_made_again_with_what_was_booked(sqlite_store, pacing_dir):
    first = sqlite_store.book(ONE_A_MINUTE)
    for file in pacing_dir.iterdir():
        file.unlink()
    assert sqlite_store.book(ONE_A_MINUTE).due - first.due > 60.249
    assert SQLiteStore(pacing_dir, "account").book(ONE_A_MINUTE).due - first.due > 120.49


def test_a_deleted_folder_is_made_again(sqlite_store, pacing_dir):
    first = sqlite_store.book(ONE_A_MINUTE)
    for file in pacing_dir.iterdir():
        file.unlink()
    pacing_dir.rmdir()
    assert sqlite_store.book(ONE_A_MINUTE).due - first.due > 60.249


def test_a_process_killed_while_it_holds_the_lock_blocks_nobody(sqlite_store):
    sqlite_store.book(FAST)
    code = (
        "import sqlite3,sys,time\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('BEGIN IMMEDIATE'); c.execute('UPDATE pace SET boot = 0')\n"
        "print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(sqlite_store.path)], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    # It raises where it had to wait for too long.
    sqlite_store.book(FAST)


def test_a_step_of_the_wall_clock_changes_nothing(sqlite_store, monkeypatch):
    first = sqlite_store.book(ONE_A_MINUTE)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert abs(sqlite_store.book(ONE_A_MINUTE).due - first.due - 60.25) < 0.01


def test_a_restored_older_file_is_used_as_it_is(sqlite_store, pacing_dir):
    first = sqlite_store.book(ONE_A_MINUTE)
    older = SQLiteStore(pacing_dir, "older")
    older.book(ONE_A_MINUTE)
    older.disconnect()
    sqlite_store.disconnect()
    os.replace(older.path, sqlite_store.path)
    assert sqlite_store.book(ONE_A_MINUTE).due - first.due > 60.249


def test_bookings_far_ahead_without_a_boot_id_are_dropped(pacing_dir, monkeypatch):
    monkeypatch.setattr(sqlite, "boot_id", lambda: "")
    store = SQLiteStore(pacing_dir, "account")
    store.book(FAST)
    store._step(lambda schedule, now, _: schedule.bookings.append(now + 9_000))
    assert store.book(ONE_A_MINUTE).due <= time.monotonic() + 61


def test_a_locked_file_means_a_share_and_one_warning(guarded, sqlite_store, monkeypatch, caplog):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(sqlite_store.path, isolation_level=None)
    holder.execute("PRAGMA journal_mode=WAL")
    holder.execute("BEGIN EXCLUSIVE")
    with caplog.at_level(logging.WARNING):
        times = [guarded.book(Pace()).due for _ in range(4)]
    holder.close()
    assert all(abs(later - earlier - 4 * 0.2625) < 0.001 for earlier, later in pairwise(times))
    assert times[0] - time.monotonic() > 0.5
    assert len(caplog.records) == 1
    assert "locked" in caplog.text


def test_a_full_disk_means_a_share_and_one_warning(guarded, sqlite_store, caplog):
    sqlite_store.book(FAST)
    # SQLite's own limit gives its own "disk is full", without filling this machine's.
    sqlite_store._connection.execute("PRAGMA max_page_count=1")
    with caplog.at_level(logging.WARNING):
        times = [guarded.book(Pace(1000, 100_000)).due for _ in range(1500)]
    assert "full" in caplog.text
    assert len(caplog.records) == 1
    assert times[-1] - times[-2] > 0.004


def test_the_store_is_tried_again_after_a_while(guarded, sqlite_store, monkeypatch):
    monkeypatch.setattr(fallback, "RETRY_SECONDS", 0.0)
    sqlite_store.path.mkdir()
    guarded.book(FAST)
    sqlite_store.path.rmdir()
    guarded.book(FAST)
    assert sqlite_store.path.is_file()


def test_a_file_that_is_no_database_is_replaced(guarded, sqlite_store, monkeypatch):
    monkeypatch.setattr(fallback, "RETRY_SECONDS", 0.0)
    sqlite_store.path.write_bytes(b"this is no database" * 100)
    guarded.book(FAST)
    assert SQLiteStore(sqlite_store.path.parent, "account").book(FAST).due > 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder of another user")
def test_another_users_folder_is_refused(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(StoreError, match="belongs to another user"):
        check_folder(folder)


def test_a_folder_that_others_can_write_is_refused(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(StoreError, match="chmod 700"):
        check_folder(folder)


def test_a_link_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StoreError, match="a link is not accepted"):
        check_folder(tmp_path / "link")
