"""Tools, calls and their results, however a file writes them → what LLaMA-Factory takes, checked by its schemas."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from prep.errors import RecordError
from prep.formats.fields import parse_json, write_json_text

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

TOOL_COLUMNS = ("tools", "functions", "function", "tool_list", "available_tools", "工具")
CALL_WORDS = ("<tool_call>", "</tool_call>")
RESULT_WORDS = ("<tool_response>", "</tool_response>")
# How Qwen's template, and so LLaMA-Factory, joins the answers of tools that were called together.
NEXT_RESULT = f"\n{RESULT_WORDS[1]}\n{RESULT_WORDS[0]}\n"
UNCHECKED = "tool_schemas_not_checked"
_ARGUMENTS = ("arguments", "args", "parameters", "input")
_TYPES = {"dict": "object", "float": "number", "double": "number", "int": "integer", "str": "string"}
_TYPES |= {"list": "array", "tuple": "array", "bool": "boolean", "long": "integer"}
# References may lead anywhere, and patterns take forever: neither is followed for a row of somebody else's.
_NOT_FOLLOWED = {"$ref", "$dynamicRef", "$recursiveRef", "$id", "$schema", "pattern", "patternProperties", "format"}


def read_tools(row: Mapping[str, Any]) -> str:
    """Return a row's tools as LLaMA-Factory wants them: a JSON array as a string, "" without any.

    Raises: RecordError when they are no JSON list of objects.
    """
    tools = row.get("tools")
    if not tools or (isinstance(tools, str) and not tools.strip()):
        return ""
    written = tools if isinstance(tools, str) else ""
    listed = parse_json(tools, "tools") if isinstance(tools, str) else tools
    if isinstance(listed, dict):
        listed, written = [listed], ""
    if not isinstance(listed, list):
        raise RecordError("tools is not a JSON array")
    if any(isinstance(tool, str) for tool in listed):
        listed = [_parse_tool(tool) for tool in listed]
        written = ""
    if not all(isinstance(tool, dict) for tool in listed):
        raise RecordError("tools is not a JSON array of objects")
    if not listed:
        return ""
    return written or write_json_text([_leave_nulls_out(tool) for tool in listed], "tools")


def _parse_tool(tool: object) -> object:
    """Return a tool that a list holds as JSON text of its own; other text stays, to be refused as such."""
    return parse_json(tool, "a tool") if isinstance(tool, str) and tool.lstrip()[:1] == "{" else tool


def _leave_nulls_out(value: Any) -> Any:
    """Return a tool without the nulls that a table of many tools adds to each; a default may be null by itself."""
    if isinstance(value, list):
        return [_leave_nulls_out(item) for item in value]
    if not isinstance(value, dict):
        return value
    is_merged = any(item is None for name, item in value.items() if name != "default")
    return {
        name: _leave_nulls_out(item)
        for name, item in value.items()
        if item is not None or (name == "default" and not is_merged)
    }


def read_calls(calls: object, what: str) -> list[dict[str, Any]]:
    """Return calls as [{name, arguments}], their arguments decoded once.

    Raises: RecordError when one has no name or its arguments are no object.
    """
    read = []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if isinstance(function, str) and isinstance(call, dict):
            function = {"name": function, **call}
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            raise RecordError(f"{what} is not an object with name and arguments")
        named = [name for name in _ARGUMENTS if function.get(name) is not None]
        if not named and not any(name in function for name in _ARGUMENTS):
            raise RecordError(f"{what} is not an object with name and arguments")
        arguments = function[named[0]] if named else {}
        if isinstance(arguments, str):
            arguments = parse_json(arguments, f"{what}'s arguments") if arguments.strip() else {}
        if not isinstance(arguments, dict):
            raise RecordError(f"{what}'s arguments are no object")
        read.append({"name": function["name"], "arguments": arguments})
    if not read:
        raise RecordError(f"{what} is empty")
    return read


def parse_calls(text: str, what: str) -> tuple[str, list[dict[str, Any]]]:
    """Return what stands before the calls of a text, and the calls: JSON, or JSON in `<tool_call>` tags.

    Raises: RecordError when it is something else.
    """
    found = find_calls(text)
    if found is not None:
        return found
    return "", read_calls(parse_json(text, what), what)


def find_calls(text: str) -> tuple[str, list[dict[str, Any]]] | None:
    """Return (text before, calls) of a text that ends in `<tool_call>` blocks, None for any other text."""
    before, opened, rest = text.partition(CALL_WORDS[0])
    if not opened:
        return None
    calls: list[dict[str, Any]] = []
    for block in rest.split(CALL_WORDS[0]):
        body, closed, after = block.partition(CALL_WORDS[1])
        if not closed or after.strip():
            return None
        try:
            calls += read_calls(parse_json(body, "a call"), "a call")
        except RecordError:
            return None
    return before.strip(), calls


def rewrite_calls(text: str, what: str) -> str:
    """Return a function_call turn's text as LLaMA-Factory takes it; one that is so already stays as it is.

    Raises: RecordError when it holds no calls.
    """
    before, calls = parse_calls(text, what)
    written = write_calls(before, calls)
    if (
        not before
        and CALL_WORDS[0] not in text
        and json.loads(text) in (calls, calls[0] if len(calls) == 1 else None)
    ):
        return text
    return written


def write_calls(before: str, calls: list[dict[str, Any]]) -> str:
    """Return calls as LLaMA-Factory's function_call turn, with the text that stands before them.

    Source: LLaMA-Factory 0.9.5, data/formatter.py, FunctionFormatter, which keeps what is not in the tags.
    Raises: RecordError when a text holds the tags by which the calls are found.
    """
    written = write_json_text(calls[0] if len(calls) == 1 else calls, "a function_call turn")
    if any(word in text for word in CALL_WORDS for text in (written, before)):
        raise RecordError(f"{CALL_WORDS[0]} stands inside a call or the text before it")
    return f"{before}\n{CALL_WORDS[0]}{written}{CALL_WORDS[1]}" if before else written


def is_result(text: str) -> bool:
    """Whether a text is a tool's answer in the `<tool_response>` tags of Qwen's template, whoever says it."""
    return text.lstrip().startswith(RESULT_WORDS[0]) and text.rstrip().endswith(RESULT_WORDS[1])


def unwrap_result(text: str) -> str:
    """Return a tool's answer without the `<tool_response>` tags that the template writes itself."""
    return text.strip()[len(RESULT_WORDS[0]) : -len(RESULT_WORDS[1])].strip() if is_result(text) else text


def check_calls(calls: list[dict[str, Any]], tools: str, what: str) -> tuple[list[dict[str, Any]], bool]:
    """Return calls without the nulls that a table added, and whether every schema could be used.

    Raises: RecordError when a tool is not declared, or the arguments are not what its schema asks for.
    """
    if not tools:
        return calls, True
    declared = _list_validators(tools)
    checked, are_all_checked = [], True
    for call in calls:
        name = call["name"]
        if name not in declared:
            raise RecordError(f"{what} calls the tool '{name[:80]}', which the tools do not declare")
        validator, properties = declared[name]
        arguments = {
            key: value
            for key, value in call["arguments"].items()
            if value is not None or (properties is not None and _takes_null(properties.get(key)))
        }
        if validator is None:
            are_all_checked = False
        elif (error := next(validator.iter_errors(arguments), None)) is not None:
            path = "".join(f".{part}" for part in error.absolute_path)
            raise RecordError(f"{what}: {name[:80]} arguments{path}: {error.message[:200]}")
        checked.append({"name": name, "arguments": arguments})
    return checked, are_all_checked


def _takes_null(schema: object) -> bool:
    if not isinstance(schema, dict):
        return False
    types = schema.get("type")
    listed = types if isinstance(types, list) else [types]
    choices = [part for key in ("anyOf", "oneOf") for part in _as_list(schema.get(key))]
    is_open = types is None and "enum" not in schema and not choices
    return is_open or "null" in listed or None in _as_list(schema.get("enum")) or any(map(_takes_null, choices))


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


@lru_cache(maxsize=256)
def _list_validators(tools: str) -> dict[str, "tuple[Validator | None, dict[str, Any] | None]"]:
    """Return {a tool's name: what judges its arguments, and its properties}; None where there is no schema."""
    import jsonschema

    listed: dict[str, tuple[Validator | None, dict[str, Any] | None]] = {}
    for tool in json.loads(tools):
        function = tool.get("function", tool)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RecordError("a tool has no name")
        parameters = function.get("parameters") or function.get("input_schema")
        schema = _make_schema(parameters)
        properties = schema.get("properties") if schema else None
        validator: Validator | None = None
        if schema is not None:
            try:
                jsonschema.Draft202012Validator.check_schema(schema)
                validator = jsonschema.Draft202012Validator(schema)
            except jsonschema.SchemaError:
                pass
        listed[function["name"]] = (validator, properties if isinstance(properties, dict) else None)
    return listed


def _make_schema(parameters: object) -> dict[str, Any] | None:
    """Return the JSON Schema of a tool's parameters, its types under JSON's names; None when it is not one."""
    if not isinstance(parameters, dict) or not ("properties" in parameters or parameters.get("type") == "object"):
        return None
    plain = _plain_schema(parameters)
    return plain if isinstance(plain, dict) else None


def _plain_schema(value: Any, *, is_names: bool = False) -> Any:
    """Return a schema without what is not followed; below `properties` the keys are names of somebody's own."""
    if isinstance(value, list):
        return [_plain_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {}
    for key, item in value.items():
        if is_names:
            plain[key] = _plain_schema(item)
        elif key == "type" and isinstance(item, str):
            if (named := _TYPES.get(item.strip().casefold(), item)) not in ("any", "Any"):
                plain[key] = named
        elif key in ("enum", "const", "default", "examples"):
            plain[key] = item
        elif key not in _NOT_FOLLOWED:
            plain[key] = _plain_schema(item, is_names=key in ("properties", "$defs", "definitions"))
    return plain
