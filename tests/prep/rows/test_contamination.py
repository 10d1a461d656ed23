"""Decontamination: a row goes that asks a benchmark's question or shares thirteen words with it, and no other."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from prep.combine.mix import MixOptions, mix_files
from prep.convert.convert import convert_files
from prep.convert.options import ConvertOptions
from prep.errors import InputError
from prep.inputs.formats import read_values
from prep.rows.duplicates.contamination import WORDS, Benchmarks, list_words
from prep.rows.records import read_record
from prep.storage.manifests import read_manifest
from tests.support.shapes import write_jsonl

THIRTEEN = "one two three four five six seven eight nine ten eleven twelve thirteen"
HAN = "如果一位病人发热三天并且咳嗽应该先做哪些检查"


def make_row(question: str, answer: str = "yes", **more: Any) -> dict[str, Any]:
    row = {"instruction": question, "input": "", "output": answer, "system": "", "history": [], "origin": "s/f:1"}
    return row | more


BENCHMARK: list[dict[str, Any]] = [
    {"question": "What is AFP?", "choices": ["a protein", "a drug"], "answer": 0},
    {"problem": f"Count: {THIRTEEN}.", "solution": "Thirteen."},
    {"问题": HAN, "答案": "血常规"},
    {"messages": [{"role": "user", "content": "Say hi"}, {"role": "assistant", "content": "hi"}]},
    {"instruction": "Translate", "input": "good morning", "output": "早上好"},
]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        (make_row("what is ＡＦＰ"), ("b.jsonl:1", "question")),
        (make_row("What is AFP used for?"), None),
        (make_row("a protein"), None),
        (make_row("Say hi!"), ("b.jsonl:4", "question")),
        (make_row("hi"), None),
        (make_row("Translate", input="Good morning."), ("b.jsonl:5", "question")),
        (make_row("Translate", input="good night"), None),
        (make_row("Go on", f"So, {THIRTEEN.upper().replace(' ', ', ')} and more"), ("b.jsonl:2", "13-gram")),
        (make_row("Go on", THIRTEEN.replace("seven", "7")), None),
        (make_row("Go on", THIRTEEN.rpartition(" ")[0]), None),
        (make_row(THIRTEEN.rpartition(" ")[0], "thirteen"), None),
        (make_row("继续", f"请问，{HAN[:5]}，{HAN[5:14]}？"), ("b.jsonl:3", "13-gram")),
        (make_row("继续", HAN[: WORDS - 1]), None),
        (make_row("x", "y", system=f"{THIRTEEN}"), ("b.jsonl:2", "13-gram")),
        (make_row("x", "y", history=[[THIRTEEN, "ok"]]), ("b.jsonl:2", "13-gram")),
        (make_row("?!"), None),
    ],
)
def test_a_row_is_found_by_its_question_or_thirteen_words(
    row: dict[str, Any], match: tuple[str, str] | None, tmp_path: Path
) -> None:
    benchmarks = Benchmarks([write_jsonl(tmp_path / "b.jsonl", BENCHMARK)], read_values)
    others = [read_record(make_row(f"Something else {number}", "quite different")) for number in range(3)]
    assert benchmarks.find([*others, read_record(row), *others]) == [None, None, None, match, None, None, None]


def test_runs_of_words_are_those_that_counting_them_one_by_one_gives(tmp_path: Path) -> None:
    rng = random.Random(5)
    pieces = ["a", "B", "ab", "x1", "发", "热", "é", "ｅ", "カ", "한글", " ", " ", " ", "，", "-", "\n", "²", "🙂"]

    def write() -> str:
        return "".join(rng.choices(pieces[:8] + [" "] * 6 + pieces[8:], k=rng.randint(0, 60)))

    cells = [write() for _ in range(60)]
    texts = [write() + rng.choice(cells)[rng.randint(0, 20) :] + write() for _ in range(200)]

    def cut(text: str) -> set[tuple[str, ...]]:
        words = list_words(text)
        return {tuple(words[start : start + WORDS]) for start in range(len(words) - WORDS + 1)}

    runs = set().union(*map(cut, cells))
    benchmarks = Benchmarks([write_jsonl(tmp_path / "b.jsonl", [{"cell": cell} for cell in cells])], read_values)
    found = benchmarks.find([read_record(make_row("q", text)) for text in texts])
    expected = [bool(cut(text) & runs) for text in texts]
    assert [match is not None for match in found] == expected
    assert 20 < sum(expected) < 180


def test_convert_drops_what_stands_in_a_benchmark_and_says_where(tmp_path: Path) -> None:
    benchmark = write_jsonl(tmp_path / "b.jsonl", BENCHMARK)
    rows = [{"question": f"Question {number}?", "think": "t", "answer": "x"} for number in range(5)]
    rows.insert(2, {"question": "What is AFP??", "think": "t", "answer": "A protein."})
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    out = tmp_path / "out.jsonl"
    result = convert_files([source], out, ConvertOptions(decontaminate=(benchmark,)))
    assert (result.counts["rows"], result.counts["records"], result.counts["contaminated"]) == (6, 5, 1)
    assert result.counts["reasoning"] == 5
    assert result.contaminated == tmp_path / "out.jsonl.contaminated.jsonl"
    told = [json.loads(line) for line in result.contaminated.read_text(encoding="utf-8").splitlines()]
    assert [(line["origin"], line["benchmark"], line["by"]) for line in told] == [
        ("out/in.jsonl:3", "b.jsonl:1", "question")
    ]
    assert "AFP" not in out.read_text(encoding="utf-8")
    manifest = read_manifest(out)
    assert manifest is not None
    assert [entry["path"] for entry in manifest.options["decontaminate"]] == [benchmark.as_posix()]
    again = convert_files([source], out, ConvertOptions(force=True))
    assert (again.counts.get("contaminated"), again.contaminated) == (None, None)
    assert not (tmp_path / "out.jsonl.contaminated.jsonl").exists()


def test_mix_drops_what_stands_in_a_benchmark_from_every_part(tmp_path: Path) -> None:
    benchmark = write_jsonl(tmp_path / "bench.jsonl", BENCHMARK)
    parts = {}
    for name in ("a", "b"):
        rows = [{"question": f"{name} {number}?", "answer": "x"} for number in range(4)]
        rows.append({"question": "Say hi", "answer": name})
        convert_files(
            [write_jsonl(tmp_path / f"{name}-raw.jsonl", rows)], tmp_path / f"{name}.jsonl", ConvertOptions()
        )
        parts[name] = tmp_path / f"{name}.jsonl"
    result = mix_files(parts, tmp_path / "m.jsonl", MixOptions(decontaminate=(benchmark,), dedup="question"))
    assert (result.contaminated, result.duplicates, result.available) == (2, 0, {"a": 4, "b": 4})
    told = (tmp_path / "m.jsonl.contaminated.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["origin"] for line in told] == ["a/a-raw.jsonl:5", "b/b-raw.jsonl:5"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "has no rows"), ("{\n", "row 1: "), ('{"question": "q"}\n[1]\n', "row 2: ")],
)
def test_a_benchmark_that_cannot_be_read_is_one_error(content: str, message: str, tmp_path: Path) -> None:
    benchmark = tmp_path / "b.jsonl"
    benchmark.write_text(content, encoding="utf-8")
    source = write_jsonl(tmp_path / "in.jsonl", [{"question": "q", "answer": "a"}])
    with pytest.raises(InputError) as caught:
        convert_files([source], tmp_path / "out.jsonl", ConvertOptions(decontaminate=(benchmark,)))
    assert f"{benchmark} {message}" in str(caught.value)
    assert caught.value.hint
    assert not (tmp_path / "out.jsonl").exists()


def test_the_commands_take_several_benchmarks_and_tell_how_many_rows_went(tmp_path: Path) -> None:
    from tests.support.lfc_runs import convert

    for number, row in enumerate(BENCHMARK[:2]):
        write_jsonl(tmp_path / f"b{number}.jsonl", [row])
    rows = [{"question": text, "answer": "x"} for text in ("What is AFP", f"Say: {THIRTEEN}", "Another question")]
    source, out = write_jsonl(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    options = ("--decontaminate", str(tmp_path / "b0.jsonl"), "--decontaminate", str(tmp_path / "b1.jsonl"))
    result = convert(source, out, *options, "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["counts"]["contaminated"], told["counts"]["records"]) == (2, 1)
    assert told["contaminated"] == f"{out}.contaminated.jsonl"
    missing = convert(source, tmp_path / "other.jsonl", "--decontaminate", str(tmp_path / "none.jsonl"))
    assert (missing.exit_code, "none.jsonl" in missing.stderr) == (1, True)
