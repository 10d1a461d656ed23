"""Conversion: what each shape becomes, what is rejected, and that every way gives the same bytes."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prep.choices import ThinkPolicy
from prep.convert.convert import convert_files
from prep.convert.options import ConvertOptions, ConvertResult
from prep.errors import InputError, OutputError, RejectsError, UserError
from prep.registry.dataset_info import register_dataset
from prep.storage.fingerprints import hash_file
from prep.storage.manifests import read_manifest
from tests.support.shapes import (
    SHAPES,
    TOOLS,
    medical_rows,
    messages_rows,
    sharegpt_rows,
    tool_rows,
    write_jsonl,
    write_parquet,
)

EMPTY = "<think>\n\n</think>\n\n"


def convert(source: Path | list[Path], folder: Path, **options: Any) -> ConvertResult:
    inputs = source if isinstance(source, list) else [source]
    return convert_files(inputs, folder / "out.jsonl", ConvertOptions(force=True, **options))


def read_rows(result: ConvertResult) -> list[dict[str, Any]]:
    assert result.output is not None
    return read_jsonl(result.output)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def convert_rows(rows: list[dict[str, Any]], folder: Path, **options: Any) -> list[dict[str, Any]]:
    return read_rows(convert(write_jsonl(folder / "in.jsonl", rows), folder, **options))


def rejects_of(rows: list[dict[str, Any]], folder: Path, **options: Any) -> list[str]:
    with pytest.raises(RejectsError):
        convert(write_jsonl(folder / "in.jsonl", rows), folder, **options)
    assert not (folder / "out.jsonl").exists()
    return [entry["reason"] for entry in read_jsonl(folder / "out.jsonl.rejects.jsonl")]


def test_medical_rows_become_exact_bytes(tmp_path: Path) -> None:
    result = convert(write_jsonl(tmp_path / "in.jsonl", medical_rows()[:1]), tmp_path)
    assert result.output is not None
    assert result.output.read_text(encoding="utf-8") == (
        '{"instruction":"AFP 400 ng/mL？","input":"","output":"<think>\\n先想肝脏。\\n再想别的。\\n</think>\\n\\n可能是肝癌。",'
        '"system":"","history":[],"origin":"out/in.jsonl:1"}\n'
    )


def test_a_blank_thought_is_an_empty_thought_and_white_space_goes(tmp_path: Path) -> None:
    row = convert_rows(medical_rows(), tmp_path)[1]
    assert (row["instruction"], row["output"]) == ("发热三天", f"{EMPTY}多喝水。")


@pytest.mark.parametrize(
    ("policy", "outputs"),
    [
        (ThinkPolicy.TAGGED, ["<think>\nt\n</think>\n\na", f"{EMPTY}a"]),
        (ThinkPolicy.MASKED, ["<think>\nt\n</think>\n\na", "a"]),
        (ThinkPolicy.STRIP, ["a", "a"]),
    ],
)
def test_the_policy_decides_how_thoughts_are_written(
    policy: ThinkPolicy, outputs: list[str], tmp_path: Path
) -> None:
    rows = [{"question": "q", "think": thought, "answer": "a"} for thought in ("t", None)]
    assert [row["output"] for row in convert_rows(rows, tmp_path, policy=policy)] == outputs


def test_expand_makes_a_row_of_each_answer_without_thoughts_in_the_history(tmp_path: Path) -> None:
    rows = convert_rows(sharegpt_rows(), tmp_path)
    assert [row["origin"].partition(":")[2] for row in rows] == ["1", "2#1", "2#2", "2#3", "3#1", "3#2"]
    assert rows[3]["history"] == [["Hi", "Hello 🙂"], [rows[2]["instruction"], "±2"]]
    assert rows[2]["output"] == "<think>\nt\n</think>\n\n±2"
    assert [row["system"] for row in rows] == ["", "Be brief.", "Be brief.", "Be brief.", "", ""]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ("all", [("Hi", 0), ("and 9?", 2), ("and 9?", 1)]),
        ("first", [("Hi", 0), ("Hi", 0), ("Hi", 0)]),
        ("last", [("Hi", 0), ("and 9?", 0), ("and 9?", 0)]),
    ],
)
def test_turns_choose_the_answers(turns: str, expected: list[tuple[str, int]], tmp_path: Path) -> None:
    rows = convert_rows(sharegpt_rows(), tmp_path, turns=turns)
    assert [(row["instruction"], len(row["history"])) for row in rows] == expected
    assert all("#" not in row["origin"] for row in rows)


def test_messages_take_reasoning_content_as_the_thought(tmp_path: Path) -> None:
    rows = convert_rows(messages_rows(), tmp_path)
    assert [row["output"] for row in rows] == [
        "<think>\nTwo and two.\n</think>\n\n4",
        "<think>\nThree twice.\n</think>\n\n6",
        f"{EMPTY}你好！",
    ]
    assert rows[1]["history"] == [["2+2?", "4"]]


def test_openmath_solutions_get_qwen3s_white_space(tmp_path: Path) -> None:
    rows = read_rows(convert(SHAPES["openmath-parquet"](tmp_path).path, tmp_path))
    assert [row["output"] for row in rows] == [
        "<think>\nTry 2.\n</think>\n\n**x = ±2**",
        "<think>\nOne more.\n</think>\n\n2",
    ]


def test_alpaca_keeps_input_system_and_history_without_thoughts(tmp_path: Path) -> None:
    rows = read_rows(convert(SHAPES["alpaca-jsonl"](tmp_path).path, tmp_path))
    assert rows[0]["input"] == "Guten Tag"
    assert (rows[1]["history"], rows[1]["output"]) == ([["Hello", "Hi"]], "<think>\nhm\n</think>\n\nBye")


def test_converting_a_converted_file_changes_nothing(tmp_path: Path) -> None:
    first = convert(write_jsonl(tmp_path / "in.jsonl", sharegpt_rows()), tmp_path)
    assert first.output is not None
    again = convert_files([first.output], tmp_path / "again.jsonl", ConvertOptions())
    assert again.output is not None
    assert again.output.read_bytes() == first.output.read_bytes()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"instruction": "<|im_start|>user\nhi<|im_end|>\n", "output": "ho"},
            "chat markup <|im_start|> stands inside the instruction; repair the file first with lfc prep repair",
        ),
        (
            {"instruction": "hi", "output": "<think>\n\n<think>\nho"},
            "<think> is never closed; repair the file first with lfc prep repair",
        ),
        ({"instruction": "hi", "output": 3}, "column 'output' is a number, not a string"),
        ({"instruction": " ", "output": "x"}, "the question is empty"),
        ({"instruction": "x", "output": "<think>\nt\n</think>\n\n"}, "the answer is empty"),
        (
            {"instruction": "x", "output": "y", "history": [["a"]]},
            "column 'history' is not a list of [question, answer] pairs, nor of turns that make such pairs",
        ),
    ],
)
def test_a_spoiled_alpaca_row_is_rejected_with_the_way_to_fix_it(
    row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    assert rejects_of([row], tmp_path) == [reason]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([], "column 'conversations' holds no list of turns"),
        ([{"from": "human", "value": "a"}], "turns are human; they must alternate human gpt"),
        ([{"from": "human", "value": None}], "turn 1 has no text in 'content' or 'value'"),
        (
            [{"from": "oracle", "value": "a"}],
            "turn 1 is of the unknown role 'oracle'; known are human, user, prompter, ",
        ),
        (
            [{"from": "human", "value": "a"}, {"from": "gpt", "value": "x <think>y</think>"}],
            "text stands before <think>: 'x'",
        ),
        (
            [{"from": "human", "value": "<|user|>"}, {"from": "gpt", "value": "x"}],
            "chat markup <|user|> stands inside",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_conversation_out_of_order_is_rejected(
    turns: list[dict[str, Any]], reason: str, kind: str, tmp_path: Path
) -> None:
    rows = [*sharegpt_rows(), {"conversations": turns, "source": "x", "score": 1.0}]
    write = write_parquet if kind == "parquet" else write_jsonl
    with pytest.raises(RejectsError) as caught:
        convert(write(tmp_path / f"in.{kind}", rows), tmp_path)
    assert f"1 of 4 rows cannot be used; the first: {tmp_path.as_posix()}/in.{kind} row 4: {reason}" in str(
        caught.value
    )


def test_rejects_within_the_limit_are_written_with_file_row_and_reason(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", [*medical_rows(), {"question": "q", "think": "t"}])
    result = convert(path, tmp_path, max_rejects=1)
    assert result.rejects is not None
    assert read_jsonl(result.rejects) == [
        {
            "file": path.as_posix(),
            "row": 4,
            "reason": "column 'answer' not found; columns are 'question', 'think'",
        }
    ]
    assert {name: result.counts[name] for name in ("rows", "records", "rejects")} == {
        "rows": 4,
        "records": 3,
        "rejects": 1,
    }


def test_tool_calls_become_rows_that_llamafactory_trains_on(tmp_path: Path) -> None:
    result = convert(write_jsonl(tmp_path / "in.jsonl", tool_rows()), tmp_path)
    assert result.tools_output == tmp_path / "out_tools.jsonl"
    call, answer = read_jsonl(result.tools_output)
    assert [turn["from"] for turn in call["conversations"]] == ["human", "function_call"]
    assert call["conversations"][-1]["value"] == EMPTY + '{"name": "get_time", "arguments": {}}'
    assert [turn["from"] for turn in answer["conversations"]] == ["human", "function_call", "observation", "gpt"]
    assert (answer["tools"], answer["system"], answer["origin"]) == (TOOLS, "", "out/in.jsonl:1#2")
    assert len(read_rows(result)) == 1
    manifest = read_manifest(result.tools_output)
    assert manifest is not None
    assert (manifest.output["formatting"], manifest.counts) == ("sharegpt", {"records": 2, "with_history": 1})
    entry = register_dataset(result.tools_output, "tools", tmp_path).entry
    assert (entry["formatting"], entry["columns"]["tools"]) == ("sharegpt", "tools")


def test_when_every_row_calls_tools_there_is_no_alpaca_file(tmp_path: Path) -> None:
    result = convert(write_jsonl(tmp_path / "in.jsonl", tool_rows()[:1]), tmp_path)
    assert (result.output, (tmp_path / "out.jsonl").exists()) == (None, False)
    assert result.tools_output is not None
    assert result.tools_output.exists()


def test_openai_tool_calls_become_function_call_turns(tmp_path: Path) -> None:
    calls = [{"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}} for _ in range(2)]
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": calls, "reasoning_content": "Call it."},
        {"role": "tool", "content": "one"},
        {"role": "tool", "content": "two"},
        {"role": "assistant", "content": "done"},
    ]
    result = convert(write_jsonl(tmp_path / "in.jsonl", [{"messages": messages}]), tmp_path)
    assert result.tools_output is not None
    rows = read_jsonl(result.tools_output)
    written = '[{"name": "f", "arguments": {"x": 1}}, {"name": "f", "arguments": {"x": 1}}]'
    assert rows[0]["conversations"][-1]["value"] == f"<think>\nCall it.\n</think>\n\n{written}"
    assert [turn["value"] for turn in rows[1]["conversations"][1:3]] == [
        written,
        "one\n</tool_response>\n<tool_response>\ntwo",
    ]


def test_several_inputs_of_one_name_get_origins_that_tell_them_apart(tmp_path: Path) -> None:
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(write_jsonl(tmp_path / folder / "x.jsonl", medical_rows()[:1]))
    rows = read_rows(convert(paths, tmp_path))
    assert [row["origin"] for row in rows] == ["out/a/x.jsonl:1", "out/b/x.jsonl:1"]


def test_a_folder_is_read_whole_and_what_is_no_data_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    (folder / "deep").mkdir(parents=True)
    (folder / ".cache").mkdir()
    write_jsonl(folder / "b.jsonl", medical_rows()[:1])
    write_jsonl(folder / "deep" / "c.jsonl", medical_rows()[:1])
    write_jsonl(folder / ".cache" / "d.jsonl", medical_rows()[:1])
    (folder / "README.md").write_text("x", encoding="utf-8")
    result = convert(folder, tmp_path)
    assert (result.counts["rows"], result.left_out) == (2, [folder / "README.md"])


def test_a_glob_is_expanded_and_one_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "p1.jsonl", medical_rows())
    write_jsonl(tmp_path / "p2.jsonl", medical_rows())
    assert convert(tmp_path / "p*.jsonl", tmp_path).counts["rows"] == 6
    with pytest.raises(InputError, match="matches no file"):
        convert(tmp_path / "none-*.jsonl", tmp_path)


def test_compressed_lines_give_the_same_rows(tmp_path: Path) -> None:
    import pyarrow as pa

    plain = write_jsonl(tmp_path / "in.jsonl", medical_rows() * 50)
    packed = tmp_path / "in.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    zst = tmp_path / "in.jsonl.zst"
    with pa.CompressedOutputStream(str(zst), "zstd") as stream:
        stream.write(plain.read_bytes())
    expected = [{**row, "origin": ""} for row in read_rows(convert(plain, tmp_path))]
    for path in (packed, zst):
        assert [{**row, "origin": ""} for row in read_rows(convert(path, tmp_path))] == expected


def test_where_limit_and_sample_choose_rows(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", sharegpt_rows() * 40)
    result = convert(path, tmp_path, turns="first", where=("score>=4.5",))
    assert (result.counts["records"], result.counts["filtered"]) == (80, 40)
    limited = read_rows(convert(path, tmp_path, turns="first", where=("source!=a",), limit=3))
    assert [row["origin"].rpartition(":")[2] for row in limited] == ["2", "3", "5"]
    drawn = convert(path, tmp_path, turns="first", where=("source==a",), sample=7)
    numbers = [int(row["origin"].rpartition(":")[2]) for row in read_rows(drawn)]
    assert (len(numbers), sorted(numbers), {number % 3 for number in numbers}) == (7, numbers, {1})
    assert numbers == [
        int(row["origin"].rpartition(":")[2])
        for row in read_rows(convert(path, tmp_path, turns="first", where=("source==a",), sample=7))
    ]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("score", "--where takes COLUMN OPERATOR VALUE, not 'score'"),
        ("score>=good", "--where score>=good: 'good' is not a number"),
    ],
)
def test_a_where_that_says_nothing_is_an_error(condition: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        convert(write_jsonl(tmp_path / "in.jsonl", medical_rows()), tmp_path, where=(condition,))
    assert str(caught.value) == message


def test_a_where_on_a_column_that_is_not_there_rejects(tmp_path: Path) -> None:
    reasons = rejects_of(medical_rows()[:1], tmp_path, where=("score>=4",))
    assert reasons == ["column 'score' of --where is not there"]


@pytest.mark.parametrize(
    ("kind", "kept", "gone"),
    [("exact", ["1", "3", "4", "5"], {"2": "1"}), ("question", ["1", "4", "5"], {"2": "1", "3": "1"})],
)
def test_dedup_keeps_the_first_and_says_of_whom_the_others_are_copies(
    kind: str, kept: list[str], gone: dict[str, str], tmp_path: Path
) -> None:
    questions = [("What is AFP?", "a"), ("What is AFP?", "a"), ("what is ＡＦＰ", "b"), ("2*5?", "c"), ("25?", "d")]
    rows = [{"question": question, "think": "", "answer": answer} for question, answer in questions]
    result = convert(write_jsonl(tmp_path / "in.jsonl", rows), tmp_path, dedup=kind)
    assert [row["origin"].rpartition(":")[2] for row in read_rows(result)] == kept
    assert result.duplicates is not None
    entries = read_jsonl(result.duplicates)
    assert {
        entry["origin"].rpartition(":")[2]: entry["duplicate_of"].rpartition(":")[2] for entry in entries
    } == gone
    assert (result.counts["duplicates"], result.counts["records"], result.counts["chat"]) == (
        len(gone),
        len(kept),
        len(kept),
    )


def test_near_copies_are_found_and_others_stay(tmp_path: Path) -> None:
    pytest.importorskip("rensa")
    text = "The patient has had a fever for three days and complains of pain in the upper right abdomen. " * 3
    rows = [
        {"question": text, "answer": "Hepatitis is to be ruled out first."},
        {"question": text.replace("complains", "speaks", 1), "answer": "Hepatitis is to be ruled out first."},
        {"question": "Something else entirely, about the weather.", "answer": "Sunny."},
    ]
    result = convert(write_jsonl(tmp_path / "in.jsonl", rows), tmp_path, dedup="near")
    assert [row["origin"].rpartition(":")[2] for row in read_rows(result)] == ["1", "3"]


def test_the_manifest_names_inputs_hashes_and_counts(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", medical_rows())
    result = convert(path, tmp_path)
    assert result.output is not None
    manifest = read_manifest(result.output)
    assert manifest is not None
    assert manifest.inputs == [
        {
            "path": path.as_posix(),
            "label": "in.jsonl",
            "bytes": path.stat().st_size,
            "sha256": hash_file(path),
            "rows": 3,
        }
    ]
    assert manifest.output["sha256"] == hash_file(result.output)
    assert (manifest.think_policy, manifest.counts["reasoning"], manifest.counts["chat"]) == ("tagged", 2, 1)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_the_same_command_twice_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name](tmp_path)
    column_map = dict(pair.split("=") for pair in shape.arguments[1::2] if "=" in pair)
    runs = []
    for _ in range(2):
        convert(shape.path, tmp_path, column_map=column_map)
        runs.append({path.name: path.read_bytes() for path in sorted(tmp_path.glob("out*"))})
    assert runs[0] == runs[1]
    assert (tmp_path / "out_tools.jsonl").exists() == shape.tools


def test_several_processes_give_the_bytes_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prep.convert.stream._PARALLEL_BYTES", 0)
    monkeypatch.setattr("prep.convert.stream._RANGE_BYTES", 2_000)
    # Here alone: the other processes have it.
    monkeypatch.setattr("prep.convert.plain.has_kernel", lambda: False)
    rows = [row for _ in range(200) for row in sharegpt_rows()[:3]]
    path = write_jsonl(tmp_path / "in.jsonl", rows)
    path.write_bytes(
        b"\xef\xbb\xbf" + path.read_bytes() + b"\n\r\n{bad\n" + path.read_bytes().replace(b"\n", b"\r\n")
    )
    made = []
    for workers in (1, 2, 3):
        result = convert(path, tmp_path, workers=workers, max_rejects=1)
        made.append([file.read_bytes() for file in sorted(tmp_path.glob("out*"))])
        assert result.counts["rows"] == 1201
    assert made[0] == made[1] == made[2]
    assert read_jsonl(tmp_path / "out.jsonl.rejects.jsonl")[0]["row"] == 603


def test_a_conversion_process_that_dies_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prep.convert.stream._PARALLEL_BYTES", 0)
    monkeypatch.setattr("prep.convert.plain.has_kernel", lambda: False)
    (tmp_path / "ends.py").write_text("raise SystemExit(7)", encoding="utf-8")
    monkeypatch.setattr("prep.parallel.processes._PROGRAM", tmp_path / "ends.py")
    with pytest.raises(InputError) as caught:
        convert(write_jsonl(tmp_path / "in.jsonl", sharegpt_rows()), tmp_path, workers=2)
    assert str(caught.value) == "a worker process ended early, with exit code 7"
    assert not (tmp_path / "out.jsonl").exists()


def test_an_output_that_stands_is_kept_without_force(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", medical_rows())
    (tmp_path / "out.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="exists already"):
        convert_files([path], tmp_path / "out.jsonl", ConvertOptions())
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.jsonl", b"", "no rows in {path}"),
        ("in.jsonl", b"\n\r\n \n", "no rows in {path}"),
        ("in.json", b'{"a": 1, 2}', "{path} is not a JSON document: a key is expected: line 1 "),
        ("in.json", b"[1}", "{path} is not a JSON document: unexpected end of data: line 1 column 4"),
        ("in.jsonl", "{}".encode("utf-16"), "{path} is in UTF-16"),
        ("in.jsonl.gz", b"no gzip", "{path} cannot be unpacked: Not a gzipped file (b'no')"),
        ("in.docx", b"x", "{path}: files of type '.docx' cannot be read; allowed are .parquet, .jsonl, .ndjson, "),
        (
            "in.jsonl",
            b'{"a": 1}\n',
            "{path}: no known format has the columns a: preference needs chosen, rejected; ",
        ),
        (
            "in.csv",
            "q,a\ncafé,très\n".encode("cp1252"),
            "{path} is not in UTF-8, and in no encoding that is certain",
        ),
    ],
)
def test_a_file_that_is_broken_as_a_whole_is_one_error(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        convert(path, tmp_path)
    assert str(caught.value).startswith(message.format(path=path.as_posix()))


def test_a_parquet_that_was_cut_short_is_one_error(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", sharegpt_rows())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="is not a whole parquet file"):
        convert(path, tmp_path)


def test_plain_conversations_never_take_the_slow_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "in.parquet", [sharegpt_rows()[0], sharegpt_rows()[2]])
    expected = read_rows(convert(path, tmp_path))
    monkeypatch.setattr("prep.convert.roads.batches.read_row", None)
    monkeypatch.setattr("prep.convert.roads.batches.read_batch", None)
    assert read_rows(convert(path, tmp_path)) == expected


TEXTS = st.text(
    alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from(list(' \n\t\r\x7f\x85\u3000"\\<|>/'))),
    max_size=12,
) | st.sampled_from(["<think>\nt\n</think>\n\na", "<think>", "<|im_end|>", "x\\u0001", "</think>", " ", ""])
TURNS = st.lists(
    st.builds(
        lambda role, value: {"from": role, "value": value},
        st.sampled_from(["human", "gpt", "human", "gpt", "system", "function_call", "tool"]),
        TEXTS | st.none(),
    ),
    max_size=6,
)
DIALOGUES = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3).map(
    lambda pairs: [
        {"from": role, "value": text} for pair in pairs for role, text in zip(("human", "gpt"), pair, strict=True)
    ]
)
ROWS = st.lists(
    st.builds(lambda turns: {"conversations": turns}, DIALOGUES | DIALOGUES | TURNS | st.none()),
    min_size=1,
    max_size=30,
)


MEDICAL_VALUES = TEXTS | st.none() | st.sampled_from(["q", "a", 3])
MEDICAL_ROWS = st.lists(
    st.fixed_dictionaries(
        {"question": MEDICAL_VALUES, "answer": MEDICAL_VALUES},
        optional={"think": MEDICAL_VALUES, "system": MEDICAL_VALUES, "other": st.just(1)},
    )
    | st.fixed_dictionaries({"question": TEXTS, "think": TEXTS, "answer": st.sampled_from(["a", " b\u3000"])}),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=MEDICAL_ROWS,
    policy=st.sampled_from(list(ThinkPolicy)),
    system=st.sampled_from(["", " Be kind. "]),
    block_bytes=st.sampled_from([1, 100, 1 << 18]),
)
def test_spliced_lines_are_the_bytes_of_the_slow_path(
    rows: list[dict[str, Any]], policy: ThinkPolicy, system: str, block_bytes: int, tmp_path: Path
) -> None:
    (tmp_path / "in.json").write_text(json.dumps(rows), encoding="utf-8")
    # Quotes are escaped, other characters stand as they are.
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8", newline="\n")
    made = []
    for name in ("in.json", "in.jsonl"):
        options = ConvertOptions(policy=policy, system=system, max_rejects=len(rows), force=True)
        for old in tmp_path.glob("out*"):
            old.unlink()
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("prep.convert.stream._BLOCK_BYTES", block_bytes)
                convert_files([tmp_path / name], tmp_path / "out.jsonl", options)
        except InputError as error:
            made.append({"error": str(error).replace(" (line 1)", "").encode()})
            continue
        # Beside the row's number, an array's rejects tell its line.
        texts = {file.name: file.read_bytes() for file in tmp_path.glob("out*.jsonl")}
        made.append({name: re.sub(rb',"line":1(?=,"reason")', b"", text) for name, text in texts.items()})
    assert made[0] == {name: content.replace(b"in.jsonl", b"in.json") for name, content in made[1].items()}


def test_plain_lines_never_take_the_slow_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", medical_rows()[:1])
    expected = read_rows(convert(path, tmp_path))
    monkeypatch.setattr("prep.convert.shard.ShardBuilder.add", None)
    assert read_rows(convert(path, tmp_path)) == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=ROWS,
    turns=st.sampled_from(["expand", "all", "first", "last"]),
    policy=st.sampled_from(list(ThinkPolicy)),
    system=st.sampled_from(["", " Be kind. "]),
)
def test_the_fast_way_gives_the_bytes_of_the_general_one(
    rows: list[dict[str, Any]], turns: str, policy: ThinkPolicy, system: str, tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    table = pa.Table.from_pylist(rows, schema=pa.schema([("conversations", pa.list_(turn))]))
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=7)
    (tmp_path / "lines").mkdir(exist_ok=True)
    write_jsonl(tmp_path / "lines" / "in.jsonl", rows)
    made = []
    for path in (tmp_path / "in.parquet", tmp_path / "lines" / "in.jsonl"):
        options = ConvertOptions(policy=policy, turns=turns, system=system, max_rejects=len(rows), force=True)
        for old in tmp_path.glob("out*"):
            old.unlink()
        try:
            convert_files([path], tmp_path / "out.jsonl", options)
        except InputError as error:
            made.append({"error": str(error).partition(" from ")[0].encode()})
            continue
        made.append({file.name: file.read_bytes().replace(b"lines/", b"") for file in tmp_path.glob("out*.jsonl")})
    assert {name: content.replace(b"in.parquet", b"in.jsonl") for name, content in made[0].items()} == made[1]
