"""What rows, files and calls hold reaches a terminal spelled out, whatever command shows it, and whatever it writes on."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launch.cli import lfc
from launch.cli.runs import join_lines
from prep.cli.output import format_json
from prep.storage.atomic import write_json
from prep.terminal import escape_json, neutralise, neutralise_line, neutralise_log
from tests.support.lfc_process import ROOT, run_lfc
from tests.support.run_folders import write_evaluation, write_run

# A title, a cleared screen, a colour, a clipboard, text turned round, C1 controls, rich's markup, hidden characters.
ATTACK = (
    "\x1b]0;TITLE\x07\x1b[2J\x1b[31mRED\x1b[0m\x1b]52;c;cHc=\x07\u202eRTL\x9b31m\x85\x90q[bold]b[/bold]"
    "\u2028\u2066\u200b\U000e0041\x7f\x08"
)
# All but tab and line feed.
RAW = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\U000e0000-\U000e007f]"
)
# As a name of a file or a folder, which holds no slash.
NAME = ATTACK.replace("/", "")

ALPACA = {"instruction": "q", "input": "", "output": "a", "system": "", "history": []}
FILES: dict[str, list[Any]] = {
    "columns.jsonl": [{"question": "q", "think": "t", "answer": "a", f"x{ATTACK}": 1}],
    "unknown.jsonl": [{ATTACK: "q", f"{ATTACK}2": "a"}],
    "rejects.jsonl": [{"question": "q", "think": "t", "answer": "a"}, {"question": f"<|{ATTACK}|>", "think": "", "answer": f"<|im_start|>{ATTACK}"}],
    "roles.jsonl": [{"conversations": [{"from": "human", "value": "q"}, {"from": f"gpt{ATTACK}", "value": "a"}]}],
    "rows.jsonl": [{**ALPACA, "instruction": ATTACK, "output": f"<|im_{ATTACK}|>", "origin": f"a{ATTACK}/b:1"}, {**ALPACA, ATTACK: ""}],
    f"name{NAME}.jsonl": [ALPACA, {**ALPACA, "instruction": "r"}, {**ALPACA, "output": f"<think>\n{ATTACK}"}],
}  # fmt: skip
CONFIG = {
    "model_name_or_path": ATTACK,
    "dataset": ATTACK,
    "output_dir": f"saves/{NAME}",
    ATTACK: ATTACK,
    "seed": ATTACK,
}


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, configs, runs and a registry that all try to reach the terminal."""
    monkeypatch.chdir(tmp_path)
    for name, rows in FILES.items():
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Path("data").mkdir()
    registry = {ATTACK: {"file_name": f"../name{NAME}.jsonl", ATTACK: 1}, "rows": {"file_name": "../rows.jsonl"}}
    write_json(Path("data/dataset_info.json"), registry)
    for name in ("a.yaml", f"b{NAME}.yaml"):
        Path(name).write_text(json.dumps({**CONFIG, name: ATTACK}), encoding="utf-8")
    Path("broken.yaml").write_text(f"a: 1\n{json.dumps(ATTACK)}: [", encoding="utf-8")
    Path("recipe.yaml").write_text(
        json.dumps({"name": ATTACK, ATTACK: ATTACK, "sources": {ATTACK: {}}}), encoding="utf-8"
    )
    Path("sweep.yaml").write_text(json.dumps({"config": "a.yaml", "grid": {ATTACK: [ATTACK, 1]}}), encoding="utf-8")
    for name in ("one", f"two{NAME}"):
        values = {**CONFIG, "output_dir": f"saves/{name}", "dataset_dir": "data"}
        run = write_run(Path("runs", name), values, [3.0, 1.0], flags=[ATTACK], exit_code=0 if name == "one" else 1)
        (run / "log.txt").write_text(f"{ATTACK}\n10%\r20%\r\nValueError: {ATTACK}\n", encoding="utf-8")
    write_evaluation(Path("runs/one-eval"), "saves/one", {"base": ["x"] * 12, "adapter": [ATTACK] * 12}, ATTACK)


COMMANDS: list[list[str]] = [
    *([*base, *more] for name in FILES for more in ([], ["--json"]) for base in (
        ["prep", "convert", name, "-o", f"out{NAME}.jsonl", "--max-rejects", "9"],
        ["prep", "convert", name, "-o", "x.jsonl"],
        ["prep", "convert", name, "-o", "x.jsonl", "--map", f"question={ATTACK}", "--where", f"{ATTACK}>=1"],
        ["prep", "lint", name],
        ["prep", "explain", f"{name}:1"],
        ["prep", "mix", f"a{NAME}={name}", "b=rows.jsonl", "-o", "m.jsonl"],
        ["prep", "split", name, "--test", "1", "-o", "s"],
        ["prep", "stats", name],
        ["prep", "register", name, "--name", ATTACK, "--dataset-dir", "data"],
    )),
    *([*base, *more] for more in ([], ["--json"]) for base in (
        ["prep", "lint", ATTACK, "--dataset-dir", "data"],
        ["prep", "stats", ATTACK, "--dataset-dir", "data"],
        ["prep", "datasets", "--dataset-dir", "data"],
        ["prep", "download", ATTACK, "--offline"],
        ["launch", "runs"],
        ["launch", "compare", "one", f"two{NAME}"],
        ["launch", "compare", "one", ATTACK],
        ["launch", "report", f"two{NAME}"],
        ["launch", "config", "check", "a.yaml"],
        ["launch", "config", "check", "broken.yaml"],
        ["launch", "config", "diff", "a.yaml", f"b{NAME}.yaml"],
        ["launch", "config", "new", ATTACK, "-o", "n.yaml"],
        ["launch", "config", "new", "cpu-smoke", f"dataset={ATTACK}", f"{ATTACK}=1", "-o", "n.yaml"],
        ["launch", "config", "import", "a.yaml", "-o", "i.yaml"],
        ["launch", "config", "export", "a.yaml", "-o", "e.yaml"],
        ["launch", "batch", "sweep.yaml", "--dry-run"],
        ["launch", "batch", "--continue", ATTACK],
        ["launch", "train", "a.yaml"],
        ["launch", "eval", "a.yaml", "--eval-dataset", ATTACK],
    )),
    ["launch", "logs", "one"],
    ["launch", "attach", "one"],
    ["launch", "attach", f"two{NAME}"],
    ["launch", "stop", f"two{NAME}"],
    ["launch", "train", "a.yaml", "--dry-run", f"{ATTACK}=1"],
    ["launch", "webui", "a.yaml", "--dry-run"],
    ["run", "recipe.yaml", "--dry-run"],
    ["run", ATTACK, "--dry-run"],
    [ATTACK],
    ["prep", ATTACK],
    ["launch", ATTACK],
    [f"--{ATTACK}"],
    ["prep", "split", f"--test={ATTACK}", "x"],
    ["prep", "convert", "rows.jsonl", "-o", "x", "--format", ATTACK, "--think-policy", ATTACK],
    ["launch", "train", "a.yaml", "--nnodes", ATTACK],
    ["launch", "runs", ATTACK],
]  # fmt: skip


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: neutralise_line(" ".join(argv))[:60])
def test_no_command_prints_a_raw_control_character(argv: list[str]) -> None:
    result = CliRunner().invoke(lfc, argv)
    assert RAW.findall(result.stdout + result.stderr) == []
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    if "--json" in argv and result.exit_code == 0:
        assert isinstance(json.loads(result.stdout), dict)


def test_a_report_shows_what_would_act_on_a_terminal() -> None:
    CliRunner().invoke(lfc, ["launch", "report", "one", "-o", "one.html"])
    page = Path("one.html").read_text(encoding="utf-8")
    assert RAW.findall(page) == []
    assert "\\u202eRTL" in page


@pytest.mark.skipif(os.name == "nt", reason="a POSIX terminal")
@pytest.mark.parametrize(
    "argv",
    [
        ["prep", "convert", "columns.jsonl", "-o", "x.jsonl"],
        ["prep", "lint", "rows.jsonl"],
        ["launch", "runs"],
        ["launch", "compare", "one", f"two{NAME}"],
        ["launch", "logs", "one"],
        ["launch", "attach", "one"],
        [ATTACK],
    ],
    ids=lambda argv: neutralise_line(" ".join(argv))[:60],
)
def test_on_a_terminal_only_our_own_sequences_move_it(argv: list[str]) -> None:
    shown = run_on_terminal(argv)
    assert "TITLE" in shown or "RTL" in shown or argv[1:2] in (["attach"], ["lint"]), shown
    for raw in ("\x1b]", "\x1b[2J", "\x1b[31m", "\x07", "\u202e", "\x9b", "\u2066", "\u2028", "\x08"):
        assert raw not in shown


def run_on_terminal(argv: list[str]) -> str:
    import pty

    main, side = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "400"}
    command = [sys.executable, "-P", "-m", "launch", *argv]
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=env)
    os.close(side)
    blocks = []
    try:
        while block := os.read(main, 65_536):
            blocks.append(block)
    except OSError:  # So Linux says that the other side was closed.
        pass
    finally:
        os.close(main)
    process.wait(timeout=60)
    return b"".join(blocks).decode(errors="replace")


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"PYTHONIOENCODING": "ascii"}, None),
        ({"PYTHONIOENCODING": "cp936"}, "问é\\U0001f600".encode("cp936")),
        ({"PYTHONIOENCODING": "latin-1"}, b"\\u95ee\xe9\\U0001f600"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, None),
        ({"PYTHONUTF8": "1"}, "问é😀".encode()),
    ],
)
def test_a_letter_that_the_output_lacks_is_spelled_out(env: Mapping[str, str], expected: bytes | None) -> None:
    Path("rows.jsonl").write_text(json.dumps({"question": "q", "think": "t", "answer": "a", "问é😀": None}) + "\n")
    result = run_lfc(Path(), "prep", "convert", "rows.jsonl", "-o", "x.jsonl", env=env)
    assert (result.returncode, b"Traceback" in result.stderr) == (0, False), result.stderr
    assert expected is None or expected in result.stdout
    result = run_lfc(Path(), "prep", "convert", "rows.jsonl", "-o", "x.jsonl", "--force", "--json", env=env)
    encoding = env.get("PYTHONIOENCODING", "utf-8")
    assert json.loads(result.stdout.decode(encoding))["unused_columns"] == ["问é😀"]


@pytest.mark.skipif(os.name == "nt", reason="names of bytes")
@pytest.mark.parametrize(
    "argv",
    [
        [b"prep", b"convert", b"\xff.jsonl", b"-o", b"x.jsonl"],
        [b"launch", b"train", b"a.yaml", b"seed=\xff"],
        [b"\xff"],
        [b"run", b"quickstart", b"--to", b"\xff", b"--dry-run"],
    ],
)
def test_an_argument_that_is_no_text_is_one_error(argv: list[bytes]) -> None:
    result = run_lfc(Path(), *argv, env={"PYTHONUTF8": "1"})
    assert result.returncode == 1
    assert re.fullmatch(
        rb"Error: argument \d, '[^\n]*\\udcff[^\n]*', holds bytes that are no text in utf-8\n  Try: rename [^\n]*\n",
        result.stderr,
    ), result.stderr


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        ([float("inf"), {"a": -float("inf")}], [None, {"a": None}]),
        ({float("nan"): 1, None: 2, 3: 4}, {"nan": 1, "null": 2, "3": 4}),
        ((1.5, "é", ATTACK), [1.5, "é", ATTACK]),
        ("\ud800", "\ud800"),
    ],
)
def test_json_is_what_every_parser_takes(value: Any, expected: Any) -> None:
    document = format_json({"value": value})
    assert RAW.findall(document) == []
    assert repr(json.loads(document, parse_constant=pytest.fail)["value"]) == repr(expected)


def test_every_character_that_acts_is_spelled_out_and_all_others_stay() -> None:
    for code in range(0x11_0000):
        character = chr(code)
        shown = neutralise(character)
        assert (shown == character) != bool(
            RAW.match(character) or re.match("[\xad\ufeff\ufff9-\ufffb\ud800-\udfff]", character)
        )
        assert shown == character or shown.isascii()
    assert json.loads(escape_json(json.dumps(ATTACK, ensure_ascii=False))) == ATTACK
    assert neutralise_line("a\nb\t") == "a\\nb\t"


def test_a_line_that_came_in_pieces_is_shown_whole() -> None:
    assert list(join_lines(["a", "b\nc", "", "d\re", "f"])) == ["ab\n", "cd\r", "ef"]


def test_a_log_keeps_its_lines_and_loses_its_colours() -> None:
    assert neutralise_log("\x1b[31mred\x1b[0m\r\n1%\r2%\n\x1b[2J") == "red\n1%\n2%\n\\x1b[2J"
