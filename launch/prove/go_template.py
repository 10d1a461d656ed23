"""Fills the part of Go's text/template that Modelfiles are written in, so that their prompts can be proved here.

Source: the documentation of Go's package text/template. Known are text, `{{ value }}`, if, else if, else, range
with two names, variables, trimmed blanks, and the functions of `_FUNCTIONS`; values are what JSON knows.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_ACTION = re.compile(r"\{\{(- )?\s*(.*?)\s*( -)?\}\}", re.DOTALL)
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|:=|[()=,]|\$\w*(?:\.\w+)*|(?:\.\w+)+|\.|\d+|\w+)')
_DEEPEST = 50

_Node = Callable[["_Scope"], str]
_Value = Callable[["_Scope"], Any]


@dataclass
class _Scope:
    """What is known at one place: the dot, and variables, the nearest last."""

    root: Any
    dot: Any
    variables: list[dict[str, Any]] = field(default_factory=lambda: [{}])

    def enter(self, dot: Any, new: Mapping[str, Any]) -> "_Scope":
        return _Scope(self.root, dot, [*self.variables, dict(new)])

    def find(self, name: str) -> dict[str, Any]:
        return next(known for known in reversed(self.variables) if name in known)


_Function = Callable[[Sequence[_Value], _Scope], Any]


def fill_go_template(text: str, values: Mapping[str, Any]) -> str:
    """Return a template filled with values; raises ValueError for what is not known here."""
    nodes, rest = _read_nodes(_part(text), 0)
    if rest != len(_part(text)):
        raise ValueError("an {{ end }} or {{ else }} has no beginning")
    try:
        return _run(nodes, _Scope(values, values))
    except (StopIteration, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"it cannot be filled: {error!r}") from error


def write_go_text(text: str) -> str:
    """Return a text as it stands in a template: its braces are text, too."""
    return re.sub(r"\{(?=\{|\Z)", '{{ "{" }}', text)


def _part(text: str) -> list[tuple[str, str]]:
    """Return a template as (text before, action) pairs, the last with an empty action."""
    parts, start, trims = [], 0, False
    for found in _ACTION.finditer(text):
        before = text[start : found.start()]
        before = before.lstrip() if trims else before
        parts.append((before.rstrip() if found[1] else before, found[2]))
        start, trims = found.end(), bool(found[3])
    last = text[start:]
    return [*parts, (last.lstrip() if trims else last, "")]


def _read_nodes(parts: Sequence[tuple[str, str]], place: int, depth: int = 0) -> tuple[list[_Node], int]:
    """Return the nodes up to an `end` or `else`, and the place at which that stands."""
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    nodes: list[_Node] = []
    while place < len(parts):
        text, action = parts[place]
        nodes.append(_write(text))
        word = action.partition(" ")[0]
        if word in ("end", "else"):
            return nodes, place
        place += 1
        if word in ("if", "range"):
            node, place = (_read_if if word == "if" else _read_range)(action, parts, place, depth + 1)
            nodes.append(node)
        elif action:
            nodes.append(_read_output(action))
    return nodes, place


def _write(text: str) -> _Node:
    return lambda scope: text


def _read_if(action: str, parts: Sequence[tuple[str, str]], place: int, depth: int) -> tuple[_Node, int]:
    condition = _read_value(action.removeprefix("if"))
    body, place = _read_nodes(parts, place, depth)
    other: list[_Node] = []
    ending = _look(parts, place)
    if ending.startswith("else if"):
        node, place = _read_if(ending.removeprefix("else").strip(), parts, place + 1, depth + 1)
        other = [node]
    elif ending == "else":
        other, place = _read_nodes(parts, place + 1, depth)
        place = _pass_end(parts, place)
    else:
        place = _pass_end(parts, place)
    return lambda scope: _run(body if condition(scope) else other, scope.enter(scope.dot, {})), place


def _read_range(action: str, parts: Sequence[tuple[str, str]], place: int, depth: int) -> tuple[_Node, int]:
    names, _, told = action.removeprefix("range").rpartition(":=")
    index, _, item = (name.strip() for name in names.partition(","))
    value = _read_value(told)
    body, place = _read_nodes(parts, place, depth)

    def run(scope: _Scope) -> str:
        written = []
        for number, each in enumerate(value(scope) or ()):
            new = {name: thing for name, thing in ((index, number), (item, each)) if name}
            written.append(_run(body, scope.enter(each, new)))
        return "".join(written)

    return run, _pass_end(parts, place)


def _look(parts: Sequence[tuple[str, str]], place: int) -> str:
    return parts[place][1] if place < len(parts) else ""


def _pass_end(parts: Sequence[tuple[str, str]], place: int) -> int:
    if _look(parts, place) != "end":
        raise ValueError("an {{ end }} is missing")
    return place + 1


def _run(nodes: Sequence[_Node], scope: _Scope) -> str:
    return "".join([node(scope) for node in nodes])


def _read_output(action: str) -> _Node:
    setting = re.match(r"(\$\w+)\s*(:?=)\s*(.*)\Z", action, re.DOTALL)
    if setting is None:
        value = _read_value(action)
        return lambda scope: _spell(value(scope))
    name, sign, told = setting.groups()
    value = _read_value(told)

    def run(scope: _Scope) -> str:
        (scope.variables[-1] if sign == ":=" else scope.find(name))[name] = value(scope)
        return ""

    return run


def _spell(value: Any) -> str:
    """Return a value as Go prints it; what is no text, number or truth prints itself as JSON in Ollama."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int):
        return str(value).lower()
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read_value(text: str) -> _Value:
    tokens, start = [], 0
    while found := _TOKEN.match(text, start):
        tokens.append(found[1])
        start = found.end()
    value, place = _read_call(tokens, 0)
    if place != len(tokens) or text[start:].strip():
        raise ValueError(f"{text.strip()!r:.100} is not known here")
    return value


def _read_call(tokens: Sequence[str], place: int) -> tuple[_Value, int]:
    """Return a function with its arguments, or a lone value, and the place behind it."""
    function = _FUNCTIONS.get(tokens[place]) if place < len(tokens) else None
    if function is None:
        return _read_term(tokens, place)
    place += 1
    arguments: list[_Value] = []
    while place < len(tokens) and tokens[place] != ")":
        argument, place = _read_term(tokens, place)
        arguments.append(argument)
    return lambda scope: function(arguments, scope), place


def _read_term(tokens: Sequence[str], place: int) -> tuple[_Value, int]:
    word = tokens[place] if place < len(tokens) else ""
    if word == "(":
        inner, place = _read_call(tokens, place + 1)
        if place >= len(tokens) or tokens[place] != ")":
            raise ValueError("a ) is missing")
        path = tokens[place + 1] if place + 1 < len(tokens) else ""
        if re.fullmatch(r"(?:\.\w+)+", path):
            return lambda scope: _follow(inner(scope), path), place + 2
        return inner, place + 1
    if word.startswith('"'):
        text = json.loads(word)
        return lambda scope: text, place + 1
    if word.isdecimal() or word in ("true", "false"):
        constant = int(word) if word.isdecimal() else word == "true"
        return lambda scope: constant, place + 1
    if word.startswith("$"):
        name, _, path = word.partition(".")
        if name == "$":
            return lambda scope: _follow(scope.root, path), place + 1
        return lambda scope: _follow(scope.find(name)[name], path), place + 1
    if word.startswith("."):
        return lambda scope: _follow(scope.dot, word), place + 1
    raise ValueError(f"{word!r:.100} is not known here")


def _follow(value: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        value = value.get(name) if value is not None else None
    return value


def _find_first(*, is_true: bool) -> _Function:
    """Return what gives the first argument of a truth, else the last; those behind it are not looked at."""

    def run(arguments: Sequence[_Value], scope: _Scope) -> Any:
        value = None
        for argument in arguments:
            value = argument(scope)
            if bool(value) is is_true:
                break
        return value

    return run


def _apply(function: Callable[..., Any]) -> _Function:
    return lambda arguments, scope: function(*(argument(scope) for argument in arguments))


_FUNCTIONS: dict[str, _Function] = {
    "and": _find_first(is_true=False),
    "or": _find_first(is_true=True),
    "not": _apply(lambda value: not value),
    "eq": _apply(lambda one, *others: one in others),
    "ne": _apply(lambda one, other: one != other),
    "gt": _apply(lambda one, other: one > other),
    "len": _apply(len),
    "index": _apply(lambda value, place: value[place]),
    "slice": _apply(lambda value, start: value[start:]),
    "json": _apply(_spell),
}
