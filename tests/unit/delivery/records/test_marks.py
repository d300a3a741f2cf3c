"""The marks of attempts: which place is right, which is lost, and what a person's clearing permits."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_claid.api.errors import ClaidNotSentError, ClaidRecordsError
from airflow_provider_claid.delivery.checks import parse_target
from airflow_provider_claid.delivery.records import objects as objects_module
from airflow_provider_claid.delivery.records.attempts import UNKNOWN, Try
from airflow_provider_claid.delivery.records.marks import (
    STATE_KEY,
    begin,
    begin_in_state,
    require_mark,
    tell,
    told_to,
)
from airflow_provider_claid.delivery.records.objects import open_objects
from airflow_provider_claid.delivery.records.state import StateStore
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from tests.unit.delivery.records.test_task_state import Store

KEY = "0123456789abcdef0123"


def unknown():
    return UNKNOWN


def place_of(folder):
    folder.mkdir()
    return open_objects(parse_target(f"file://{folder}/", None))


@pytest.fixture
def place(tmp_path):
    return place_of(tmp_path / "records")


@pytest.fixture
def state():
    return StateStore(Store())


def test_a_first_try_leaves_its_mark_and_a_retry_finds_it(place, tmp_path):
    first = begin(place, KEY, Try(1, 3, 3), unknown)
    assert (first.number, first.generation) == (1, 0)
    assert [path.name for path in (tmp_path / "records" / KEY).iterdir()] == ["1.attempt"]
    retry = begin(place, KEY, Try(2, 3, 3), unknown)
    assert (retry.number, retry.generation) == (2, 0)
    cleared = begin(place, KEY, Try(3, 5, 3), unknown)
    assert (cleared.number, cleared.generation) == (3, 1)


@pytest.mark.parametrize("number", [1, 2])
def test_a_mark_that_a_store_has_written_and_answered_badly_is_this_attempts_own(place, monkeypatch, number):
    for earlier in range(1, number):
        begin(place, KEY, Try(earlier, 3, 3), unknown)
    create = place.create

    def answered_badly(name, data):
        if create(name, data):
            raise StoreBusyError("no answer came")
        return False

    monkeypatch.setattr(objects_module, "_proven", set())
    monkeypatch.setattr(place, "create", answered_badly)
    assert begin(place, KEY, Try(number, 3, 3), unknown).number == number


def test_the_same_try_twice_has_two_marks_of_one_generation(place):
    begin(place, KEY, Try(1, 3, 3, born=4), unknown)
    twice = [begin(place, KEY, Try(2, 3, 3, born=5), unknown) for _ in range(2)]
    assert [(each.number, each.generation) for each in twice] == [(2, 0), (3, 0)]


def test_processes_that_begin_at_once_have_numbers_of_their_own(place):
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: attempt_or_none(place, Try(1, 9, 9, born=5)), range(8)))
    assert sorted(each.number for each in results if each) == [1, 2, 3, 4, 5, 6, 7, 8]


def attempt_or_none(place, now):
    try:
        return begin(place, KEY, now, unknown)
    except ClaidNotSentError:
        return None


def test_a_retry_in_an_empty_place_is_refused_until_a_person_clears_the_task(place):
    with pytest.raises(ClaidRecordsError, match="no earlier try of this task has left a mark") as caught:
        begin(place, KEY, Try(2, 3, 3), unknown)
    assert (caught.value.billed, caught.value.retryable) == ("unknown", False)
    with pytest.raises(ClaidRecordsError, match="no earlier try"):
        begin(place, KEY, Try(3, 3, 3), unknown)
    cleared = begin(place, KEY, Try(4, 6, 3), unknown)
    assert cleared.generation == 1
    assert begin(place, KEY, Try(5, 6, 3), unknown).generation == 1


def test_what_is_restored_counts_and_nothing_is_refused(place, tmp_path):
    begin(place, KEY, Try(1, 3, 3), unknown)
    (tmp_path / "records").rename(tmp_path / "away")
    other = place_of(tmp_path / "records")
    with pytest.raises(ClaidRecordsError):
        begin(other, KEY, Try(2, 3, 3), unknown)
    (tmp_path / "records").rename(tmp_path / "wrong")
    (tmp_path / "away").rename(tmp_path / "records")
    assert begin(place, KEY, Try(3, 3, 3), unknown).generation == 0


def test_a_place_that_other_tasks_have_used_is_lost_too(place):
    begin(place, "another", Try(1, 3, 3), unknown)
    with pytest.raises(ClaidRecordsError):
        begin(place, KEY, Try(2, 3, 3), unknown)


def test_a_late_try_does_nothing(place):
    begin(place, KEY, Try(1, 3, 3, born=1), unknown)
    begin(place, KEY, Try(2, 3, 3, born=2), unknown)
    with pytest.raises(ClaidNotSentError, match="A later attempt of this task has begun"):
        begin(place, KEY, Try(1, 3, 3, born=1), unknown)


def test_where_airflow_keeps_it_a_retry_of_what_never_began_goes_on(place, state):
    assert begin(place, KEY, Try(2, 3, 3), told_to(state)).number == 1


def test_where_airflow_keeps_it_a_place_that_was_changed_is_named(place, state, tmp_path):
    begin(place, KEY, Try(1, 3, 3), told_to(state))
    tell(state, place.uri)
    with pytest.raises(ClaidRecordsError, match=f"Their records are in {place.uri}. Set records_path back"):
        begin(place_of(tmp_path / "other"), KEY, Try(2, 3, 3), told_to(state))


def test_records_that_were_in_the_state_store_are_not_looked_for_in_a_folder(place, state):
    begin_in_state(state, Try(1, 3, 3))
    with pytest.raises(ClaidRecordsError, match="Leave it out, and clear the task"):
        begin(place, KEY, Try(2, 3, 3), told_to(state))


def test_records_that_were_in_a_folder_are_not_looked_for_in_the_state_store(place, state):
    tell(state, place.uri)
    with pytest.raises(ClaidRecordsError, match=place.uri):
        begin_in_state(state, Try(2, 3, 3))
    with pytest.raises(ClaidRecordsError, match=place.uri):
        begin_in_state(state, Try(3, 3, 3))
    assert begin_in_state(state, Try(4, 6, 3)).generation == 1


def test_the_state_store_has_the_generations_too(state):
    steps = [Try(1, 3, 3), Try(2, 3, 3), Try(3, 5, 3), Try(3, 5, 3), Try(4, 5, 3)]
    found = [begin_in_state(state, now) for now in steps]
    assert [(each.number, each.generation) for each in found] == [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]
    assert len(state.get(STATE_KEY)["marks"]) == 5


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"schema": 99}', b"\xff"])
def test_a_mark_that_cannot_be_read_is_no_permission(place, raw):
    place.create(f"{KEY}/1.attempt", raw)
    for number in (1, 2):
        with pytest.raises(ClaidRecordsError, match=r"1\.attempt of an attempt cannot be read"):
            begin(place, KEY, Try(number, 3, 3), unknown)


def test_a_trigger_needs_the_mark_of_its_worker(place, tmp_path):
    attempt = begin(place, KEY, Try(1, 3, 3), unknown)
    require_mark(place, KEY, attempt.number)
    with pytest.raises(ClaidRecordsError, match="This triggerer sees another folder than the workers") as caught:
        require_mark(place_of(tmp_path / "other"), KEY, attempt.number)
    assert caught.value.billed == "unknown"


def test_a_mark_is_plain_json_of_a_schema(place, tmp_path):
    owner = begin(place, KEY, Try(1, 3, 3, None, 5), unknown).owner
    assert len(owner) == 20
    value = json.loads((tmp_path / "records" / KEY / "1.attempt").read_bytes())
    assert re.fullmatch("[0-9a-f]{32}", value.pop("token"))
    assert value == {
        "schema": 1,
        "number": 1,
        "generation": 0,
        "told": {"number": 1, "max_tries": 3, "retries": 3, "started": None, "born": 5},
        "refused": False,
        "owner": owner,
    }
