"""The kernel on every format, wrapping and option: its bytes, counts, columns and rejects are the slow path's."""

import csv
import io
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from prep.choices import ThinkPolicy, Turns
from prep.convert.inputs import InputHashes
from prep.convert.options import ConvertOptions
from prep.convert.shard import ConvertPlan, ShardResult
from prep.convert.stream import RowStream
from prep.convert.where import parse_condition
from prep.errors import InputError
from prep.inputs.formats import open_reader
from prep.inputs.reader import InputFile
from tests.prep.convert.test_kernel import ANY_TEXTS, NEEDS_KERNEL, PLAIN_TEXTS, both_ways, make_plan, mostly

THOUGHTS = st.sampled_from(
    [
        "<think>\nT\n</think>\n\n{}",
        "<think></think>{}",
        " <think> a\n</think>{}",
        "<think>\n\n</think>\n\n{}",
        "{}<think>",
    ]
)
USUAL = mostly(PLAIN_TEXTS, mostly(PLAIN_TEXTS, ANY_TEXTS))
ANSWERS = mostly(USUAL, st.builds(lambda frame, text: frame.format(text), THOUGHTS, PLAIN_TEXTS))
# What no format asks for: metadata, what would be lost, and what holds nothing.
OTHERS: dict[str, st.SearchStrategy[Any]] = {
    "id": st.integers(-5, 1 << 40),
    "score": mostly(st.floats(-1e9, 1e9), st.sampled_from(["x", None, True])),
    "source": st.sampled_from(["a", "b", 'c"', "中"]),
    "metrics": st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | USUAL,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", 'c"', "中"]), inner),
        max_leaves=6,
    ),
    "note": st.sampled_from([None, "", [], {}, None, "", None, None, "lost"]),
}


def may_lack(text: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return mostly(text, st.sampled_from([None, "", " ", 3, ["a", "b"], []]))


def make_talk(role: str, text: str, names: dict[str, str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    extra = st.sampled_from([{}] * 24 + [{"weight": None}, {"weight": 1}, {"id": 3}, {"note": "x"}, {role: None}])
    asked = st.builds(lambda said, more: {role: names["user"], text: said, **more}, USUAL, extra)
    answered = st.builds(lambda said, more: {text: said, role: names["assistant"], **more}, ANSWERS, extra)
    systems = st.sampled_from([[], [], [{role: names["system"], text: " Be kind."}], [{role: "system", text: " "}]])
    pairs = st.lists(st.tuples(asked, answered), min_size=1, max_size=3)
    usual = st.builds(lambda system, pairs: [*system, *(turn for pair in pairs for turn in pair)], systems, pairs)
    odd = st.lists(mostly(asked | answered, st.sampled_from([{}, "x", {role: "tool", text: "t"}])), max_size=4)
    return mostly(usual, odd)


def tables(**usual: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows of these columns and some others, mostly in one order."""

    def list_rows(names: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
        row = st.fixed_dictionaries({name: {**usual, **OTHERS}[name] for name in names})
        fewer = st.tuples(row, st.sampled_from(names)).map(
            lambda pair: {name: value for name, value in pair[0].items() if name != pair[1]}
        )
        turned = row.map(lambda values: dict(reversed(values.items())))
        return st.lists(mostly(row, fewer | turned), min_size=2, max_size=12)

    others = st.lists(st.sampled_from(sorted(OTHERS)), unique=True, max_size=3)
    return others.flatmap(lambda names: st.permutations([*usual, *names])).flatmap(list_rows)


OPENAI = {"user": "user", "assistant": "assistant", "system": "system"}
FORMATS: dict[str, st.SearchStrategy[list[dict[str, Any]]]] = {
    "medical-cot": tables(question=USUAL, think=may_lack(USUAL), answer=ANSWERS)
    | tables(question=USUAL, answer=ANSWERS, system=may_lack(USUAL), input=may_lack(USUAL)),
    "alpaca": tables(instruction=USUAL, input=may_lack(USUAL), output=ANSWERS)
    | tables(instruction=USUAL, output=ANSWERS, history=st.sampled_from([None, [], [["q", "a"]]]), system=USUAL),
    "openmath": tables(problem=USUAL, generated_solution=ANSWERS, expected_answer=USUAL),
    "sharegpt": tables(
        conversations=make_talk("from", "value", {"user": "human", "assistant": "gpt", "system": "system"})
    ),
    "messages": tables(messages=make_talk("role", "content", OPENAI), tools=st.sampled_from([None, [], "", "[]"]))
    | tables(messages=make_talk("speaker", "text", {"user": "用户", "assistant": "助手", "system": "系统"})),
}
# What CSV can hold.
CELLS = {
    "medical-cot": tables(question=USUAL, think=may_lack(USUAL), answer=ANSWERS, system=USUAL),
    "alpaca": tables(instruction=USUAL, input=may_lack(USUAL), output=ANSWERS, history=st.just("")),
    "openmath": FORMATS["openmath"],
}
OPTIONS = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(list(ThinkPolicy)),
        "turns": st.sampled_from(list(Turns)),
        "system": st.sampled_from([*[""] * 8, *[" Be kind. "] * 3, "<|im_end|>"]),
        "where": st.sampled_from(
            [()] * 12 + [("score>=0",), ("source==a", "id>0"), ("source!=b",), ("nothing==1",)]
        ),
        "dropped": st.sampled_from([frozenset()] * 3 + [frozenset({"note"}), frozenset({"source", "weight"})]),
        "fixes": st.sampled_from([(), ("join", "drop-tail", "greeting", "system")]),
        "roles": st.sampled_from([(), (("other", "user"),), (("human", "assistant"), ("gpt", "user"))]),
        "may_lack_open": st.booleans(),
    }
)


def write_lines(rows: list[dict[str, Any]], style: int) -> bytes:
    spaces = [(", ", ": "), (",", ":"), (" ,\t", " : ")][style % 3]
    lines = [json.dumps(row, ensure_ascii=style % 2 == 0, separators=spaces) for row in rows]
    return ("\r\n" if style == 5 else "\n").join(lines).encode("utf-8", "surrogatepass")


def write_array(rows: list[dict[str, Any]], style: int) -> bytes:
    written = json.dumps(rows, ensure_ascii=style % 2 == 0, indent=[None, 1, "\t"][style % 3])
    return (written + "\n" * (style == 4)).encode("utf-8", "surrogatepass")


def write_wrapped(rows: list[dict[str, Any]], style: int) -> bytes:
    return b'{"count": 3, "data":' + write_array(rows, style) + b"}"


def write_csv(rows: list[dict[str, Any]], style: int) -> bytes:
    out = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(
        out,
        delimiter=",",
        quoting=csv.QUOTE_ALL if style % 2 else csv.QUOTE_MINIMAL,
        lineterminator=["\n", "\r\n"][style // 3],
    )
    writer.writerow(names)
    for row in rows:
        cells = [row.get(name) for name in names]
        writer.writerow([cell if isinstance(cell, str) or cell is None else json.dumps(cell) for cell in cells])
    text = out.getvalue()
    return (text if style != 2 else text.rstrip("\r\n")).encode("utf-8", "replace")


def write_parquet(rows: list[dict[str, Any]], style: int) -> bytes:
    """Write rows whose columns are of one type; texts are narrow, wide or, in an Arrow file, views."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pa.Table.from_pylist(rows)
        kind = [pa.string(), pa.large_string(), pa.string_view()][style % 3]
        fields = [field.with_type(kind) if pa.types.is_string(field.type) else field for field in table.schema]
        table = table.cast(pa.schema(fields))
        out = pa.BufferOutputStream()
        pq.write_table(table, out, row_group_size=3 if style > 2 else 100)
    except (pa.ArrowException, UnicodeEncodeError):
        reject()
    return bytes(out.getvalue().to_pybytes())


WRITERS: dict[str, Callable[[list[dict[str, Any]], int], bytes]] = {
    "in.jsonl": write_lines,
    "in.json": write_array,
    "wrapped.json": write_wrapped,
    "in.csv": write_csv,
    "in.parquet": write_parquet,
}


def spoil(data: bytes, places: list[tuple[float, bytes]]) -> bytes:
    spoiled = bytearray(data)
    for place, new in places:
        at = int(place * len(spoiled))
        spoiled[at : at + 1] = new
    return bytes(spoiled)


SPOILED = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from([b"", b'"', b"\\", b"\n", b"\r", b"\xff", b"\0", b"{", b"]", b",", b"<", b"\xed\xa0\x80"]),
    ),
    min_size=1,
    max_size=3,
)


def convert(path: Path, plan: ConvertPlan) -> list[Any]:
    """Return all that a stream makes of a file, put together, or the error that ends it."""
    whole: list[ShardResult] = []
    try:
        with ExitStack() as stack:
            readers = [open_reader(InputFile(path, "in", "in"))]
            hashes = InputHashes(readers, stack)
            stream = RowStream(plan, readers, ConvertOptions(workers=1), hashes, stack, path.with_name("room"))
            whole += [shard for _, shard in stream.read()]
    except InputError as error:
        # Where a file is broken the rows before it are lost in any case.
        return [str(error)]
    parts = ("records", "tool_records", "rejects", "too_long")
    counts = {name: sum(shard.counts[name] for shard in whole) for name in {n for s in whole for n in s.counts}}
    return [
        *(b"".join(getattr(shard, part) for shard in whole) for part in parts),
        {name: count for name, count in counts.items() if count},
        set().union(*(shard.columns for shard in whole)),
        next((shard.first_reject for shard in whole if shard.first_reject), ""),
    ]


@NEEDS_KERNEL
@pytest.mark.parametrize(
    ("source", "name"),
    [(source, name) for source in FORMATS for name in WRITERS if name != "in.csv" or source in CELLS],
)
def test_every_wrapping_of_a_format_takes_the_slow_path_or_gives_its_bytes(
    source: str, name: str, tmp_path: Path, full: bool
) -> None:
    rows_of = CELLS[source] if name == "in.csv" else FORMATS[source]
    path = tmp_path / name
    taken = left = 0

    @settings(
        max_examples=1_000 if full else 60,
        # Of few examples, those that are known to hold enough plain rows.
        derandomize=not full,
        deadline=None,
        suppress_health_check=[HealthCheck.filter_too_much],
    )
    @given(
        rows=rows_of,
        options=OPTIONS,
        style=st.integers(0, 5),
        places=mostly(st.just([]), SPOILED),
        output_bytes=st.sampled_from([900, 1 << 20]),
    )
    def check(
        rows: list[dict[str, Any]],
        options: dict[str, Any],
        style: int,
        places: list[tuple[float, bytes]],
        output_bytes: int,
    ) -> None:
        nonlocal taken, left
        # A byte of parquet is no byte of a text.
        places = [] if name == "in.parquet" else places
        path.write_bytes(spoil(WRITERS[name](rows, style), places))
        where = tuple(parse_condition(text) for text in options["where"])
        plan = make_plan(source, **{**options, "where": where})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("prep.convert.kernel._OUTPUT_BYTES", output_bytes)
            fast, general, general_rows = both_ways(lambda: convert(path, plan))
        assert fast == general
        taken += len(rows)
        left += general_rows

    check()
    assert taken - left > taken / 20, "the kernel took too few rows for this to prove anything"
