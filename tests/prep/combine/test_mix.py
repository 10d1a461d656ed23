"""Mixing: true ratios by rows and by size, reproducible, nothing repeated unless asked."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prep.choices import ThinkPolicy
from prep.combine.mix import MixOptions, MixResult, mix_files
from prep.convert.convert import convert_files
from prep.convert.options import ConvertOptions
from prep.errors import InputError, OutputError, UserError
from prep.storage.manifests import read_manifest
from tests.support.shapes import tool_rows, write_jsonl


def make_part(folder: Path, name: str, rows: int, words: int = 1, policy: str = "tagged") -> Path:
    source = [{"question": f"{name} {number}", "answer": "word " * words} for number in range(rows)]
    path = folder / f"{name}.jsonl"
    raw = write_jsonl(folder / f"{name}-raw.jsonl", source)
    convert_files([raw], path, ConvertOptions(policy=ThinkPolicy(policy)))
    return path


def mix(folder: Path, parts: dict[str, Path], **options: Any) -> MixResult:
    return mix_files(parts, folder / "mixed.jsonl", MixOptions(force=True, **options))


def read_names(folder: Path) -> list[str]:
    lines = (folder / "mixed.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["origin"].partition("/")[0] for line in lines]


def test_a_ratio_is_that_of_the_result_and_no_row_is_repeated(tmp_path: Path) -> None:
    parts = {"a": make_part(tmp_path, "a", 300), "b": make_part(tmp_path, "b", 1000)}
    result = mix(tmp_path, parts, ratio={"a": 0.3, "b": 0.7})
    assert (result.taken, result.available) == ({"a": 300, "b": 700}, {"a": 300, "b": 1000})
    lines = (tmp_path / "mixed.jsonl").read_bytes().splitlines()
    assert len(set(lines)) == len(lines) == 1000
    assert read_names(tmp_path)[:50] != ["a"] * 50


def test_without_a_ratio_every_row_is_taken(tmp_path: Path) -> None:
    parts = {"a": make_part(tmp_path, "a", 3), "b": make_part(tmp_path, "b", 4)}
    assert mix(tmp_path, parts).taken == {"a": 3, "b": 4}


def test_oversampling_takes_every_row_and_repeats_those_of_the_small_part_evenly(tmp_path: Path) -> None:
    parts = {"a": make_part(tmp_path, "a", 40), "b": make_part(tmp_path, "b", 100)}
    result = mix(tmp_path, parts, ratio={"a": 0.5, "b": 0.5}, oversample=True)
    assert result.taken == {"a": 100, "b": 100}
    counts = Counter((tmp_path / "mixed.jsonl").read_bytes().splitlines())
    assert sorted(set(counts.values())) == [1, 2, 3]
    assert len(counts) == 140


@pytest.mark.parametrize("by", ["characters", "tokens"])
def test_a_ratio_by_size_is_of_the_texts(by: str, tmp_path: Path, qwen3_folder: Path) -> None:
    parts = {
        "long": make_part(tmp_path, "long", 200, words=90),
        "short": make_part(tmp_path, "short", 900, words=9),
    }
    result = mix(tmp_path, parts, ratio={"long": 0.5, "short": 0.5}, by=by, model=qwen3_folder)
    share = result.sizes["long"] / sum(result.sizes.values())
    assert abs(share - 0.5) < 0.005
    assert result.taken["short"] == 900
    assert result.taken["long"] < 200


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    parts = {"a": make_part(tmp_path, "a", 50), "b": make_part(tmp_path, "b", 50)}
    made = []
    for seed in (1, 1, 2):
        mix(tmp_path, parts, ratio={"a": 1, "b": 2}, seed=seed)
        made.append((tmp_path / "mixed.jsonl").read_bytes() + (tmp_path / "mixed.manifest.json").read_bytes())
    assert made[0] == made[1] != made[2]


def test_the_draw_is_that_of_every_machine(tmp_path: Path) -> None:
    parts = {"a": make_part(tmp_path, "a", 4), "b": make_part(tmp_path, "b", 4)}
    mix(tmp_path, parts, ratio={"a": 1, "b": 0.5}, seed=7)
    lines = [json.loads(line) for line in (tmp_path / "mixed.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["instruction"] for line in lines] == EXPECTED_DRAW


EXPECTED_DRAW = ["a 3", "a 2", "b 2", "a 1", "a 0", "b 0"]


def test_parts_of_one_source_name_stay_apart_by_their_part(tmp_path: Path) -> None:
    parts = {}
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        raw = write_jsonl(tmp_path / name / "raw.jsonl", [{"question": f"{name}?", "answer": "x"}])
        convert_files([raw], tmp_path / name / "chat.jsonl", ConvertOptions())
        parts[name] = tmp_path / name / "chat.jsonl"
    mix(tmp_path, parts)
    assert sorted(read_names(tmp_path)) == ["new-chat", "old-chat"]
    manifest = read_manifest(tmp_path / "mixed.jsonl")
    assert manifest is not None
    assert manifest.options["renamed_sources"] == {"old": {"chat": "old-chat"}, "new": {"chat": "new-chat"}}


def test_dedup_drops_rows_of_later_parts_and_keeps_the_ratio_of_what_stays(tmp_path: Path) -> None:
    rows = [{"question": f"q{number}", "answer": "x"} for number in range(20)]
    parts = {}
    for name, own in (("a", rows[:15]), ("b", rows[10:])):
        raw = write_jsonl(tmp_path / f"{name}-raw.jsonl", own)
        convert_files([raw], tmp_path / f"{name}.jsonl", ConvertOptions())
        parts[name] = tmp_path / f"{name}.jsonl"
    result = mix(tmp_path, parts, ratio={"a": 3, "b": 1}, dedup="question")
    assert (result.duplicates, result.available, result.taken) == (5, {"a": 15, "b": 5}, {"a": 15, "b": 5})
    assert (tmp_path / "mixed.jsonl.duplicates.jsonl").read_text(encoding="utf-8").count("\n") == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": {"a": 1}}, "the ratio names a; the parts are a, b"),
        ({"ratio": {"a": 1, "b": 0}}, "every share of a ratio must be above zero"),
        ({"by": "tokens", "ratio": {"a": 1, "b": 1}}, "--by tokens needs the model whose tokenizer counts"),
        ({"oversample": True}, "--oversample and --by need a --ratio"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    parts = {"a": make_part(tmp_path, "a", 2), "b": make_part(tmp_path, "b", 2)}
    with pytest.raises(UserError) as caught:
        mix(tmp_path, parts, **options)
    assert str(caught.value) == message
    assert not (tmp_path / "mixed.jsonl").exists()


def test_parts_of_different_think_policies_are_refused(tmp_path: Path) -> None:
    parts = {"a": make_part(tmp_path, "a", 2), "b": make_part(tmp_path, "b", 2, policy="masked")}
    with pytest.raises(UserError, match="a is tagged, b is masked"):
        mix(tmp_path, parts)


def test_alpaca_and_sharegpt_rows_cannot_be_mixed(tmp_path: Path) -> None:
    result = convert_files([write_jsonl(tmp_path / "t.jsonl", tool_rows())], tmp_path / "x.jsonl", ConvertOptions())
    assert result.output is not None
    assert result.tools_output is not None
    with pytest.raises(UserError, match=r"a is sft \(alpaca\), b is sft \(sharegpt\)"):
        mix(tmp_path, {"a": result.output, "b": result.tools_output})


def test_a_file_that_was_not_converted_is_named_with_the_way_to_convert_it(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "raw.jsonl", [{"instruction": "a", "output": "b"}])
    with pytest.raises(InputError) as caught:
        mix(tmp_path, {"a": path})
    assert str(caught.value) == f"{path} row 1 has no 'input': it is no converted row"
    assert caught.value.hint == f"lfc prep convert {path} -o NEW"


def test_an_output_that_stands_is_kept_without_force(tmp_path: Path) -> None:
    part = make_part(tmp_path, "a", 2)
    (tmp_path / "mixed.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="exists already"):
        mix_files({"a": part}, tmp_path / "mixed.jsonl", MixOptions())
