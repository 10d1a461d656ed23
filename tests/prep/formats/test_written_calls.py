"""Calls that are written as a program would call are read whole, or left as text."""

from typing import Any

import pytest

from prep.formats import messages
from prep.formats.chats.written_calls import TOOLS_FROM_SYSTEM, parse_written_calls
from prep.formats.reading import Reading
from prep.rows.records import ToolExchange

NAMES = ("add", "Market Trends API", "get.by-id", "add_all")
SYSTEM = 'Be brief.\nHere are the functions:\n[{"name": "add", "parameters": {"type": "dict", "properties": {}}}]'


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("[add(a=1)]", [("add", {"a": 1})]),
        (" [add(), add_all(x=[1, 2])]\n", [("add", {}), ("add_all", {"x": [1, 2]})]),
        ('[Market Trends API(kind="A, (B)]", n=-1.5)]', [("Market Trends API", {"kind": "A, (B)]", "n": -1.5})]),
        ("[get.by-id(ok=true, no=False, none=null)]", [("get.by-id", {"ok": True, "no": False, "none": None})]),
        (
            "[add(a={'b': [true, {'c': 'it\\'s'}]}, 名=\"值\")]",
            [("add", {"a": {"b": [True, {"c": "it's"}]}, "名": "值"})],
        ),
    ],
)
def test_calls_are_read_with_their_values(text: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    assert parse_written_calls(text, NAMES) == [{"name": name, "arguments": said} for name, said in calls]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "add(a=1)",
        "[add(1)]",
        "[add(a=1)] ok",
        "[other(a=1)]",
        "[add(a=open('x'))]",
        "[add(**x)]",
        "[add(a=x)]",
        "[add(a=1]",
        "[add(a='1)]",
        "[1, 2]",
        "[add(a=" + "(" * 5000 + ")" * 5000 + ")]",
        "[add(a=" + "[" * 90_000 + ")]",
        "[add(a=1)" + " " * 300_000 + "]",
    ],
)
def test_any_other_text_is_no_call(text: str) -> None:
    assert parse_written_calls(text, NAMES) is None


def read(*turns: tuple[str, str], system: str = SYSTEM) -> list[Any]:
    row = {"system": system, "messages": [{"role": role, "content": text} for role, text in turns]}
    return list(messages.read_exchanges(row, Reading()))


def test_tools_are_taken_out_of_the_system_prompt_where_one_is_called() -> None:
    (call,) = read(("user", "q"), ("assistant", "[add(a=1)]"))
    assert isinstance(call, ToolExchange)
    assert (call.system, call.notes) == ("Be brief.", (TOOLS_FROM_SYSTEM,))
    assert call.tools == '[{"name": "add", "parameters": {"type": "dict", "properties": {}}}]'
    (other,) = read(("system", SYSTEM), ("user", "q"), ("assistant", "[add(a=1)]"), system="")
    assert other == call


def test_a_chat_under_such_a_prompt_stays_as_it_is() -> None:
    (chat,) = read(("user", "q"), ("assistant", "No function fits."))
    assert (chat.system, chat.notes) == (SYSTEM, ())
    (listed,) = read(("user", "q"), ("assistant", "[add(a=1)]"), system="[1, 2]")
    assert (listed.answer, listed.notes) == ("[add(a=1)]", ())
