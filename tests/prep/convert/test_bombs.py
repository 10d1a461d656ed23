"""Small files that would become huge ones: each ends in one error, in less than 400 MiB, soon."""

import gzip
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.lfc_runs import measure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
MOST_MIB = 400
GIB = 1 << 30
ROW = b'{"question": "q", "answer": "a"}\n'


def pack(path: Path, head: bytes, repeated: bytes, times: int) -> Path:
    """Write a gzip of GiB in no time: members of 4 MiB, over and over."""
    member = gzip.compress(repeated * ((4 << 20) // len(repeated)), 9)
    path.write_bytes(gzip.compress(head) + member * times)
    return path


def make_sparse(path: Path, head: bytes, size: int) -> Path:
    """Write a file that has `size` bytes and takes none on the disk: zeros after its head."""
    path.write_bytes(head)
    os.truncate(path, size)
    return path


def pack_one_line(folder: Path) -> Path:
    return pack(folder / "in.jsonl.gz", ROW, b"xxxx", 500)


def pack_blank_lines(folder: Path) -> Path:
    return pack(folder / "in.jsonl.gz", ROW, b" " * 1023 + b"\n", 60)


def pack_rows(folder: Path) -> Path:
    return pack(folder / "in.jsonl.gz", ROW, b'{"question": "q", "answer": "%b"}\n' % (b"a" * 4000), 60)


def pack_zstd(folder: Path) -> Path:
    import pyarrow as pa

    frame = pa.compress(b"x" * (64 << 20), codec="zstd", asbytes=True)
    (folder / "in.jsonl.zst").write_bytes(frame * 60)
    return folder / "in.jsonl.zst"


def one_long_line(folder: Path) -> Path:
    return make_sparse(folder / "in.jsonl", ROW + b'{"question": "', 4 * GIB)


def one_long_csv_line(folder: Path) -> Path:
    return make_sparse(folder / "in.csv", b'question,answer\nq,"', 4 * GIB)


def one_csv_field_of_many_lines(folder: Path) -> Path:
    path = folder / "in.csv"
    path.write_bytes(b'question,answer\nq,"' + b"word \n" * (10 << 20))
    return path


def csv_of_many_fields(folder: Path) -> Path:
    path = folder / "in.csv"
    path.write_bytes(b"question,answer" + b"," * (30 << 20) + b"\n")
    return path


def one_long_element(folder: Path) -> Path:
    return make_sparse(folder / "in.json", b'[{"question": "', 4 * GIB)


def array_without_end(folder: Path) -> Path:
    return make_sparse(folder / "in.json", b"[1", 4 * GIB)


def no_array(folder: Path) -> Path:
    return make_sparse(folder / "in.json", b'{"rows": "', 4 * GIB)


def line_of_many_values(folder: Path) -> Path:
    path = folder / "in.jsonl"
    path.write_bytes(b'{"question": [' + b"[]," * (10 << 20) + b"[]]}\n")
    return path


def columns_that_are_data(folder: Path) -> Path:
    path = folder / "in.jsonl"
    path.write_bytes(ROW + b"".join(b'{"question": "q", "answer": "a", "k%d": 1}\n' % n for n in range(30_000)))
    return path


def parquet_dictionary(folder: Path) -> Path:
    """A text of 1 MB, once in the file and 200,000 times in its column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.DictionaryArray.from_arrays(
        pa.array([0] * 64 + [1] * 200_000, pa.int32()), pa.array(["short", "a " * 500_000])
    )
    table = pa.table({"question": pa.array(["q"] * 200_064), "answer": texts})
    pq.write_table(
        table, folder / "in.parquet", compression="zstd", use_dictionary=True, dictionary_pagesize_limit=8 << 20
    )
    return folder / "in.parquet"


def parquet_of_one_row(folder: Path) -> Path:
    """One conversation of a million turns, each the same text of 100 KB."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    turns = 1_000_000
    roles = pa.DictionaryArray.from_arrays(pa.array([0] * turns, pa.int8()), pa.array(["human"]))
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * turns, pa.int8()), pa.array(["a " * 50_000]))
    structs = pa.StructArray.from_arrays([roles.cast(pa.string()), texts], ["from", "value"])
    lists = pa.ListArray.from_arrays(pa.array([0, turns], pa.int32()), structs)
    pq.write_table(pa.table({"conversations": lists}), folder / "in.parquet", compression="zstd")
    return folder / "in.parquet"


def parquet_of_nulls(folder: Path) -> Path:
    """Twenty million values that are all null: a few bytes in the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = pa.ListArray.from_arrays(pa.array([0, 20_000_000], pa.int32()), pa.nulls(20_000_000, pa.int8()))
    table = pa.table({"question": ["q"], "answer": lists})
    pq.write_table(table, folder / "in.parquet", compression="zstd")
    return folder / "in.parquet"


BOMBS: dict[Callable[[Path], Path], str] = {
    pack_one_line: "is longer than 33,554,432 bytes",
    pack_blank_lines: "unpacks to more than 300 times its size, as no text does",
    pack_rows: "unpacks to more than 300 times its size, as no text does",
    pack_zstd: "is longer than 33,554,432 bytes",
    one_long_line: "the line from byte 33 on is longer than 33,554,432 bytes",
    one_long_csv_line: "line 2 is longer than 33,554,432 bytes",
    one_csv_field_of_many_lines: "field larger than field limit (33554432)",
    csv_of_many_fields: "line 1 has more than 1,000,000 fields",
    one_long_element: "the row from line 1 on is longer than 33,554,432 bytes",
    array_without_end: "the row from line 1 on is longer than 33,554,432 bytes",
    no_array: "the text from line 1 on is too long",
    line_of_many_values: "rows cannot be used; the first: ",
    columns_that_are_data: "its rows have more than 10,000 different columns, as if the keys were data",
    parquet_dictionary: "a few of its rows take more than 256 MiB when unpacked",
    parquet_of_one_row: "a few of its rows take more than 256 MiB when unpacked",
    parquet_of_nulls: "a few of its rows take more than 256 MiB when unpacked",
}


@pytest.mark.parametrize("make", BOMBS, ids=lambda make: make.__name__)
def test_a_bomb_ends_in_one_error_within_bounds(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    result = measure("convert", path, "-o", tmp_path / "out.jsonl")
    assert result.code == 1, result.said
    assert result.said.startswith("Error: "), result.said
    assert BOMBS[make] in result.said
    assert result.peak_mib < MOST_MIB
    assert not (tmp_path / "out.jsonl").exists()


def test_an_endless_stdin_ends(tmp_path: Path) -> None:
    result = measure("convert", "-", "-o", tmp_path / "out.jsonl", stdin=Path("/dev/zero"))
    assert (result.code, result.peak_mib < MOST_MIB) == (1, True)
    assert result.said.startswith("Error: stdin: the line from byte 0 on is longer than 33,554,432 bytes\n")


def test_a_real_row_that_is_longer_is_read_when_asked_for(tmp_path: Path) -> None:
    text = "好" * 12_000_000
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"question": "q", "answer": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert measure("convert", path, "-o", tmp_path / "out.jsonl").code == 1
    result = measure("convert", path, "-o", tmp_path / "out.jsonl", "--max-line-bytes", str(64 << 20))
    assert result.code == 0, result.said
    assert text in (tmp_path / "out.jsonl").read_text(encoding="utf-8")


def test_a_large_array_is_read_in_flat_memory(tmp_path: Path) -> None:
    row = json.dumps({"question": "q", "answer": "word " * 2_000})
    (tmp_path / "in.json").write_text("[" + ",\n".join([row] * 20_000) + "]", encoding="utf-8")
    result = measure("convert", tmp_path / "in.json", "-o", tmp_path / "out.jsonl")
    assert (result.code, result.peak_mib < 150) == (0, True), result


@pytest.mark.parametrize("command", ["stats", "register"])
@pytest.mark.parametrize("make", [one_long_line, one_long_element], ids=lambda make: make.__name__)
def test_other_readers_of_rows_are_bounded_too(make: Callable[[Path], Path], command: str, tmp_path: Path) -> None:
    options = ("--name", "a", "--dataset-dir", tmp_path) if command == "register" else ()
    result = measure(command, make(tmp_path), *options)
    assert (result.code, result.peak_mib < MOST_MIB) == (1, True), result
    assert result.said.startswith("Error: ")
    assert "is longer than 33,554,432 bytes" in result.said
