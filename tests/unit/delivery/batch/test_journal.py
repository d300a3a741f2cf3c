"""The log of a batch: what is in it is there for good, in one order for all who write and read it."""

from __future__ import annotations

import json
import random
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_claid.api.errors import ClaidInputError, ClaidRecordsError
from airflow_provider_claid.delivery.batch import journal as journal_module
from airflow_provider_claid.delivery.batch.entries import Known, packed, unpacked
from airflow_provider_claid.delivery.batch.journal import MOST, Journal
from airflow_provider_claid.delivery.records.objects import open_objects
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from tests.unit.delivery.batch.conftest import PRINT, intent, result, target

TOTAL = 1000


def opened(place, done=lambda item: False, fingerprint=PRINT):
    journal = Journal(open_objects(place), "key")
    journal.open(fingerprint, TOTAL, done)
    return journal


def states(journal, item=0):
    return [each.state for each in journal.known(item)]


def segments(folder):
    return sorted(path for path in (folder / "batch" / "key").iterdir() if path.name.isdigit())


@pytest.fixture
def local(tmp_path):
    return target(tmp_path)


def test_entries_are_read_as_they_were_written():
    entries = [intent(), result(), intent(7, 2, "other"), result(7, 2, "other", "unknown")]
    assert list(unpacked(packed(entries), "here")) == entries


@pytest.mark.parametrize(
    "raw", [b"{", b"[]", b"null", b"\xff", b'{"item": 1}', b'{"item": 1, "number": 1, "intent": {}}']
)
def test_what_cannot_be_read_is_an_error_and_not_nothing(raw):
    with pytest.raises(ClaidRecordsError, match="here of a batch cannot be read"):
        list(unpacked(packed([intent()]) + raw, "here"))


def test_what_is_written_is_known_here_and_to_whoever_opens_it_later(place):
    journal = opened(place)
    assert journal.append(intent())
    assert states(journal) == ["open"]
    journal.append(result())
    for each in (journal, opened(place)):
        assert states(each) == ["done"]
        assert each.known(0)[0].result == result().result
        assert each.known(0)[0].where.endswith("key/000001")
        assert each.items() == [0]


def test_a_number_that_another_attempt_has_taken_is_refused(place):
    first, second = opened(place), opened(place)
    assert first.append(intent(token="first"))
    assert not second.append(intent(token="second"))
    assert second.known(0)[0].intent.token == "first"
    assert second.append(intent(1, token="second"))
    assert first.read(0, 1).intent.token == "first"
    assert first.append(intent(2, token="first"))
    assert [each.items() for each in (first, second, opened(place))] == [[0, 1, 2], [0, 1], [0, 1, 2]]


def test_a_result_of_another_attempt_is_seen_when_it_is_asked_for(place, monkeypatch):
    monkeypatch.setattr(journal_module, "REFRESH_SECONDS", 0.0)
    first, second = opened(place), opened(place)
    first.append(intent())
    assert second.read(0, 1).state == "open"
    first.append(result())
    assert second.read(0, 1).state == "done"
    assert second.read(0, 2) is None


def test_a_loss_replaces_no_other_end_and_any_end_replaces_a_loss(local):
    journal = opened(local)
    journal.append(intent())
    for outcome, state in (("unknown", "unknown"), ("done", "done"), ("unknown", "done")):
        journal.append(result(outcome=outcome))
        assert states(journal) == states(opened(local)) == [state]


def test_the_result_of_another_intent_counts_for_nothing(local):
    journal = opened(local)
    journal.append(intent())
    journal.append(result(token="theirs"))
    assert states(journal) == states(opened(local)) == ["open"]


def test_entries_that_come_at_once_share_segments(local, tmp_path, monkeypatch):
    journal = opened(local)
    create, entered, go_on = journal._objects.create, threading.Event(), threading.Event()

    def slow(*given):
        entered.set()
        go_on.wait(60)
        return create(*given)

    monkeypatch.setattr(journal._objects, "create", slow)
    with ThreadPoolExecutor(80) as pool:
        appended = [pool.submit(journal.append, intent(0))]
        entered.wait(60)
        appended += [pool.submit(journal.append, intent(item)) for item in range(1, 80)]
        while len(journal._queue) < 79:
            pass
        # A look at what is known waits for no store.
        assert journal.known(0) == []
        go_on.set()
        assert all(each.result() for each in appended)
    sizes = [len(path.read_bytes().splitlines()) for path in segments(tmp_path)]
    assert sizes == [1, MOST, MOST, 79 - 2 * MOST]
    assert sorted(opened(local).items()) == list(range(80))


def test_threads_of_two_attempts_write_one_log(local, tmp_path):
    attempts = [opened(local), opened(local)]

    def job(each):
        who, item = each
        if attempts[who].append(intent(item, token=str(who))):
            attempts[who].append(result(item, token=str(who)))
            return item
        return None

    jobs = [(who, item) for item in range(100) for who in (0, 1)]
    random.Random(1).shuffle(jobs)
    with ThreadPoolExecutor(16) as pool:
        won = [item for item in pool.map(job, jobs) if item is not None]
    assert sorted(won) == list(range(100))
    for each in (opened(local), opened(local)):
        assert all(states(each, item) == ["done"] for item in range(100))


writes = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 2),
        st.sampled_from(["claim", "claim", "done", "unknown", "unbilled", "look", "busy", "answered badly"]),
    ),
    max_size=30,
)


class Shaky:
    """A place that fails as it is told: before a create is carried out, or after it."""

    def __init__(self, objects):
        self._objects = objects
        self.uri = objects.uri
        self.trouble = None

    def create(self, name, data):
        trouble, self.trouble = self.trouble, None
        if trouble == "busy":
            raise StoreBusyError("busy")
        created = self._objects.create(name, data)
        if trouble:
            raise StoreBusyError("answered badly")
        return created

    def __getattr__(self, name):
        return getattr(self._objects, name)


def written(journal, entry):
    try:
        return journal.append(entry)
    except StoreBusyError:
        return None


def take(attempt, token, item, step, claimed):
    if step == "look":
        attempt.read(item, 1)
    elif step == "claim":
        if written(attempt, intent(item, token=token)):
            assert claimed.setdefault(item, token) == token
    elif claimed.get(item) == token:
        written(attempt, result(item, token=token, outcome=step))


@settings(max_examples=40, deadline=None)
@given(writes, st.booleans())
def test_any_interleaving_of_two_attempts_reads_back_the_same(steps, gives_up):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr("airflow_provider_claid.delivery.backoff.STORE_TRIES", 1 if gives_up else 2)
        patched.setattr(journal_module, "REFRESH_SECONDS", -1.0)
        place = target(Path(folder))
        stores = [Shaky(open_objects(place)), Shaky(open_objects(place))]
        attempts = [Journal(store, "key") for store in stores]
        for attempt in attempts:
            attempt.open(PRINT, TOTAL, lambda item: False)
        claimed = {}
        for who, item, step in steps:
            if step in {"busy", "answered badly"}:
                stores[who].trouble = step
            else:
                take(attempts[who], f"attempt {who}", item, step, claimed)
        for item in range(3):
            for attempt in attempts:
                attempt.read(item, 1)
            fresh = opened(place)
            assert fresh.known(item) == attempts[0].known(item) == attempts[1].known(item)
            if item in claimed:
                assert fresh.known(item)[0].intent.token == claimed[item]


def test_a_create_that_was_carried_out_and_answered_badly_is_known_again(local, tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_provider_claid.delivery.backoff.STORE_TRIES", 1)
    journal = opened(local)
    journal._objects = Shaky(journal._objects)
    journal._objects.trouble = "answered badly"
    with pytest.raises(StoreBusyError):
        journal.append(intent())
    assert journal.append(intent())
    assert len(segments(tmp_path)) == 1
    assert states(journal) == ["open"]


def test_all_who_wait_for_a_segment_hear_that_the_store_fails_and_may_try_again(local, monkeypatch):
    journal = opened(local)
    create = journal._objects.create

    def failing(*_):
        raise StoreBusyError("the disk is on fire")

    monkeypatch.setattr(journal._objects, "create", failing)
    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(journal.append, intent(item)) for item in range(8)]:
            with pytest.raises(StoreBusyError, match="on fire"):
                each.result()
    assert journal.items() == []
    monkeypatch.setattr(journal._objects, "create", create)
    assert journal.append(intent(3))
    assert opened(local).items() == [3]


def test_a_store_that_is_busy_for_a_moment_is_asked_again(local, monkeypatch):
    journal, fails = opened(local), iter([True, True, False])
    create = journal._objects.create

    def busy_at_first(*given):
        if next(fails):
            raise StoreBusyError("busy")
        return create(*given)

    monkeypatch.setattr(journal._objects, "create", busy_at_first)
    assert journal.append(intent())


def test_another_batch_in_the_same_place_is_refused_with_both_fingerprints(place):
    opened(place)
    with pytest.raises(ClaidInputError) as caught:
        opened(place, fingerprint="b" * 32)
    assert "a" * 32 in str(caught.value)
    assert "b" * 32 in str(caught.value)
    assert "reuse=False and another manifest_path" in str(caught.value)


@pytest.mark.parametrize("name", ["head", "000001"])
@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"schema": 99}'])
def test_garbage_in_the_log_is_an_error_and_not_an_empty_log(local, tmp_path, name, raw):
    opened(local).append(intent())
    (tmp_path / "batch" / "key" / name).write_bytes(raw)
    with pytest.raises(ClaidRecordsError, match=f"key/{name}"):
        opened(local)


def test_a_segment_that_is_there_and_may_not_be_read_is_no_permission(local, monkeypatch):
    first, second = opened(local), opened(local)
    first.append(intent(token="theirs"))
    monkeypatch.setattr(second._objects, "get", lambda _: None)
    with pytest.raises(ClaidRecordsError, match="needs the rights"):
        second.append(intent())


class TestSettled:
    """Items of which the manifest tells all are forgotten, and not read again."""

    def finished(self, place, items):
        journal = opened(place, done=lambda item: item in self.final)
        for item in items:
            journal.append(intent(item))
            journal.append(result(item))
        return journal

    @pytest.fixture(autouse=True)
    def _nothing_final(self):
        self.final = set()

    def reopened(self, place, monkeypatch):
        read, get = [], type(open_objects(place)).get

        def noted(objects, name):
            read.append(name.rpartition("/")[2])
            return get(objects, name)

        with monkeypatch.context() as patched:
            patched.setattr(type(open_objects(place)), "get", noted)
            return opened(place, done=lambda item: item in self.final), {int(name) for name in read if name.isdigit()}

    def test_what_is_settled_is_forgotten_and_not_read_again(self, place, monkeypatch):
        journal = self.finished(place, range(4))
        self.final = {0, 1, 2}
        journal.settle([0, 1, 2])
        assert journal.items() == [3]
        again, read = self.reopened(place, monkeypatch)
        assert again.items() == [3]
        assert min(read) == 7
        assert again.append(intent(9))

    def test_an_item_that_is_not_final_holds_back_what_comes_after_it(self, place, monkeypatch):
        journal = self.finished(place, range(4))
        self.final = {1, 2, 3}
        journal.settle([1, 2, 3])
        again, read = self.reopened(place, monkeypatch)
        assert again.items() == [0]
        assert min(read) == 1

    @pytest.mark.parametrize("lost", [{0, 1, 2, 3}, {1}])
    def test_a_manifest_that_lost_lines_makes_nothing_look_new(self, place, monkeypatch, lost):
        journal = self.finished(place, range(4))
        self.final = {0, 1, 2, 3}
        journal.settle([0, 1, 2, 3])
        self.final -= lost
        again, read = self.reopened(place, monkeypatch)
        assert sorted(again.items()) == sorted(lost)
        assert all(states(again, item) == ["done"] for item in lost)
        assert min(read) == 1

    def test_items_that_were_not_begun_do_not_matter(self, place, monkeypatch):
        journal = self.finished(place, (0, 2))
        self.final = {0, 2}
        journal.settle([0, 2])
        again, read = self.reopened(place, monkeypatch)
        assert again.items() == []
        assert min(read) == 5

    def test_what_one_attempt_settled_holds_for_the_next(self, place, monkeypatch):
        journal = self.finished(place, range(2))
        self.final = {0, 1}
        journal.settle([0, 1])
        opened(place, done=lambda item: item in self.final).settle([])
        self.final = {0}
        again, _ = self.reopened(place, monkeypatch)
        assert again.items() == [1]

    @pytest.mark.parametrize(
        "raw", [b"", b"garbage", b"[]", b'{"segment": 9}', b'{"segment": "x", "items": 1, "rest": []}']
    )
    def test_a_mark_that_cannot_be_read_only_costs_time(self, place, monkeypatch, raw):
        journal = self.finished(place, range(2))
        journal._objects.put("key/settled", raw)
        again, _ = self.reopened(place, monkeypatch)
        assert sorted(again.items()) == [0, 1]

    def test_what_comes_while_it_is_settled_is_not_skipped(self, local):
        """Segments are taken in and settled by threads of their own."""
        journal = opened(local, done=lambda item: item in self.final)
        stop = threading.Event()

        def settle_on():
            while not stop.is_set():
                journal.settle([])

        settling = threading.Thread(target=settle_on)
        settling.start()
        for item in range(60):
            journal.append(intent(item))
        stop.set()
        settling.join()
        journal.settle([])
        assert json.loads(journal._objects.get("key/settled"))["segment"] == 0
        assert sorted(opened(local).items()) == list(range(60))


def test_a_segment_that_is_gone_is_not_taken_for_the_end(place):
    """What later ones tell would be paid again."""
    journal = opened(place)
    for item in range(20):
        journal.append(intent(item))
    get = journal._objects.get
    for gone in (1, 3, 17):
        journal._objects.get = lambda name, gone=gone: None if name == f"key/{gone:06d}" else get(name)
        with pytest.raises(ClaidRecordsError, match=f"key/{gone:06d} of a batch is gone"):
            Journal(journal._objects, "key").open(PRINT, TOTAL, lambda item: False)


def test_a_gap_that_is_longer_than_what_is_read_at_once_is_found_by_what_was_settled(place):
    """A rule of the bucket that deletes what is old, say; the first item is not done, so nothing counts as settled."""
    journal = opened(place)
    for item in range(40):
        journal.append(intent(item))
    journal.settle([1, 2])
    assert json.loads(journal._objects.get("key/settled"))["segment"] == 0
    get = journal._objects.get
    for gone in (range(1, 31), range(3, 31), range(30, 41)):
        names = {f"key/{number:06d}" for number in gone}
        journal._objects.get = lambda name, names=names: None if name in names else get(name)
        with pytest.raises(ClaidRecordsError, match=f"key/{gone[0]:06d} of a batch is gone"):
            Journal(journal._objects, "key").open(PRINT, TOTAL, lambda item: item in {1, 2})


def test_one_that_is_written_while_it_is_read_is_no_gap(local):
    journal = opened(local)
    for item in range(4):
        journal.append(intent(item))
    get, asked = journal._objects.get, []

    def late(name):
        asked.append(name)
        return None if name == "key/000002" and asked.count(name) == 1 else get(name)

    journal._objects.get = late
    again = Journal(journal._objects, "key")
    again.open(PRINT, TOTAL, lambda item: False)
    assert again.items() == [0, 1, 2, 3]


def test_a_log_that_is_shorter_than_what_was_settled_has_lost_its_end(place):
    journal = opened(place, done=lambda item: True)
    for item in range(4):
        journal.append(intent(item))
        journal.append(result(item))
    journal.settle([0, 1, 2, 3])
    get = journal._objects.get
    journal._objects.get = lambda name: None if name > "key/000002" and name[4:].isdigit() else get(name)
    with pytest.raises(ClaidRecordsError, match="key/000003 of a batch is gone"):
        Journal(journal._objects, "key").open(PRINT, TOTAL, lambda item: False)


def test_the_same_entries_give_the_same_answer_however_often_they_come():
    entries = [intent(), intent(token="late"), result(outcome="unknown"), result(), result(outcome="unknown")]
    once, twice = Known(), Known()
    for entry in entries:
        once.add(entry, 1, "here")
    for entry in entries + entries:
        twice.add(entry, 1, "here")
    assert once.of(0) == twice.of(0)
    assert (once.of(0)[0].intent.token, once.of(0)[0].state) == ("mine", "done")
