"""Which pictures were announced: none twice, none lost, through any order of arrival and any number of restarts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.delivery.watching import watermark as module
from airflow_provider_claid.delivery.watching.buckets import Entry
from airflow_provider_claid.delivery.watching.watermark import EPOCH, MOST_KEPT, Watermark

START = datetime(2026, 5, 1, tzinfo=UTC)
LATE = 3600


def entry(key, seconds, version="v1"):
    return Entry(key, 10, START + timedelta(seconds=seconds), version)


def restarted(mark):
    return Watermark.from_json(json.loads(json.dumps(mark.to_json())))


def announced(mark, entries, parts=1):
    """One look: return what is new in these and the mark after it, as the trigger moves it from event to event."""
    new = [each for each in entries if mark.is_new(each)]
    for part in range(parts):
        mark = mark.after(new[part::parts])
    return new, mark


@st.composite
def stories(draw, digits=0):
    """Objects with the second they were modified and the second they appeared in, and looks with restarts."""
    seconds = st.integers(0, 6 * 3600 * 10**digits).map(lambda ticks: ticks / 10**digits)
    times = draw(st.lists(st.tuples(seconds, st.integers(0, LATE)), min_size=1, max_size=25))
    objects = [
        (entry(f"{number % 7}", modified, f"v{number}"), modified + delay)
        for number, (modified, delay) in enumerate(times)
    ]
    looks = draw(st.lists(st.tuples(st.integers(0, 8 * 3600), st.booleans(), st.integers(1, 3)), max_size=12))
    return objects, [*sorted(looks), (10 * 3600, True, 1), (10 * 3600, False, 1)]


def told(story, mark):
    """Play a story; return what was announced, in order."""
    objects, looks = story
    everything = []
    for second, restart, parts in looks:
        new, mark = announced(mark, [each for each, appears in objects if appears <= second], parts)
        everything += new
        mark = restarted(mark) if restart else mark
    return everything


def names(entries):
    return sorted((each.key, each.version) for each in entries)


@given(stories())
def test_nothing_is_announced_twice_and_nothing_is_lost(story):
    assert names(told(story, Watermark())) == names(each for each, _ in story[0])


@given(stories(digits=6))
def test_so_it_is_where_the_store_tells_parts_of_a_second(story):
    assert names(told(story, Watermark())) == names(each for each, _ in story[0])


@given(stories(), st.integers(0, 6 * 3600))
def test_what_is_older_than_the_first_mark_is_left_out(story, since):
    since = START + timedelta(seconds=since)
    assert names(told(story, Watermark(since))) == names(each for each, _ in story[0] if each.modified >= since)


@given(stories() | stories(digits=6), st.integers(1, 4))
def test_nothing_is_announced_twice_where_more_came_than_is_kept(story, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_KEPT", most)
        everything = names(told(story, Watermark()))
    assert everything == sorted(set(everything))


@given(stories() | stories(digits=6), st.integers(1, 30))
def test_the_mark_never_moves_back_and_no_more_is_kept_than_may_be(story, most):
    mark = Watermark()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_KEPT", most)
        for each, _ in story[0]:
            _, after = announced(mark, [each])
            assert after.mark >= mark.mark
            assert len(after.kept) <= most
            assert all(modified >= after.mark for modified in after.kept.values())
            mark = after


def test_parts_of_a_second_do_not_repeat_a_picture_after_a_restart():
    mark = restarted(Watermark().after([entry("a", 100.9), entry("b", 3600.0)]))
    assert not mark.is_new(entry("a", 100.9))
    later = mark.after([entry("c", 3700.5)])
    assert not later.is_new(entry("a", 100.9))


def test_a_restart_after_an_overflow_repeats_nothing(monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    entries = [entry("a", 0), entry("b", 5), entry("c", 6)]
    mark = restarted(Watermark().after(entries))
    monkeypatch.undo()
    later = restarted(mark.after([entry("d", 3605)]))
    assert not any(later.is_new(each) for each in entries)


def test_what_is_written_again_is_new_by_its_version():
    mark = Watermark().after([entry("a", 0)])
    assert mark.is_new(entry("a", 0, "v2"))
    assert not mark.is_new(entry("a", 0, "v1"))


def test_what_is_written_again_with_the_same_bytes_is_announced_at_once_or_never():
    mark = Watermark().after([entry("a", 0)])
    again = entry("a", 1800)
    at_once, mark = announced(mark, [again])
    later, _ = announced(mark.after([entry("b", 3700)]), [again])
    assert at_once or not later


def test_a_name_and_a_version_are_not_mixed_up():
    mark = Watermark().after([Entry("a", 1, START, "bc")])
    assert mark.is_new(Entry("ab", 1, START, "c"))


def test_what_appears_an_hour_late_is_announced_and_later_it_counts_as_told():
    mark = Watermark().after([entry("a", 10_000)])
    assert mark.is_new(entry("b", 10_000 - LATE))
    assert not mark.is_new(entry("c", 10_000 - LATE - 1))


def test_a_picture_dated_in_the_future_does_not_hide_those_of_today():
    now = datetime.now(UTC)
    mark = restarted(Watermark().after([Entry("wrong clock", 1, now + timedelta(days=400), "v")]))
    assert mark.is_new(Entry("a", 1, now, "v"))
    assert not mark.is_new(Entry("wrong clock", 1, now + timedelta(days=400), "v"))


class Clock(datetime):
    """A clock that is put forward by hand."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + cls.ahead


def test_a_store_that_tells_no_time_has_its_pictures_announced_once(monkeypatch):
    monkeypatch.setattr(module, "datetime", Clock)
    mark = Watermark()
    entries = [Entry("0", 1, None, "v")]
    everything = []
    for hour in range(5):
        monkeypatch.setattr(Clock, "ahead", timedelta(hours=hour, minutes=hour))
        entries.append(Entry(f"{hour + 1}", 1, None, "v"))
        new, mark = announced(restarted(mark), entries)
        everything += new
    assert names(everything) == names(entries)


@pytest.mark.parametrize("key", ["caf\udce9.png", "a\0b.png", "ü 🖼.png", ""])
def test_any_name_can_be_announced(key):
    mark = restarted(Watermark().after([entry(key, 0)]))
    assert not mark.is_new(entry(key, 0))


def test_of_nothing_new_the_mark_stays_the_same():
    mark = Watermark().after([entry("a", 0)])
    assert mark.after([]) is mark or mark.after([]) == mark
    assert Watermark().after([]) == Watermark(EPOCH, {})


@pytest.mark.parametrize("number", [MOST_KEPT, MOST_KEPT + 1, 3 * MOST_KEPT])
def test_it_stays_small_enough_for_the_state_store_and_repeats_nothing(number):
    entries = [entry(f"folder/{number}.png", number % 3000) for number in range(number)]
    mark = Watermark().after(entries)
    assert len(mark.kept) <= MOST_KEPT
    assert len(json.dumps(mark.to_json()).encode()) < 65_535
    again = restarted(mark)
    assert not any(again.is_new(each) for each in entries)


def test_more_in_one_second_than_is_kept_is_not_repeated():
    entries = [entry(f"{number}.png", 0) for number in range(MOST_KEPT + 1)]
    mark = restarted(Watermark().after(entries))
    assert not any(mark.is_new(each) for each in entries)
    assert mark.is_new(entry("next.png", 1))


@given(stories())
def test_json_keeps_all_of_it(story):
    mark = Watermark().after([each for each, _ in story[0]])
    assert restarted(mark) == mark


GOOD = Watermark().after([entry("a", 0)]).to_json()
text = st.text(max_size=20)
nearly = st.fixed_dictionaries(
    {},
    optional={
        "schema": st.just(1) | st.integers() | st.none(),
        "mark": st.datetimes().map(datetime.isoformat)
        | st.sampled_from(["2026-05-01", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+05:00", GOOD["mark"]])
        | text
        | st.none(),
        "kept": st.sampled_from(["", "AAAA", "/" * 16, GOOD["kept"]]) | text | st.binary() | st.integers() | st.none(),
    },
)
garbage = nearly | text | st.none() | st.integers() | st.lists(text) | st.dictionaries(text, text)


@given(garbage)
def test_what_it_did_not_write_is_refused_or_works(value):
    try:
        mark = Watermark.from_json(value)
    except (ValueError, KeyError, TypeError):
        return
    assert mark.is_new(entry("a", 0)) in {True, False}
    restarted(mark.after([entry("b", 10)]))


@pytest.mark.parametrize(
    "change",
    [
        {"mark": "2026-05-01T00:00:00"},
        {"mark": "9999-12-31T23:59:59+00:00", "kept": "/" * 16},
        {"mark": 5},
        {"mark": None},
        {"kept": None},
        {"kept": "AAAA"},
        {"kept": "not base64!"},
        {"kept": GOOD["kept"][:-4]},
        {"schema": 2},
        {"schema": "1"},
        {"schema": None},
    ],
    ids=str,
)
def test_what_is_damaged_is_refused(change):
    with pytest.raises((ValueError, KeyError, TypeError)):
        Watermark.from_json({**GOOD, **change})


@pytest.mark.parametrize("name", ["schema", "mark", "kept"])
def test_what_is_not_all_there_is_refused(name):
    with pytest.raises((ValueError, KeyError, TypeError)):
        Watermark.from_json({other: value for other, value in GOOD.items() if other != name})


def test_pictures_of_one_second_are_all_announced_though_they_are_more_than_are_kept(monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 10)
    everything = [entry(f"{number:03}", 0) for number in range(25)]
    mark, told = Watermark(), []
    for _ in range(4):
        new = [each for each in everything if mark.is_new(each)]
        told += new[:8]
        mark = mark.after(new[:8], pending=new[8:])
    assert told == everything
    assert not [each for each in everything if mark.is_new(each)]
