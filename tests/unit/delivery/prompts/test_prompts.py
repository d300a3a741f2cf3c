"""What a batch's prompts may be: lists, rows, ids, duplicates, and all that is refused before anything is paid."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.prompts.source import Defaults, source_of

DEFAULTS = Defaults()
GOOD = "a red bicycle"


def items(prompts, defaults=DEFAULTS, **options):
    with source_of(prompts, defaults, **options) as source:
        found = list(source)
        assert list(source) == found
        assert source.scan().total == len(found)
    return found


def refused(prompts, *, deduplicate=False, defaults=DEFAULTS, **options):
    with (
        pytest.raises(ClaidInputError) as caught,
        source_of(prompts, defaults, **options) as source,
    ):
        source.scan(deduplicate=deduplicate)
    assert "Nothing was sent." in str(caught.value)
    return caught.value


def test_a_list_may_hold_texts_and_mappings_and_gaps_get_the_defaults():
    defaults = Defaults(number_of_images=2, guidance_scale=7.5, output="storage://mine/folder/")
    given = [
        GOOD,
        {"prompt": "a blue bicycle", "id": "sku 1", "number_of_images": 4, "guidance_scale": 3},
        OrderedDict(prompt="a green bicycle", id=17, number_of_images="3", guidance_scale=" 2.5 "),
        {"prompt": "a gap", "id": None, "number_of_images": math.nan, "guidance_scale": ""},
        {"prompt": "a table's numbers", "id": 18.0, "number_of_images": 2.0},
    ]
    found = items(given, defaults)
    assert [item.index for item in found] == [0, 1, 2, 3, 4]
    assert [item.where for item in found] == ["item 1", "item 2", "item 3", "item 4", "item 5"]
    assert [item.id for item in found] == [None, "sku 1", "17", None, "18"]
    options = [item.request.options for item in found]
    assert [each.number_of_images for each in options] == [2, 4, 3, 2, 2]
    assert [each.guidance_scale for each in options] == [7.5, 3, 2.5, 7.5, 7.5]
    assert {item.request.output for item in found} == {"storage://mine/folder/"}
    assert items(tuple(given), defaults) == found


def test_numbers_dates_and_decimals_are_taken_as_texts_and_numbers():
    given = [
        20260101,
        {"prompt": Decimal(12345), "id": Decimal("42.0"), "number_of_images": Decimal(2)},
        {"prompt": date(2026, 1, 2), "id": date(2026, 1, 2), "guidance_scale": Decimal("7.5")},
    ]
    found = items(given)
    assert [(item.request.input, item.id) for item in found] == [
        ("20260101", None),
        ("12345", "42"),
        ("2026-01-02", "2026-01-02"),
    ]
    assert [item.request.options.number_of_images for item in found] == [1, 2, 1]
    assert found[2].request.options.guidance_scale == 7.5


@pytest.mark.parametrize("prompt", ["\u200b\u200b\u200b", "\ufeff \u2060 ", "\u3164\u3164\u3164", "a\0b", "a\x1bbc"])
def test_a_prompt_that_shows_nothing_or_has_control_characters_is_a_bad_row(prompt):
    error = str(refused([GOOD, prompt, {"prompt": prompt}]))
    assert error.count("prompt: got ") == 2
    assert "item 2: prompt: got " in error


def test_ids_have_the_room_of_their_folder():
    rows = [{"prompt": GOOD, "id": "商" * 40}]
    assert items(rows, Defaults(room=120))
    assert "It has 120 bytes" in str(refused(rows, defaults=Defaults(room=119)))


def test_ids_are_no_part_of_a_batch():
    prints = {source_of([{"prompt": GOOD, "id": name}], DEFAULTS).scan().fingerprint for name in (None, "a", "b", 42)}
    assert len(prints) == 1


def test_a_list_that_grows_afterwards_is_the_one_that_was_checked():
    prompts = [GOOD]
    with source_of(prompts, DEFAULTS) as source:
        assert source.scan().total == 1
        prompts.append("")
        assert [item.request.input for item in source] == [GOOD]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("ab", "prompt: got 'ab' (2 characters); accepted is a text of 3 to 1024"),
        ("", "prompt: got nothing"),
        ("   ", "prompt: got nothing"),
        ("x" * 1025, "(1025 characters)"),
        ("\ud800abc", "3 to 1024"),
        (None, "got None (NoneType); accepted is a text or a mapping"),
        (17, "prompt: got '17' (2 characters)"),
        (True, "got True (bool); accepted is a text or a mapping"),
        ([GOOD], "(list); accepted is a text or a mapping"),
        ({}, "prompt: got nothing"),
        ({"prompt": math.nan}, "prompt: got nothing"),
        ({"prompt": 4.2e16}, "lost digits"),
        ({"prompt": True}, "prompt: got True (bool)"),
        ({"prompt": [GOOD]}, "billed character by character"),
        ({"prompt": GOOD, "number_of_images": 5}, "number_of_images: got 5 (int); accepted is a whole number"),
        ({"prompt": GOOD, "number_of_images": "two"}, "number_of_images: got 'two'"),
        ({"prompt": GOOD, "number_of_images": 1.5}, "number_of_images: got 1.5"),
        ({"prompt": GOOD, "number_of_images": math.inf}, "number_of_images: got inf"),
        ({"prompt": GOOD, "number_of_images": True}, "number_of_images: got True"),
        ({"prompt": GOOD, "guidance_scale": "nan"}, "guidance_scale: got nan"),
        ({"prompt": GOOD, "guidance_scale": 50}, "guidance_scale: got 50"),
        ({"prompt": GOOD, "guidance_scale": False}, "guidance_scale: got False"),
        ({"prompt": GOOD, "id": "../escape"}, "id: got '../escape'; accepted is letters with their marks, digits"),
        ({"prompt": GOOD, "id": ".hidden"}, "id: got '.hidden'"),
        ({"prompt": GOOD, "id": "x" * 240}, "It has 240 bytes in UTF-8"),
        ({"prompt": GOOD, "id": "商" * 80}, "It has 240 bytes in UTF-8"),
        ({"prompt": GOOD, "id": True}, "id: got True"),
        ({"prompt": GOOD, "id": b"x"}, "id: got b'x'"),
        ({"prompt": GOOD, "id": -1}, "id: got '-1'"),
    ],
)
def test_a_bad_row_is_named_by_its_number_and_cell_or_left_out(row, says, caplog):
    error = refused([GOOD, row, GOOD])
    assert error.field == "prompts"
    (line,) = str(error).splitlines()[1:]
    assert line.startswith("item 2: ") and says in line
    with source_of([GOOD, row, "a last one"], DEFAULTS, on_bad_row="skip") as source:
        assert [(item.index, item.where, item.request.input) for item in source] == [
            (0, "item 1", GOOD),
            (1, "item 3", "a last one"),
        ]
        assert not caplog.records
        scan = source.scan()
    assert (scan.total, scan.skipped, scan.credits) == (2, 1, 2)
    assert says in scan.reasons[0]
    assert [record.args[0] for record in caplog.records if record.levelno == logging.WARNING] == list(scan.reasons)


def test_ten_bad_rows_are_told_in_one_error():
    rows = [GOOD, *["x"] * 3, GOOD]
    error = str(refused(rows))
    assert "got 3 bad rows" in error
    assert [f"item {number}:" in error for number in (1, 2, 3, 4, 5)] == [False, True, True, True, False]
    error = str(refused(["x"] * 10 + [GOOD]))
    assert "got 10 bad rows" in error
    assert error.count("item ") == 10
    error = str(refused(["x"] * 5000))
    assert "more than 10 bad rows" in error
    assert error.count("item ") == 10


def test_reading_without_a_scan_never_passes_a_bad_row():
    with source_of([GOOD, "x", GOOD], DEFAULTS) as source:
        stream = iter(source)
        assert next(stream).request.input == GOOD
        with pytest.raises(ClaidInputError, match=r"a bad row.*\nitem 2: prompt"):
            next(stream)


def test_of_many_skipped_rows_ten_are_told_and_the_rest_counted(caplog):
    with source_of([GOOD, *["x"] * 25], DEFAULTS, on_bad_row="skip") as source:
        scan = source.scan()
    assert (scan.total, scan.skipped, len(scan.reasons)) == (1, 25, 10)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 11
    assert messages[-1].startswith("25 bad rows of the prompts are left out, the 10 above")


def test_nothing_at_all_is_an_error():
    assert "an empty list" in str(refused([]))
    error = str(refused(["x", "y"], on_bad_row="skip"))
    assert "2 bad rows and no other" in error
    assert "item 1: prompt: got 'x'" in error


@pytest.mark.parametrize("on_bad_row", ["fail", "skip"])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("promt", "Did you mean 'prompt' by 'promt'?"),
        ("Prompt ", "Did you mean 'prompt'"),
        ("number_of_image", "Did you mean 'number_of_images'"),
        ("output_folder", "Leave it out"),
        ("", "Leave it out"),
        (7, "the unknown column 7"),
    ],
)
def test_an_unknown_key_is_never_skipped(name, says, on_bad_row):
    error = str(refused([GOOD, {"prompt": GOOD, name: "x"}], on_bad_row=on_bad_row))
    assert "in item 2; accepted is the columns prompt, id, number_of_images, guidance_scale" in error
    assert says in error


@pytest.mark.parametrize("on_bad_row", ["fail", "skip"])
@pytest.mark.parametrize(
    ("one", "other"), [("A", "a"), ("1", 1), ("straße", "STRASSE"), ("x.png", "X.jpg"), (2.0, "2"), ("é", "E\u0301")]
)
def test_ids_that_name_the_same_file_are_never_skipped(one, other, on_bad_row):
    rows = [GOOD, {"prompt": GOOD, "id": one}, GOOD, {"prompt": GOOD, "id": other}]
    error = str(refused(rows, on_bad_row=on_bad_row))
    assert "in item 4, which item 2 has too" in error


def test_the_id_of_a_skipped_row_is_free():
    rows = [{"prompt": "x", "id": "a"}, {"prompt": GOOD, "id": "A.png"}]
    assert [item.id for item in items(rows, on_bad_row="skip")] == ["A.png"]


def test_duplicates_are_paid_each_unless_they_are_looked_for():
    same, other = {"prompt": GOOD, "id": "b", "number_of_images": "1"}, {"prompt": GOOD, "number_of_images": 2}
    with source_of([GOOD, "another", same, other, GOOD, other], DEFAULTS) as source:
        every, once = source.scan(), source.scan(deduplicate=True)
    assert (every.total, every.credits, dict(every.duplicates)) == (6, 8, {})
    assert (once.total, once.credits, dict(once.duplicates)) == (6, 4, {2: 0, 4: 0, 5: 3})
    assert once.fingerprint == every.fingerprint


texts = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=3, max_size=20).filter(
    lambda text: any(map(str.isalnum, text))
)


@given(st.lists(texts, min_size=1, max_size=8), st.lists(texts, min_size=1, max_size=8))
def test_the_fingerprint_tells_lists_of_requests_apart(one, other):
    prints = [source_of(prompts, DEFAULTS).scan().fingerprint for prompts in (one, other, one)]
    assert all(len(each) == 32 and int(each, 16) >= 0 for each in prints)
    assert prints[0] == prints[2]
    assert (prints[0] == prints[1]) == (one == other)


def test_the_fingerprint_tells_options_apart_and_not_ids():
    """What is paid for can be delivered under a corrected id."""
    rows = [
        [{"prompt": GOOD}],
        [{"prompt": GOOD, "number_of_images": 2}],
        [{"prompt": GOOD, "guidance_scale": 6}],
    ]
    prints = [source_of(each, DEFAULTS).scan().fingerprint for each in rows]
    prints.append(source_of([GOOD], Defaults(output="storage://x/")).scan().fingerprint)
    assert len(set(prints)) == 4
    named = [{"prompt": GOOD, "id": "a"}], [{"prompt": GOOD, "id": "b"}]
    assert {source_of(each, DEFAULTS).scan().fingerprint for each in named} == {prints[0]}
    assert source_of([GOOD], DEFAULTS).scan().fingerprint == prints[0]


def test_the_fingerprint_outlives_an_upgrade():
    rows = [{"prompt": GOOD, "id": "ü 1"}, "a blue bicycle"]
    scan = source_of(rows, Defaults(2, 7.5, "storage://x/")).scan()
    assert scan.fingerprint == "85a8bb1794a03e95c4658367d2be7d22", "batches that were begun would be taken for others"


@given(st.lists(st.sampled_from(["one 1", "two 2", "three", "four"]), min_size=1))
def test_a_duplicate_leads_to_the_first_of_its_kind(prompts):
    scan = source_of(prompts, DEFAULTS).scan(deduplicate=True)
    assert scan.duplicates == {
        index: prompts.index(prompt) for index, prompt in enumerate(prompts) if prompts.index(prompt) != index
    }
    assert scan.credits == len(set(prompts))


@pytest.mark.parametrize(
    ("prompts", "says"),
    [
        (GOOD, "a bare string would be billed character by character"),
        ("", "a list"),
        ("s3://bucket/prompts.csv.gz", "ends in .txt, .csv, .jsonl, .parquet"),
        ("s3://bucket/prompts", "ends in .txt"),
        ("s3://prompts.csv", "ends in .txt"),
        ("a house, see http://example.com/x.csv", "begin with a scheme"),
        ("/data/prompts.csv", "a local path is file:///path/prompts.txt"),
        ("prompts.csv", "character by character"),
        ("s3:/bucket/prompts.csv", "begin with a scheme"),
        ("file://data/prompts.csv", "three slashes"),
        ("s3:///prompts.csv", "bucket is missing"),
        ("s3://bucket/prompts.csv?versionId=x", "leave out ?"),
        ("https://example.com/prompts.csv", "web addresses are not read"),
        ("storage://mine/prompts.csv", "claid's storages are not read"),
        ("s3://one@bucket/prompts.csv", "leave one out"),
        ("s3://AKIA:hunter2@bucket/prompts.csv", "credentials (not shown)"),
        ("s3://[bad/prompts.csv", "invalid ipv6"),
        (None, "a list of prompts, or the uri"),
        (b"s3://bucket/prompts.csv", "a list of prompts"),
        ({"prompt": GOOD}, "a list of prompts"),
        ({GOOD}, "a list of prompts"),
        (iter([GOOD]), "a list of prompts"),
    ],
)
def test_what_is_neither_a_list_nor_the_uri_of_a_file_is_refused(prompts, says):
    error = refused(prompts, storage_conn_id="two")
    assert error.field == "prompts"
    assert says in str(error).lower()
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("on_bad_row", {"on_bad_row": "ignore"}),
        ("number_of_images", {"defaults": Defaults(number_of_images=5)}),
        ("guidance_scale", {"defaults": Defaults(guidance_scale=0.5)}),
        ("output_folder", {"defaults": Defaults(output="s3://bucket/")}),
        ("output", {"defaults": Defaults(output="s3://bucket/"), "output_name": "output"}),
    ],
)
def test_bad_options_are_named_once_and_not_for_each_row(field, options):
    assert refused([GOOD], **options).field == field
