"""Random rows of every kind in LLaMA-Factory's forms, and what can be wrong with one."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

from prep.rows.kinds import FORMS, Form, Kind

Row = dict[str, Any]
WORDS = (
    "alpha",
    "咳嗽",
    "β-2",
    "two  blanks",
    "line\nend",
    "🙂",
    "x = ±2",
    '"quoted"',
    "\\back",
    "</b>",
    "{{content}}",
)
TOOL = {
    "name": "add",
    "description": "Adds",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
CALL = json.dumps({"name": "add", "arguments": {"a": 1}})
THOUGHT = "<think>\n{}\n</think>\n\n{}"
# {a name: (the form, whether its rows have files)}; `form` by kind and formatting.
KINDS: dict[str, tuple[Form, bool]] = {f"{form.kind}-{form.formatting}": (form, False) for form in FORMS}
KINDS["sft-alpaca-media"] = (KINDS["sft-alpaca"][0], True)
KINDS["sft-sharegpt-media"] = (KINDS["sft-sharegpt"][0], True)


class RowMaker:
    """Makes rows of one kind that LLaMA-Factory trains on as they stand; no question comes twice."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.form, self.has_media = KINDS[name]
        self._rng = rng
        self._made = 0

    def make(self, *, thinks: bool) -> Row:
        """Return a row; rows of one file all think, or none does, as one think policy has it."""
        self._made += 1
        row = self._make_alpaca(thinks) if self.form.formatting == "alpaca" else self._make_sharegpt(thinks)
        if self.has_media:
            row["images"] = ["a.png"] * self._rng.choice((0, 1, 2))
            self._place_images(row)
        return row

    def say(self) -> str:
        """Return a text that is not empty, and no markup."""
        return " ".join(self._rng.choice(WORDS) for _ in range(self._rng.randint(1, 6)))

    def _ask(self) -> str:
        return f"{self.say()} {self._made}?"

    def _answer(self, thinks: bool) -> str:
        return THOUGHT.format(self.say(), self.say()) if thinks else self.say()

    def _make_alpaca(self, thinks: bool) -> Row:
        rng = self._rng
        if self.form.kind is Kind.TEXT:
            return {"text": f"{self.say()} {self._made}"}
        row: Row = {
            "instruction": self._ask(),
            "input": rng.choice(("", self.say())),
            "system": rng.choice(("", self.say())),
            "history": [[self.say(), self.say()] for _ in range(rng.choice((0, 0, 1, 3)))],
        }
        if self.form.kind is Kind.PREFERENCE:
            return {**row, "chosen": self._answer(thinks), "rejected": self._answer(thinks) + " no"}
        row["output"] = self._answer(thinks)
        return {**row, "kto_tag": self._made % 2 == 0} if self.form.kind is Kind.KTO else row

    def _make_sharegpt(self, thinks: bool) -> Row:
        rng = self._rng
        turns = []
        for _ in range(rng.choice((0, 0, 1, 2))):
            turns += [turn("human", self.say()), turn("gpt", self.say())]
        turns.append(turn("human", self._ask()))
        has_tools = rng.random() < 0.5
        if has_tools and rng.random() < 0.7:
            turns += [turn("function_call", CALL), turn("observation", self.say())]
        row: Row = {"system": rng.choice(("", self.say())), "tools": json.dumps([TOOL]) if has_tools else ""}
        if self.form.kind is Kind.PREFERENCE:
            answers = {name: turn("gpt", self._answer(thinks) + name) for name in ("chosen", "rejected")}
            return {"conversations": turns, **row, **answers}
        turns.append(turn("gpt", self._answer(thinks)))
        row = {"conversations": turns, **row}
        return {**row, "kto_tag": self._made % 2 == 0} if self.form.kind is Kind.KTO else row

    def _place_images(self, row: Row) -> None:
        marks = "<image>" * len(row["images"])
        if "instruction" in row:
            row["instruction"] = marks + row["instruction"]
        else:
            last = [one for one in row["conversations"] if one["from"] == "human"][-1]
            last["value"] += marks


def turn(who: str, text: str) -> Row:
    """Return a ShareGPT turn."""
    return {"from": who, "value": text}


def _set_column(row: Row, rng: random.Random) -> None:
    row[rng.choice(sorted(row))] = rng.choice((None, 5, "", [], {}, True, ["x"], [["x"]], {"a": 1}, 1.5))


def _take_column(row: Row, rng: random.Random) -> None:
    del row[rng.choice(sorted(row))]


def _add_column(row: Row, rng: random.Random) -> None:
    row[rng.choice(("extra", "Instruction", "images", "tools"))] = rng.choice((None, "x", ["x"]))


def _break_history(row: Row, rng: random.Random) -> None:
    broken: tuple[Any, ...] = (
        [["x"]],
        [["x", "y", "z"]],
        ["x"],
        [[None, "y"]],
        [["x", 5]],
        None,
        "x",
        [[]],
        [["", "y"]],
    )
    row["history"] = copy.deepcopy(rng.choice(broken))


def _break_turns(row: Row, rng: random.Random) -> None:
    turns = row["conversations"]
    place = rng.randrange(len(turns))
    choice = rng.randrange(8)
    if choice == 0:
        del turns[place]
    elif choice == 1:
        turns.insert(place, copy.deepcopy(turns[place]))
    elif choice == 2:
        turns[place]["from"] = rng.choice(("human", "gpt", "system", "observation", "function_call", "user", None))
    elif choice == 3:
        turns[place]["value"] = rng.choice((None, 5, ["x"], {"x": "y"}))
    elif choice == 4:
        del turns[place][rng.choice(("from", "value"))]
    elif choice == 5:
        row["conversations"] = rng.choice(([], None, "x", ["x"], [5]))
    elif choice == 6:
        turns.reverse()
    else:
        turns[place]["extra"] = "x"


def _break_calls(row: Row, rng: random.Random) -> None:
    calls = ("no JSON", "{}", '{"name": "add"}', '{"name": "sub", "arguments": {"a": 1}}', "[]", "5")
    made = [one for one in row["conversations"] if one["from"] == "function_call"]
    if made:
        made[0]["value"] = rng.choice(calls)
    else:
        row["tools"] = rng.choice(("no JSON", "{}", "5", '["add"]', "[null]"))


def _break_label(row: Row, rng: random.Random) -> None:
    row["kto_tag"] = rng.choice((None, "true", 1, 0, "", []))


def _break_answers(row: Row, rng: random.Random) -> None:
    row[rng.choice(("chosen", "rejected"))] = rng.choice(
        (None, 5, "x", ["x"], {}, turn("human", "x"), turn("gpt", ""))
    )


def _break_media(row: Row, rng: random.Random) -> None:
    row["images"] = rng.choice(
        (None, [], ["a.png"] * 3, "a.png", [5], [None], ["missing.png"] * len(row["images"]))
    )


BREAKERS: tuple[tuple[str, Callable[[Row, random.Random], None]], ...] = (
    ("", _set_column),
    ("", _take_column),
    ("", _add_column),
    ("history", _break_history),
    ("conversations", _break_turns),
    ("tools", _break_calls),
    ("kto_tag", _break_label),
    ("chosen", _break_answers),
    ("images", _break_media),
)


def break_row(row: Row, rng: random.Random) -> Row:
    """Return a copy of a row with one thing changed, which may stop LLaMA-Factory or lose the row."""
    broken = copy.deepcopy(row)
    fitting = [change for column, change in BREAKERS if not column or column in row]
    rng.choice(fitting)(broken, rng)
    return broken
