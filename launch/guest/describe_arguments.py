"""Run by another interpreter, LLaMA-Factory's own: print what it knows as JSON. Imports nothing of ours.

`python -I describe_arguments.py [FOLDER]` prints {"versions": {...}, "fields": [...], "templates": {...},
"models": [...], …}; FOLDER holds an unpacked LLaMA-Factory, to be asked instead of the installed one.
A field is {name, group, infer, types, choices, default, help}; `types` are JSON Schema's names, "strings" and
"numbers" are lists of them. A template is what register_template was given, a model an entry of SUPPORTED_MODELS.
"""

import ast
import dataclasses
import enum
import importlib.metadata
import inspect
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


def describe_slots(slots: list[Any]) -> list[Any]:
    """Return a formatter's slots: texts as they are, {"special": "bos_token"} and {"token": …} for the rest."""
    return [{"special": min(slot)} if isinstance(slot, set) else slot for slot in slots]


def describe_template(template: Any) -> dict[str, Any]:
    """Return what a template writes and how: its class, its slots, and what differs from the defaults."""
    parts = ("prefix", "system", "user", "observation", "assistant", "function")
    written = {part: describe_slots(getattr(template, f"format_{part}").slots) for part in parts}
    names = ("default_system", "stop_words", "thought_words", "tool_call_words", "efficient_eos", "replace_eos")
    values = {name: getattr(template, name, None) for name in (*names, "enable_thinking", "preserve_thinking")}
    return {
        "kind": type(template).__name__,
        **{key: value for key, value in (*written.items(), *values.items()) if value not in (None, "", [], False)},
        "tool_format": template.format_tools.tool_format,
        "call_format": template.format_function.tool_format,
        "multimodal": type(template.mm_plugin).__name__ != "BasePlugin",
    }


class EchoTokenizer:
    """A tokenizer whose ids are the texts themselves: a template's `_encode` tells with it what it writes."""

    bos_token_id, eos_token_id = "<bos>", "<eos>"

    def encode(self, text: str, add_special_tokens: bool = False) -> list[str]:
        """Return the text as the only id."""
        return [text]

    def convert_tokens_to_ids(self, token: str) -> str:
        """Return the token as its id."""
        return token


def strips_lone_tools(template: Any) -> bool:
    """Whether a tools prompt without a system prompt loses the line ends before it; tried, as it is no setting."""
    row = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    tools = '[{"name": "f", "parameters": {"properties": {}}}]'
    return "\n\n# Tools" not in "".join(template._encode(EchoTokenizer(), row, "", tools)[0])


def read_group_templates(source: str) -> dict[str, str]:
    """Return each model's group's template: a base model has none in DEFAULT_TEMPLATE, and its group names one."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "register_model_group":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            models, template = given.get("models"), given.get("template")
            if isinstance(models, ast.Dict) and isinstance(template, ast.Constant):
                names = [str(key.value) for key in models.keys if isinstance(key, ast.Constant)]
                found.update(dict.fromkeys(names, str(template.value)))
    return found


def describe_models() -> list[dict[str, Any]]:
    """Return LLaMA-Factory's models: name, hub names of every hub, template, its group's template, multimodal."""
    from llamafactory.extras import constants

    groups = read_group_templates(pathlib.Path(constants.__file__).read_text(encoding="utf-8"))
    return [
        {
            "name": name,
            "hubs": sorted(set(hubs.values())),
            # None for a base model, of which only the group knows one.
            "template": constants.DEFAULT_TEMPLATE.get(name) or None,
            "group": groups.get(name),
            "multimodal": name in constants.MULTIMODAL_SUPPORTED_MODELS,
        }
        for name, hubs in constants.SUPPORTED_MODELS.items()
    ]


def describe_arguments() -> dict[str, Any]:
    """Return every argument that a train or an inference YAML may hold, in LLaMA-Factory's order."""
    from llamafactory.data import tool_utils
    from llamafactory.data.template import TEMPLATES
    from llamafactory.extras.env import VERSION
    from llamafactory.hparams import parser

    fields = {}
    for group in parser._TRAIN_ARGS:
        hints = typing.get_type_hints(group)
        for item in dataclasses.fields(group):
            if item.init:
                fields[item.name] = describe_field(group, item, hints[item.name])
    for field in fields.values():
        field["infer"] = field["group"] != "training"
    return {
        # Its own word: the package's metadata is another's where a fork or a checkout stands in front.
        "versions": {"llamafactory": VERSION, "transformers": importlib.metadata.version("transformers")},
        "templates": {name: describe_template(template) for name, template in sorted(TEMPLATES.items())},
        "models": describe_models(),
        "tool_prompts": {
            name.removesuffix("_TOOL_PROMPT").lower(): text
            for name, text in sorted(vars(tool_utils).items())
            if name.endswith("_TOOL_PROMPT")
        },
        "strips_lone_tools": strips_lone_tools(TEMPLATES["qwen3"]),
        # Until 0.9.5 the thoughts of earlier answers stayed, whatever was masked.
        "discards_thoughts": "discarding_history_cot"
        in inspect.signature(TEMPLATES["qwen3"].encode_multiturn).parameters,
        "fields": list(fields.values()),
    }


if __name__ == "__main__":
    # What the packages print while they load must not mix with the answer.
    if len(sys.argv) > 1:
        # Another LLaMA-Factory, unpacked and not installed: what it asks of other packages is no matter here.
        sys.path.insert(0, sys.argv[1])
        os.environ["DISABLE_VERSION_CHECK"] = "1"
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    json.dump(describe_arguments(), answer, default=str)
    answer.close()
    sys.exit(0)
