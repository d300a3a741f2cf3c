"""What a file may be called: counted in bytes, in every script, and equal where a file system takes it for equal."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.checks import Target, parse_target, split_file
from airflow_provider_claid.delivery.names import (
    AROUND,
    KEY_BYTES,
    NAME_BYTES,
    STEM_BYTES,
    check_key,
    check_name,
    disk_limit,
    name_key,
    room_in,
)

SCRIPTS = [
    "SKU 42+é",
    "हिन्दी",
    "क्‍ष",  # with a joiner
    "ผู้หญิง",
    "বাংলা",
    "র‍্যাব",
    "தமிழ்",
    "שָׁלוֹם",
    "مُحَمَّد",
    "می‌خواهم",  # Persian, with a non-joiner
    "ന്‍",  # Malayalam, with a joiner at the end
    "商品一覧",
    "Ελλάδα",
    "한국어",
    "葛\U000e0100城",  # a variant of a letter
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_names_in_every_script_are_accepted_in_both_forms_of_unicode(name):
    composed = unicodedata.normalize("NFC", name)
    for form in ("NFC", "NFD"):
        assert check_name(unicodedata.normalize(form, name)) == composed
        assert name_key(unicodedata.normalize(form, name)) == name_key(composed)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a/b", "U+002F (SOLIDUS), character 2. Folders go into save_to"),
        ("a\\b", "U+005C"),
        (".hidden", "U+002E (FULL STOP), character 1"),
        ("-rf", "U+002D"),
        ("_x", "U+005F"),
        ("\u0301a", "U+0301"),
        ("a\0", "U+0000"),
        ("a\n", "U+000A"),
        ("a\u202eb", "RIGHT-TO-LEFT OVERRIDE"),
        ("a\u200bb", "ZERO WIDTH SPACE"),
        ("a\u200db", "ZERO WIDTH JOINER"),
        ("a\u200d", "ZERO WIDTH JOINER"),
        ("\u200dक", "ZERO WIDTH JOINER), character 1"),
        ("क\u200d\u200dष", "ZERO WIDTH JOINER), character 3"),
        ("a\ufeffb", "U+FEFF"),
        ("a\u3164", "HANGUL FILLER"),
        ("a\u3000b", "IDEOGRAPHIC SPACE"),
        ("a:b", "COLON"),
        ("a🚲", "BICYCLE"),
        ("a\ud800", "U+D800 (a character without a name)"),
        (".png", "a picture's end only"),
        ("", "empty"),
        (None, "Give a text"),
        (True, "Give a text"),
        (b"x", "Give a text"),
        (4.2e16, "lost digits"),
    ],
)
def test_what_is_no_name_is_refused_by_the_character(name, says):
    with pytest.raises(ClaidInputError) as caught:
        check_name(name, "id")
    assert caught.value.field == "id"
    assert says in str(caught.value)
    assert not caught.value.retryable


@given(st.text(max_size=300))
def test_a_name_that_passes_fits_a_disk_with_all_that_is_added(text):
    try:
        stem = check_name(text)
    except ClaidInputError:
        return
    assert len(f"{stem}-xxxxxxxx-4.webp".encode()) <= NAME_BYTES
    assert stem == unicodedata.normalize("NFC", stem)
    assert check_name(stem + ".png") == stem
    assert "/" not in stem and stem[0].isalnum()


@given(st.text(st.sampled_from("aé商क़🚲 -"), min_size=200, max_size=260))
def test_a_name_is_refused_by_its_bytes_and_nothing_else(text):
    stem = unicodedata.normalize("NFC", "x" + text.replace("🚲", "̈"))
    assert (len(stem.encode()) <= STEM_BYTES) == is_accepted(stem)


def is_accepted(name, **options):
    try:
        check_name(name, **options)
    except ClaidInputError:
        return False
    return True


def test_a_disk_takes_the_longest_name_that_passes(tmp_path):
    for letter in ("x", "é", "商", "𠮷"):
        stem = letter * (STEM_BYTES // len(letter.encode()))
        assert not is_accepted(stem + letter)
        (tmp_path / f"{check_name(stem)}-xxxxxxxx-4.webp").write_bytes(b"")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (42, "42"),
        (42, "42.png"),
        (42.0, "42.JPEG"),
        ("A", "a"),
        ("straße", "STRASSE"),
        ("é", "e\u0301"),
        ("É.webp", "e\u0301"),
        ("Å", "\u212b"),
        ("ﬁ", "FI"),
        ("ς", "Σ"),
        (None, ""),
        (" ", None),
    ],
)
def test_names_of_one_file_have_one_key(one, other):
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(("one", "other"), [("42", "042"), ("a", "b"), ("a.png.png", "a"), ("می‌خواهم", "میخواهم")])
def test_names_of_two_files_have_two(one, other):
    assert name_key(one) != name_key(other)


@given(st.text(max_size=20))
def test_a_key_is_of_the_name_that_is_written(text):
    if is_accepted(text):
        assert name_key(text) == name_key(check_name(text)) == name_key(check_name(text).upper())


def target(folder):
    return parse_target(folder, None)


@pytest.mark.parametrize("scheme", ["s3", "gs", "abfs"])
@pytest.mark.parametrize("letter", ["x", "商"])
def test_a_key_of_an_object_store_has_1024_bytes(scheme, letter):
    folder = letter * (900 // len(letter.encode()))
    place = target(f"{scheme}://bucket/{folder}/")
    room = KEY_BYTES - len(f"{folder}/".encode()) - AROUND
    assert room_in(place) == room
    check_key(place, "x" * room, "filename")
    with pytest.raises(ClaidInputError, match=rf"filename: .*\({room + 1} bytes\); accepted is at most {room} bytes"):
        check_key(place, "x" * (room + 1), "filename")


def test_a_folder_that_takes_no_names_is_refused():
    assert target(f"s3://bucket/{'x' * 900}/")
    with pytest.raises(ClaidInputError, match="save_to: got a folder of 1001 bytes; accepted is at most 960"):
        target(f"s3://bucket/{'x' * 1000}/")
    with pytest.raises(ClaidInputError, match="at most 255 bytes of a folder's name"):
        target(f"file:///{'商' * 90}/")
    with pytest.raises(ClaidInputError, match="records_path: got a folder of"):
        parse_target(f"file:///{'x/' * 3000}", None, "records_path")


def test_where_no_limit_is_known_a_disks_holds():
    assert room_in(None) == room_in(Target("hdfs://cluster/x/", "hdfs")) == STEM_BYTES
    assert room_in(target("file:///tmp/"), disk=143) == 143 - AROUND


def test_the_disk_is_asked_also_for_a_folder_that_is_not_there_yet(tmp_path):
    most = min(os.pathconf(tmp_path, "PC_NAME_MAX"), NAME_BYTES)
    assert disk_limit(target(f"file://{tmp_path}/not/there/yet/")) == most
    assert disk_limit(target("s3://bucket/")) == disk_limit(None) == NAME_BYTES


def test_a_manifest_is_called_as_it_was_written():
    name = unicodedata.normalize("NFD", "é.png")
    assert split_file(f"s3://bucket/a/{name}.jsonl", "manifest_path", ".jsonl") == ("s3://bucket/a/", f"{name}.jsonl")
    for bad in ("x" * 201, "商" * 67, "a\u202eb"):
        with pytest.raises(ClaidInputError, match="manifest_path: got"):
            split_file(f"s3://bucket/a/{bad}.jsonl", "manifest_path", ".jsonl")
