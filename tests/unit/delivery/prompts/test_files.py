"""Prompt files of every kind, written as people write them: read back equal, and each fault named by its line."""

from __future__ import annotations

import csv
import http.server
import json
import math
import os
import re
import stat
import sys
import tempfile
import threading
import tracemalloc
import uuid
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidInputError, ClaidNotSentError
from airflow_provider_claid.delivery.prompts.lines import LONGEST
from airflow_provider_claid.delivery.prompts.source import Defaults, source_of
from airflow_provider_claid.delivery.store_errors import StoreBusyError

DEFAULTS = Defaults()
GOOD = "a red bicycle"


def scanned(path, deduplicate=False, **options):
    with source_of(f"file://{path}", DEFAULTS, **options) as source:
        scan = source.scan(deduplicate=deduplicate)
        found = list(source)
        assert list(source) == found
    assert scan.total == len(found)
    return found, scan


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path, **options):
    with pytest.raises(ClaidInputError) as caught:
        scanned(path, **options)
    assert caught.value.field == "prompts"
    return str(caught.value)


def write_txt(path, rows, end="\n", mark=False):
    text = "".join(f"{row['prompt']}{end}" for row in rows)
    path.write_bytes(text.encode("utf-8-sig" if mark else "utf-8"))


def write_csv(path, rows, end="\n", mark=False):
    with path.open("w", newline="", encoding="utf-8-sig" if mark else "utf-8") as file:
        # The writer leaves a carriage return without quotes unless its own lines end in one.
        quoting = csv.QUOTE_ALL if end == "\n" else csv.QUOTE_MINIMAL
        table = csv.DictWriter(file, ["prompt", "id", "number_of_images"], lineterminator=end, quoting=quoting)
        table.writeheader()
        table.writerows(rows)


def write_jsonl(path, rows, end="\n", mark=False):
    text = "".join(f"{json.dumps(row, ensure_ascii=len(row['prompt']) % 2 == 0)}{end}" for row in rows)
    path.write_bytes(text.encode("utf-8-sig" if mark else "utf-8"))


def write_parquet(path, rows, end="\n", mark=False):
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)


WRITERS = {"txt": write_txt, "csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


def texts_without(excluded):
    """Prompts, without characters that mean something else in a file: U+FEFF at its beginning is a mark."""
    controls = "".join(map(chr, [*range(9), 11, 12, *range(14, 32), 127]))
    characters = st.characters(codec="utf-8", exclude_characters=excluded + controls)
    # Fillers of Hangul are letters that nobody sees.
    return st.text(characters, min_size=3, max_size=30).filter(
        lambda text: any(each.isalnum() and each not in "\u115f\u1160\u3164\uffa0" for each in text)
    )


one_line, any_text = texts_without("\0\ufeff\r\n"), texts_without("\0\ufeff")
names = st.from_regex(r"[a-zA-Z0-9é][\w +@,.]{0,10}", fullmatch=True)


def rows_of(texts):
    """Rows with ids that differ whatever their case, and with gaps."""
    unique = st.lists(names, max_size=8, unique_by=lambda name: name.casefold().rpartition(".")[0] or name.casefold())
    return st.builds(
        lambda prompts, ids, counts: [
            {
                "prompt": prompt,
                "id": ids[index] if index < len(ids) else None,
                "number_of_images": counts[index] if index < len(counts) else None,
            }
            for index, prompt in enumerate(prompts)
        ],
        st.lists(texts, min_size=1, max_size=12),
        unique,
        st.lists(st.integers(1, 4), max_size=8),
    )


def read_back(kind, rows, **how):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"prompts.{kind}")
        WRITERS[kind](path, rows, **how)
        found, scan = scanned(path)
    assert scan.credits == sum(item.request.options.number_of_images for item in found)
    return [(item.request.input, item.id, item.request.options.number_of_images) for item in found], scan


ends = st.sampled_from(["\n", "\r\n"])


@given(st.lists(one_line, min_size=1, max_size=12), ends, st.booleans())
def test_lines_of_text_read_back_equal(prompts, end, mark):
    found, _ = read_back("txt", [{"prompt": prompt} for prompt in prompts], end=end, mark=mark)
    assert [prompt for prompt, *_ in found] == prompts


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@given(rows=rows_of(any_text), end=ends, mark=st.booleans())
def test_rows_read_back_equal(kind, rows, end, mark):
    found, _ = read_back(kind, rows, end=end, mark=mark)
    assert found == [(row["prompt"], row["id"], row["number_of_images"] or 1) for row in rows]


@given(st.lists(one_line, min_size=1, max_size=6))
def test_the_kind_of_a_file_makes_no_other_batch(prompts):
    rows = [{"prompt": prompt, "id": None, "number_of_images": None} for prompt in prompts]
    prints = {read_back(kind, rows)[1].fingerprint for kind in WRITERS}
    prints.add(source_of(prompts, DEFAULTS).scan().fingerprint)
    assert len(prints) == 1


BAD = {"prompt": "x", "id": None, "number_of_images": None}


@pytest.mark.parametrize("kind", list(WRITERS))
@given(rows=rows_of(one_line), places=st.sets(st.integers(0, 14), max_size=6))
def test_bad_rows_are_named_by_their_lines_wherever_they_are(kind, rows, places):
    good = [row["prompt"] for row in rows]
    for place in sorted(places):
        rows.insert(place, BAD)
    bad = [index + 1 + (kind == "csv") for index, row in enumerate(rows) if row is BAD]
    unit = "row" if kind == "parquet" else "line"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"prompts.{kind}")
        WRITERS[kind](path, rows)
        found, scan = scanned(path, on_bad_row="skip")
        assert [item.request.input for item in found] == good
        assert scan.skipped == len(bad)
        if bad:
            named = re.findall(rf"^{unit} (\d+): prompt", refused(path), re.MULTILINE)
            assert [int(number) for number in named] == bad


def test_blank_lines_are_left_out_and_counted(tmp_path):
    found, _ = scanned(written(tmp_path / "p.TXT", "\ufeff\n  \r\none one\r\n\ntwo two \n\t\nlast line"))
    assert [(item.request.input, item.where) for item in found] == [
        ("one one", "line 3"),
        ("two two ", "line 5"),
        ("last line", "line 7"),
    ]
    lines = '\n"one one"\n \r\n{"prompt": "two two", "id": 17}\r\n'
    found, _ = scanned(written(tmp_path / "p.jsonl", lines))
    assert [(item.request.input, item.id, item.where) for item in found] == [
        ("one one", None, "line 2"),
        ("two two", "17", "line 4"),
    ]


TABLES = {
    "semicolons": "prompt;id\r\na car, red;1\r\n;;;\r\nb car;2\r\n",
    "tabs": "\ufeffid\tprompt\n1\ta car, red\n\t\n2\tb car\n",
    "bars": "prompt|id\na car, red|1\n|\nb car|2\n",
    "commas": 'prompt,id\n"a car, red",1\n, \nb car,2\n',
    "Excel's line": "sep=;\r\nprompt;id\r\na car, red;1\r\nb car;2\r\n",
    "Excel's line of tabs": "\ufeffSEP=\t\nprompt\tid\na car, red\t1\nb car\t2\n",
    "Excel's line in quotes": '\n"sep=|"\n"prompt"|"id"\na car, red|1\nb car|2\n',
    "columns in quotes": '"prompt";"id"\n"a car, red";"1"\n"";""\n"b car";"2"\n',
    "empty rows before the header": ";;\n\nprompt;id\na car, red;1\nb car;2\n",
}


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_the_separator_is_recognised_and_empty_rows_are_left_out(tmp_path, text):
    found, scan = scanned(written(tmp_path / "p.csv", text))
    assert [(item.request.input, item.id) for item in found] == [("a car, red", "1"), ("b car", "2")]
    assert scan.skipped == 0
    lines = [number for number, line in enumerate(text.splitlines(), 1) if "car" in line]
    assert [item.where for item in found] == [f"line {number}" for number in lines]


def test_excels_line_settles_a_table_of_one_column(tmp_path):
    found, _ = scanned(written(tmp_path / "p.csv", "sep=;\nprompt\na car, red\n"))
    assert [item.request.input for item in found] == ["a car, red"]
    error = refused(written(tmp_path / "p.csv", "prompt\na car, red\n"))
    assert "line 2: got 2 fields; accepted are 1" in error
    assert "separated by commas" in error and "needs quotes" in error


@pytest.mark.parametrize(("separator", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (",", "commas")])
def test_hints_name_the_separator(tmp_path, separator, word):
    head = separator.join(["prompt", "id"])
    assert f"separated by {word}" in refused(written(tmp_path / "p.csv", f"{head}\naaa{separator * 2}1\n"))
    assert f"separated by {word}" in refused(written(tmp_path / "p.csv", f'{head}\n"aaa"a{separator}1\n'))
    assert f"separated by {word}" in refused(written(tmp_path / "p.csv", f"{head}x\naaa{separator}1\n"))


@given(rows=rows_of(any_text), separator=st.sampled_from(",;\t|"), told=st.booleans(), gaps=st.booleans())
def test_tables_read_back_equal_whatever_separates_them(rows, separator, told, gaps):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "p.csv")
        with path.open("w", newline="", encoding="utf-8") as file:
            file.write(f"sep={separator}\r\n" if told else "")
            names = ["prompt", "id", "number_of_images"]
            table = csv.DictWriter(file, names, delimiter=separator, quoting=csv.QUOTE_ALL)
            table.writeheader()
            for row in rows:
                table.writerow(row)
                file.write(f"{separator * 2}\r\n" if gaps else "")
        found, _ = scanned(path)
    assert [(item.request.input, item.id) for item in found] == [(row["prompt"], row["id"]) for row in rows]


def test_a_row_of_csv_is_named_by_its_first_line(tmp_path):
    text = '\nid,prompt\r\na,"one\r\nand ""two"""\r\n\r\nb,ccc\r\n'
    found, _ = scanned(written(tmp_path / "p.csv", text))
    assert [(item.request.input, item.id, item.where) for item in found] == [
        ('one\r\nand "two"', "a", "line 3"),
        ("ccc", "b", "line 6"),
    ]


@pytest.mark.parametrize(
    ("name", "line", "says"),
    [
        ("p.csv", "a,b", "got 2 fields; accepted are 3"),
        ("p.csv", "a,b,c,d", "got 4 fields"),
        ("p.csv", 'aaa,b"b"x,', "id: got 'b"),
        ("p.csv", '"aaa"a,b,1', "got a row that is no CSV"),
        ("p.csv", "aaa\raaa,b,1", "got a row that is no CSV"),
        ("p.csv", ",x,", "prompt: got nothing"),
        ("p.csv", "aaa\x0cb,x,", "U+000C as character 4"),
        ("p.csv", "\u200b\u200b\u200b,x,", "that can be seen"),
        ("p.csv", "aaa,b,9", "number_of_images: got 9"),
        ("p.csv", "aaa,b,1.5", "number_of_images: got '1.5'"),
        ("p.csv", f"aaa,{'b' * 200_000},1", "field larger than field limit"),
        ("p.jsonl", "{", "got no JSON"),
        ("p.jsonl", '{"prompt": "aaa"} {}', "got no JSON (Extra data"),
        ("p.jsonl", '{"prompt": "aaa", "prompt": "bbb"}', "a key is there twice"),
        ("p.jsonl", "[" * 100_000, "got no JSON"),
        ("p.jsonl", "1" * 5_000, "got no JSON"),
        ("p.jsonl", "null", "got None"),
        ("p.jsonl", '["aaa"]', "accepted is a text or a mapping"),
        ("p.jsonl", '"\\ud800abc"', "3 to 1024"),
        ("p.jsonl", '{"prompt": "aaa", "number_of_images": 0}', "number_of_images: got 0"),
        ("p.txt", "one\rtwo", "got a carriage return"),
        ("p.txt", "x" * 1025, "(1025 characters)"),
    ],
)
def test_a_bad_line_is_named_or_left_out(tmp_path, name, line, says):
    lines = {
        "p.csv": ["prompt,id,number_of_images", "aaa,1,", line, "bbb,2,4"],
        "p.jsonl": ['"aaa"', "", line, '{"prompt": "bbb"}'],
        "p.txt": ["aaa", "", line, "bbb"],
    }[name]
    path = written(tmp_path / name, "\n".join(lines))
    (reason,) = refused(path).splitlines()[1:]
    assert reason.startswith("line 3: ") and says in reason
    found, scan = scanned(path, on_bad_row="skip")
    assert [(item.index, item.request.input) for item in found] == [(0, "aaa"), (1, "bbb")]
    assert (found[1].where, scan.skipped) == ("line 4", 1)


@pytest.mark.parametrize("on_bad_row", ["fail", "skip"])
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.txt", b"", "p.txt without a prompt"),
        ("p.txt", b"\xef\xbb\xbf\n \n", "without a prompt"),
        ("p.csv", b"", "without a prompt"),
        ("p.csv", b"prompt,id\n", "without a prompt"),
        ("p.jsonl", b"\n", "without a prompt"),
        ("p.parquet", b"", "cannot be read as Parquet"),
        ("p.parquet", b"PAR1" + b"x" * 100 + b"PAR1", "cannot be read as Parquet"),
        ("p.txt", b"good line\ngr\xfcn\n", "byte 0xfc at line 2, byte offset 12"),
        ("p.txt", b"\xef\xbb\xbfgr\xfcn\n", "byte 0xfc at line 1, byte offset 5"),
        ("p.csv", b"prompt\ngood\n\nbl\xe4u\n", "byte 0xe4 at line 4, byte offset 15"),
        ("p.jsonl", b'"good"\n"bl\xe4u"\n', "byte 0xe4 at line 2"),
        ("p.txt", "a prompt".encode("utf-16"), "byte 0xff at line 1, byte offset 0"),
        ("p.txt", "a prompt".encode("utf-16-le"), "byte 0x00 at line 1, byte offset 1"),
        ("p.txt", b"truncated \xe2\x82", "Save it as UTF-8"),
        ("p.csv", b"promt,id\nx,y\n", "Did you mean 'prompt' by 'promt'?"),
        ("p.csv", b"prompt;idd\nx;y\n", "in line 1, separated by semicolons"),
        ("p.csv", b"sep=#\nprompt#id\n", "the separator '#' in the first line"),
        ("p.csv", b",prompt\n1,aaa\n", "the unknown column '' in line 1"),
        ("p.csv", b"id,number_of_images\nx,1\n", "no column prompt in line 1"),
        ("p.csv", b"\nprompt,id,prompt\nx,y,z\n", "the column 'prompt' more than once in line 2"),
        ("p.csv", b'"prompt"x,id\nx,y\n', "line 1: got a row that is no CSV"),
        ("p.csv", b'prompt\naaa\n"bbb\nccc\nddd\n', "a quote in the row of line 3 that is wrong by line 5"),
        ("p.csv", b'prompt\naaa\n"bbb\nccc\n"ddd\n', "a quote in the row of line 3 that is wrong by line 5"),
        ("p.csv", b'prompt\n"' + b"abcdefgh\n" * 20_000, "a quote in the row of line 2"),
        ("p.csv", b"prompt,id\naaa,1\nbbb,2\nccc,1\n", "the id '1' in line 4, which line 2 has too"),
        ("p.jsonl", b'{"prompt": "aaa", "id": "x"}\n{"prompt": "bbb", "id": "X"}\n', "the id 'X' in line 2"),
        ("p.jsonl", b'"aaa"\n{"prompt": "aaa", "seed": 1}\n', "the unknown column 'seed' in line 2"),
        ("p.txt", b"aaa\n" + b"x" * (LONGEST + 1), "more than 1,000,000 characters at line 2"),
        ("p.txt", "é".encode() * (LONGEST + 1) + b"\n", "more than 1,000,000 characters at line 1"),
        ("p.jsonl", b" " * (LONGEST + 1) + b'"aaa"', "more than 1,000,000 characters"),
        ("p.csv", b"prompt\n" + b"x" * (4 * LONGEST + 100), "more than 1,000,000 characters at line 2"),
    ],
)
def test_a_fault_of_the_whole_file_is_never_skipped(tmp_path, name, content, says, on_bad_row):
    assert says in refused(written(tmp_path / name, content), on_bad_row=on_bad_row)


def test_a_line_of_a_million_characters_is_a_bad_row_only(tmp_path):
    path = written(tmp_path / "p.txt", "aaa\r\n" + "🖼" * LONGEST + "\r\nbbb")
    assert "\nline 2: prompt: got" in refused(path)
    assert scanned(path, on_bad_row="skip")[1].total == 2


def test_a_row_of_many_lines_ends_somewhere_whatever_the_limit_of_the_process(tmp_path):
    path = written(tmp_path / "p.csv", b'prompt\n"' + b"x\n" * LONGEST)
    limit = csv.field_size_limit(sys.maxsize)
    try:
        assert "more than 1,000,000 characters at line 2" in refused(path)
    finally:
        csv.field_size_limit(limit)


def test_a_line_without_an_end_is_not_read_whole(tmp_path):
    path = tmp_path / "p.txt"
    path.write_bytes(b"x" * 100_000_000)
    tracemalloc.start()
    try:
        assert "more than 1,000,000 characters" in refused(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"text": [GOOD]}, "the unknown column 'text' in the schema"),
        ({"prompt": [GOOD], "__index_level_0__": [1]}, "'__index_level_0__'"),
        ({"id": ["x"]}, "no column prompt in the schema"),
        ({"prompt": pyarrow.array([], pyarrow.string())}, "without a prompt"),
        ({"prompt": ["aaa", "bbb"], "id": [17, 17]}, "the id '17' in row 2, which row 1 has too"),
        ({"prompt": ["aaa", None], "id": ["x", "y"]}, "row 2: prompt: got nothing"),
        ({"prompt": [b"aaa"]}, "row 1: prompt: got b'aaa'"),
        ({"prompt": [{"text": "aaa"}]}, "row 1: prompt: got {'text'"),
        ({"prompt": ["aaa"], "id": [True]}, "row 1: id: got True"),
    ],
)
def test_faults_of_parquet_are_named(tmp_path, columns, says):
    parquet.write_table(pyarrow.table(columns), tmp_path / "p.parquet")
    assert says in refused(tmp_path / "p.parquet")


def test_numbers_of_parquet_are_numbers_and_gaps_are_gaps(tmp_path):
    table = pyarrow.table(
        {
            "prompt": pyarrow.array(["aaa", "bbb", "ccc"]).dictionary_encode(),
            "id": pyarrow.array([17, None, 10_000_000_000]),
            "number_of_images": pyarrow.array([2.0, math.nan, None]),
            "guidance_scale": pyarrow.array([7, None, 3], pyarrow.int8()),
        }
    )
    parquet.write_table(table, tmp_path / "p.parquet")
    found, scan = scanned(tmp_path / "p.parquet")
    assert [item.id for item in found] == ["17", None, "10000000000"]
    assert [item.request.options.number_of_images for item in found] == [2, 1, 1]
    assert [item.request.options.guidance_scale for item in found] == [7, 5, 3]
    assert [item.where for item in found] == ["row 1", "row 2", "row 3"]
    assert scan.credits == 4


def test_decimals_uuids_and_dates_of_parquet_are_ids_and_numbers_and_empty_rows_are_left_out(tmp_path):
    some = uuid.UUID("12345678-1234-5678-1234-567812345678")
    table = pyarrow.table(
        {
            "prompt": ["aaa", None, "bbb", "ccc"],
            "id": pyarrow.array([Decimal("42.00"), None, Decimal("43.50"), Decimal("1234567890123456789")]),
            "number_of_images": pyarrow.array([Decimal(2), None, Decimal("3.0"), None]),
            "guidance_scale": pyarrow.array([Decimal("7.5"), None, None, Decimal(3)], pyarrow.decimal128(10, 2)),
        }
    )
    parquet.write_table(table, tmp_path / "p.parquet")
    found, scan = scanned(tmp_path / "p.parquet")
    assert [item.id for item in found] == ["42", "43.50", "1234567890123456789"]
    assert [item.request.options.number_of_images for item in found] == [2, 3, 1]
    assert [item.request.options.guidance_scale for item in found] == [7.5, 5, 3]
    assert ([item.where for item in found], scan.skipped) == (["row 1", "row 3", "row 4"], 0)
    for ids in (pyarrow.array([some.bytes], pyarrow.uuid()), pyarrow.array([date(2026, 1, 2)])):
        parquet.write_table(pyarrow.table({"prompt": ["aaa"], "id": ids}), tmp_path / "p.parquet")
        assert scanned(tmp_path / "p.parquet")[0][0].id in {str(some), "2026-01-02"}


def test_a_parquet_file_that_is_damaged_in_the_middle_is_named(tmp_path):
    path = tmp_path / "p.parquet"
    rows = [f"prompt {os.urandom(16).hex()}" for _ in range(20_000)]
    parquet.write_table(pyarrow.table({"prompt": rows}), path, row_group_size=5_000, compression="gzip")
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 5_000] = bytes(5_000)
    path.write_bytes(whole)
    assert "cannot be read as Parquet from row" in refused(path, on_bad_row="skip")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ClaidConfigurationError, match=r"airflow-provider-claid\[parquet\]"):
        scanned(tmp_path / "not-there.parquet")


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "no.txt", tmp_path / "no" / "no.csv", tmp_path / f"{'x' * 300}.txt"):
        assert f"file://{path}, which is not there" in refused(path)
    written(tmp_path / "file", "x")
    assert "which is not there" in refused(tmp_path / "file" / "p.txt")
    assert "which is not there" in refused("/nul\0/p.txt")


def test_what_is_no_readable_file_is_named(tmp_path):
    (tmp_path / "folder.txt").mkdir()
    assert "Is a directory" in refused(tmp_path / "folder.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    assert "named pipe" in refused(tmp_path / "pipe.txt")
    if os.getuid():
        written(tmp_path / "secret.txt", GOOD).chmod(0)
        assert "Permission denied" in refused(tmp_path / "secret.txt")


def test_a_file_that_changes_afterwards_is_the_one_that_was_checked(tmp_path):
    path = written(tmp_path / "p.txt", GOOD)
    with source_of(f"file://{path}", DEFAULTS) as source:
        scan = source.scan()
        stream = iter(source)
        written(path, "x\nanother prompt")
        assert source.scan() == scan
        path.unlink()
        assert [item.request.input for item in stream] == [GOOD]
        assert [item.request.input for item in source] == [GOOD]


def test_the_copy_is_private_and_gone_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    source = source_of(f"file://{written(tmp_path / 'p.txt', GOOD)}", DEFAULTS)
    assert not list((tmp_path / "temporary").iterdir())
    for _ in range(2):
        with source:
            (folder,) = (tmp_path / "temporary").iterdir()
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert source.scan().total == 1
        assert not list((tmp_path / "temporary").iterdir())
    with pytest.raises(RuntimeError, match="inside the `with` block"):
        list(source)
    with pytest.raises(ClaidInputError), source_of(f"file://{tmp_path}/no.txt", DEFAULTS):
        pass
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("uri", ["s3://pictures/in/prompts ü+%.CSV", "s3://my_aws@pictures/in/prompts ü+%.CSV"])
def test_a_file_of_a_bucket_is_fetched_once(bucket, uri):
    key = "in/prompts ü+%.CSV"
    bucket.put_object(Bucket="pictures", Key=key, Body=b"prompt,id\r\naaa,1\r\nbbb,2\r\n")
    with source_of(uri, DEFAULTS, storage_conn_id="my_aws") as source:
        scan = source.scan()
        bucket.delete_object(Bucket="pictures", Key=key)
        assert [(item.request.input, item.id) for item in source] == [("aaa", "1"), ("bbb", "2")]
    assert scan.total == 2
    with pytest.raises(ClaidInputError, match=r"s3://pictures/in/prompts ü\+%.CSV, which is not there"), source:
        pass


def test_an_object_that_was_replaced_is_read_at_its_new_length(bucket):
    for count in (3, 70_000, 1):
        bucket.put_object(Bucket="pictures", Key="grows.txt", Body=b"a line of text\n" * count)
        with source_of("s3://pictures/grows.txt", DEFAULTS, storage_conn_id="my_aws") as source:
            assert sum(1 for _ in source) == count


def test_faults_of_the_store_are_named(bucket, monkeypatch):
    def entered(uri, conn_id="my_aws"):
        with source_of(uri, DEFAULTS, storage_conn_id=conn_id):
            pass

    with pytest.raises(ClaidInputError, match=r"bucket is not there|which is not there") as caught:
        entered("s3://no-such-bucket/prompts.txt")
    assert "no-such-bucket" in str(caught.value)
    with pytest.raises(ClaidInputError, match="Install the provider of this scheme"):
        entered("hdfs2://cluster/prompts.txt", None)
    extra = {"endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"total_max_attempts": 1}}}
    value = {"conn_type": "aws", "login": "a", "password": "b", "extra": {**extra, "region_name": "us-east-1"}}
    monkeypatch.setenv("AIRFLOW_CONN_GONE", json.dumps(value))
    with pytest.raises(ClaidNotSentError, match="cannot be read now") as busy:
        entered("s3://pictures/prompts.txt", "gone")
    assert busy.value.retryable
    assert isinstance(busy.value.__cause__, StoreBusyError)


class Denied(http.server.BaseHTTPRequestHandler):
    """A store that forbids whatever is asked of it."""

    def do_GET(self):
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


def test_a_denied_file_names_the_connection_and_the_right(bucket, monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Denied) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        extra = {"endpoint_url": f"http://127.0.0.1:{server.server_port}", "region_name": "us-east-1"}
        value = {"conn_type": "aws", "login": "a", "password": "b", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_DENIED", json.dumps(value))
        with (
            pytest.raises(ClaidConfigurationError, match=r"'denied' for s3://pictures/prompts.txt.*GetObject"),
            source_of("s3://denied@pictures/prompts.txt", DEFAULTS),
        ):
            pass
        server.shutdown()
