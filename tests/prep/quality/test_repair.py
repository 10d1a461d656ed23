"""Spoiled rows come back exactly as convert would have written them."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prep.choices import ThinkPolicy
from prep.errors import InputError, OutputError, RecordError, RejectsError
from prep.quality.repair import RepairOptions, repair_file, repair_row
from prep.rows.records import AlpacaRecord, Exchange, write_record
from prep.rows.thinking import find_output_fault, repair_answer, unwrap_chat_markup
from prep.storage.fingerprints import hash_file
from prep.storage.manifests import Manifest, read_manifest, write_manifest

SPOILED_REASONING = {
    "instruction": "<|im_start|>user\nQ<|im_end|>\n",
    "input": "",
    "output": "<|im_start|>assistant\n<think>\nT\n</think> \n A<|im_end|>\n",
}
SPOILED_CHAT = {
    "instruction": "<|im_start|>user\nHi<|im_end|>\n",
    "input": "",
    "output": "<|im_start|>assistant\n<think>\n\n<think>\nHello<|im_end|>\n",
}


def is_clean(text: str) -> bool:
    return bool(text.strip()) and not any(sign in text for sign in ("<|", "|>", "think>"))


clean_text = st.text(min_size=1, max_size=40).filter(is_clean)
exchanges = st.builds(
    Exchange,
    question=clean_text,
    thought=st.just("") | clean_text,
    answer=clean_text,
    system=st.just("") | clean_text,
    history=st.lists(st.tuples(clean_text, clean_text), max_size=2).map(tuple),
    input=st.just(""),
    origin=st.just(""),
)


def spoil(record: AlpacaRecord, draw: Any) -> dict[str, Any]:
    """Write a sound record as the tutorials' scripts do."""
    row: dict[str, Any] = record._asdict()
    asked = f"<|im_start|>user\n{record.instruction}<|im_end|>\n"
    said = record.output
    if draw(st.booleans()):
        said = said.replace("<think>\n\n</think>\n\n", "<think>\n\n<think>\n")
    if draw(st.booleans()):
        said = said.replace(
            "\n</think>\n\n", draw(st.sampled_from(["\n</think> \n ", "</think>", "\n\n</think>\n\n\n"]))
        )
    if draw(st.booleans()):
        said = f"<|im_start|>assistant\n{said}"
    said += draw(st.sampled_from(["", "<|im_end|>", "<|im_end|>\n", "<|im_end|>\n<|endoftext|>", " \n"]))
    where = draw(st.sampled_from(["column", "instruction", "both"]))
    if record.system and where != "column":
        asked = f"<|im_start|>system\n{record.system}<|im_end|>\n{asked}"
        row["system"] = record.system if where == "both" else draw(st.sampled_from(["", None]))
    if draw(st.booleans()):
        row["history"] = [
            [f"<|im_start|>user\n{q}<|im_end|>\n", f"<|im_start|>assistant\n<think>\n\n<think>\n{a}<|im_end|>\n"]
            for q, a in record.history
        ]
    if not record.history and draw(st.booleans()):
        row["history"] = None
    ending = draw(st.sampled_from(["", "<|im_start|>assistant\n"]))
    row.update(instruction=asked + ending, output=said)
    return row


@settings(max_examples=300, deadline=None)
@given(exchange=exchanges, policy=st.sampled_from([ThinkPolicy.TAGGED, ThinkPolicy.MASKED]), data=st.data())
def test_fix_after_spoil_is_the_identity(exchange: Exchange, policy: ThinkPolicy, data: st.DataObject) -> None:
    record = write_record(exchange, policy, "a/b:1")
    assert repair_row(spoil(record, data.draw), policy, "a/b:1") == record


@settings(max_examples=100, deadline=None)
@given(exchange=exchanges, policy=st.sampled_from(list(ThinkPolicy)))
def test_a_sound_row_comes_back_as_it_is(exchange: Exchange, policy: ThinkPolicy) -> None:
    record = write_record(exchange, policy, "a/b:1")
    assert repair_row(record._asdict(), policy, "a/b:1") == record
    assert find_output_fault(record.output) is None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["<think>", "</think>", "<|im_start|>", "<|im_end|>", "user", "\n", " ", "x"])))
def test_no_output_crashes_the_repair_and_what_it_returns_is_sound(pieces: list[str]) -> None:
    row = {"instruction": "q", "output": "".join(pieces)}
    try:
        record = repair_row(row, ThinkPolicy.TAGGED, "")
    except RecordError:
        return
    assert find_output_fault(record.output) is None
    assert "<|" not in record.output


def test_the_tutorials_rows_are_repaired_to_the_byte() -> None:
    reasoning = repair_row(SPOILED_REASONING, ThinkPolicy.TAGGED, "o")
    assert reasoning == AlpacaRecord("Q", "", "<think>\nT\n</think>\n\nA", "", [], "o")
    chat = repair_row(SPOILED_CHAT, ThinkPolicy.MASKED, "o")
    assert chat == AlpacaRecord("Hi", "", "Hello", "", [], "o")


def test_a_whole_conversation_inside_the_instruction_becomes_history() -> None:
    instruction = "".join(
        f"<|im_start|>{role}\n{text}<|im_end|>\n"
        for role, text in (
            ("system", "S"),
            ("user", "Q1"),
            ("assistant", "<think>\nT\n</think>\n\nA1"),
            ("user", "Q2"),
        )
    )
    record = repair_row({"instruction": instruction, "output": "A2"}, ThinkPolicy.STRIP, "o")
    assert record == AlpacaRecord("Q2", "", "A2", "S", [["Q1", "A1"]], "o")


def test_a_question_that_stands_in_input_alone_is_kept() -> None:
    row = {"instruction": "", "input": "Q", "output": "A"}
    assert repair_row(row, ThinkPolicy.STRIP, "o") == AlpacaRecord("Q", "", "A", "", [], "o")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "q", "output": "<think>\nT and A"}, "<think> is never closed"),
        ({"instruction": "q", "output": "T</think>A"}, "</think> without <think>"),
        ({"instruction": "q", "output": "<think>a<think>b</think>c"}, "2 <think> and 1 </think>: one of each"),
        ({"instruction": "q", "output": "<think>\nT\n</think>\n\n"}, "the answer is empty"),
        ({"instruction": "q <|im_start|> r", "output": "a"}, "chat markup <|im_start|> stands inside the question"),
        (
            {"instruction": "<|im_start|>user\nq", "output": "<|im_start|>user\na"},
            "chat markup: the output is user",
        ),
        ({"instruction": "<|im_start|>tool\nq", "output": "a"}, "chat markup that is not whole turns"),
        ({"instruction": 5, "output": "a"}, "column 'instruction' is int, not a string"),
        ({"instruction": "q", "output": "a", "history": ["x"]}, "column 'history' is not a list of"),
        ({"instruction": "<|im_start|>system\nA<|im_end|>", "output": "a"}, "the instruction is empty"),
        (
            {"instruction": "<|im_start|>system\nA<|im_end|><|im_start|>user\nq", "output": "a", "system": "B"},
            "two different system prompts",
        ),
        ({"instruction": "", "output": "a"}, "the question is empty"),
    ],
)
def test_a_row_that_needs_a_guess_is_refused_with_the_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecordError) as error:
        repair_row(row, ThinkPolicy.TAGGED, "")
    assert reason in str(error.value)


def test_repair_answer_of_a_user_turn_is_refused() -> None:
    assert unwrap_chat_markup("<|im_start|>user\nx<|im_end|>") == [("user", "x")]
    with pytest.raises(RecordError, match="the output is user"):
        repair_answer("<|im_start|>user\nx<|im_end|>")


def write_lines(path: Path, *rows: object) -> Path:
    path.write_bytes(b"".join(row if isinstance(row, bytes) else orjson.dumps(row) + b"\n" for row in rows))
    return path


def test_a_repaired_file_has_a_manifest_and_counts(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "s.jsonl", b"\xef\xbb\xbf", SPOILED_REASONING, b"\r\n", {**SPOILED_CHAT, "score": 1}
    )
    output = tmp_path / "new.jsonl"
    result = repair_file(path, output, RepairOptions())
    assert [json.loads(line) for line in output.read_bytes().splitlines()] == [
        AlpacaRecord("Q", "", "<think>\nT\n</think>\n\nA", "", [], "s/s.jsonl:1")._asdict(),
        AlpacaRecord("Hi", "", "<think>\n\n</think>\n\nHello", "", [], "s/s.jsonl:3")._asdict(),
    ]
    assert result.counts == {
        **{"rows": 2, "records": 2, "repaired": 2, "rejects": 0, "reasoning": 1, "chat": 1},
        **{"with_system": 0, "with_history": 0},
    }
    assert (result.unused_columns, result.rejects) == (["score"], None)
    manifest = read_manifest(output)
    assert manifest is not None
    assert (manifest.step, manifest.think_policy) == ("lint-fix", "tagged")


def test_the_manifests_policy_is_kept(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "s.jsonl", {"instruction": "q", "output": "a"})
    write_manifest(
        path, Manifest("convert", {}, "masked", [], {}, {"bytes": path.stat().st_size, "sha256": hash_file(path)})
    )
    assert repair_file(path, tmp_path / "new.jsonl", RepairOptions()).policy is ThinkPolicy.MASKED
    assert b'"output":"a"' in (tmp_path / "new.jsonl").read_bytes()


def test_rows_beyond_repair_stop_the_run_unless_they_are_allowed(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "s.jsonl", SPOILED_CHAT, b'{"instruction": "\xff"}\n', b"[]\n")
    output = tmp_path / "new.jsonl"
    with pytest.raises(
        RejectsError, match=r"2 of 3 rows cannot be repaired without guessing; the first: .* line 2"
    ):
        repair_file(path, output, RepairOptions())
    assert not output.exists()
    reasons = [json.loads(line) for line in (tmp_path / "new.jsonl.rejects.jsonl").read_bytes().splitlines()]
    assert [(reject["row"], reject["reason"][:10]) for reject in reasons] == [(2, "not JSON: "), (3, "a JSON lis")]
    assert repair_file(path, output, RepairOptions(max_rejects=2)).counts["records"] == 1
    with pytest.raises(OutputError, match="exists already"):
        repair_file(path, output, RepairOptions(max_rejects=2))


def test_sharegpt_rows_and_empty_files_are_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "s.jsonl", {"conversations": []})
    with pytest.raises(InputError, match="holds sharegpt rows; only Alpaca rows can be repaired"):
        repair_file(path, tmp_path / "new.jsonl", RepairOptions())
    with pytest.raises(InputError, match="no rows in"):
        repair_file(write_lines(tmp_path / "e.jsonl"), tmp_path / "new.jsonl", RepairOptions())
