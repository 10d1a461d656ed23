"""`lfc prep lint`, `stats` and `register` as a user calls them."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from prep.rows.thinking import join_thought

ROW = {"instruction": "hi", "input": "", "output": join_thought("T", "a"), "system": "", "history": []}
SPOILED = {
    "instruction": "<|im_start|>user\nhi<|im_end|>\n",
    "input": "",
    "output": "<|im_start|>assistant\n<think>\nT\n</think> \n a<|im_end|>\n",
}


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_rows(name: str, *rows: object) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(lfc, ["prep", *arguments], prog_name="lfc")


def test_lint_of_sound_rows_exits_0() -> None:
    write_rows("a.jsonl", ROW)
    result = run("lint", "a.jsonl")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.rstrip() for line in result.stdout.splitlines()] == ["no fault found", "rows read  1"]


def test_lint_prints_place_kind_and_fix_and_exits_1() -> None:
    write_rows("a.jsonl", ROW, {**ROW, "output": "<think>\nT"})
    result = run("lint", "a.jsonl")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:2] == [
        "a.jsonl:2: error: <think> is never closed  [think]",
        "  Try: fix it by hand or take the row out: it cannot be repaired without guessing",
    ]


def test_lint_json_lists_findings_and_counts() -> None:
    write_rows("a.jsonl", {**ROW, "system": None}, {**ROW, "system": None}, ROW, {**ROW, "instruction": " HI"})
    result = run("lint", "a.jsonl", "--json", "--show", "1", "--ignore", "duplicate-question")
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert (content["rows"], content["total"], content["counts"]) == (4, 2, {"type": 2})
    assert [(finding["line"], finding["message"]) for finding in content["findings"]] == [
        (1, "column 'system' is null")
    ]


def test_lint_says_how_many_findings_it_does_not_show() -> None:
    write_rows("a.jsonl", *[{**ROW, "output": ""}] * 3)
    assert "… and 4 more; --show 5 prints all" in run("lint", "a.jsonl", "--show", "1").stdout


def test_lint_takes_names_and_the_registry_itself() -> None:
    write_rows("a.jsonl", ROW)
    assert run("register", "a.jsonl", "--name", "a", "--dataset-dir", ".").exit_code == 0
    assert run("lint", "a", "dataset_info.json", "--dataset-dir", ".").exit_code == 0
    Path("dataset_info.json").write_text('{"a": {},}', encoding="utf-8")
    result = run("lint", "dataset_info.json")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == (
        "dataset_info.json:1:9: error: a comma stands before the closing bracket  [json]"
    )


def test_lint_of_a_missing_file_is_one_error_with_the_next_step() -> None:
    result = run("lint", "a.jsonl")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: a.jsonl does not exist or is not a file\n"
        "  Try: name a file, or a registered dataset with its --dataset-dir\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lint", "a.jsonl", "--ignore", "x"), "--ignore x: the rules are bom, encoding, "),
        (("lint", "a.jsonl", "-o", "b.jsonl"), "-o has moved to a command of its own: lfc prep repair FILE -o NEW"),
        (("lint", "a.jsonl", "--fix"), "--fix has moved to a command of its own: lfc prep repair FILE -o NEW"),
        (("repair", "a.jsonl"), "Missing option '-o' / '--output'"),
        (("register", "a.jsonl"), "Missing option '--name'"),
        (("register", "--remove", "a"), "--remove has moved to a command of its own: lfc prep unregister NAME"),
    ],
)
def test_wrong_calls_exit_2(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_repair_writes_rows_that_lint_finds_sound() -> None:
    write_rows("a.jsonl", SPOILED)
    assert run("lint", "a.jsonl").exit_code == 1
    result = run("repair", "a.jsonl", "-o", "b.jsonl")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(Path("b.jsonl").read_text(encoding="utf-8")) == {**ROW, "origin": "a/a.jsonl:1"}
    assert run("lint", "b.jsonl").exit_code == 0


def test_repair_that_cannot_repair_leaves_no_output_and_names_the_rejects() -> None:
    write_rows("a.jsonl", SPOILED, {**SPOILED, "output": "<think>x"})
    result = run("repair", "a.jsonl", "-o", "b.jsonl")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: 1 of 2 rows cannot be repaired without guessing; "
        "the first: a.jsonl line 2: <think> is never closed\n"
        "  Try: see b.jsonl.rejects.jsonl, or leave them out with --max-rejects 1\n",
    )
    assert not Path("b.jsonl").exists()


def test_register_refuses_a_taken_name_and_unregister_takes_it_out() -> None:
    write_rows("a.jsonl", ROW)
    write_rows("b.jsonl", ROW)
    first = run("register", "a.jsonl", "--name", "a", "--dataset-dir", ".", "--json")
    assert json.loads(first.stdout)["entry"]["file_name"] == "a.jsonl"
    result = run("register", "b.jsonl", "--name", "a", "--dataset-dir", ".")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: dataset_info.json: 'a' is registered already, for a.jsonl\n  Try: --replace, or another --name\n",
    )
    assert run("register", "b.jsonl", "--name", "a", "--dataset-dir", ".", "--replace").exit_code == 0
    result = run("unregister", "a", "--dataset-dir", ".")
    assert (result.exit_code, result.stdout.splitlines()[0].rstrip()) == (0, "removed from dataset_info.json")
    assert json.loads(Path("dataset_info.json").read_text(encoding="utf-8")) == {}
    assert Path("b.jsonl").exists()


def test_stats_without_a_model_says_that_it_counts_characters() -> None:
    write_rows("a.jsonl", ROW)
    result = run("stats", "a.jsonl")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "length in characters, because no --model was given: tokens differ" in result.stdout


def test_stats_with_a_model_measures_tokens_and_writes_a_page(qwen3_folder: Path) -> None:
    write_rows("a.jsonl", ROW, {**ROW, "output": join_thought("T", "a " * 50)})
    model = ("--model", str(qwen3_folder), "--template", "qwen3")
    content = json.loads(run("stats", "a.jsonl", *model, "--cutoff-len", "30", "--json").stdout)
    assert (content["unit"], content["cut_lines"]) == ("tokens", [2])
    assert content["measure"] == "tokens under template qwen3, enable_thinking true, mask_history false"
    result = run("stats", "a.jsonl", *model, "--cutoff-len", "30", "--packing", "--html", "s.html")
    assert (result.exit_code, result.stderr) == (0, "page written to s.html\n")
    assert "lines cut: 2" in result.stdout
    assert "packing drops no row" in result.stdout
    assert Path("s.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    result = run("stats", "a.jsonl", *model, "--html", "s.html")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: s.html exists already\n  Try: --force to replace it, or another --html\n",
    )


@pytest.mark.parametrize("name", ["raw.parquet", "raw.csv"])
@pytest.mark.parametrize("command", [("lint",), ("repair", "-o", "new.jsonl"), ("stats",)])
def test_a_source_file_is_one_error_that_says_how_to_convert_it(command: tuple[str, ...], name: str) -> None:
    Path(name).write_bytes(b"PAR1 or a,b")
    result = run(*command, name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: {name}: files of type '{Path(name).suffix}' are not training rows; allowed are .json, .jsonl\n"
        f"  Try: lfc prep convert {name} -o raw.jsonl\n"
    )
    assert not Path("new.jsonl").exists()


def test_stats_measures_under_the_models_own_template_or_asks_for_it(qwen3_folder: Path, tmp_path: Path) -> None:
    write_rows("a.jsonl", ROW)
    for name in ("Qwen3-4B-Instruct-2507", "mine"):
        shutil.copytree(qwen3_folder, tmp_path / name)
    result = run("stats", "a.jsonl", "--model", str(tmp_path / "Qwen3-4B-Instruct-2507"))
    assert "tokens under template qwen3_nothink," in result.stdout
    result = run("stats", "a.jsonl", "--model", str(tmp_path / "mine"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: which template the model in {tmp_path / 'mine'} needs is not known\n  Try: --template NAME\n"
    )
    (tmp_path / "mine" / "config.json").write_text('{"model_type": "qwen3"}', encoding="utf-8")
    result = run("stats", "a.jsonl", "--model", str(tmp_path / "mine"))
    # The rows' think policy tells the one of the family from the other.
    assert "tokens under template qwen3," in result.stdout


def test_stats_with_a_folder_that_holds_no_tokenizer_is_one_error(tmp_path: Path) -> None:
    write_rows("a.jsonl", ROW)
    result = run("stats", "a.jsonl", "--model", ".")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: tokenizer.json does not exist\n  Try: --model takes a model's folder, or its tokenizer.json\n",
    )


def test_ls_lists_what_is_registered_and_what_is_wrong_with_it() -> None:
    write_rows("a.jsonl", ROW, ROW)
    write_rows("b.jsonl", ROW)
    assert run("register", "a.jsonl", "--name", "医疗", "--dataset-dir", ".").exit_code == 0
    assert run("register", "b.jsonl", "--name", "gone", "--dataset-dir", ".").exit_code == 0
    Path("b.jsonl").unlink()
    result = run("ls", "--dataset-dir", ".")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "2 registered in dataset_info.json",
        "name  kind  formatting  rows  think policy  files",
        "医疗  sft   alpaca      2                   a.jsonl",
        "gone        alpaca                          cannot be used: dataset 'gone': its file b.jsonl does not exist",
    ]
    found = json.loads(run("ls", "--dataset-dir", ".", "--json").stdout)["datasets"]
    assert [(entry["name"], entry["rows"], entry["files"]) for entry in found] == [
        ("医疗", 2, ["a.jsonl"]),
        ("gone", None, ["b.jsonl"]),
    ]


@pytest.mark.parametrize("command", [("ls",), ("unregister", "a")])
def test_where_nothing_was_registered_the_next_step_is_register(command: tuple[str, ...]) -> None:
    result = run(*command, "--dataset-dir", ".")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Try: lfc prep register FILE --name NAME" in result.stderr


def test_the_last_line_counts_though_nothing_ends_it() -> None:
    Path("a.jsonl").write_text(json.dumps(ROW) + "\n" + json.dumps(ROW), encoding="utf-8")
    assert run("register", "a.jsonl", "--name", "a", "--dataset-dir", ".").exit_code == 0
    assert json.loads(run("ls", "--dataset-dir", ".", "--json").stdout)["datasets"][0]["rows"] == 2


def test_register_tells_what_the_rows_are_for(tmp_path: Path) -> None:
    source = tmp_path / "pairs.jsonl"
    source.write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n', encoding="utf-8")
    made = tmp_path / "made.jsonl"
    for argv in (("convert", source, "-o", made), ("register", made, "--name", "pairs", "--dataset-dir", tmp_path)):
        result = CliRunner().invoke(lfc, ["prep", *map(str, argv)], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
    assert "kind        preference, for stage dpo or rm" in result.stdout
    assert "ranking     true" in result.stdout
