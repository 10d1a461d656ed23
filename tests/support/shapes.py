"""A small input of every shape that `lfc prep convert` reads: name → its file and the options to give.

The proof runs over all of them: whatever comes in, LLaMA-Factory must see Qwen3's own tokens.
"""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

PARABOLA = r"Solve $x^2 = 4$ with <, \frac{1}{2} and a " "quote" "."
TOOLS = json.dumps([{"name": "get_time", "description": "The time", "parameters": {"type": "object"}}])


class Shape(NamedTuple):
    """One input: what `lfc prep convert PATH *arguments -o FILE` takes; `tools` when FILE_tools is made."""

    path: Path
    arguments: tuple[str, ...] = ()
    tools: bool = False


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]], group_rows: int = 2) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group_rows)
    return path


def medical_rows() -> list[dict[str, Any]]:
    return [
        {"question": "AFP 400 ng/mL？", "think": "先想肝脏。\n再想别的。", "answer": "可能是肝癌。"},
        {"question": "  发热三天  ", "think": "\n\n", "answer": "　多喝水。\n"},
        {"question": PARABOLA, "think": "a < b\tand\n\nc", "answer": "x = ±2\r\nor so"},
    ]


def sharegpt_rows() -> list[dict[str, Any]]:
    plain = [{"from": "human", "value": "Hi\n"}, {"from": "gpt", "value": " Hello 🙂"}]
    longer = [*plain, {"from": "human", "value": PARABOLA}, {"from": "gpt", "value": "<think>\nt\n</think>\n\n±2"}]
    last = [{"from": "human", "value": "and 9?"}, {"from": "gpt", "value": "±3"}]
    return [
        {"conversations": plain, "source": "a", "score": 5.0},
        {"conversations": [{"from": "system", "value": "Be brief."}, *longer, *last], "source": "b", "score": 4.2},
        {"conversations": [*plain, *last], "source": "c", "score": 4.8},
    ]


def messages_rows() -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "system", "content": "You are terse."},
                {"role": "user", "content": [{"type": "text", "text": "2+2?"}]},
                {"role": "assistant", "content": "4", "reasoning_content": "Two and two."},
                {"role": "user", "content": "3+3?"},
                {"role": "assistant", "content": "<think>\nThree twice.\n</think>\n\n6"},
            ]
        },
        {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "你好！"}]},
    ]


def openmath_rows() -> list[dict[str, Any]]:
    return [
        {"problem": PARABOLA, "generated_solution": "<think>\n\nTry 2.  \n</think>**x = ±2**\n", "tool": "n/a"},
        {"problem": "1+1", "generated_solution": "  <think>One more.</think>\n\n\n2", "tool": "n/a"},
    ]


def alpaca_rows() -> list[dict[str, Any]]:
    return [
        {"instruction": "Translate", "input": "Guten Tag", "output": "Good day"},
        {
            "instruction": "And now?",
            "input": "",
            "output": "<think>hm</think>\nBye",
            "system": "Polite.",
            "history": [["Hello", "<think>\nx\n</think>\n\nHi"]],
        },
    ]


def tool_rows() -> list[dict[str, Any]]:
    call = {"from": "function_call", "value": json.dumps({"name": "get_time", "arguments": {}})}
    turns = [
        {"from": "human", "value": "What time is it?"},
        call,
        {"from": "observation", "value": '{"time": "12:00"}'},
        {"from": "gpt", "value": "It is noon."},
    ]
    return [{"conversations": turns, "tools": TOOLS}, {"conversations": turns[:1] + turns[3:], "tools": ""}]


def messages_tool_rows() -> list[dict[str, Any]]:
    """A thought before two calls at once, their two answers, a thought before the last answer; and one more turn."""
    calls = [
        {
            "type": "function",
            "function": {"name": "get_time", "arguments": json.dumps({"place": place, "n": [1, 2]})},
        }
        for place in ("北京", "Oslo")
    ]
    turns = [
        {"role": "system", "content": "Use tools."},
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": "", "reasoning_content": "Two places.", "tool_calls": calls},
        {"role": "tool", "content": "12:00"},
        {"role": "tool", "content": '{"time": "05:00"}'},
        {"role": "assistant", "content": "Noon, and five.", "reasoning_content": "12 and 5."},
        {"role": "user", "content": "Thanks"},
        {"role": "assistant", "content": "You are welcome."},
    ]
    return [{"messages": turns, "tools": json.loads(TOOLS)}]


def _medical_csv(folder: Path) -> Shape:
    path = folder / "medical.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["问题", "思考过程", "回答"])
        writer.writerows([list(row.values()) for row in medical_rows()])
    return Shape(path)


def _medical_mapped(folder: Path) -> Shape:
    rows = [{"q": row["question"], "cot": row["think"], "a": row["answer"]} for row in medical_rows()]
    path = folder / "mapped.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return Shape(path, ("--map", "question=q", "--map", "answer=a"))


def _sharegpt_gz(folder: Path) -> Shape:
    path = folder / "chat.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in sharegpt_rows())
    return Shape(path)


SHAPES: dict[str, Callable[[Path], Shape]] = {
    "medical-jsonl": lambda folder: Shape(write_jsonl(folder / "medical.jsonl", medical_rows())),
    "medical-parquet": lambda folder: Shape(write_parquet(folder / "medical.parquet", medical_rows())),
    "medical-chinese-csv": _medical_csv,
    "medical-mapped-json": _medical_mapped,
    "sharegpt-parquet": lambda folder: Shape(write_parquet(folder / "chat.parquet", sharegpt_rows())),
    "sharegpt-jsonl-gz": _sharegpt_gz,
    "sharegpt-all-turns": lambda folder: Shape(
        write_jsonl(folder / "chat.jsonl", sharegpt_rows()), ("--turns", "all")
    ),
    "messages-jsonl": lambda folder: Shape(write_jsonl(folder / "messages.jsonl", messages_rows())),
    "openmath-parquet": lambda folder: Shape(write_parquet(folder / "math.parquet", openmath_rows())),
    "alpaca-jsonl": lambda folder: Shape(write_jsonl(folder / "alpaca.jsonl", alpaca_rows())),
    "sharegpt-tools": lambda folder: Shape(write_jsonl(folder / "tools.jsonl", tool_rows()), tools=True),
    "messages-tools": lambda folder: Shape(write_jsonl(folder / "calls.jsonl", messages_tool_rows()), tools=True),
}
"""Builders by name; each writes into the folder it is given."""
