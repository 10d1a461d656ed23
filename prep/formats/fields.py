"""Reading one text out of a source row, and JSON out of a text, the same for every shape."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from prep.errors import RecordError

# LLaMA-Factory reads tools and calls again, by recursion, in a stack that is deeper than ours.
_MAX_DEPTH = 100


def read_text(row: Mapping[str, Any], name: str) -> str:
    """Return a needed column's text; raises RecordError when it is not a string."""
    value = row[name]
    if not isinstance(value, str):
        raise RecordError(f"column '{name}' is {describe_type(value)}, not a string")
    return value


def read_optional_text(row: Mapping[str, Any], name: str) -> str:
    """Return a column's text, or "" when it is missing or null; raises RecordError for other types."""
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RecordError(f"column '{name}' is {describe_type(value)}, not a string")
    return value


def read_thought(row: Mapping[str, Any], name: str) -> str:
    """Return a thought's text, "" when it is missing or null; one that comes in pieces is joined.

    Raises: RecordError when it is neither a string nor a list of strings.
    """
    value = row.get(name)
    if isinstance(value, list) and all(isinstance(piece, str) for piece in value):
        return "\n\n".join(value)
    return read_optional_text(row, name)


def parse_json(text: str, what: str) -> Any:
    """Return what a JSON text says; raises RecordError when it is none, or could not be read again in training."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise RecordError(f"{what} is nested more than {_MAX_DEPTH} levels deep") from error
    except ValueError as error:
        raise RecordError(f"{what} is not JSON: {error}") from error
    _check_depth(value, what)
    return value


def write_json_text(value: object, what: str) -> str:
    """Return a value as JSON text; raises RecordError when JSON has no form for it."""
    _check_depth(value, what)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise RecordError(f"{what} holds what JSON has no form for: {error}") from error
    return text


def describe_type(value: object) -> str:
    """Name a value's type as JSON does; what JSON does not have, by Python's name."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    names |= {list: "a list", dict: "an object", bytes: "binary"}
    return names.get(type(value), f"a {type(value).__name__}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _check_depth(value: object, what: str) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            part
            for whole in level
            if isinstance(whole, dict | list | tuple)
            for part in (whole.values() if isinstance(whole, dict) else whole)
        ]
        if not level:
            return
    raise RecordError(f"{what} is nested more than {_MAX_DEPTH} levels deep")
