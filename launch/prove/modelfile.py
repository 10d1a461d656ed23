"""Ollama's Modelfile of a template as it was trained, with tools and the switch for thinking; proved row by row.

Source: Ollama's docs/modelfile.md and docs/template.md: System, Tools, Messages (Role, Content, Thinking,
ToolCalls), IsThinkSet and Think are what a request gives a template. LLaMA-Factory's own Modelfile knows questions
and answers alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.prove.cases import Case, make_cases, write_messages
from launch.prove.go_template import fill_go_template, write_go_text
from launch.prove.proof import TextWriter
from prep.errors import InputError
from prep.llamafactory import find_version_facts
from prep.tokens.templates import Kind, Slots, Special
from prep.tokens.turns import TemplateOptions

_CONTENT = "{{content}}"
_MARK = "\0"
_FUNCTION = '{"type": "function", "function": {{ .Function }}}'
# LLaMA-Factory's tool format → its prompt, and what stands in it for the tools.
_TOOLS = {
    "qwen": ("qwen", f"{{{{ range $.Tools }}}}\n{_FUNCTION}{{{{ end }}}}"),
    "minimax1": ("minimax_m1", "{{ range $.Tools }}{{ .Function }}\n{{ end }}"),
    "mistral": (
        None,
        "[AVAILABLE_TOOLS] [{{ range $n, $_ := $.Tools }}{{ if $n }}, {{ end }}"
        f"{_FUNCTION}{{{{ end }}}}][/AVAILABLE_TOOLS]",
    ),
}
_CALL = '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}'
# Its format of calls → what stands before all, for each, between two and after all. The first text is how Ollama
# knows that an answer is a call.
_CALLS = {
    "qwen": ("", f"<tool_call>\n{_CALL}\n</tool_call>", "\n", ""),
    "minimax1": ("<tool_calls>\n", _CALL, "\n", "\n</tool_calls>"),
    "mistral": ("[", _CALL, ", ", "]"),
}
# How rows hold the answers of tools that were called together.
_NEXT_RESULT = "\n</tool_response>\n<tool_response>\n"


@dataclass(frozen=True)
class Checked:
    """How many kinds of conversation a Modelfile's prompt was compared in, and what is true of them.

    `equal`: to the last byte what was trained; `alike`: but for the blanks inside the JSON of tools and calls.
    """

    cases: int
    equal: int
    alike: int
    different: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return it in one sentence."""
        told = f"Its prompts are those of training in {self.equal} of {self.cases} kinds of conversation"
        if self.alike:
            told += f", and but for blanks inside the JSON of tools in {self.alike} more"
        return f"{told}; not for: {', '.join(self.different)}." if self.different else f"{told}."


def write_ollama_template(options: TemplateOptions, tokens: Mapping[str, str], *, begins: bool = False) -> str:
    """Return the Go template that asks as a template of LLaMA-Factory trained; `begins`: it writes the bos_token.

    Raises: ValueError where Ollama's language cannot say it.
    """
    return _TemplateWriter(options, tokens, begins=begins).write()


def write_modelfile(template: str, options: TemplateOptions, stops: Sequence[str], context: int) -> str:
    """Return a Modelfile for the folder in which it lies; raises ValueError where a text holds three quotes."""
    texts = {"TEMPLATE": template, "SYSTEM": options.rules.default_system}
    if any('"""' in text for text in texts.values()):
        raise ValueError("three quotes end a text in a Modelfile")
    lines = ["# Written by lfc launch export: the prompts of the training.", "FROM ."]
    lines += [f'{key} """{text}"""' for key, text in texts.items() if text]
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in dict.fromkeys(stops) if stop]
    return "\n".join([*lines, f"PARAMETER num_ctx {context}", ""])


def list_stops(options: TemplateOptions, tokens: Mapping[str, str]) -> list[str]:
    """Return the words that end an answer."""
    ends = [text for part in options.rules.assistant if part is Special.EOS and (text := tokens.get("eos_token"))]
    return [*options.rules.stop_words, *ends] or [tokens.get("eos_token", "")]


def check_template(template: str, options: TemplateOptions, tokens: Mapping[str, str]) -> Checked:
    """Compare the prompts of every kind of conversation with what was trained before its last answer."""
    equal, alike, different = 0, 0, []
    cases = [case for case in make_cases(options.rules) if _is_trained(case, options)]
    for case in cases:
        try:
            source, target = _write_trained(case, options, tokens)
        except InputError:
            # LLaMA-Factory refuses such a row itself.
            continue
        prompt = fill_go_template(template, read_request(case, options, think=_choose_thinking(case, options)))
        if _goes_on(prompt, source, target):
            equal += 1
        elif _goes_on(*map(_level_json, (prompt, source, target))):
            alike += 1
        else:
            different.append(case.name)
    return Checked(equal + alike + len(different), equal, alike, tuple(different))


def read_request(case: Case, options: TemplateOptions, *, think: bool | None) -> dict[str, Any]:
    """Return a conversation without its last answer as Ollama gives it to a template."""
    messages, tools = write_messages(case, options.rules, "thinking")
    system = case.conversation.system or options.rules.default_system
    return {
        "System": system,
        "Tools": [{"Function": tool["function"]} for tool in tools or ()],
        "Messages": [
            *([{"Role": "system", "Content": system}] if system and not case.conversation.system else []),
            *(_read_message(message) for message in messages[:-1]),
        ],
        "IsThinkSet": think is not None,
        "Think": bool(think),
    }


def _read_message(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = [
        {"Function": {"Name": call["function"]["name"], "Arguments": call["function"]["arguments"]}}
        for call in message.get("tool_calls", ())
    ]
    content, thinking = message.get("content", ""), message.get("thinking", "")
    return {"Role": message["role"], "Content": content, "Thinking": thinking, "ToolCalls": calls}


def _is_trained(case: Case, options: TemplateOptions) -> bool:
    """Whether a kind of conversation has a place: no thought that was removed, no tools that cannot be said."""
    says_tools = options.rules.tool_format in _TOOLS and options.rules.call_format in _CALLS
    if case.conversation.tools and not says_tools:
        return False
    return not (case.thinks and options.enable_thinking is False)


def _choose_thinking(case: Case, options: TemplateOptions) -> bool | None:
    return case.thinks if options.rules.thinks and options.enable_thinking is not False else None


def _write_trained(case: Case, options: TemplateOptions, tokens: Mapping[str, str]) -> tuple[str, str]:
    *earlier, (source, target) = TextWriter(options, tokens).write_turns(case)
    before = "".join(text for turn in earlier for side in turn for text in side)
    return before + "".join(source), "".join(target)


def _goes_on(prompt: str, source: str, target: str) -> bool:
    """Whether training went on from a prompt: it ends where loss begins, or within what was trained."""
    return len(prompt) >= len(source) and (source + target).startswith(prompt)


def _level_json(text: str) -> str:
    """Return a text whose JSON objects are all written in one way."""
    decoder, written, start = json.JSONDecoder(), [], 0
    while (place := text.find("{", start)) >= 0:
        written.append(text[start:place])
        try:
            value, start = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            value, start = None, place + 1
        written.append("{" if value is None else json.dumps(value, sort_keys=True))
    return "".join([*written, text[start:]])


class _TemplateWriter:
    """Writes a template's slots as Go; `$.` is the request, the dot the message that is written."""

    def __init__(self, options: TemplateOptions, tokens: Mapping[str, str], *, begins: bool) -> None:
        self._options = options
        self._rules = options.rules
        self._tokens = tokens if begins else {**tokens, "bos_token": ""}
        self._texts = TextWriter(options, self._tokens)
        if self._rules.kind not in (Kind.PLAIN, Kind.LLAMA2, Kind.REASONING, Kind.GLM47):
            raise ValueError(f"template {self._rules.name} is not written of slots alone")
        self._calls = _CALLS.get(self._rules.call_format) if self._rules.tool_format in _TOOLS else None
        self._thinks = self._rules.thinks and options.enable_thinking is not False
        observation = "".join(part for part in self._rules.observation if isinstance(part, str))
        self._joins_results = "<tool_response>" in observation
        self._empty = write_go_text(self._rules.empty_thought)

    def write(self) -> str:
        inside = self._rules.kind is Kind.LLAMA2
        begin = "{{ $first := true }}" if inside else ""
        begin += "{{ $joined := false }}" if self._joins_results else ""
        begin += write_go_text("".join(self._texts.spell(self._rules.prefix)))
        user = self._cut(self._rules.user)
        first = "{{ if $first }}" + self._write_system() + "{{ $first = false }}{{ end }}"
        question = f"{user[0]}{first if inside else ''}{{{{ .Content }}}}{user[1]}{self._write_switch()}"
        return (
            f"{begin}{'' if inside else self._write_system()}"
            "{{ range $i, $m := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
            f'{{{{ if eq .Role "user" }}}}{question}'
            f'{{{{ else if eq .Role "assistant" }}}}{self._write_answer()}'
            f'{{{{ else if eq .Role "tool" }}}}{self._write_result()}'
            "{{ end }}{{ end }}"
        )

    def _cut(self, slots: Slots) -> tuple[str, str]:
        """Return what stands before and after a slot's text."""
        text = "".join(self._texts.spell(slots))
        if "{{idx}}" in text:
            raise ValueError(f"template {self._rules.name} counts its questions")
        before, _, after = text.partition(_CONTENT)
        return write_go_text(before), write_go_text(after)

    def _write_system(self) -> str:
        before, after = self._cut(self._rules.system)
        tools = self._write_tools()
        given = "or $.System $.Tools" if tools else "$.System"
        return f"{{{{ if {given} }}}}{before}{{{{ $.System }}}}{tools}{after}{{{{ end }}}}"

    def _write_tools(self) -> str:
        if self._calls is None:
            return ""
        name, listed = _TOOLS[self._rules.tool_format]
        prompt = find_version_facts(self._options.version).tool_prompts[name] if name else "{tool_text}"
        before, _, after = prompt.format(tool_text=_MARK).partition(_MARK)
        begun = before.lstrip("\n")
        lines = before[: len(before) - len(begun)]
        if lines and self._rules.strips_lone_tools:
            lines = f"{{{{ if $.System }}}}{lines}{{{{ end }}}}"
        return f"{{{{ if $.Tools }}}}{lines}{write_go_text(begun)}{listed}{write_go_text(after)}{{{{ end }}}}"

    def _write_switch(self) -> str:
        """Return what ends a prompt: an empty thought where thinking is off, or was never trained."""
        if not self._rules.thinks:
            return ""
        off = "and $last $.IsThinkSet (not $.Think)" if self._thinks else "$last"
        return f"{{{{ if {off} }}}}{self._empty}{{{{ end }}}}"

    def _write_answer(self) -> str:
        begin, end = self._write_content(self._rules.assistant)
        end = f"{{{{ if not $last }}}}{end}{{{{ end }}}}"
        if self._calls is None:
            return begin + end
        first, each, between, last = self._calls
        more = f"{{{{ if gt (len (slice $m.ToolCalls $n)) 1 }}}}{between}{{{{ end }}}}"
        calls = f"{first}{{{{ range $n, $_ := .ToolCalls }}}}{each}{more}{{{{ end }}}}{last}"
        if self._rules.function == self._rules.assistant:
            return f"{begin}{{{{ if .ToolCalls }}}}{calls}{{{{ end }}}}{end}"
        call_begin, call_end = self._write_content(self._rules.function)
        return f"{{{{ if .ToolCalls }}}}{call_begin}{calls}{call_end}{{{{ else }}}}{begin}{end}{{{{ end }}}}"

    def _write_content(self, slots: Slots) -> tuple[str, str]:
        """Return an answer's thought and text with what stands before them, and what ends it."""
        before, after = self._cut(slots)
        return self._write_thought(before) + "{{ .Content }}", after

    def _write_thought(self, before: str) -> str:
        """Return what stands before an answer's text, its thought in the history where training kept it."""
        if not self._rules.thinks:
            return before
        opening, closing = map(write_go_text, self._rules.thought_words)
        keeps = not self._options.discards_thoughts
        # LLaMA-Factory puts an empty thought before all else of an answer.
        none = f"{self._empty if keeps else ''}{before}"
        if not self._thinks:
            return none
        # Where they go, an answer that is begun alone still has one: by these words Ollama knows thoughts.
        given = ".Thinking" if keeps else "and $last .Thinking"
        thought = f"{before}{opening}{{{{ .Thinking }}}}{closing}"
        other = f"{{{{ else }}}}{none}" if none else ""
        return f"{{{{ if {given} }}}}{thought}{other}{{{{ end }}}}"

    def _write_result(self) -> str:
        before, after = self._cut(self._rules.observation)
        end = f"{after}{self._write_switch()}"
        if not self._joins_results:
            return f"{before}{{{{ .Content }}}}{end}"
        # Answers of tools that were called together are one turn.
        return (
            '{{ $more := and (not $last) (eq (index (slice $.Messages $i) 1).Role "tool") }}'
            f"{{{{ if $joined }}}}{_NEXT_RESULT}{{{{ else }}}}{before}{{{{ end }}}}"
            f"{{{{ .Content }}}}{{{{ if not $more }}}}{end}{{{{ end }}}}{{{{ $joined = $more }}}}"
        )
