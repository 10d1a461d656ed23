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


# {what marks the thought: the thought "t < 2" and the answer "±2" in it}.
MARKED = {
    "think_tags_written_otherwise": "< Think >\nt < 2\n</ think>\n±2",
    "thinking_tags": "<thinking>t < 2</thinking>\n<answer>±2</answer>",
    "reasoning_tags": "＜reasoning＞t < 2＜/reasoning＞±2",
    "thought_tags": "&lt;thought&gt;t < 2&lt;/thought&gt;±2",
    "chinese_tags": "<思考>t < 2</思考>\n<答案>±2</答案>",
    "begin_of_thought": "<|begin_of_thought|>t < 2<|end_of_thought|>\n<|begin_of_solution|>±2<|end_of_solution|>",
    "square_brackets": "[THINK]t < 2[/THINK]±2",
    "triangles": "◁think▷t < 2◁/think▷±2",
    "headings": "**思考过程：**\nt < 2\n\n## Final Answer\n±2",
    "bracketed_headings": "【思考过程】\nt < 2\n【回答】：±2",
}


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


def beside_call_rows() -> list[dict[str, Any]]:
    """A thought and a text beside calls, one and two of them; in one row as OpenAI writes them, in one as Hermes."""
    call = {"name": "get_time", "arguments": {"place": "北京"}}
    tagged = f"<tool_call>\n{json.dumps(call)}\n</tool_call>"
    ends = [{"role": "tool", "content": "12:00"}, {"role": "assistant", "content": "Noon."}]
    said = {"role": "assistant", "content": "Let me look.", "reasoning_content": "Ask.", "tool_calls": [call]}
    hermes = {"role": "assistant", "content": f"<think>\nTwo.\n</think>\n\nI look.\n{tagged}\n{tagged}"}
    asked = {"role": "user", "content": "What time is it?"}
    return [{"messages": [asked, turn, *ends], "tools": json.loads(TOOLS)} for turn in (said, hermes)]


def markup_rows() -> list[dict[str, Any]]:
    """Each a thought in other markup than Qwen3's own, a line of the table of prep/rows/thinking.py."""
    return [{"instruction": f"{PARABOLA} {name}", "output": text} for name, text in MARKED.items()]


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
    "alpaca-markup": lambda folder: Shape(write_jsonl(folder / "markup.jsonl", markup_rows())),
    "sharegpt-tools": lambda folder: Shape(write_jsonl(folder / "tools.jsonl", tool_rows()), tools=True),
    "messages-tools": lambda folder: Shape(write_jsonl(folder / "calls.jsonl", messages_tool_rows()), tools=True),
    "messages-beside": lambda folder: Shape(write_jsonl(folder / "beside.jsonl", beside_call_rows()), tools=True),
}
"""Builders by name; each writes into the folder it is given."""
