"""Small data sets for tests of tokens: rows of every shape that stage sft takes, texts for pt, and their registry."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prep.registry.dataset_info import register_dataset

WORDS = (
    "甲胎蛋白",
    "升高",
    "the",
    "answer",
    "is",
    "42",
    "，",
    "。",
    "\n",
    " - ",
    "x_1",
    "é",
    "🙂",
    "</ think>",
    "don't",
)


def write_words(rng: random.Random, most: int) -> str:
    """Return a text of some of the words; most of them can be cut into pieces, some not."""
    return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))


def make_alpaca_row(rng: random.Random) -> dict[str, Any]:
    """Return a row with or without a thought, a system prompt, an input and earlier turns."""

    def write_answer() -> str:
        answer = write_words(rng, 60)
        return rng.choice(
            (answer, f"<think>\n{write_words(rng, 60)}\n</think>\n\n{answer}", f"<think>\n\n</think>\n\n{answer}")
        )

    return {
        "instruction": write_words(rng, 40),
        "input": rng.choice(("", "", write_words(rng, 5))),
        "output": write_answer(),
        "system": rng.choice(("", "", "Be brief.")),
        "history": [[write_words(rng, 20), write_answer()] for _ in range(rng.choice((0, 0, 1, 3)))],
    }


def make_sharegpt_row(rng: random.Random) -> dict[str, Any]:
    """Return a row with turns, half of them with a tool that is called."""
    calls = rng.random() < 0.5
    turns = [{"from": "human", "value": write_words(rng, 30)}]
    if calls:
        turns += [
            {
                "from": "function_call",
                "value": json.dumps({"name": "add", "arguments": {"a": write_words(rng, 2)}}),
            },
            {"from": "observation", "value": write_words(rng, 8)},
        ]
    turns += [{"from": "gpt", "value": write_words(rng, 50)}]
    tool = {
        "name": "add",
        "description": "Add.",
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
    }
    return {
        "conversations": turns,
        "system": rng.choice(("", "Use it.")),
        "tools": json.dumps([tool]) if calls else "",
    }


def make_text_row(rng: random.Random) -> dict[str, Any]:
    """Return a text for pre-training."""
    return {"text": write_words(rng, 120)}


MAKERS = {"alpaca": make_alpaca_row, "sharegpt": make_sharegpt_row, "text": make_text_row}


def register_rows(folder: Path, name: str, rows: Iterable[dict[str, Any]], *, as_array: bool = False) -> Path:
    """Write rows into a folder, as lines or as a JSON array, and register them under a name."""
    path = folder / f"{name}.{'json' if as_array else 'jsonl'}"
    texts = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("[\n" + ",\n".join(texts) + "\n]" if as_array else "\n".join(texts) + "\n", encoding="utf-8")
    register_dataset(path, name, folder)
    return path


def register_kind(folder: Path, name: str, kind: str, count: int, *, as_array: bool = False) -> Path:
    """Write and register `count` rows of one of MAKERS; the same name gives the same rows."""
    rng = random.Random(name)
    return register_rows(folder, name, [MAKERS[kind](rng) for _ in range(count)], as_array=as_array)
