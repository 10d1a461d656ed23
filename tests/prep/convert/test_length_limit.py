"""--max-tokens: a row's length is the one it is trained with, and a longer row is dropped, rejected or kept."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from prep.choices import ThinkPolicy
from prep.convert.convert import convert_files
from prep.convert.options import ConvertOptions, ConvertResult
from prep.errors import InputError, OutputError, RejectsError, UserError
from prep.quality.stats import StatsOptions, collect_stats
from prep.registry.dataset import Dataset, align_row
from prep.storage.fingerprints import hash_file
from prep.storage.manifests import read_manifest
from prep.tokens.encoder import RowEncoder
from prep.tokens.turns import TemplateOptions
from tests.support.shapes import SHAPES, sharegpt_rows, tool_rows, write_jsonl, write_parquet

# <|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\na<|im_end|>\n
FRAME_TOKENS = 16


def convert(source: Path, folder: Path, **options: Any) -> ConvertResult:
    return convert_files([source], folder / "out.jsonl", ConvertOptions(force=True, **options))


def read_jsonl(path: Path | None) -> list[dict[str, Any]]:
    assert path is not None
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(folder: Path, *lengths: int) -> Path:
    """Write one row for each length, whose tokens are exactly that many."""
    rows = [{"question": "q", "think": "", "answer": "a" + " a" * (length - FRAME_TOKENS)} for length in lengths]
    return write_jsonl(folder / "in.jsonl", rows)


def numbers_of(rows: list[dict[str, Any]]) -> list[str]:
    return [row["origin"].rpartition(":")[2] for row in rows]


@pytest.mark.parametrize("limit", [29, 30, 31])
def test_a_row_of_exactly_the_limit_stays(limit: int, tmp_path: Path, qwen3_folder: Path) -> None:
    source = write_rows(tmp_path, 30, 20, 31)
    result = convert(source, tmp_path, max_tokens=limit, model=qwen3_folder, on_long="drop")
    kept = {29: ["2"], 30: ["1", "2"], 31: ["1", "2", "3"]}[limit]
    assert numbers_of(read_jsonl(result.output)) == kept
    assert (result.counts["too_long"], result.counts["records"]) == (3 - len(kept), len(kept))


def test_dropped_rows_are_counted_and_written_to_a_file_with_their_tokens(
    tmp_path: Path, qwen3_folder: Path
) -> None:
    result = convert(write_rows(tmp_path, 20, 40, 30), tmp_path, max_tokens=29, model=qwen3_folder, on_long="drop")
    assert result.too_long == tmp_path / "out.jsonl.too-long.jsonl"
    gone = read_jsonl(result.too_long)
    assert [(entry["origin"], entry["tokens"]) for entry in gone] == [
        ("out/in.jsonl:2", 40),
        ("out/in.jsonl:3", 30),
    ]
    assert gone[0]["row"]["output"] == "<think>\n\n</think>\n\na" + " a" * 24
    assert result.counts == {
        **{"rows": 3, "records": 1, "rejects": 0, "reasoning": 0, "chat": 1},
        **{"with_system": 0, "with_history": 0, "too_long": 2},
    }
    assert not (tmp_path / "out.jsonl.rejects.jsonl").exists()
    assert result.output is not None
    manifest = read_manifest(result.output)
    assert manifest is not None
    assert manifest.counts["too_long"] == 2
    tokenizer = qwen3_folder / "tokenizer.json"
    for name, value in {
        **{"max_tokens": 29, "on_long": "drop"},
        **{"tokenizer": tokenizer.as_posix(), "tokenizer_sha256": hash_file(tokenizer)},
    }.items():
        assert manifest.options[name] == value


def test_rejected_rows_end_the_run_unless_they_are_allowed(tmp_path: Path, qwen3_folder: Path) -> None:
    source = write_rows(tmp_path, 20, 4000, 30)
    with pytest.raises(RejectsError) as caught:
        convert(source, tmp_path, max_tokens=29, model=qwen3_folder)
    assert str(caught.value) == (
        f"2 of 3 rows cannot be used; the first: {source.as_posix()} row 2: 4,000 tokens, above --max-tokens 29"
    )
    assert not (tmp_path / "out.jsonl").exists()
    result = convert(source, tmp_path, max_tokens=29, model=qwen3_folder, max_rejects=2)
    assert numbers_of(read_jsonl(result.output)) == ["1"]
    assert [(entry["row"], entry["reason"]) for entry in read_jsonl(result.rejects)] == [
        (2, "4,000 tokens, above --max-tokens 29"),
        (3, "30 tokens, above --max-tokens 29"),
    ]
    assert result.too_long is None
    assert "too_long" not in result.counts


def test_kept_rows_are_only_counted(tmp_path: Path, qwen3_folder: Path) -> None:
    source = write_rows(tmp_path, 20, 40, 30)
    whole = convert(source, tmp_path).output
    assert whole is not None
    expected = whole.read_bytes()
    result = convert(source, tmp_path, max_tokens=29, model=qwen3_folder, on_long="keep")
    assert result.output is not None
    assert result.output.read_bytes() == expected
    assert (result.counts["too_long"], result.counts["records"], result.too_long) == (2, 3, None)


def test_long_answers_of_a_conversation_go_alone_or_reject_it_whole(tmp_path: Path, qwen3_folder: Path) -> None:
    turns = [
        {"from": role, "value": text}
        for role, text in (("human", "q"), ("gpt", "a"), ("human", "q"), ("gpt", "a" + " a" * 99))
    ]
    source = write_jsonl(tmp_path / "in.jsonl", [{"conversations": turns}, {"conversations": turns[:2]}])
    dropped = convert(source, tmp_path, max_tokens=50, model=qwen3_folder, on_long="drop")
    assert numbers_of(read_jsonl(dropped.output)) == ["1#1", "2"]
    assert numbers_of(read_jsonl(dropped.too_long)) == ["1#2"]
    assert (dropped.counts["with_history"], dropped.counts["records"]) == (0, 2)
    rejected = convert(source, tmp_path, max_tokens=50, model=qwen3_folder, max_rejects=1)
    assert numbers_of(read_jsonl(rejected.output)) == ["2"]
    # The history's answer gets no thought: <|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n.
    assert read_jsonl(rejected.rejects)[0]["reason"] == "answer 2 has 127 tokens, above --max-tokens 50"


@pytest.mark.parametrize("policy", list(ThinkPolicy))
def test_lengths_of_every_shape_are_those_of_the_encoded_output(
    policy: ThinkPolicy, tmp_path: Path, qwen3_folder: Path
) -> None:
    encoder = RowEncoder(qwen3_folder, TemplateOptions("qwen3", policy.enable_thinking, mask_history=True))
    for name, make_shape in SHAPES.items():
        folder = tmp_path / name
        folder.mkdir()
        shape = make_shape(folder)
        options: dict[str, Any] = {
            "policy": policy,
            "column_map": dict(word.split("=") for word in shape.arguments if "=" in word),
            "turns": "all" if "all" in shape.arguments else "expand",
        }
        whole = convert(shape.path, folder, **options)
        expected = {}
        for path, formatting in ((whole.output, "alpaca"), (whole.tools_output, "sharegpt")):
            for row in read_jsonl(path) if path else []:
                turns = encoder.encode_turns(align_row(row, Dataset((), formatting=formatting)))
                expected[row["origin"]] = sum(len(turn.source) + len(turn.target) for turn in turns)
        limit = min(expected.values())
        gone = convert(shape.path, folder, max_tokens=limit, model=qwen3_folder, on_long="drop", **options).too_long
        listed = {entry["origin"]: entry["tokens"] for entry in read_jsonl(gone)}
        assert listed == {origin: length for origin, length in expected.items() if length > limit}


def test_the_limit_that_stats_tells_drops_nothing_and_one_less_drops(tmp_path: Path, qwen3_folder: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", sharegpt_rows())
    output = convert(source, tmp_path).output
    assert output is not None
    template = TemplateOptions("qwen3", enable_thinking=True, mask_history=True)
    longest = int(collect_stats(Dataset((output,)), StatsOptions(qwen3_folder, template)).lengths["max"])
    for limit, dropped in ((longest, 0), (longest - 1, 1)):
        result = convert(source, tmp_path, max_tokens=limit, model=qwen3_folder, on_long="drop")
        assert result.counts["too_long"] == dropped


def test_several_processes_and_both_ways_of_reading_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qwen3_folder: Path
) -> None:
    monkeypatch.setattr("prep.convert.stream._PARALLEL_BYTES", 0)
    monkeypatch.setattr("prep.convert.stream._RANGE_BYTES", 2_000)
    source = write_rows(tmp_path, *(20 + number % 40 for number in range(400)))
    made = []
    for workers in (1, 2):
        result = convert(
            source, tmp_path, max_tokens=30, model=qwen3_folder, on_long="drop", dedup="exact", workers=workers
        )
        # 400 rows of 40 lengths: 10 copies of each, of which 11 lengths are at most 30.
        assert (result.counts["too_long"], result.counts["records"], result.counts["duplicates"]) == (290, 11, 99)
        made.append({path.name: path.read_bytes() for path in sorted(tmp_path.glob("out*"))})
    assert made[0] == made[1]
    names = [
        "out.index",
        "out.jsonl",
        "out.jsonl.duplicates.jsonl",
        "out.jsonl.too-long.jsonl",
        "out.manifest.json",
    ]
    assert sorted(made[0]) == names


def test_a_parquet_file_gives_the_rows_of_a_jsonl_one(tmp_path: Path, qwen3_folder: Path) -> None:
    made = []
    for source in (
        write_parquet(tmp_path / "in.parquet", sharegpt_rows()),
        write_jsonl(tmp_path / "in.jsonl", sharegpt_rows()),
    ):
        result = convert(source, tmp_path, max_tokens=60, model=qwen3_folder, on_long="drop")
        assert result.counts["too_long"] > 0
        made.append([numbers_of(read_jsonl(path)) for path in (result.output, result.too_long)])
    assert made[0] == made[1]


def test_tool_rows_are_measured_with_their_tools(tmp_path: Path, qwen3_folder: Path) -> None:
    source = write_jsonl(tmp_path / "tools.jsonl", tool_rows())
    result = convert(source, tmp_path, max_tokens=100, model=qwen3_folder, on_long="drop")
    # The announcement of one tool alone is more than 100 tokens.
    assert result.tools_output is None
    assert numbers_of(read_jsonl(result.output)) == ["2"]
    assert numbers_of(read_jsonl(result.too_long)) == ["1#1", "1#2"]


def test_tools_that_no_template_can_write_are_a_reject(tmp_path: Path, qwen3_folder: Path) -> None:
    source = write_jsonl(tmp_path / "tools.jsonl", [{**tool_rows()[0], "tools": '["get_time"]'}])
    with pytest.raises(RejectsError, match="tools is not a JSON array of objects"):
        convert(source, tmp_path, max_tokens=1000, model=qwen3_folder)


def test_when_every_row_is_too_long_that_is_the_error(tmp_path: Path, qwen3_folder: Path) -> None:
    source = write_rows(tmp_path, 30, 30)
    with pytest.raises(InputError) as caught:
        convert(source, tmp_path, max_tokens=20, model=qwen3_folder, on_long="drop")
    assert str(caught.value) == (
        f"no rows to write from {source.as_posix()}: 0 filtered, 0 rejected, 2 too long for --max-tokens 20"
    )
    assert not (tmp_path / "out.jsonl").exists()


def test_a_limit_needs_a_model_whose_tokenizer_is_there(tmp_path: Path) -> None:
    source = write_rows(tmp_path, 20)
    with pytest.raises(UserError, match=r"^--max-tokens needs the model whose tokenizer counts$"):
        convert(source, tmp_path, max_tokens=20)
    with pytest.raises(InputError, match=r"tokenizer\.json does not exist"):
        convert(source, tmp_path, max_tokens=20, model=tmp_path)


def test_a_file_of_dropped_rows_is_not_overwritten_unasked(tmp_path: Path, qwen3_folder: Path) -> None:
    source, kept = write_rows(tmp_path, 20), tmp_path / "out.jsonl.too-long.jsonl"
    kept.write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"too-long\.jsonl exists already"):
        convert_files([source], tmp_path / "out.jsonl", ConvertOptions())
    assert kept.read_text(encoding="utf-8") == "mine"


def test_the_command_prints_what_was_too_long(tmp_path: Path, qwen3_folder: Path) -> None:
    source, output = write_rows(tmp_path, 20, 40), tmp_path / "out.jsonl"
    command = ["prep", "convert", str(source), "-o", str(output), "--json"]
    limit = ["--max-tokens", "30", "--model", str(qwen3_folder), "--template", "qwen3", "--on-long", "drop"]
    result = CliRunner().invoke(lfc, [*command, *limit], catch_exceptions=False)
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed["counts"]["too_long"] == 1
    assert printed["too_long"] == f"{output.as_posix()}.too-long.jsonl"


@pytest.mark.parametrize("arguments", [("--on-long", "drop"), ("--model", "somewhere"), ("--template", "qwen")])
def test_options_of_a_limit_without_one_are_a_wrong_call(arguments: tuple[str, ...], tmp_path: Path) -> None:
    source = write_rows(tmp_path, 20)
    result = CliRunner().invoke(
        lfc, ["prep", "convert", str(source), "-o", str(tmp_path / "out.jsonl"), *arguments]
    )
    assert result.exit_code == 2
    assert "--model, --template and --on-long go with --max-tokens" in result.stderr


def test_rows_are_measured_by_the_template_that_is_named(tmp_path: Path, qwen3_folder: Path) -> None:
    source = write_rows(tmp_path, 20)
    # Without the empty thought, which is four tokens.
    for most, kept in ((16, 1), (15, 0)):
        result = convert(
            source,
            tmp_path,
            policy=ThinkPolicy.STRIP,
            max_tokens=most,
            model=qwen3_folder,
            on_long="keep",
            template="qwen3_nothink",
        )
        assert result.counts["too_long"] == 1 - kept
    with pytest.raises(UserError, match="the tokens of template 'qwen_3' are not known here"):
        convert(source, tmp_path, max_tokens=20, model=qwen3_folder, template="qwen_3")
