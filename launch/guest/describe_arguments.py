"""Run by another interpreter, LLaMA-Factory's own: print its arguments as JSON. Imports nothing of ours.

`python -I introspect.py` prints {"versions": {...}, "templates": [...], "fields": [{name, group, infer,
types, choices, default, help}]}; `types` are JSON Schema's names, "strings" and "numbers" are lists of them.
"""

import dataclasses
import enum
import importlib.metadata
import json
import os
import pathlib
import sys
import types
import typing
from typing import Any

_SIMPLE = {bool: "boolean", int: "integer", float: "number", str: "string", pathlib.Path: "string", dict: "object"}


def describe_type(hint: Any) -> tuple[set[str], list[Any]]:
    """Return the JSON types and the fixed choices that an annotation allows."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return {"null"}, []
    if origin in (typing.Union, types.UnionType):
        parts = [describe_type(part) for part in arguments]
        kinds = set().union(*(part[0] for part in parts))
        choices = [choice for part in parts for choice in part[1]]
        return kinds, choices
    if origin is typing.Literal:
        return set(), list(arguments)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return set(), [member.value for member in hint]
    if origin is list or hint is list:
        return {"strings"}, []
    if origin is dict:
        return {"object"}, []
    return ({_SIMPLE[hint]}, []) if hint in _SIMPLE else (set(), [])


def find_list_type(group: type, name: str, text: str) -> set[str]:
    """Return which lists a comma-separated argument also takes: tried on the class itself."""
    if "commas" not in text:
        return set()
    needed = {"model_name_or_path": "m"} if group.__name__ == "ModelArguments" else {}
    if name == "interleave_probs":
        needed = {"dataset": "d", "mix_strategy": "interleave_under"}
    for kind, value in (("numbers", [0.5]), ("strings", ["a"])):
        try:
            made = group(**needed, **{name: value})
        except (AttributeError, TypeError, ValueError):
            continue
        # Only a list that was made from numbers is known to be one of numbers: the others are kept as given.
        if isinstance(getattr(made, name), list) and (kind == "strings" or name == "interleave_probs"):
            return {kind}
    return set()


def describe_field(group: type, item: Any, hint: Any) -> dict[str, Any]:
    """Return one argument's name, types, choices, default and help."""
    kinds, choices = describe_type(hint)
    if any(isinstance(part, type) and issubclass(part, enum.Enum) for part in typing.get_args(hint)):
        # `SchedulerType | str` is converted to the enum: other strings are refused.
        kinds -= {"string"}
    text = str(item.metadata.get("help", ""))
    kinds |= find_list_type(group, item.name, text)
    default = item.default if item.default is not dataclasses.MISSING else None
    if item.default_factory is not dataclasses.MISSING:
        default = item.default_factory()
    if default is None:
        kinds.add("null")
    default = default.value if isinstance(default, enum.Enum) else default
    return {
        "name": item.name,
        "group": group.__name__.removesuffix("Arguments").lower(),
        "types": sorted(kinds),
        "choices": sorted(set(choices), key=str),
        "default": default,
        "help": " ".join(text.split()),
    }


def describe_arguments() -> dict[str, Any]:
    """Return every argument that a train or an inference YAML may hold, in LLaMA-Factory's order."""
    from llamafactory.data.template import TEMPLATES
    from llamafactory.hparams import parser

    fields = {}
    for group in parser._TRAIN_ARGS:
        hints = typing.get_type_hints(group)
        for item in dataclasses.fields(group):
            if item.init:
                fields[item.name] = describe_field(group, item, hints[item.name])
    for field in fields.values():
        field["infer"] = field["group"] != "training"
    names = ("llamafactory", "transformers")
    return {
        "versions": {name: importlib.metadata.version(name) for name in names},
        "templates": sorted(TEMPLATES),
        "fields": list(fields.values()),
    }


if __name__ == "__main__":
    # What the packages print while they load must not mix with the answer.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    json.dump(describe_arguments(), answer, default=str)
    answer.close()
    sys.exit(0)
