"""The row index: it says what the rows say, whoever wrote it, and is believed only for the very bytes it was made of."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prep.combine.explain import explain_row
from prep.combine.mix import MixOptions, mix_files
from prep.combine.split import SplitOptions, SplitSizes, split_file
from prep.convert.convert import convert_files
from prep.convert.options import ConvertOptions
from prep.quality.lint import lint_dataset
from prep.quality.stats import StatsOptions, collect_stats
from prep.registry.dataset import find_dataset
from prep.rows import indexing
from prep.rows.indexing import RowColumns, build_index, describe_lines, describe_row, hash_exactly
from prep.rows.records import AlpacaRecord, read_record
from prep.rows.row_file import RowFile, _describe_rows
from prep.rows.thinking import join_thought
from prep.storage.manifests import manifest_path, read_manifest
from prep.storage.row_index import COLUMNS, RowIndex, index_path, read_index
from tests.support.shapes import medical_rows, sharegpt_rows, tool_rows, write_jsonl

TEXTS = st.text(st.sampled_from('aB12 .:%,*\n\t"\\/-<>{}:，。中文éＡ²🙂\x01\x7f'), max_size=12)
ORIGINS = st.sampled_from(
    ["s/f.jsonl:1", "s/f:12#3", "中/文:1", 's/"q":1', "s/a\\b:2", "", "s", "/f:1", "s/f:x", "s/f#1:3"]
)


NOT_COMPILED = "the indexer was not compiled: python setup.py build_ext --inplace, with a C compiler"
NEEDS_COMPILED = pytest.mark.skipif(indexing._load_indexer() is None, reason=NOT_COMPILED)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    think = draw(st.sampled_from(["", "none", "<think>x", "a <think>b</think>", "T", "\\t", "<b"]))
    answer = draw(TEXTS)
    output = answer if think == "none" else think + answer if "think" in think else join_thought(think, answer)
    record = {
        "instruction": draw(TEXTS),
        "input": draw(st.sampled_from(["", "", "more"])),
        "output": output,
        "system": draw(st.sampled_from(["", "", "Be brief."])),
        "history": draw(st.sampled_from([[], [], [["q", "a"]], [["q\n", '"'], ["好", ""]]])),
        "origin": draw(ORIGINS),
    }
    return record | draw(st.sampled_from([{}, {}, {"score": 1}, {"label": "x"}]))


@pytest.fixture(params=["compiled", "pure"])
def half(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which half describes plain lines."""
    if request.param == "pure":
        monkeypatch.setattr(indexing, "_load_indexer", lambda: None)
    elif indexing._load_indexer() is None:
        pytest.skip(NOT_COMPILED)
    return str(request.param)


@settings(max_examples=400, deadline=None)
@given(st.lists(records(), max_size=4))
def test_a_line_is_described_as_its_row_is(rows: list[dict[str, Any]]) -> None:
    lines = [orjson.dumps(row) for row in rows]
    expected = RowColumns()
    for line, row in zip(lines, rows, strict=True):
        expected.add(len(line), describe_row(read_record(row)))
    assert list_columns(describe_lines(b"".join(line + b"\n" for line in lines))) == list_columns(expected)


@given(st.lists(records(), max_size=4))
def test_origins_are_listed_as_they_are_written(rows: list[dict[str, Any]]) -> None:
    lines = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    assert indexing.list_origins(lines) == b"".join(orjson.dumps(row["origin"])[1:-1] + b"\n" for row in rows)


def list_columns(rows: RowColumns) -> dict[str, list[Any]]:
    names = list(rows.datasets)
    columns = {name: list(column) for name, column in rows.columns.items()}
    return {**columns, "dataset": [names[code] for code in rows.codes]}


@given(st.lists(records(), max_size=6), st.integers(0, 6), st.lists(st.booleans(), min_size=6, max_size=6))
def test_rows_are_put_together_and_chosen(rows: list[dict[str, Any]], cut: int, stays: list[bool]) -> None:
    def look(chosen: list[dict[str, Any]]) -> RowColumns:
        return describe_lines(b"".join(orjson.dumps(row) + b"\n" for row in chosen))

    both = look(rows[:cut])
    both.extend(look(rows[cut:]))
    assert list_columns(both) == list_columns(look(rows))
    kept = [row for row, stay in zip(rows, stays, strict=False) if stay]
    assert list_columns(both.select(stays[: len(rows)])) == list_columns(look(kept))


def test_a_row_is_exactly_another_whatever_the_order_of_its_keys_and_its_origin() -> None:
    row = {"instruction": "q", "input": "", "output": "a", "system": "", "history": [], "origin": "s/f:1"}
    turned = dict(reversed([*row.items(), ("origin", "t/g:7")]))
    assert hash_exactly(read_record(row)) == hash_exactly(read_record(turned))
    assert hash_exactly(read_record(row | {"output": "b"})) != hash_exactly(read_record(row))


@NEEDS_COMPILED
@pytest.mark.parametrize("rows", [1, 2047, 2048, 2049])
def test_the_compiled_half_fills_its_output_and_goes_on(rows: int) -> None:
    made = [AlpacaRecord(f"q {number}", "", "a", "", [], f"s/f:{number}")._asdict() for number in range(rows)]
    written = [orjson.dumps(row) + b"\n" for row in made]
    lines = b"".join(written)
    expected = RowColumns()
    for row, line in zip(made, written, strict=True):
        expected.add(len(line) - 1, describe_row(read_record(row)))
    assert list_columns(describe_lines(lines)) == list_columns(expected)
    call, output = indexing._load_indexer(), bytearray(indexing._COMPILED_BYTES * 10 + 5)
    assert call is not None
    done = min(rows, 10)
    assert call(lines, 0, output) == (done, sum(map(len, written[:done])), b"s")
    done = min(rows - 1, 10)
    assert call(lines[:-1], 0, output) == (done, sum(map(len, written[:done])), b"s" if done else b"")
    for start in (-1, len(lines) + 1):
        with pytest.raises(ValueError, match="start is out of range"):
            call(lines, start, output)


@NEEDS_COMPILED
def test_no_bytes_make_the_compiled_half_fall_over() -> None:
    row = {"instruction": "q．3 “好” \\", "input": "i", "output": '<think>\nt\n</think>\n\na"', "system": "s"}
    line = orjson.dumps(row | {"history": [["a", "b"], ["c", "d"]], "origin": "s/f:1#2"}) + b"\n"
    call, output = indexing._load_indexer(), bytearray(2 * indexing._COMPILED_BYTES)
    assert call is not None
    assert call(line, 0, output)[0] == 1
    rng = random.Random(3)
    for _ in range(20_000):
        spoiled = bytearray(line)
        for _ in range(rng.randint(1, 3)):
            spoiled[rng.randrange(len(spoiled))] = rng.choice(b'"\\[]{},:#/0\n\xe4\xef\x80\xff a')
        del spoiled[rng.randint(0, len(spoiled)) : rng.choice([None, len(spoiled) - 1])]
        assert call(bytes(spoiled) + b"\n", 0, output)[0] in (0, 1, 2)


def read_columns(index: RowIndex) -> dict[str, list[Any]]:
    columns = {name: index.column(name).tolist() for name in COLUMNS}
    return columns | {"dataset": [index.datasets[code] for code in index.dataset_codes.tolist()]}


def read_own(path: Path) -> RowIndex:
    index = read_index(path, read_manifest(path))
    assert index is not None
    return index


def assert_fits(path: Path) -> None:
    """The index beside a file is the one that its rows give when each of them is read."""
    assert read_columns(read_own(path)) == read_columns(build_index(_describe_rows(path)))
    with RowFile(path) as file:
        lines = file.read_lines(list(range(len(file))))
    assert b"".join(line + b"\n" for line in lines) == path.read_bytes()


def make_rows(folder: Path) -> tuple[Path, Path, Path]:
    """Convert rows of question and answer, of conversations, and of tools."""
    medical = [{**row, "question": f"{row['question']} {number}"} for number in range(30) for row in medical_rows()]
    convert_files([write_jsonl(folder / "m.jsonl", medical)], folder / "medical.jsonl", ConvertOptions())
    talks = json.loads(json.dumps([row for _ in range(20) for row in sharegpt_rows()]))
    for number, row in enumerate(talks):
        row["conversations"][-2]["value"] += f" {number}"
    convert_files([write_jsonl(folder / "c.jsonl", talks)], folder / "chat.jsonl", ConvertOptions())
    convert_files([write_jsonl(folder / "t.jsonl", tool_rows())], folder / "calls.jsonl", ConvertOptions())
    return folder / "medical.jsonl", folder / "chat.jsonl", folder / "calls_tools.jsonl"


def test_convert_mix_and_split_write_the_index_that_their_rows_give(half: str, tmp_path: Path) -> None:
    medical, chat, tools = make_rows(tmp_path)
    mixed = tmp_path / "mixed.jsonl"
    mix_files({"m": medical, "c": chat}, mixed, MixOptions(ratio={"m": 1, "c": 2}, by="characters"))
    (tmp_path / "other").mkdir()
    convert_files([tmp_path / "t.jsonl", tmp_path / "c.jsonl"], tmp_path / "other" / "chat.jsonl", ConvertOptions())
    renamed = tmp_path / "renamed.jsonl"
    result = mix_files({"one": chat, "two": tmp_path / "other" / "chat.jsonl"}, renamed, MixOptions(dedup="exact"))
    assert result.duplicates
    sides = split_file(mixed, tmp_path / "side", SplitOptions(SplitSizes(10, 5))).outputs
    for path in (medical, chat, tools, mixed, renamed, *sides.values()):
        assert_fits(path)


def touch_up(path: Path) -> None:
    """Change a file and leave its size and time as they were."""
    seen = path.stat()
    content = path.read_bytes()
    path.write_bytes(
        content.replace(b'"instruction":"', b'"instruction":"!', 1).replace(b'"output":"<', b'"output":"', 1)
    )
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def make_a_folder_of_the_index(path: Path) -> None:
    index_path(path).unlink()
    index_path(path).mkdir()


def link_another_index(path: Path) -> None:
    index_path(path).unlink()
    index_path(path).symlink_to(index_path(path.with_name("chat.jsonl")))


SPOILERS: dict[str, Callable[[Path], object]] = {
    "the index is gone": lambda path: index_path(path).unlink(),
    "the index is torn": lambda path: index_path(path).write_bytes(index_path(path).read_bytes()[:-100]),
    "the index is empty": lambda path: index_path(path).write_bytes(b""),
    "the index is another file's": lambda path: index_path(path).write_bytes(
        index_path(path.with_name("chat.jsonl")).read_bytes()
    ),
    "a byte of the index is another": lambda path: index_path(path).write_bytes(
        index_path(path).read_bytes().replace(b"\x01", b"\x02", 1)
    ),
    "the index is a folder": make_a_folder_of_the_index,
    "the manifest is gone": lambda path: manifest_path(path).unlink(),
    "a row was added": lambda path: path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(True)[0]),
    "a row went": lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(True)[1:])),
    "rows changed places": lambda path: path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(True)))),
    "blank lines and line ends of Windows": lambda path: path.write_bytes(
        b"\r\n\n".join(path.read_bytes().splitlines()) + b"\r\n"
    ),
    "a row was changed, and the size and the time stayed": touch_up,
    "the index goes on after its end": lambda path: index_path(path).write_bytes(index_path(path).read_bytes() * 2),
    "the index is a link to another file's": link_another_index,
    "index and manifest are another file's": lambda path: [
        make(path).write_bytes(make(path.with_name("chat.jsonl")).read_bytes())
        for make in (index_path, manifest_path)
    ],
    "the rows are another file's": lambda path: path.write_bytes(path.with_name("chat.jsonl").read_bytes()),
    "the rows are cut short": lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:-3])),
}


@pytest.mark.parametrize("spoiler", SPOILERS)
def test_an_index_that_does_not_fit_is_never_believed(spoiler: str, tmp_path: Path) -> None:
    medical, _, _ = make_rows(tmp_path)
    SPOILERS[spoiler](medical)
    with RowFile(medical, is_input=True) as file:
        assert read_columns(file.index) == read_columns(build_index(_describe_rows(medical)))
    alone = tmp_path / "alone.jsonl"
    alone.write_bytes(medical.read_bytes())
    for path, name in ((medical, "one"), (alone, "two")):
        mix_files({"m": path}, tmp_path / f"{name}.jsonl", MixOptions())
        split_file(path, tmp_path / name, SplitOptions(SplitSizes(7)))
    for end in (".jsonl", "_train.jsonl", "_test.jsonl", ".index", "_train.index"):
        assert (tmp_path / f"one{end}").read_bytes() == (tmp_path / f"two{end}").read_bytes()


def look(path: Path) -> list[Any]:
    """Return what stats, lint and explain tell of a file."""
    dataset = find_dataset(str(path), path.parent)
    findings: list[Any] = []
    lint_dataset(dataset, findings.append)
    return [collect_stats(dataset, StatsOptions()).as_dict(), findings, explain_row(path, 2)]


def test_what_commands_tell_of_a_file_is_the_same_without_its_index(tmp_path: Path) -> None:
    for path in make_rows(tmp_path):
        read_own(path)
        before = look(path)
        index_path(path).unlink()
        assert look(path) == before


@pytest.mark.parametrize("spoiler", SPOILERS)
def test_commands_tell_of_the_rows_that_are_there_whatever_the_index_says(spoiler: str, tmp_path: Path) -> None:
    medical, _, _ = make_rows(tmp_path)
    SPOILERS[spoiler](medical)
    told = look(medical)
    if index_path(medical).is_file():
        index_path(medical).unlink()
    assert look(medical) == told


def test_an_index_of_the_users_own_is_not_replaced(tmp_path: Path) -> None:
    from prep.errors import OutputError

    source = write_jsonl(tmp_path / "in.jsonl", medical_rows())
    (tmp_path / "out.index").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"out\.index exists already"):
        convert_files([source], tmp_path / "out.jsonl", ConvertOptions())
    assert not (tmp_path / "out.jsonl").exists()
    assert (tmp_path / "out.index").read_text(encoding="utf-8") == "mine"
    convert_files([source], tmp_path / "out.jsonl", ConvertOptions(force=True))
    assert_fits(tmp_path / "out.jsonl")
