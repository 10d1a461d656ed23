"""Conversations: who speaks, what is trained, and what makes turns alternate."""

import json
from typing import Any

import pytest

from prep.errors import RecordError
from prep.formats import messages
from prep.formats.chats.tool_calls import read_tools
from prep.formats.reading import ROLES, TURN_FIXES, Reading
from prep.rows.records import Exchange, ToolExchange
from prep.rows.thinking import THOUGHT_FIELDS

LETTERS = {"u": "user", "a": "assistant", "s": "system", "c": "tool_call", "o": "tool"}
TOWN = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
TOOLS = [{"name": "weather", "parameters": TOWN}]


def make_turns(roles: str) -> list[dict[str, Any]]:
    """Return turns whose texts are their letter and place; a call is a whole one."""
    call = json.dumps({"name": "weather", "arguments": {"town": "Ulm"}})
    return [
        {"role": LETTERS[letter], "content": call if letter == "c" else f"{letter}{place}"}
        for place, letter in enumerate(roles, 1)
    ]


def read(turns: list[dict[str, Any]], reading: Reading | None = None, **columns: Any) -> list[Any]:
    return list(messages.read_exchanges({"messages": turns, **columns}, reading or Reading()))


def last(turns: list[dict[str, Any]], reading: Reading | None = None, **columns: Any) -> Any:
    return read(turns, reading, **columns)[-1]


@pytest.mark.parametrize(
    ("roles", "word", "expected"),
    [
        ("uua", "join", ("u1\nu2", "a3", "", ())),
        ("uaa", "join", ("u1", "a2\na3", "", ())),
        ("uau", "drop-tail", ("u1", "a2", "", ())),
        ("uauu", "join,drop-tail", ("u1", "a2", "", ())),
        ("aua", "greeting", ("u2", "a3", "", ())),
        ("saua", "greeting", ("u3", "a4", "s1", ())),
        ("uasua", "system", ("s3\n\nu4", "a5", "", (("u1", "a2"),))),
        ("ssua", "system", ("u3", "a4", "s1\n\ns2", ())),
    ],
)
def test_turns_that_do_not_alternate_name_the_words_that_read_them(
    roles: str, word: str, expected: tuple[Any, ...]
) -> None:
    with pytest.raises(RecordError) as error:
        read(make_turns(roles))
    needed = str(error.value).partition("--fix-turns ")[2].partition(" ")[0]
    assert needed == word
    exchange = last(make_turns(roles), Reading(fixes=frozenset(needed.split(","))))
    assert (exchange.question, exchange.answer, exchange.system, exchange.history) == expected
    assert set(read(make_turns(roles), Reading(fixes=frozenset(TURN_FIXES)))[0].notes) == {
        TURN_FIXES[fix] for fix in word.split(",")
    }


@pytest.mark.parametrize("roles", ["u", "a", "s", "uuu", "saa"])
def test_turns_that_no_fix_can_read_are_refused_without_one(roles: str) -> None:
    with pytest.raises(RecordError) as error:
        read(make_turns(roles), Reading(fixes=frozenset(TURN_FIXES)))
    assert "--fix-turns" not in str(error.value)


@pytest.mark.parametrize("name", [name for name, role in ROLES.items() if role == "human"])
@pytest.mark.parametrize("spelt", [str, str.upper, str.title, " {} ".format])
def test_every_name_of_the_one_who_asks_is_known(name: str, spelt: Any) -> None:
    turns = [{"from": spelt(name), "value": "u"}, {"from": "gpt", "value": "a"}]
    assert read(turns) == [Exchange("u", "", "a")]


@pytest.mark.parametrize("name", [name for name, role in ROLES.items() if role == "gpt"])
@pytest.mark.parametrize("fields", [("from", "value"), ("role", "content"), ("角色", "内容")])
def test_every_name_of_the_one_who_answers_is_known(name: str, fields: tuple[str, str]) -> None:
    role, text = fields
    assert read([{role: "user", text: "u"}, {role: name, text: "a"}]) == [Exchange("u", "", "a")]


@pytest.mark.parametrize("field", THOUGHT_FIELDS)
@pytest.mark.parametrize("spelt", [str, str.upper, lambda name: name.replace("_", " ")])
def test_every_field_of_a_turn_that_holds_a_thought_is_the_thought(field: str, spelt: Any) -> None:
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a", spelt(field): "t"}]
    assert read(turns) == [Exchange("u", "t", "a")]


@pytest.mark.parametrize("weight", [{"weight": 0}, {"loss": False}, {"train": 0}])
def test_an_answer_without_weight_is_no_target_and_stays_in_the_history(weight: dict[str, Any]) -> None:
    turns = make_turns("uaua")
    turns[1] |= weight
    assert read(turns) == [Exchange("u3", "", "a4", history=(("u1", "a2"),))]
    turns[3] |= weight
    with pytest.raises(RecordError, match="none of its answers is to be trained on"):
        read(turns)


def test_a_weight_between_is_refused() -> None:
    turns = make_turns("ua")
    turns[1]["weight"] = 0.5
    with pytest.raises(RecordError, match="message 2: 'weight' is neither 0 nor 1"):
        read(turns)


@pytest.mark.parametrize(
    ("turn", "written"),
    [
        ({"tool_calls": [{"function": {"name": "weather", "arguments": '{"town": "Ulm"}'}}]}, ""),
        ({"tool_calls": [{"function": {"name": "weather", "arguments": {"town": "Ulm", "day": None}}}]}, ""),
        ({"function_call": {"name": "weather", "arguments": '{"town": "Ulm"}'}}, ""),
        ({"content": '<tool_call>\n{"name": "weather", "arguments": {"town": "Ulm"}}\n</tool_call>'}, ""),
        ({"role": "tool_call", "content": '{"name": "weather", "arguments": "{\\"town\\": \\"Ulm\\"}"}'}, ""),
        ({"content": "I look.", "tool_calls": [{"name": "weather", "arguments": {"town": "Ulm"}}]}, "I look."),
    ],
)
def test_every_way_to_write_a_call_gives_one(turn: dict[str, Any], written: str) -> None:
    exchange = last([*make_turns("u"), {"role": "assistant", **turn}], tools=TOOLS)
    assert isinstance(exchange, ToolExchange)
    call = '{"name": "weather", "arguments": {"town": "Ulm"}}'
    assert exchange.answer == (f"{written}\n<tool_call>{call}</tool_call>" if written else call)


@pytest.mark.parametrize(
    ("roles", "changes", "reason"),
    [
        ("ucua", {}, "a call is not answered"),
        ("uaoa", {}, "a tool answers that was not called"),
        ("oa", {}, "a tool answers that was not called"),
        (
            "uc",
            {"content": '{"name": "cook", "arguments": {}}'},
            "calls the tool 'cook', which the tools do not declare",
        ),
        (
            "uc",
            {"content": '{"name": "weather", "arguments": {}}'},
            "weather arguments: 'town' is a required property",
        ),
        (
            "uc",
            {"content": '{"name": "weather", "arguments": {"town": 5}}'},
            "arguments.town: 5 is not of type 'string'",
        ),
        ("uc", {"content": '{"name": "weather", "arguments": {"town": null}}'}, "'town' is a required property"),
        ("uc", {"content": '{"name": "weather", "arguments": [1]}'}, "arguments are no object"),
        ("uc", {"content": '{"name": "weather", "arguments": {"town": "</tool_call>"}}'}, "stands inside a call"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(roles: str, changes: dict[str, Any], reason: str) -> None:
    turns = make_turns(roles)
    turns[-1] |= changes
    with pytest.raises(RecordError) as error:
        read(turns, tools=TOOLS)
    assert reason in str(error.value)


def test_a_schema_that_is_none_is_counted_and_not_followed() -> None:
    for schema in ({"town": {"type": "str", "description": "flat"}}, {"type": "object", "properties": {"town": 5}}):
        exchange = last(make_turns("uc"), tools=[{"name": "weather", "parameters": schema}])
        assert exchange.notes == ("tool_schemas_not_checked",)
    hostile = {
        "type": "object",
        "properties": {"town": {"type": "string", "pattern": "(a+)+$", "$ref": "http://x"}},
    }
    assert last(make_turns("uc"), tools=[{"name": "weather", "parameters": hostile}]).notes == ()


def test_nulls_that_a_merged_table_added_to_tools_are_left_out() -> None:
    merged = {"name": "f", "parameters": {"properties": {"a": {"type": "string", "default": None}, "b": None}}}
    assert json.loads(read_tools({"tools": [merged]})) == [
        {"name": "f", "parameters": {"properties": {"a": {"type": "string", "default": None}}}}
    ]
    written = json.dumps([merged])
    assert read_tools({"tools": written}) == written


def test_results_are_unwrapped_once_and_joined() -> None:
    turns = make_turns("ucooa")
    turns[2]["content"] = "<tool_response>\n9\n</tool_response>"
    exchange = last(turns, tools=TOOLS)
    assert exchange.turns[2] == ("observation", "9\n</tool_response>\n<tool_response>\no4")
