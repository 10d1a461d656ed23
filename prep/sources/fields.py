"""Reading one text out of a source row, the same for every shape."""

from collections.abc import Mapping
from typing import Any

from prep.errors import RecordError


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


def describe_type(value: object) -> str:
    """Name a value's type as JSON does."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")
