"""Exact token ids and lengths of rows, as LLaMA-Factory's Qwen3 templates encode them; needs only tokenizers.

Source of the encoding: LLaMA-Factory 0.9.5, data/template.py (Template, ReasoningTemplate; qwen3 and
qwen3_nothink), data/formatter.py and data/tool_utils.py. A test holds it equal to LLaMA-Factory's own
processor, id by id.
"""

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from prep.errors import InputError, UserError
from prep.rows.conversation import Conversation, Message
from prep.rows.thinking import CLOSE_TAG, EMPTY_THOUGHT, OPEN_TAG, THOUGHT_END, THOUGHT_START
from prep.storage.fingerprints import hash_file
from prep.tokens.piece_counter import PieceCounter, TextLength

TEMPLATES = ("qwen3", "qwen3_nothink")
_BATCH_ROWS = 512
_ENDS_OF_TURN = ("<|im_start|>", "<|im_end|>")
# Qwen3's own announcement of tools, which its models were trained on byte for byte.
_TOOL_PROMPT = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>{tools}\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{{"name": <function-name>, '
    '"arguments": <args-json-object>}}\n</tool_call>'
)


@dataclass(frozen=True)
class TemplateOptions:
    """LLaMA-Factory's own keys that decide which tokens a row becomes."""

    template: str = "qwen3"
    enable_thinking: bool | None = True
    mask_history: bool = False

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise UserError(
                f"the tokens of template '{self.template}' are not known here; known are {', '.join(TEMPLATES)}"
            )

    @property
    def reasons(self) -> bool:
        """Whether the template adds and removes thoughts (LLaMA-Factory's ReasoningTemplate)."""
        return self.template == "qwen3"


class PlannedTurn(NamedTuple):
    """One turn's texts before they are tokens: each is encoded by itself, as LLaMA-Factory does it."""

    source: tuple[str, ...]
    target: str
    source_ends_with_empty_thought: bool
    target_begins_with_empty_thought: bool


class EncodedTurn(NamedTuple):
    """One turn's ids: the prompt's, and the answer's with its end-of-turn token and line end."""

    source: list[int]
    target: list[int]


class TurnLengths(NamedTuple):
    """One turn in tokens; `close` is the place of `</think>` in the target, -1 when there is none."""

    source: int
    target: int
    close: int


class LengthTable:
    """The turn lengths of many rows in a few bytes each: 4 a row and 12 a turn."""

    def __init__(self) -> None:
        self._turns = array("I")
        self._sources = array("I")
        self._targets = array("I")
        self._closes = array("i")

    def append(self, turns: Iterable[TurnLengths]) -> None:
        """Add a row."""
        before = len(self._sources)
        for source, target, close in turns:
            self._sources.append(source)
            self._targets.append(target)
            self._closes.append(close)
        self._turns.append(len(self._sources) - before)

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[list[TurnLengths]]:
        lengths = zip(self._sources, self._targets, self._closes, strict=True)
        for count in self._turns:
            yield [TurnLengths(*next(lengths)) for _ in range(count)]

    def total_lengths(self) -> list[int]:
        """Return each row's tokens, without a cutoff."""
        pairs = zip(self._sources, self._targets, strict=True)
        return [sum(source + target for source, target in islice(pairs, count)) for count in self._turns]


class RowEncoder:
    """Encodes conversations with one tokenizer under one template."""

    def __init__(self, tokenizer_path: Path, options: TemplateOptions | None = None) -> None:
        self.options = options or TemplateOptions()
        self._tokenizer = load_tokenizer(tokenizer_path)
        for token in _ENDS_OF_TURN:
            if self._tokenizer.token_to_id(token) is None:
                raise InputError(
                    f"{find_tokenizer_file(tokenizer_path)} has no token {token}: it is not a Qwen3 tokenizer",
                    hint="--model with the folder of a Qwen3 model",
                )
        self._empty_thought: list[int] = self._tokenizer.encode(EMPTY_THOUGHT, add_special_tokens=False).ids
        self._counter = PieceCounter(self._tokenizer, CLOSE_TAG)
        self._close_of_empty_thought = self._counter.measure([EMPTY_THOUGHT])[EMPTY_THOUGHT].mark

    def encode_turns(self, conversation: Conversation) -> list[EncodedTurn]:
        """Return the ids of each turn, before any truncation."""
        turns = []
        for plan in plan_turns(conversation, self.options):
            source = [token for text in plan.source for token in self._encode(text)]
            target = self._encode(plan.target)
            turns.append(
                EncodedTurn(
                    source + self._empty_thought if plan.source_ends_with_empty_thought else source,
                    self._empty_thought + target if plan.target_begins_with_empty_thought else target,
                )
            )
        return turns

    def measure_rows(self, conversations: Iterable[Conversation]) -> Iterator[list[TurnLengths]]:
        """Yield the turn lengths of each row, in order; a text that repeats within a batch is encoded once."""
        rows = iter(conversations)
        while batch := [plan_turns(conversation, self.options) for conversation in islice(rows, _BATCH_ROWS)]:
            texts = dict.fromkeys(text for plans in batch for plan in plans for text in (*plan.source, plan.target))
            measured = self._counter.measure(texts)
            for plans in batch:
                yield [self._measure_turn(plan, measured) for plan in plans]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _measure_turn(self, plan: PlannedTurn, measured: dict[str, TextLength]) -> TurnLengths:
        source, (target, close) = sum(measured[text].tokens for text in plan.source), measured[plan.target]
        if plan.source_ends_with_empty_thought:
            source += len(self._empty_thought)
        if plan.target_begins_with_empty_thought:
            target += len(self._empty_thought)
            close = self._close_of_empty_thought
        return TurnLengths(source, target, close)


def make_measurer(
    tokenizer_path: Path, options: TemplateOptions
) -> Callable[[Sequence[Conversation]], list[list[TurnLengths]]]:
    """Return what measures a batch of rows, for a process of its own."""
    encoder = RowEncoder(tokenizer_path, options)
    return lambda batch: list(encoder.measure_rows(batch))


def plan_turns(conversation: Conversation, options: TemplateOptions) -> list[PlannedTurn]:
    """Return the texts that LLaMA-Factory's template makes of a conversation, turn by turn."""
    messages = list(conversation.messages)
    last = len(messages) - 1
    if options.reasons:
        for place in range(1, len(messages), 2):
            earlier = options.mask_history and place != last
            if options.enable_thinking is False or earlier:
                role, content = messages[place]
                messages[place] = role, remove_thought(content)
    texts = [_write_message(role, content, place // 2) for place, (role, content) in enumerate(messages)]
    system = _write_system(conversation)
    turns = []
    for place in range(0, len(messages), 2):
        answer = messages[place + 1][1]
        thinks = OPEN_TAG in answer or CLOSE_TAG in answer
        adds = options.reasons and not thinks and (place + 1 == last or not options.mask_history)
        source = (system, texts[place]) if system and place == 0 else (texts[place],)
        turns.append(
            PlannedTurn(
                source,
                texts[place + 1],
                adds and not options.enable_thinking,
                adds and bool(options.enable_thinking),
            )
        )
    return turns


def remove_thought(text: str) -> str:
    """Return an answer without its thought, as LLaMA-Factory removes it."""
    kept, place = [], 0
    while (block := _find_block(text, THOUGHT_START, THOUGHT_END, place)) is not None:
        kept.append(text[place : block.start])
        place = block.stop
    return "".join([*kept, text[place:]]).lstrip("\n")


def count_tokens(texts: Iterable[str], tokenizer_path: Path) -> Iterator[int]:
    """Yield the number of tokens of each text by itself, without a template."""
    counter = PieceCounter(load_tokenizer(tokenizer_path), CLOSE_TAG)
    stream = iter(texts)
    while batch := list(islice(stream, _BATCH_ROWS)):
        measured = counter.measure(dict.fromkeys(batch))
        yield from (measured[text].tokens for text in batch)


def load_tokenizer(path: Path) -> Any:
    """Load a `tokenizers.Tokenizer` from a model's folder or its tokenizer.json.

    Raises: InputError when there is none or it is broken; UserError when tokenizers is not installed.
    """
    file = find_tokenizer_file(path)
    return _parse_tokenizer(file, hash_file(file))


@lru_cache(maxsize=1)
def _parse_tokenizer(file: Path, sha256: str) -> Any:
    """Parse a tokenizer.json once for all datasets, as it takes a second; `sha256` tells one that was replaced."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UserError(
            "exact token counts need the package tokenizers", hint="pip install 'tokenizers>=0.20'"
        ) from error
    try:
        # Read here, because tokenizers raises a bare Exception for everything.
        tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:
        raise InputError(f"{file} is not a tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def find_tokenizer_file(path: Path) -> Path:
    """Return the tokenizer.json of a model's folder, or the file itself; raises InputError when it is missing."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file} does not exist", hint="--model takes a model's folder, or its tokenizer.json")
    return file


def _write_system(conversation: Conversation) -> str:
    tools = _write_tools(conversation.tools) if conversation.tools else ""
    if not conversation.system and not conversation.tools:
        return ""
    return f"<|im_start|>system\n{conversation.system}{tools}<|im_end|>\n"


def _write_message(role: str, content: str, turn: int) -> str:
    if role == Message.USER:
        # LLaMA-Factory fills the slot {{idx}} after the content, and so once in the content too.
        slot = f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
        return slot.replace("{{idx}}", str(turn), 1)
    if role == Message.OBSERVATION:
        return f"<|im_start|>user\n<tool_response>\n{content}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    return f"{_write_calls(content) if role == Message.FUNCTION else content}<|im_end|>\n"


def _write_tools(tools_json: str) -> str:
    tools = _load_json(tools_json, "tools")
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise InputError("its tools text is not a JSON list of objects")
    if not tools:
        return ""
    wrapped = [tool if tool.get("type") == "function" else {"type": "function", "function": tool} for tool in tools]
    return _TOOL_PROMPT.format(tools="".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in wrapped))


def _write_calls(content: str) -> str:
    before, calls_json = "", content
    if (tagged := _find_block(content, "<tool_call>", "</tool_call>")) is not None:
        before = content.replace(content[tagged], "")
        calls_json = content[tagged].removeprefix("<tool_call>").removesuffix("</tool_call>")
    elif (thought := _find_block(content, THOUGHT_START, THOUGHT_END)) is not None:
        before = content[thought]
        calls_json = content.replace(before, "")
    calls = _load_json(calls_json, "function_call")
    texts = []
    try:
        for call in calls if isinstance(calls, list) else [calls]:
            arguments = json.dumps({"name": call["name"], "arguments": call["arguments"]}, ensure_ascii=False)
            texts.append(f"<tool_call>\n{arguments}\n</tool_call>")
    except (KeyError, TypeError):
        raise InputError("a function_call has no 'name' and 'arguments'") from None
    return before + "\n".join(texts)


def _find_block(text: str, opening: str, closing: str, place: int = 0) -> slice | None:
    """Return where the next block from `opening` to the nearest `closing` stands; in linear time, unlike `.*?`."""
    start = text.find(opening, place)
    end = text.find(closing, start + len(opening)) if start >= 0 else -1
    return slice(start, end + len(closing)) if end >= 0 else None


def _load_json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InputError(f"its {what} text is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"its {what} text is not JSON: {error}") from error
