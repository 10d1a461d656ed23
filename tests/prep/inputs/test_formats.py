"""Every wrapper of every format, packed in every way, gives the same rows."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prep.errors import InputError
from prep.inputs.formats import FORMATS, open_reader, read_rows
from prep.inputs.reader import BadRow, InputFile, Reader, ReadOptions, SourceRow

ROWS = [
    {"question": "发票丢了怎么办？", "answer": "请联系客服,我们重开\n一张"},
    {"question": "Where is it?", "answer": 'On its way; see "orders"'},
    {"question": "还能退吗", "answer": "可以"},
]


def dump(value: Any, **options: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, **options).encode()


def as_csv(delimiter: str = ",", encoding: str = "utf-8", line_end: str = "\r\n") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter, lineterminator=line_end)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode(encoding)


def as_arrow(make: Callable[..., Any]) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(ROWS)
    with make(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


def as_parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink, row_group_size=2)
    return sink.getvalue()


def as_excel(**sheets: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    with pd.ExcelWriter(sink, engine="openpyxl") as book:
        for name, rows in (sheets or {"Sheet1": ROWS}).items():
            pd.DataFrame(rows).to_excel(book, sheet_name=name, index=False)
    return sink.getvalue()


LINES = b"".join(dump(row) + b"\n" for row in ROWS)
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
# A new wrapper is one line.
WRAPPERS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "lines": ("in.jsonl", lambda: LINES),
    "lines with empty ones": ("in.jsonl", lambda: b"\n" + LINES.replace(b"\n", b"\r\n\r\n")),
    "lines with a mark": ("in.ndjson", lambda: b"\xef\xbb\xbf" + LINES),
    "lines named json": ("in.json", lambda: LINES),
    "array": ("in.json", lambda: dump(ROWS)),
    "array, pretty": ("in.json", lambda: dump(ROWS, indent=1)),
    "array named jsonl": ("in.jsonl", lambda: dump(ROWS, indent=2)),
    "array on one line named jsonl": ("in.jsonl", lambda: dump(ROWS)),
    "objects, pretty": ("in.jsonl", lambda: b"\n".join(dump(row, indent=2) for row in ROWS)),
    "objects, pretty, named json": ("in.json", lambda: b"\n".join(dump(row, indent=4) for row in ROWS)),
    "objects without line ends": ("in.json", lambda: b" ".join(map(dump, ROWS))),
    "objects with commas": ("in.json", lambda: b",\n".join(dump(row, indent=1) for row in ROWS)),
    "under data": ("in.json", lambda: dump({"version": "1", "data": ROWS})),
    "under rows, with more": ("in.json", lambda: dump({"rows": ROWS, "meta": {"a": [1, [2]]}, "n": 3}, indent=1)),
    "under any name": ("in.jsonl", lambda: dump({"问答": ROWS})),
    "under train": ("in.json", lambda: dump({"test": ROWS[:1], "train": ROWS})),
    "a page of the Hugging Face viewer": (
        "in.json",
        lambda: dump(
            {
                "features": [{"feature_idx": place, "name": name} for place, name in enumerate(ROWS[0])],
                "rows": [{"row_idx": at, "row": row, "truncated_cells": []} for at, row in enumerate(ROWS)],
                "num_rows_total": len(ROWS),
            }
        ),
    ),
    "columns": ("in.json", lambda: dump(COLUMNS)),
    "columns, pretty": ("in.json", lambda: dump(COLUMNS, indent=2)),
    "columns as pandas writes": ("in.json", lambda: pd.DataFrame(ROWS).to_json(force_ascii=False).encode()),
    "rows as pandas writes": ("in.json", lambda: pd.DataFrame(ROWS).to_json(orient="index").encode()),
    "split as pandas writes": ("in.json", lambda: pd.DataFrame(ROWS).to_json(orient="split").encode()),
    "csv": ("in.csv", as_csv),
    "csv with a mark": ("in.csv", lambda: as_csv(encoding="utf-8-sig")),
    "csv in GBK": ("in.csv", lambda: as_csv(encoding="gbk")),
    "csv in GB18030": ("in.csv", lambda: as_csv(encoding="gb18030")),
    "csv in UTF-16": ("in.csv", lambda: as_csv(encoding="utf-16")),
    "csv with semicolons": ("in.csv", lambda: as_csv(";")),
    "csv with tabs": ("in.csv", lambda: as_csv("\t")),
    "csv with bars": ("in.csv", lambda: as_csv("|")),
    "csv with plain line ends": ("in.csv", lambda: as_csv(line_end="\n")),
    "tsv": ("in.tsv", lambda: as_csv("\t")),
    "tsv with commas": ("in.tsv", as_csv),
    "Unicode text of Excel": ("in.tsv", lambda: as_csv("\t", "utf-16")),
    "excel": ("in.xlsx", as_excel),
    "parquet": ("in.parquet", as_parquet),
    "parquet named jsonl": ("in.jsonl", as_parquet),
    "arrow stream": ("in.arrow", lambda: as_arrow(pa.ipc.new_stream)),
    "arrow file": ("in.arrow", lambda: as_arrow(pa.ipc.new_file)),
    "feather": ("in.feather", lambda: as_arrow(pa.ipc.new_file)),
}


def pack_zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue().to_pybytes())


PACKINGS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": pack_zstd}


def open_file(path: Path, **options: Any) -> Reader:
    return open_reader(InputFile(path, path.name, path.name), ReadOptions(**options))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_row_that_a_viewer_has_cut_is_a_bad_one(tmp_path: Path) -> None:
    cut = {"row_idx": 1, "row": {**ROWS[1], "answer": "…"}, "truncated_cells": ["answer"]}
    page = {
        "features": [{"name": "question"}],
        "rows": [{"row_idx": 0, "row": ROWS[0], "truncated_cells": []}, cut],
    }
    first, second = open_file(write(tmp_path / "in.json", dump(page))).read_rows()
    assert isinstance(first, SourceRow) and first.values == ROWS[0]
    assert isinstance(second, BadRow) and "has cut its cells ['answer']" in second.reason


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_wrapper_gives_the_same_rows(wrapper: str, packing: str, tmp_path: Path) -> None:
    name, make = WRAPPERS[wrapper]
    path = write(tmp_path / f"{name}{packing}", PACKINGS[packing](make()))
    reader = open_file(path)
    for _ in range(2):
        rows = list(reader.read_rows())
        assert [row.values if isinstance(row, SourceRow) else row for row in rows] == ROWS
    assert reader.read_columns() == list(ROWS[0])


def test_the_table_of_wrappers_holds_every_format() -> None:
    tried = {Path(name).suffix for name, _ in WRAPPERS.values()}
    assert set(FORMATS) - tried == {".txt", ".xlsm"}


@pytest.mark.parametrize(
    ("wrapper", "note"),
    [
        ("csv in GBK", "read as GB18030 (GBK)"),
        ("csv in UTF-16", "read as UTF-16"),
        ("csv with semicolons", "its fields are parted by semicolons"),
        ("under any name", "the rows under '问答' are read"),
        ("under train", "the rows under 'train' are read, and not those under test: --split NAME"),
        ("columns", "it is written column by column"),
        ("parquet named jsonl", "it is a Parquet file by its content"),
    ],
)
def test_what_was_found_out_is_said(wrapper: str, note: str, tmp_path: Path) -> None:
    name, make = WRAPPERS[wrapper]
    assert open_file(write(tmp_path / name, make())).notes == [note]


@pytest.mark.parametrize("wrapper", ["lines", "array", "csv", "tsv", "excel", "parquet", "objects, pretty"])
def test_what_is_plain_needs_no_note(wrapper: str, tmp_path: Path) -> None:
    name, make = WRAPPERS[wrapper]
    assert open_file(write(tmp_path / name, make())).notes == []


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"conversations": [{"from": "human", "value": "a"}]},
        {"chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "user", "content": "b"}]},
        {"conversations": ["a", "b"], "images": ["c.jpg", "d.jpg"]},
        {"question": "a", "tags": ["b", "c"]},
        {"question": "a", "meta": {"0": "b"}},
        {"question": "a", "answer": "b"},
    ],
)
@pytest.mark.parametrize("name", ["in.json", "in.jsonl"])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_object_that_is_one_row_stays_one(
    row: dict[str, Any], name: str, indent: int | None, tmp_path: Path
) -> None:
    found = list(read_rows(write(tmp_path / name, dump(row, indent=indent))))
    assert [(line.number, line.values) for line in found if isinstance(line, SourceRow)] == [(1, row)]


@pytest.mark.parametrize(
    "content", [b'{"a": 1\n{"a": 2}\n', b'{"a": "x\n{"a": 2}\n', b'nonsense\n{"a": 2}\n', b'[1, 2]\n{"a": 2}\n']
)
def test_a_broken_line_is_one_bad_row_and_no_other_wrapping(content: bytes, tmp_path: Path) -> None:
    first, second = read_rows(write(tmp_path / "in.jsonl", content))
    assert isinstance(first, BadRow)
    assert second == SourceRow(2, {"a": 2})


@pytest.mark.parametrize(
    ("name", "content", "places"),
    [
        ("in.csv", b'q,a\r\nx,"1\r\n2"\r\n\r\ny,2\r\n', [{"sheet row": 2, "line": 2}, {"sheet row": 4, "line": 5}]),
        (
            "in.xlsx",
            as_excel(A=[{"q": "x", "a": "1\n2"}, {"q": "y", "a": "2"}]),
            [{"sheet row": 2}, {"sheet row": 3}],
        ),
        ("in.json", b'[\n {"q": 1},\n\n {\n"q": 2}]', [{"line": 2}, {"line": 4}]),
        ("in.json", b'{"data": [\n {"q": 1},\n\n {\n"q": 2}]}', [{"line": 2}, {"line": 4}]),
        ("in.json", b'{\n"q": 1}\n{\n"q": 2}', [{"line": 1}, {"line": 3}]),
        ("in.jsonl", b'{"q": 1}\n\n{"q": 2}\n', [{}, {}]),
    ],
)
def test_a_row_has_the_place_where_a_person_finds_it(
    name: str, content: bytes, places: list[dict[str, int]], tmp_path: Path
) -> None:
    assert [row.place for row in read_rows(write(tmp_path / name, content))] == places


def test_lines_are_counted_right_beyond_one_chunk(tmp_path: Path) -> None:
    rows = [{"q": "x" * (i % 977), "n": i} for i in range(6_000)]
    path = write(tmp_path / "in.json", dump({"about": "y" * 2_000_000, "data": rows}, indent=1))
    lines = path.read_bytes().split(b"\n")
    found = list(read_rows(path))
    assert [row.values for row in found if isinstance(row, SourceRow)] == rows
    assert all(lines[row.place["line"] - 1].strip() == b"{" for row in found)


@pytest.mark.parametrize(
    ("split_text", "expected"),
    [
        ("line", [(1, "一"), (2, "二"), (5, "三")]),
        ("blank-line", [(1, "一\n二"), (5, "三")]),
        ("file", [(1, "一\n二\n\n \n三")]),
    ],
)
def test_a_text_file_is_cut_into_rows(split_text: str, expected: list[tuple[int, str]], tmp_path: Path) -> None:
    path = write(tmp_path / "in.txt", "一\n二\n\n \n三\n".encode())
    if split_text == "blank-line":
        path = write(path, "一\n二\n\n \n三\n".encode())
    rows = open_file(path, split_text=split_text).read_rows()
    assert [(row.number, row.values["text"]) for row in rows if isinstance(row, SourceRow)] == expected


def test_excel_cells_become_the_text_that_excel_shows(tmp_path: Path) -> None:
    cells = {"a": [3, 2.5, None, True], "标准 回复": ["x\ny", pd.Timestamp("2026-01-02"), "z", "NA"]}
    path = tmp_path / "in.xlsx"
    with pd.ExcelWriter(path, engine="openpyxl") as book:
        pd.DataFrame(cells, dtype=object).to_excel(book, sheet_name="一", index=False)
        pd.DataFrame({"b": ["other"]}).to_excel(book, sheet_name="二", index=False)
    reader = open_file(path)
    rows = [row.values for row in reader.read_rows() if isinstance(row, SourceRow)]
    assert [tuple(row.values()) for row in rows] == [
        ("3", "x\ny"),
        ("2.5", "2026-01-02"),
        ("", "z"),
        ("TRUE", "NA"),
    ]
    assert reader.notes == ["sheet 一 is read, and not 二 (--sheet NAME)"]
    other = open_file(path, sheet="二")
    assert list(other.read_columns()) == ["b"]
    with pytest.raises(InputError, match="has no sheet '三'; it has 一, 二"):
        open_file(path, sheet="三").read_columns()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", "q,a\r\nprix,très élevé\r\n".encode("cp1252"), "in no encoding that is certain"),
        (
            "in.csv",
            b"q,a\r\n" + "안녕하세요 저는,반갑습니다 여러분\r\n".encode("euc_kr") * 9,
            "no encoding that is certain",
        ),
        ("in.csv", "q,a\r\nこんにちは世界,さようなら\r\n".encode("shift_jis"), "in no encoding that is certain"),
        (
            "in.csv",
            b"q,a\r\n" + "日本語の質問です,お答えします\r\n".encode("euc_jp") * 9,
            "no encoding that is certain",
        ),
        (
            "in.csv",
            "q,a\r\n請問發票遺失怎麼辦,請聯絡我們的服務人員\r\n".encode("big5"),
            "no encoding that is certain",
        ),
        ("in.csv", b"a;b|c\r\n1;2|3\r\n", "its fields could be parted by semicolon or bar"),
        ("in.jsonl", b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS"),
        ("in.json", b"<!DOCTYPE html><html>", "is a web page, and not the data"),
        ("in.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1", "is an old Excel file, or one with a password"),
        ("in.xlsx", b"PK\x03\x04 cut short", "is not an Excel file"),
        ("in.arrow", b"\xff\xff\xff\xff\x10\x00", "is not a whole Arrow file"),
        ("in.json", dump({"a": ROWS, "b": ROWS}), "holds several lists of rows: a, b"),
        ("in.json", dump({"test": ROWS, "dev": ROWS}), "has the splits dev, test, validation, and no train"),
        ("in.json", b'{"a": [1, 2], "b": [1, 2', "is not a JSON document: unexpected end of data"),
        ("in.xls", b"", "files of type '.xls' cannot be read"),
    ],
)
def test_what_is_not_certain_is_refused_with_a_way_on(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        list(open_file(write(tmp_path / name, content)).read_rows())
    assert caught.value.hint


@pytest.mark.parametrize("encoding", ["big5", "cp1252", "shift_jis", "euc_kr"])
def test_an_encoding_is_taken_on_word(encoding: str, tmp_path: Path) -> None:
    text = {"big5": "請問", "cp1252": "très", "shift_jis": "こんにちは", "euc_kr": "안녕"}[encoding]
    path = write(tmp_path / "in.csv", f"q,a\n{text},x\n".encode(encoding))
    (row,) = open_file(path, encoding=encoding).read_rows()
    assert row == SourceRow(1, {"q": text, "a": "x"}, {"sheet row": 2, "line": 2})
