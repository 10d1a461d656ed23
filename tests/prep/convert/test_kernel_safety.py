"""The kernel under the sanitizers, and mappings that would give one column two meanings."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.lfc_runs import convert
from tests.support.shapes import write_jsonl, write_parquet

ROOT = Path(__file__).parents[3]
SOURCES = [
    str(ROOT / name)
    for name in (
        "tests/support/kernel_fuzz.c",
        *(f"prep/convert/{part}.c" for part in ("rows", "json", "csv", "arrow")),
    )
]
SANITIZE = ("-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.mark.parametrize("processor", ["-DTHIS_PROCESSOR", "-U__SSE2__"], ids=["this-processor", "any-processor"])
def test_no_mapping_and_no_input_makes_the_kernel_leave_its_buffers(
    processor: str, tmp_path: Path, full: bool
) -> None:
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler")
    program = tmp_path / "fuzz"
    built = subprocess.run(
        [compiler, *SANITIZE, processor, *SOURCES, "-o", str(program)], capture_output=True, text=True, check=False
    )
    if built.returncode:
        pytest.skip(f"no sanitizers here: {built.stderr.splitlines()[-1]}")
    inputs = 5_000_000 if full else 50_000
    result = subprocess.run([str(program), str(inputs), "13"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    said = result.stdout.split()
    assert said[0] == str(inputs)
    converted = [int(word) for word in said[2:] if word.isdecimal()]
    assert len(converted) == 3
    assert min(converted) > inputs // 30, "the kernel took too few rows for this to prove anything"


ROWS = [{"q": f"Q{number}", "text": "abc def " * 200, "n": number} for number in range(300)]
TURNS = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
TWICE: dict[str, tuple[dict[str, Any], tuple[str, ...], str, str]] = {
    "question and answer, both mapped": (
        {"q": "Q", "text": "A"},
        ("question=text", "answer=text"),
        "column 'text' would be read twice: --map question=text and --map answer=text",
        "give each its own column",
    ),
    "thought and answer, as the segmentation fault had it": (
        {"q": "Q", "text": "A"},
        ("question=q", "think=text", "answer=text"),
        "column 'text' would be read twice: --map answer=text and --map think=text",
        "give each its own column",
    ),
    "a thought mapped to the column that is the answer": (
        {"question": "Q", "answer": "A"},
        ("think=answer",),
        "column 'answer' would be read twice: --map think=answer, and as 'answer'",
        "--map answer=YOUR_COLUMN too",
    ),
    "an answer mapped to the column that is the thought": (
        {"question": "Q", "think": "T", "answer": "A"},
        ("answer=think",),
        "column 'think' would be read twice: --map answer=think, and as 'think'",
        "--map think=YOUR_COLUMN too",
    ),
    "a system prompt mapped to the question": (
        {"question": "Q", "answer": "A"},
        ("system=question",),
        "column 'question' would be read twice: --map system=question, and as 'question'",
        "--map question=YOUR_COLUMN too",
    ),
    "alpaca's input mapped to its output": (
        {"instruction": "Q", "output": "A"},
        ("input=output",),
        "column 'output' would be read twice: --map input=output, and as 'output'",
        "--map output=YOUR_COLUMN too",
    ),
    "the tools of conversations mapped to the conversations": (
        {"conversations": TURNS},
        ("tools=conversations",),
        "column 'conversations' would be read twice: --map tools=conversations, and as 'conversations'",
        "--map conversations=YOUR_COLUMN too",
    ),
}


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet", "csv"])
@pytest.mark.parametrize("case", TWICE)
def test_one_column_of_the_file_has_one_meaning(case: str, suffix: str, tmp_path: Path) -> None:
    row, mapping, message, hint = TWICE[case]
    path = tmp_path / f"in.{suffix}"
    if suffix == "csv":
        path.write_text(",".join(row) + "\n" + ",".join('"x"' for _ in row) + "\n", encoding="utf-8")
    elif suffix == "json":
        path.write_text(json.dumps([row]), encoding="utf-8")
    else:
        (write_jsonl if suffix == "jsonl" else write_parquet)(path, [row])
    maps = [word for pair in mapping for word in ("--map", pair)]
    result = convert(path, tmp_path / "out.jsonl", *maps)
    assert (result.exit_code, result.stderr) == (1, f"Error: {path.as_posix()}: {message}\n  Try: {hint}\n")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_mapped_column_is_no_longer_guessed_to_be_another(tmp_path: Path) -> None:
    """`reasoning` would be taken for the thought; the user says that it is the answer."""
    path = write_jsonl(tmp_path / "in.jsonl", [{"question": "Q", "reasoning": "R"}])
    result = convert(path, tmp_path / "out.jsonl", "--map", "answer=reasoning")
    assert result.exit_code == 0, result.stderr
    row = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    assert row["output"] == "<think>\n\n</think>\n\nR"


def test_a_role_named_twice_and_a_field_inside_a_column_are_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", ROWS)
    result = convert(path, tmp_path / "out.jsonl", "--map", "question=q", "--map", "question=text")
    assert (result.exit_code, "names 'question' twice" in result.stderr) == (2, True)
    result = convert(path, tmp_path / "out.jsonl", "--map", "question=q.a", "--map", "answer=text")
    assert (result.exit_code, "column 'q.a' not found" in result.stderr) == (1, True)


def test_columns_may_change_places(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in.jsonl", [{"question": "A", "answer": "Q"}])
    result = convert(path, tmp_path / "out.jsonl", "--map", "question=answer", "--map", "answer=question")
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["instruction"] == "Q"
