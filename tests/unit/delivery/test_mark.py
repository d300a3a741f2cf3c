"""Whose a stored picture is: pure rules."""

from __future__ import annotations

import re

from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_provider_claid.delivery.mark import Mark, names, picture_id, whose

HEX = st.text("0123456789abcdef", min_size=1, max_size=8)
NOTHING = st.just("")
MARKS = st.builds(Mark, owner=HEX | NOTHING, request_id=HEX | NOTHING, picture=HEX | NOTHING, sha256=HEX | NOTHING)


@given(MARKS, MARKS)
def test_only_the_very_picture_is_the_same_and_only_an_owner_replaces(there, wanted):
    found = whose(there, wanted)
    is_same = bool(wanted.picture) and (there.picture, there.sha256) == (wanted.picture, wanted.sha256)
    assert (found == "same") == is_same
    if found == "ours":
        assert there.owner == wanted.owner != ""


@given(MARKS)
def test_what_tells_nothing_of_itself_is_another_jobs(wanted):
    assert whose(Mark(), wanted) == "other"
    assert whose(Mark(sha256=wanted.sha256), Mark(owner="a", picture="b", sha256=wanted.sha256)) == "other"


@given(MARKS)
def test_metadata_tells_it_whatever_a_store_makes_of_the_case(mark):
    assert Mark.from_metadata({name.upper(): value for name, value in mark.metadata().items()}) == mark
    assert Mark.from_metadata({"other": "x"} | mark.metadata()) == mark


@given(st.text(max_size=300))
def test_metadata_is_what_every_store_takes(text):
    for name, value in Mark(text, text, text, text).metadata().items():
        assert re.fullmatch("[a-z0-9]+", name)
        assert re.fullmatch("[ -~]{1,128}", value)


@given(st.tuples(st.none() | st.text(), st.none() | st.text(), st.integers(1, 4)), st.data())
def test_a_picture_is_named_by_its_request_its_address_and_its_number(facts, data):
    other = data.draw(st.tuples(st.none() | st.text(), st.none() | st.text(), st.integers(1, 4)))
    assume(tuple(map(str, facts)) != tuple(map(str, other)) and not any("\0" in str(each) for each in facts + other))
    assert picture_id(*facts) != picture_id(*other)
    assert picture_id(*facts) == picture_id(*facts)


@given(st.text(min_size=1), st.integers(1, 4), st.sampled_from(["png", "jpg", "webp", "avif"]))
def test_the_name_of_its_own_is_nine_bytes_longer(stem, number, extension):
    plain, unique = names(stem, picture_id("request", "https://address", number), extension)
    assert plain == f"{stem}-{number}.{extension}"
    assert unique.startswith(f"{stem}-") and unique.endswith(f"-{number}.{extension}")
    assert len(unique.encode(errors="replace")) == len(plain.encode(errors="replace")) + 9
