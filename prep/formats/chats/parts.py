"""The parts of a turn's content, where that is a list: texts, thoughts, calls and their results.

OpenAI's, Anthropic's and LLaMA-Factory's own (its v1) parts differ in names alone.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from prep.errors import RecordError
from prep.formats.fields import describe_type, parse_json

_TEXTS = ("text", "input_text", "output_text")
_THOUGHTS = ("reasoning", "thinking", "thought")
_CALLS = ("tool_call", "tool_use", "function_call")
_RESULTS = ("tool_result", "tool_response", "function_response")
_KEYS = ("value", "content", "text", "output")
_MOST_SHOWN = 80


class Parts(NamedTuple):
    """What a turn's content holds; `calls` are as read_calls takes them, `is_result` whether a tool answers."""

    text: str | None
    thought: str
    calls: list[Any]
    is_result: bool


def read_parts(where: str, content: list[Any]) -> Parts:
    """Return what the parts of a content say; raises RecordError for one that has no place in a row."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Any] = []
    results = 0
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str):
            texts.append(part)
        elif kind in _TEXTS:
            texts.append(_read_value(where, part, kind))
        elif kind in _THOUGHTS:
            thoughts.append(_read_value(where, part, kind))
        elif kind in _CALLS:
            calls.append(_read_call(where, part, kind))
        elif kind in _RESULTS:
            results += 1
            texts.append(_read_result(where, part, kind))
        else:
            shown = f"of the unknown type {kind[:_MOST_SHOWN]!r}" if isinstance(kind, str) else "without a type"
            raise RecordError(f"{where}: 'content' is not text: it has a part {shown}")
    if results and results != len(content):
        raise RecordError(f"{where}: a tool's result stands beside other parts of its content")
    text = "\n".join(texts) if results else "".join(texts)
    return Parts(text if texts else None, "\n\n".join(thoughts), calls, results > 0)


def _read_value(where: str, part: Mapping[str, Any], kind: str) -> str:
    value = next((part[key] for key in (kind, *_KEYS) if part.get(key) is not None), None)
    if not isinstance(value, str):
        raise RecordError(f"{where}: a part of type '{kind}' holds {describe_type(value)}, not a text")
    return value


def _read_call(where: str, part: Mapping[str, Any], kind: str) -> Any:
    value = next((part[key] for key in (kind, *_KEYS) if part.get(key) is not None), part)
    return parse_json(value, f"{where}: a call") if isinstance(value, str) else value


def _read_result(where: str, part: Mapping[str, Any], kind: str) -> str:
    value = part.get("content", part.get("value"))
    if isinstance(value, list):
        return read_parts(where, value).text or ""
    return _read_value(where, part, kind)
