"""`lfc prep show`: rows as a person reads them."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.cli import lfc
from tests.support.shapes import TOOLS, write_jsonl

THOUGHT = "<think>\n用户头痛\n</think>\n\n多休息。"
CALL = '{"name": "get_time", "arguments": {"place": "北京"}}'
ALPACA = {
    "instruction": "头痛？\n详细",
    "input": "",
    "output": THOUGHT,
    "system": "你是医生",
    "history": [["在吗", "在"]],
}
TURNS = [
    {"from": "human", "value": "几点？"},
    {"from": "function_call", "value": CALL},
    {"from": "observation", "value": "9"},
]
# {a kind: (a row, what is shown of it, by who says it and whether it is trained on)}
KINDS: dict[str, tuple[dict[str, Any], list[tuple[str, str, bool]]]] = {
    "alpaca": (
        ALPACA,
        [
            ("system", "你是医生", False),
            ("user", "在吗", False),
            ("answer", "在", True),
            ("user", "头痛？\n详细", False),
            ("thought", "用户头痛", True),
            ("answer", "多休息。", True),
        ],
    ),
    "tools": (
        {"conversations": [*TURNS, {"from": "gpt", "value": "九点"}], "tools": TOOLS, "system": ""},
        [
            ("tools", TOOLS, False),
            ("user", "几点？", False),
            ("call", CALL, True),
            ("tool result", "9", False),
            ("answer", "九点", True),
        ],
    ),
    "pair": (
        {
            "instruction": "q",
            "input": "",
            "chosen": THOUGHT,
            "rejected": "no",
            "system": "",
            "history": [["a", "b"]],
        },
        [
            ("user", "a", False),
            ("answer", "b", False),
            ("user", "q", False),
            ("chosen thought", "用户头痛", True),
            ("chosen answer", "多休息。", True),
            ("rejected answer", "no", True),
        ],
    ),
    "pair of turns": (
        {
            "conversations": TURNS[:1],
            "tools": "",
            "system": "",
            "chosen": {"from": "gpt", "value": "九点"},
            "rejected": {"from": "function_call", "value": CALL},
        },
        [("user", "几点？", False), ("chosen answer", "九点", True), ("rejected call", CALL, True)],
    ),
    "label": (
        {"instruction": "q", "input": "i", "output": "bad", "kto_tag": False, "system": "", "history": []},
        [("user", "q\ni", False), ("answer", "bad", True)],
    ),
    "text": ({"text": "一页\n"}, [("text", "一页\n", True)]),
}


def show(*argv: str | Path) -> Result:
    return CliRunner().invoke(lfc, ["prep", "show", *map(str, argv)], catch_exceptions=False)


def show_json(*argv: str | Path) -> list[dict[str, Any]]:
    result = show(*argv, "--json")
    assert result.exit_code == 0, result.stderr
    return list(json.loads(result.stdout)["rows"])


@pytest.mark.parametrize("name", KINDS)
def test_a_row_of_each_kind_is_shown_with_what_is_trained(name: str, tmp_path: Path) -> None:
    row, parts = KINDS[name]
    (shown,) = show_json(write_jsonl(tmp_path / "a.jsonl", [row]))
    assert [(part["who"], part["text"], part["trained"]) for part in shown["parts"]] == parts
    assert (shown["row"], shown["line"], shown["fault"]) == (1, 1, None)


@pytest.mark.parametrize("name", KINDS)
def test_the_tokens_say_the_same_with_a_model(name: str, tmp_path: Path, qwen3_folder: Path) -> None:
    row, parts = KINDS[name]
    (shown,) = show_json(write_jsonl(tmp_path / "a.jsonl", [row]), "--model", qwen3_folder)
    trained = ["".join(t["text"] for t in one["tokens"] if t["trained"]) for one in shown["sequences"]]
    assert [one["answer"] for one in shown["sequences"]] == (["chosen", "rejected"] if "pair" in name else [""])
    for who, text, is_trained in parts:
        last = text if "call" not in who else '{"name": "get_time"'
        held = [last.rstrip() in one for one in trained]
        assert any(held) if is_trained else not all(held) or who == "system", (who, trained)


def test_text_is_shown_in_lines_with_a_bar_at_what_is_trained(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{**ALPACA, "origin": "r1/a.jsonl:7"}])
    result = show(path, "--mask-history")
    assert result.stdout == (
        f"row 1  {path}, line 1\norigin: r1/a.jsonl:7\n"
        "  system (read)\n    你是医生\n  user (read)\n    在吗\n  answer (read)\n    在\n"
        "  user (read)\n    头痛？\n    详细\n"
        "  thought (trained)\n  | 用户头痛\n  answer (trained)\n  | 多休息。\n\n"
    )


def test_tokens_are_shown_in_runs(tmp_path: Path, qwen3_folder: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{**ALPACA, "system": "", "history": []}])
    result = show(path, "--model", qwen3_folder, "--enable-thinking", "null")
    assert result.stdout.splitlines()[1:] == [
        "  23 tokens, 12 of them trained",
        "  read, 11 tokens",
        "    <|im_start|>user↵",
        "    头痛？↵",
        "    详细<|im_end|>↵",
        "    <|im_start|>assistant↵",
        "  trained, 12 tokens",
        "  | <think>↵",
        "  | 用户头痛↵",
        "  | </think>↵",
        "  | ↵",
        "  | 多休息。<|im_end|>↵",
        "",
    ]


def test_a_cutoff_shows_what_it_leaves(tmp_path: Path, qwen3_folder: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [ALPACA])
    whole, cut = (
        show_json(path, "--model", qwen3_folder, *more)[0]["sequences"][0] for more in ([], ["--cutoff-len", "20"])
    )
    assert (cut["total"], cut["cut"]) == (20, whole["total"] - 20)
    assert whole["cut"] == 0


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ([], [1, 2, 3]),
        (["4"], [4]),
        (["2-3"], [2, 3]),
        (["1,3,9-"], [1, 3, 9, 10]),
        (["5-99"], [5, 6, 7, 8, 9, 10]),
        (["--random", "20"], list(range(1, 11))),
    ],
)
def test_rows_are_chosen_by_their_numbers(asked: list[str], numbers: list[int], tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{**ALPACA, "instruction": f"q{place}"} for place in range(1, 11)])
    shown = show_json(path, *asked)
    assert [row["row"] for row in shown] == numbers
    assert [row["parts"][3]["text"] for row in shown] == [f"q{number}" for number in numbers]


def test_rows_by_chance_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [ALPACA] * 200)
    drawn = [[row["row"] for row in show_json(path, "--random", "5", "--seed", seed)] for seed in ("1", "1", "2")]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(rows) == 5 and rows == sorted(rows) for rows in drawn)


@pytest.mark.parametrize("rows", ["0", "3-1", "x", "1-2-3", "1;2", "9" * 50])
def test_what_is_no_range_of_rows_is_a_wrong_call(rows: str, tmp_path: Path) -> None:
    result = show(write_jsonl(tmp_path / "a.jsonl", [ALPACA]), rows)
    assert (result.exit_code, "Error: ROWS '" in result.stderr) == (2, True)


def test_a_row_that_is_not_there_is_said_with_how_many_there_are(tmp_path: Path) -> None:
    result = CliRunner().invoke(lfc, ["prep", "show", str(write_jsonl(tmp_path / "a.jsonl", [ALPACA] * 4)), "5"])
    assert result.exit_code == 1
    assert "there is no such row" in result.stderr
    assert "holds 4" in result.stderr


def test_a_row_that_llamafactory_cannot_read_is_shown_as_it_stands(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "raw.jsonl", [{"question": "q", "answer": {"text": "a"}}])
    (shown,) = show_json(path)
    assert [part["who"] for part in shown["parts"]] == ["question", "answer"]
    assert json.loads(shown["parts"][1]["text"]) == {"text": "a"}
    assert shown["fault"]
    assert f"  Try: lfc prep convert {path}" in show(path).stdout


def test_what_a_row_says_reaches_the_terminal_without_its_control_characters(tmp_path: Path) -> None:
    evil = "\x1b]0;title\x07\u202e\x1b[31m"
    path = write_jsonl(tmp_path / "a.jsonl", [{**ALPACA, "instruction": evil, "origin": evil}])
    for more in ([], ["--json"]):
        printed = show(path, *more).stdout
        assert not {"\x1b", "\x07", "\u202e"} & set(printed)


def test_a_long_text_is_shown_whole_on_demand(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{**ALPACA, "instruction": "长" * 9000}])
    assert "… 5,000 characters, --whole shows them …" in show(path).stdout
    assert "长" * 9000 in show(path, "--whole").stdout


@pytest.mark.parametrize(
    "argv", [["1", "--random", "2"], ["--cutoff-len", "9"]], ids=["two choices", "a cutoff without a model"]
)
def test_options_that_do_not_fit_are_a_wrong_call(argv: list[str], tmp_path: Path) -> None:
    assert show(write_jsonl(tmp_path / "a.jsonl", [ALPACA]), *argv).exit_code == 2
