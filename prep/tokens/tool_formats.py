"""Tools and their calls as text, in LLaMA-Factory's tool formats. Pure text.

Source: LLaMA-Factory, data/tool_utils.py and FunctionFormatter, ToolFormatter in data/formatter.py. The prompts
are its data (prep/llamafactory.py); a test holds what is written equal.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from prep.errors import InputError
from prep.tokens.templates import Template

Tool = Mapping[str, Any]
Prompts = Mapping[str, str]
# A call's name, and its arguments as they are.
Call = tuple[Any, Any]


def write_tools(tools_json: str, template: Template, prompts: Prompts) -> str:
    """Return the text that announces a row's tools, "" for an empty list.

    Raises: InputError when they are not a JSON list of objects, or the template's format cannot hold them.
    """
    tools = _load_json(tools_json, "tools")
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise InputError("its tools text is not a JSON list of objects")
    write = _TOOL_WRITERS.get(template.tool_format)
    if write is None or not template.takes_tools:
        raise InputError(f"its tools have no known place in template '{template.name}'")
    if not tools:
        return ""
    try:
        return write(tools, prompts)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"its tools do not fit the format of template '{template.name}': {error!r}") from None


def write_calls(content: str, template: Template) -> str:
    """Return a function_call turn's text: what stands beside the JSON, and the calls in the template's format.

    Raises: InputError when the calls are no JSON, lack name or arguments, or the format cannot hold them.
    """
    before, named = read_calls(content, template)
    write = _CALL_WRITERS.get(template.call_format)
    if write is None or not template.takes_tools:
        raise InputError(f"its function_call has no known place in template '{template.name}'")
    try:
        return before + write(named)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"a function_call does not fit template '{template.name}': {error!r}") from None


def read_calls(content: str, template: Template) -> tuple[str, list[Call]]:
    """Return what stands beside a function_call turn's JSON, and its calls.

    Raises: InputError when the calls are no JSON, or lack name or arguments.
    """
    before, calls_json = _part_calls(content, template)
    calls = _load_json(calls_json, "function_call")
    try:
        return before, [
            (call["name"], call["arguments"]) for call in (calls if isinstance(calls, list) else [calls])
        ]
    except (KeyError, TypeError):
        raise InputError("a function_call has no 'name' and 'arguments'") from None


def find_block(text: str, opening: str, closing: str, start: int = 0) -> slice | None:
    """Return where the next block from `opening` to the nearest `closing` is; in linear time, unlike `.*?`."""
    first = text.find(opening, start)
    end = text.find(closing, first + len(opening)) if first >= 0 else -1
    return slice(first, end + len(closing)) if end >= 0 else None


def _part_calls(content: str, template: Template) -> tuple[str, str]:
    if not template.finds_call_words:
        return "", content
    if (tagged := find_block(content, *template.tool_call_words)) is not None:
        opening, closing = template.tool_call_words
        block = content[tagged]
        return content.replace(block, ""), block.removeprefix(opening).removesuffix(closing)
    if (thought := find_block(content, *template.thought_words)) is not None:
        return content[thought], content.replace(content[thought], "")
    return "", content


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _wrap(tool: Tool) -> Tool:
    return tool if tool.get("type") == "function" else {"type": "function", "function": tool}


def _unwrap(tool: Tool) -> Any:
    return tool.get("function", "") if tool.get("type") == "function" else tool


def _unwrap_or_keep(tool: Tool) -> Any:
    return tool.get("function", tool) if tool.get("type") == "function" else tool


def _list_lines(tools: Sequence[Any]) -> str:
    return "".join("\n" + _dump(tool) for tool in tools)


def _describe_tool(tool: Any) -> str:
    """Return a tool in the default format's words."""
    lines = ""
    for name, told in tool["parameters"]["properties"].items():
        required = ", required" if name in tool["parameters"].get("required", []) else ""
        choices = f", should be one of [{', '.join(told['enum'])}]" if told.get("enum") else ""
        items = f", where each item should be {told['items'].get('type', '')}" if told.get("items") else ""
        lines += f"  - {name} ({told.get('type', '')}{required}): {told.get('description', '')}{choices}{items}\n"
    return f"> Tool Name: {tool['name']}\nTool Description: {tool.get('description', '')}\nTool Args:\n{lines}\n"


def _write_default_tools(tools: Sequence[Tool], prompts: Prompts) -> str:
    plain = [_unwrap(tool) for tool in tools]
    text = "".join(map(_describe_tool, plain))
    return prompts["default"].format(tool_text=text, tool_names=", ".join(tool["name"] for tool in plain))


def _write_glm4_tools(tools: Sequence[Tool], prompts: Prompts) -> str:
    text = ""
    for tool in map(_unwrap, tools):
        body = json.dumps(tool, indent=4, ensure_ascii=False)
        text += f"\n\n## {tool['name']}\n\n{body}\n在调用上述函数时，请使用 Json 格式表示调用的参数。"
    return prompts["glm4"].format(tool_text=text)


def _write_llama3_tools(tools: Sequence[Tool], prompts: Prompts) -> str:
    # LLaMA-Factory writes the day on which it runs into every such row.
    date = datetime.now().strftime("%d %b %Y")
    text = "".join(json.dumps(_wrap(tool), indent=4, ensure_ascii=False) + "\n\n" for tool in tools)
    return prompts["llama3"].format(date=date, tool_text=text)


def _write_mistral_tools(tools: Sequence[Tool], prompts: Prompts) -> str:
    return f"[AVAILABLE_TOOLS] {_dump([_wrap(tool) for tool in tools])}[/AVAILABLE_TOOLS]"


def _write_ling_tools(tools: Sequence[Tool], prompts: Prompts) -> str:
    return f"{prompts['ling'].format(tool_text=_list_lines(list(map(_wrap, tools))))}\ndetailed thinking off"


def _fill(prompt: str, prepare: Callable[[Sequence[Tool]], str]) -> Callable[[Sequence[Tool], Prompts], str]:
    return lambda tools, prompts: prompts[prompt].format(tool_text=prepare(tools))


_TOOL_WRITERS: dict[str, Callable[[Sequence[Tool], Prompts], str]] = {
    "default": _write_default_tools,
    "glm4": _write_glm4_tools,
    "glm4_moe": _fill("glm4_moe", lambda tools: _list_lines([_wrap(tool) for tool in tools])),
    "lfm2": _fill("lfm2", lambda tools: _dump([_unwrap_or_keep(tool) for tool in tools])),
    "ling": _write_ling_tools,
    "llama3": _write_llama3_tools,
    "minimax1": _fill("minimax_m1", lambda tools: "".join(_dump(_unwrap(tool)) + "\n" for tool in tools)),
    "minimax2": _fill(
        "minimax_m2", lambda tools: "".join(f"<tool>{_dump(_unwrap(tool))}</tool>\n" for tool in tools)
    ),
    "mistral": _write_mistral_tools,
    "qwen": _fill("qwen", lambda tools: _list_lines([_wrap(tool) for tool in tools])),
    "qwen3_5": _fill("qwen35", lambda tools: _list_lines([_unwrap_or_keep(tool) for tool in tools])),
    "qwen3_8": _fill("qwen35", lambda tools: _list_lines([_wrap(tool) for tool in tools])),
    "seed_oss": _fill("seed", lambda tools: "\n" + _dump(list(tools))),
}


def _write_default_calls(calls: Sequence[Call]) -> str:
    return "\n".join(f"Action: {name}\nAction Input: {_dump(arguments)}" for name, arguments in calls)


def _write_glm4_calls(calls: Sequence[Call]) -> str:
    if len(calls) > 1:
        raise InputError("GLM-4 takes one function_call at a time")
    name, arguments = calls[0]
    return f"{name}\n{_dump(arguments)}"


def _write_llama3_calls(calls: Sequence[Call]) -> str:
    written = [{"name": name, "parameters": arguments} for name, arguments in calls]
    return _dump(written[0] if len(written) == 1 else written)


def _write_named(calls: Sequence[Call]) -> list[dict[str, Any]]:
    return [{"name": name, "arguments": arguments} for name, arguments in calls]


def _write_qwen_calls(calls: Sequence[Call]) -> str:
    return "\n".join(f"<tool_call>\n{_dump(call)}\n</tool_call>" for call in _write_named(calls))


def _write_lfm2_calls(calls: Sequence[Call]) -> str:
    written = []
    for name, arguments in calls:
        pairs = [
            f'{key}="{value}"' if isinstance(value, str) else f"{key}={_dump(value)}"
            for key, value in arguments.items()
        ]
        written.append(f"{name}({', '.join(pairs)})")
    return f"<|tool_call_start|>[{', '.join(written)}]<|tool_call_end|>"


def _write_marked(opening: str, item: str, closing: str) -> Callable[[Sequence[Call]], str]:
    """Return a writer of calls whose arguments stand between marks, strings as they are and all else as JSON."""

    def write(calls: Sequence[Call]) -> str:
        texts = []
        for name, arguments in calls:
            # Joined, not added up in an f-string: as in LLaMA-Factory a name or key that is no string is an error.
            text = "".join((opening.partition("@")[0], name, opening.partition("@")[2]))
            for key, value in arguments.items():
                first, middle, last = item.split("@")
                text += "".join((first, key, middle, value if isinstance(value, str) else _dump(value), last))
            texts.append(text + closing)
        return "\n".join(texts)

    return write


_CALL_WRITERS: dict[str, Callable[[Sequence[Call]], str]] = {
    "default": _write_default_calls,
    "glm4": _write_glm4_calls,
    "glm4_moe": _write_marked("\n<tool_call>@", "\n<arg_key>@</arg_key>\n<arg_value>@</arg_value>", ""),
    "lfm2": _write_lfm2_calls,
    "ling": _write_qwen_calls,
    "llama3": _write_llama3_calls,
    "minimax1": lambda calls: (
        "<tool_calls>\n" + "\n".join(_dump(call) for call in _write_named(calls)) + "\n</tool_calls>"
    ),
    "minimax2": _write_marked('<invoke name="@">', '\n<parameter name="@">@</parameter>', "\n</invoke>"),
    "mistral": lambda calls: _dump(_write_named(calls)),
    "qwen": _write_qwen_calls,
    "qwen3_5": _write_marked(
        "<tool_call>\n<function=@>", "\n<parameter=@>\n@\n</parameter>", "\n</function>\n</tool_call>"
    ),
    "qwen3_8": _write_marked(
        "<tool_call>\n<function=@>", "\n<parameter=@>\n@\n</parameter>", "\n</function>\n</tool_call>"
    ),
    "seed_oss": _write_marked(
        "\n<seed:tool_call>\n<function=@", "\n<parameter=@>@</parameter>", "\n</function>\n</seed:tool_call>"
    ),
}


def _load_json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InputError(f"its {what} text is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"its {what} text is not JSON: {error}") from error
