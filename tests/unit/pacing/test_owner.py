"""One kernel at a time uses a pacing folder: what the marks say, on any file system, with any clocks."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_claid.pacing import owner as owner_module
from airflow_provider_claid.pacing import pacer as pacer_module
from airflow_provider_claid.pacing import sqlite
from airflow_provider_claid.pacing.owner import AHEAD, MARK, SILENCE, Mark, Owner, Watch
from airflow_provider_claid.pacing.pacer import host_store, pacer
from airflow_provider_claid.pacing.schedule import MINUTE, Pace
from airflow_provider_claid.pacing.sqlite import SQLiteStore, boot_id
from airflow_provider_claid.pacing.store import FolderError, NotYetError, OtherMachineError
from tests.pacing_stores import age_mark

FAST = Pace(per_second=1000, per_minute=100_000)
ONE_A_MINUTE = Pace(per_second=1000, per_minute=1)


class Kernels:
    """Kernels that see one folder, in virtual time; each has wall and monotonic clocks of its own."""

    def __init__(self, folder, monkeypatch):
        self.now, self.current = 1000.0, None
        self.skews = {}
        monkeypatch.setattr(owner_module, "time", self)
        self._folder = folder
        self._owners = {}

    def time(self):
        return 1.7e9 + self.now + self.skews.get(self.current, 0.0)

    def monotonic(self):
        return self.now + len(self.current) * 5000.0

    def sends(self, kernel, ahead=0.0):
        """Return whether a process of this kernel may send, which it then does `ahead` seconds from now."""
        self.current = kernel
        owner = self._owners.setdefault(kernel, Owner(self._folder, kernel))
        try:
            owner.check()
        except (NotYetError, OtherMachineError):
            return False
        owner.keep(ahead)
        return True


steps = st.lists(
    st.tuples(st.sampled_from(["a", "bb", "ccc"]), st.floats(0.01, 120.0), st.sampled_from([0.0, 0.0, 1.0, 60.0])),
    max_size=60,
)
skews = st.fixed_dictionaries({name: st.floats(-4, 4) for name in ("a", "bb", "ccc")})


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, skews)
def test_no_two_kernels_send_within_a_minute(tmp_path, monkeypatch, steps, skews):
    (tmp_path / MARK).unlink(missing_ok=True)
    with monkeypatch.context() as patch:
        kernels, sent = Kernels(tmp_path, patch), {}
        kernels.skews = skews
        for kernel, later, ahead in steps:
            kernels.now += later
            if kernels.sends(kernel, ahead):
                assert all(kernels.now - at > MINUTE for other, at in sent.items() if other != kernel)
                sent[kernel] = max(sent.get(kernel, 0.0), kernels.now + ahead)


@pytest.mark.parametrize("skew", [0.0, -3600.0, 3600.0, 1e9])
def test_of_two_kernels_that_are_busy_one_sends_whatever_their_clocks_say(tmp_path, monkeypatch, skew):
    kernels, sent = Kernels(tmp_path, monkeypatch), []
    kernels.skews = {"bb": skew}
    assert kernels.sends("a")
    for _ in range(4000):
        kernels.now += 0.25
        sent += [(kernels.now, kernel) for kernel in ("a", "bb") if kernels.sends(kernel)]
    changes = [later for (later, this), (_, last) in zip(sent[1:], sent, strict=False) if this != last]
    # A clock that is an hour behind makes a living kernel look dead once; it is heard of within seconds, and gives way.
    assert len(changes) <= (41 if skew > 0 else 0)
    assert all(at < 1020 for at in changes)


def test_a_mark_that_is_renewed_is_that_of_a_living_machine():
    watch = Watch("here")
    assert watch.seconds_left(Mark("x", "here", 100.0), 110.0, 5.0) == SILENCE - 10
    assert not watch.alive
    assert watch.seconds_left(Mark("x", "here", 112.0), 115.0, 10.0) == SILENCE - 3
    assert watch.alive
    assert watch.seconds_left(Mark("x", "here", 112.0), 115.0, 10.0 + SILENCE) == 0


@given(st.floats(-1e12, 1e12), st.booleans())
def test_a_mark_that_nobody_renews_is_waited_for_a_bounded_time(at, here):
    watch, mark = Watch("here"), Mark("x", "here" if here else "there", at)
    left = watch.seconds_left(mark, 0.0, 0.0)
    assert 0 <= left <= owner_module.SILENCE_ELSEWHERE + AHEAD
    assert watch.seconds_left(mark, -5.0, left) == 0


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"boot": 1}', "\x00" * 9, '{"boot": "a", "host": "b", "at": "x"}']
)
def test_what_is_no_mark_is_replaced(tmp_path, text):
    (tmp_path / MARK).write_text(text)
    owner = Owner(tmp_path, "a")
    owner.check()
    owner.keep(0.0)
    assert Mark.load((tmp_path / MARK).read_text()).boot == "a"


def another(pacing_dir, monkeypatch, boot="another boot"):
    """Return a store of another kernel on the same folder."""
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "boot_id", lambda: boot)
        return SQLiteStore(pacing_dir, "account")


def test_two_kernels_never_empty_each_others_schedule(pacing_dir, monkeypatch):
    one, other = SQLiteStore(pacing_dir, "account"), another(pacing_dir, monkeypatch)
    first = one.book(ONE_A_MINUTE)
    with pytest.raises(NotYetError, match="another boot or another machine"):
        other.book(ONE_A_MINUTE)
    assert one.book(ONE_A_MINUTE).at - first.at > 60.249
    with pytest.raises(OtherMachineError, match="pacing_conn_id"):
        other.book(ONE_A_MINUTE)
    assert one.book(ONE_A_MINUTE).at - first.at > 120.49


def test_after_a_reboot_the_schedule_is_empty_once_the_last_minute_is_over(pacing_dir, monkeypatch):
    SQLiteStore(pacing_dir, "account").book(ONE_A_MINUTE)
    age_mark(pacing_dir, 20)
    rebooted = another(pacing_dir, monkeypatch)
    with pytest.raises(NotYetError) as caught:
        rebooted.book(ONE_A_MINUTE)
    assert 0 < caught.value.seconds <= 2
    age_mark(pacing_dir, SILENCE - 20)
    fresh = another(pacing_dir, monkeypatch)
    assert fresh.book(ONE_A_MINUTE).due <= time.monotonic()


def test_who_was_silent_and_lost_the_folder_does_not_take_it_back(pacing_dir, monkeypatch):
    one, other = SQLiteStore(pacing_dir, "account"), another(pacing_dir, monkeypatch)
    one.book(FAST)
    age_mark(pacing_dir, SILENCE + 1)
    other.book(FAST)
    one._owner._proven_until = 0.0
    with pytest.raises(NotYetError):
        one.book(FAST)


def test_a_container_with_a_clock_of_its_own_is_another_machine():
    assert str(Path("/proc/self/ns/time").readlink()) in boot_id()


def test_a_request_waits_until_the_other_kernel_has_been_silent(pacing_dir, monkeypatch, caplog):
    monkeypatch.setattr(owner_module, "SILENCE", 1.0)
    SQLiteStore(pacing_dir, "waits").book(FAST)
    mark = Mark.load((pacing_dir / MARK).read_text())
    (pacing_dir / MARK).write_text(replace(mark, boot="an earlier boot").dump())

    async def send():
        before = time.monotonic()
        async with pacer("waits", FAST, pacing_dir).slot():
            return time.monotonic() - before

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(send()) > 0.5
    assert caplog.text.count("was used") == 1


@pytest.mark.parametrize("required", [True, False])
def test_who_needs_the_folder_is_refused_and_who_does_not_keeps_a_share(pacing_dir, monkeypatch, required):
    SQLiteStore(pacing_dir, "shared").book(FAST)
    monkeypatch.setattr(sqlite, "boot_id", lambda: "another boot")
    monkeypatch.setattr(pacer_module, "spare_folders", lambda _: [])
    store = host_store("shared", pacing_dir, required=required)
    if required:
        with pytest.raises(NotYetError):
            store.book(FAST)
        age_mark(pacing_dir, 1)
        with pytest.raises(FolderError):
            store.book(FAST)
    else:
        assert store.book(Pace()).due > time.monotonic()
