"""The kernel: whatever it is given, its bytes, counts and rejects are those of the slow path."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prep.choices import ThinkPolicy
from prep.convert.kernel import has_kernel
from prep.convert.roads.batches import convert_batches
from prep.convert.roads.lines import LineConverter
from prep.convert.shard import ConvertPlan, ShardBuilder, ShardResult
from prep.inputs.parquet import ParquetReader
from prep.inputs.reader import BadRow, InputFile, SourceRow

NEEDS_KERNEL = pytest.mark.skipif(not has_kernel(), reason="the kernel was not compiled: no C compiler")
# What str.strip() and JSON treat in ways of their own, and what may stop the kernel.
ODD = [
    *" \n\t\r\f\x7f\x85\xa0\u1680\u2000\u200a\u200b\u2028\u2029\u202f\u205f\u3000\u3002\ufeff\ud7ff",
    *'\ue000\U0010ffff"\\/>|é😀',
    *("a < b", "\\n", "中文字", "a" * 17, "中" * 9),
]
# Each begins, ends or parts a thought of other markup than Qwen3's own.
MARKS = [
    *(
        "<thinking>",
        "</thinking>",
        "< think >",
        "< /think >",
        "<THINK>",
        "</THINK>",
        "<reasoning>",
        "</ Reasoning>",
    ),
    *("&lt;think&gt;", "&lt;/think&gt;", "＜think＞", "＜/think＞", "<|begin_of_thought|>", "<|end_of_thought|>"),
    *(
        "[THINK]",
        "[/THINK]",
        "◁think▷",
        "◁/think▷",
        "## Thinking\n",
        "\n## Final Response\n",
        "**思考**\n",
        "\n**回答**\n",
    ),
    *(
        "<思考>",
        "</思考>",
        "<thought>",
        "</thought>",
        "<answer>",
        "</answer>",
        "#  **推理过程：**\n",
        "* T",
        "< /",
        "<  / re",
    ),
]
STOPS = [*"\v\x1c\x1f\x00<", "<|im_end|>", "<think>", "</think>", "<|", "</thin"]


def mostly(usual: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw seven of eight values from the first; `one_of` has no such weights."""
    return st.sampled_from([usual] * 7 + [other]).flatmap(lambda drawn: drawn)


PARTS = st.lists(st.sampled_from(ODD), max_size=4).map("".join)
PLAIN_TEXTS = st.builds("{}x{}".format, PARTS, PARTS)
ANY_TEXTS = st.lists(st.sampled_from([*ODD, *STOPS, *MARKS]) | st.text(max_size=20), max_size=4).map("".join)
TEXTS = mostly(PLAIN_TEXTS, ANY_TEXTS)
POLICIES = st.sampled_from(list(ThinkPolicy))
SYSTEMS = st.sampled_from(["", " Be kind. ", 'a "b"\n'])


def write_json(text: str, style: int) -> str:
    """Write a text in one of the ways that JSON has, also with escapes that nobody needs."""
    written = json.dumps(text, ensure_ascii=style % 2 == 1)
    return written.replace("/", "\\/").replace("a", "\\u0061").replace("中", "\\u4E2D") if style > 3 else written


@st.composite
def lines(draw: st.DrawFn, names: list[str], comma: str, colon: str) -> bytes:
    """One line of these columns: three texts and, for others, any value."""
    good = st.sampled_from(["1", "-0", "null", "true", "false", '"x"', "123456789"])
    values = mostly(good, st.sampled_from(["01", "1.5", "nul", '"\\x"', "[1]", '"\x01"', "1" * 19, "-"]))
    members = []
    for name in names:
        value = draw(values) if name == "id" else write_json(draw(TEXTS), draw(st.integers(0, 5)))
        members.append(f'"{name}"{colon}{value}')
    return ("{" + comma.join(members) + "}").encode("utf-8", "surrogatepass")


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """Lines of one form, a few of another one, some of them damaged."""
    names = draw(st.permutations(["question", "think", "answer"]))
    names = [*names, "id"] if draw(st.booleans()) else names
    own = lines(names, *draw(st.sampled_from([(", ", ": "), (",", ":"), (" ,\t", " :")])))
    others = st.sampled_from([b"", b"  ", b"{", b"[]", b"null", b"\xef\xbb\xbf{}", b'{"question": "\xff"}'])
    made = [draw(own), *draw(st.lists(mostly(own, others), max_size=10))]
    data = bytearray(draw(st.sampled_from([b"\n", b"\n", b"\r\n"])).join(made))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(data)


def make_plan(source: str, **options: Any) -> ConvertPlan:
    made: dict[str, Any] = {"column_map": {}, "policy": ThinkPolicy.TAGGED, "turns": "expand", "prefix": "data"}
    return ConvertPlan(source=source, **(made | options))


def both_ways(convert: Callable[[], Any]) -> tuple[Any, Any, int]:
    """Return what is made with the kernel, what is made without, and how many rows the kernel left to Python."""
    left = 0
    add = ShardBuilder.add

    def count(self: ShardBuilder, row: SourceRow | BadRow) -> None:
        nonlocal left
        left += 1
        add(self, row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prep.convert.shard.ShardBuilder.add", count)
        fast = convert()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prep.convert.plain.has_kernel", lambda: False)
        return fast, convert(), left


@NEEDS_KERNEL
def test_lines_become_what_the_slow_path_makes_of_them() -> None:
    rows = left = 0

    @settings(max_examples=400, deadline=None)
    @given(data=blocks(), policy=POLICIES, system=SYSTEMS, output_bytes=st.sampled_from([400, 1 << 20]))
    def check(data: bytes, policy: ThinkPolicy, system: str, output_bytes: int) -> None:
        nonlocal rows, left
        plan = make_plan("medical-cot", policy=policy, system=system)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("prep.convert.kernel._OUTPUT_BYTES", output_bytes)
            fast, general, general_rows = both_ways(lambda: convert_lines(data, plan))
        assert fast == general
        rows += fast.counts["rows"]
        left += general_rows

    check()
    assert rows - left > rows / 4, "the kernel took too few rows for this to prove anything"


@NEEDS_KERNEL
def test_escapes_and_white_space_are_no_reason_for_the_slow_path() -> None:
    rows = [
        {"id": 1, "question": "发热？", "think": "先\n再", "answer": "  多喝水 \t\n"},
        {"id": -20, "question": '"a\\" 😀', "think": "\u3000\u2028b/c", "answer": "x\\n"},
    ]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode().replace(b"/", b"\\/")
    fast, general, left = both_ways(lambda: convert_lines(data))
    assert (fast, left) == (general, 0)
    first = json.loads(general.records.splitlines()[0])
    assert first["output"] == "<think>\n先\n再\n</think>\n\n多喝水"


@NEEDS_KERNEL
def test_wide_characters_become_what_the_slow_path_makes_of_them() -> None:
    wide = "中".encode()
    lasts = [b"%c%c" % pair for pair in product(b"\x7f\x80\x9f\xa0\xbf\xc0", b"\x22\x7f\x80\xbf\xc0")]
    texts = [
        wide * place + bytes([lead]) + last + wide * (9 - place)
        for lead, last, place in product(range(0xDF, 0xF1), lasts, range(6))
    ]
    data = b"".join(b'{"question":"%b","think":"t","answer":"a"}\n' % text for text in texts)
    plan = make_plan("medical-cot", prefix="")
    fast, general, left = both_ways(
        lambda: convert_lines(b'{"question":"q","think":"t","answer":"a"}\n' + data, plan)
    )
    assert fast == general
    assert left == general.counts["rejects"] > 0


def convert_lines(data: bytes, plan: ConvertPlan | None = None) -> ShardResult:
    return LineConverter(plan or make_plan("medical-cot"), "in.jsonl", "in.jsonl").convert(data, 7)


ROLES = st.sampled_from([b"human", b"gpt", b"user", b"assistant", b"system", b"tool", b"other", b"\xff"])
SPOILED = st.sampled_from([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe4\xb8", b"\xf4\x90\x80\x80", b"\xe0\x80"])
RAW_TEXTS = TEXTS.map(lambda text: text.encode("utf-8", "replace"))
DIALOGUES = st.lists(st.tuples(RAW_TEXTS, RAW_TEXTS), min_size=1, max_size=4).map(
    lambda pairs: [turn for asked, answered in pairs for turn in ((b"human", asked), (b"gpt", answered))]
)
CONVERSATIONS = mostly(
    DIALOGUES | DIALOGUES.map(lambda turns: [(b"system", b" s "), *turns]),
    st.lists(st.tuples(ROLES, mostly(RAW_TEXTS, SPOILED)), max_size=5),
)


def write_conversations(path: Path, rows: list[list[tuple[bytes, bytes]]]) -> None:
    """Write ShareGPT parquet of bytes, which need not be text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    turns = [turn for row in rows for turn in row]
    texts = [
        pa.Array.from_buffers(pa.string(), len(turns), pa.array(list(part), pa.binary()).buffers())
        for part in (zip(*turns, strict=True) if turns else ((), ()))
    ]
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row))
    structs = pa.StructArray.from_arrays(texts, ["from", "value"])
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs)
    pq.write_table(pa.table({"conversations": lists}), path)


def convert_conversations(path: Path, plan: ConvertPlan) -> list[ShardResult]:
    return list(convert_batches(plan, ParquetReader(InputFile(path, "in.parquet", "in.parquet"))))


@NEEDS_KERNEL
def test_conversations_become_what_the_slow_path_makes_of_them(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    rows = left = 0

    @settings(max_examples=250, deadline=None)
    @given(
        conversations=st.lists(CONVERSATIONS, min_size=1, max_size=12),
        turns=st.sampled_from(["expand", "all", "first", "last"]),
        policy=POLICIES,
        system=SYSTEMS,
        output_bytes=st.sampled_from([300, 700, 1 << 20]),
    )
    def check(
        conversations: list[list[tuple[bytes, bytes]]],
        turns: str,
        policy: ThinkPolicy,
        system: str,
        output_bytes: int,
    ) -> None:
        nonlocal rows, left
        write_conversations(path, conversations)
        plan = make_plan("sharegpt", turns=turns, policy=policy, system=system)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("prep.convert.kernel._OUTPUT_BYTES", output_bytes)
            fast, general, general_rows = both_ways(lambda: convert_conversations(path, plan))
        assert fast == general
        rows += len(conversations)
        left += general_rows

    check()
    assert rows - left > rows / 4, "the kernel took too few rows for this to prove anything"


@NEEDS_KERNEL
def test_many_turns_and_many_columns_take_the_slow_path(tmp_path: Path) -> None:
    turns = [(b"human" if place % 2 == 0 else b"gpt", b"t%d" % place) for place in range(600)]
    write_conversations(tmp_path / "in.parquet", [turns, turns[:2]])
    plan = make_plan("sharegpt", turns="all")
    fast, general, left = both_ways(lambda: convert_conversations(tmp_path / "in.parquet", plan))
    assert (fast, left) == (general, 1)
    row = {"question": "q", "think": "t", "answer": "a"} | {f"column {place}": place for place in range(70)}
    fast, general, left = both_ways(lambda: convert_lines(json.dumps(row).encode()))
    assert (fast, left) == (general, 1)
