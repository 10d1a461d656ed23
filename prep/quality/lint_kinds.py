"""What lint asks of rows beside questions and answers: two answers, labels, texts, and the files of media."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prep.choices import ThinkPolicy
from prep.errors import RecordError
from prep.formats.chats.tool_calls import check_calls, parse_calls, read_tools
from prep.quality.findings import LintRule
from prep.registry.dataset import Dataset
from prep.rows.conversation import Conversation, Message
from prep.rows.kinds import MEDIA, PLACEHOLDERS, Kind, get_form
from prep.rows.records import has_thought
from prep.rows.thinking import (
    CLOSE_TAG,
    OPEN_TAG,
    THOUGHT_END,
    THOUGHT_START,
    find_chat_markup,
    may_hold_markup,
    split_thought,
)
from prep.storage.paths import is_file

Fault = tuple[LintRule, str]
_SWITCH = re.compile(r"(?<!\S)/(think|no_think)(?!\S)")
# Columns that a row may lack when no entry names them: LLaMA-Factory then reads them as absent.
_NEEDED = {
    Kind.SFT: ("prompt", "response"),
    Kind.KTO: ("prompt", "response", "kto_tag"),
    Kind.PREFERENCE: ("prompt", "chosen", "rejected"),
    Kind.TEXT: ("prompt",),
}
_READ_BY_ALL = ("system", "tools", *MEDIA)
_READ = {
    "alpaca": ("prompt", "query", "response", "history", *_READ_BY_ALL),
    "sharegpt": ("messages", *_READ_BY_ALL),
}
_SHOWN_CHARACTERS = 80


def list_needed_columns(dataset: Dataset) -> list[str]:
    """Return LLaMA-Factory's names of the columns without which a row of a bare file is none."""
    if dataset.formatting == "alpaca":
        return list(_NEEDED[dataset.kind])
    return ["messages", *(name for name in _NEEDED[dataset.kind] if name not in ("prompt", "response"))]


def list_read_columns(dataset: Dataset) -> list[str]:
    """Return the names that a registered dataset's entry maps, and that LLaMA-Factory looks up in every row."""
    more = {Kind.PREFERENCE: ("chosen", "rejected"), Kind.KTO: ("kto_tag",)}.get(dataset.kind, ())
    read = (*_READ["alpaca" if dataset.formatting == "alpaca" else "sharegpt"], *more)
    return [name for name in dataset.columns if name in read]


def find_missing_columns(row: dict[str, Any], dataset: Dataset) -> list[str]:
    """Return the file's names of columns that a row must have and has not."""
    required = list_needed_columns(dataset)
    if dataset.formatting == "alpaca" and dataset.policy:
        # Our own file, by its manifest: the record schema asks for every column.
        required = list(get_form(dataset.kind, "alpaca").columns)
    elif dataset.name:
        # LLaMA-Factory reads each column that the entry names, and fails with a KeyError where it is not.
        required = list_read_columns(dataset)
    return [dataset.columns.get(name, name) for name in required if dataset.columns.get(name, name) not in row]


def answer_column(dataset: Dataset) -> str:
    """Return LLaMA-Factory's name of the column with the answer that is trained, or preferred."""
    return "chosen" if dataset.kind is Kind.PREFERENCE else "response"


def list_text_faults(row: dict[str, Any], dataset: Dataset) -> Iterator[Fault]:
    """Yield what is wrong with a row for pre-training."""
    column = dataset.columns.get("prompt", "text")
    text = row.get(column)
    if not isinstance(text, str):
        seen = "null" if text is None else type(text).__name__
        yield LintRule.TYPE, f"column '{column}' is {seen}, not a string"
        return
    if not text.strip():
        yield LintRule.EMPTY, "the text is empty"
    if "<|" in text and (found := find_chat_markup(text)):
        yield LintRule.MARKUP, f"chat markup {found} stands inside the text"


def list_pair_faults(row: dict[str, Any], dataset: Dataset) -> Iterator[Fault]:
    """Yield what is wrong with the two answers of a preference row."""
    chosen, rejected = (read_answer(row, dataset, name) for name in ("chosen", "rejected"))
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        column = dataset.columns.get(name, name)
        if answer is None:
            value = row.get(column)
            seen = "null" if value is None else type(value).__name__
            yield LintRule.TYPE, f"column '{column}' is {seen}: LLaMA-Factory drops the row"
        elif "<|" in answer and (found := find_chat_markup(answer)):
            yield LintRule.MARKUP, f"chat markup {found} stands inside the {name} answer"
    if chosen is not None and chosen == rejected and chosen.strip():
        yield LintRule.ANSWERS, "the chosen and the rejected answer are the same"


def list_conversation_faults(row: dict[str, Any], dataset: Dataset, conversation: Conversation) -> Iterator[Fault]:
    """Yield the columns beside a conversation that are null, and the first call that does not fit."""
    for name in ("system", "tools"):
        if (column := dataset.columns.get(name)) in row and row[column] is None:
            yield LintRule.TYPE, f"column '{column}' is null"
    yield from _list_call_faults(conversation)


def _list_call_faults(conversation: Conversation) -> Iterator[Fault]:
    """Yield the first of a row's tool calls that its tools do not allow, or that nobody answers."""
    messages, tools = conversation.messages, conversation.tools
    for place, (role, content) in enumerate(messages, 1):
        if role != Message.FUNCTION:
            continue
        if place < len(messages) and messages[place][0] != Message.OBSERVATION:
            yield LintRule.CALL, f"the call in turn {place} is not answered"
            return
        try:
            declared = read_tools({"tools": tools})
            _, calls = parse_calls(split_thought(content)[1], f"turn {place}")
            check_calls(calls, declared, f"turn {place}")
        except RecordError as error:
            yield LintRule.CALL, str(error)
            return


def read_answer(row: dict[str, Any], dataset: Dataset, name: str) -> str | None:
    """Return one answer of a preference row, None when it is of the wrong type."""
    value = row.get(dataset.columns.get(name, name))
    if dataset.formatting != "alpaca":
        value = value.get(dataset.tags.get("content_tag", "value")) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def has_thought_on_one_side(row: dict[str, Any], dataset: Dataset) -> bool:
    """Whether one answer of a pair has a thought: under `masked` the other then has an empty block of its own."""
    if dataset.kind is not Kind.PREFERENCE or dataset.policy is not ThinkPolicy.MASKED:
        return False
    answers = [read_answer(row, dataset, name) or "" for name in ("chosen", "rejected")]
    return has_thought(answers[0]) != has_thought(answers[1])


def list_label_faults(row: dict[str, Any], dataset: Dataset) -> Iterator[Fault]:
    """Yield what is wrong with a KTO row's label."""
    column = dataset.columns.get("kto_tag", "kto_tag")
    label = row.get(column)
    if type(label) is not bool:
        seen = "null" if label is None else type(label).__name__
        yield LintRule.LABEL, f"column '{column}' is {seen}, not true or false: LLaMA-Factory drops the row"


def describe_broken_line(line: bytes, error: Exception) -> Fault:
    """Say why a line is not JSON: it is not UTF-8, or what the reader said."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as found:
        byte = line[found.start]
        return LintRule.ENCODING, f"byte {found.start + 1} of the line, 0x{byte:02x}, is not UTF-8"
    return LintRule.JSON, f"not JSON: {error}"


def list_media_faults(row: dict[str, Any], dataset: Dataset, folder: Path) -> Iterator[Fault]:
    """Yield what is wrong with a row's images, videos and audio; their paths start from the dataset's folder."""
    columns = {name: dataset.columns[name] for name in MEDIA if dataset.columns.get(name) in row}
    if not columns:
        return
    texts = list(_list_texts(row, dataset))
    for name, column in columns.items():
        value = row[column]
        files = value if isinstance(value, list) else [] if value is None else [value]
        # Frames of a video that was cut up: a list of paths is one video.
        paths = [path for file in files for path in (file if isinstance(file, list) else [file])]
        if not all(isinstance(path, str) for path in paths):
            yield LintRule.TYPE, f"column '{column}' is not a list of paths"
            continue
        found = sum(text.count(PLACEHOLDERS[name]) for text in texts)
        if found != len(files):
            yield LintRule.MEDIA, f"{len(files)} {name} and {found} {PLACEHOLDERS[name]} in the texts"
        for path in paths:
            if not is_file(folder / path) and not is_file(Path(path)):
                yield LintRule.MEDIA, f"{path[:_SHOWN_CHARACTERS]} does not exist in {folder.as_posix()}"


def _list_texts(row: dict[str, Any], dataset: Dataset) -> Iterator[str]:
    """Yield the texts of a row in which LLaMA-Factory counts placeholders, with the better of two answers."""
    columns = dataset.columns
    if dataset.formatting == "alpaca":
        values = [row.get(columns.get(name, "")) for name in ("prompt", "query", answer_column(dataset))]
        history = row.get(columns.get("history", ""))
        pairs = history if isinstance(history, list) else []
        values += [text for pair in pairs if isinstance(pair, list) for text in pair]
    else:
        turns = row.get(columns.get("messages", ""))
        content = dataset.tags.get("content_tag", "value")
        values = [turn.get(content) for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
        values.append(read_answer(row, dataset, "chosen"))
    yield from (value for value in values if isinstance(value, str))


def find_switch_fault(question: str, answer: str) -> str | None:
    """Say how an answer goes against Qwen3's soft switch in its question; None where it does not, or there is none.

    Source: Qwen3's model card: the last `/think` or `/no_think` of the user's turn decides.
    """
    if "think" not in question:
        return None
    switches = _SWITCH.findall(question)
    if not switches or (switches[-1] == "think") == has_thought(answer):
        return None
    held = "holds no thought" if switches[-1] == "think" else "holds a thought"
    return f"the question says /{switches[-1]}, and the answer {held}"


def is_plainly_sound(output: str) -> bool:
    """Whether an output is the exact block and an answer: the check that nearly every row passes, made cheap."""
    if not output.startswith(THOUGHT_START) or output.count(OPEN_TAG) != 1 or output.count(CLOSE_TAG) != 1:
        return False
    start, end = len(THOUGHT_START), output.find(THOUGHT_END)
    answer = end + len(THOUGHT_END)
    if end < start or output[answer : answer + 1].isspace():
        return False
    if end == start:
        return not may_hold_markup(output[answer:])
    return not (output[start].isspace() or output[end - 1].isspace())


class Repeats:
    """Where something was seen first, and how often."""

    def __init__(self) -> None:
        self.first = self.count = 0

    def add(self, line: int) -> None:
        """Take one more."""
        self.first = self.first or line
        self.count += 1

    def extend(self, line: int, told: bytes, code: bytes) -> None:
        """Take those of lines from one on that a code is told of."""
        if count := told.count(code):
            self.first = self.first or line + told.find(code)
            self.count += count


class LostMedia:
    """Questions that show files for which the dataset has no column; answers may write of such tags."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._seen = {name: Repeats() for name in MEDIA}

    def look(self, number: int, row: dict[str, Any]) -> None:
        """Take a row by its number; of one with the column itself list_media_faults tells."""
        texts: list[str] | None = None
        for name, seen in self._seen.items():
            if self._dataset.columns.get(name) in row:
                continue
            texts = texts if texts is not None else list(_list_questions(row, self._dataset))
            if any(PLACEHOLDERS[name] in text for text in texts):
                seen.add(number)

    def list_faults(self) -> Iterator[tuple[int, Fault]]:
        """Yield a line and a fault for each kind of files that is lost."""
        for name, seen in self._seen.items():
            if seen.count:
                message = f"{PLACEHOLDERS[name]} stands in a question, in {seen.count:,} of the rows, and no "
                yield seen.first, (LintRule.MEDIA, f"{message}column holds {name}")


def _list_questions(row: dict[str, Any], dataset: Dataset) -> Iterator[str]:
    if dataset.formatting == "alpaca":
        values = [row.get(dataset.columns.get(name, "")) for name in ("prompt", "query")]
    else:
        turns = row.get(dataset.columns.get("messages", ""))
        role, content = dataset.tags.get("role_tag", "from"), dataset.tags.get("content_tag", "value")
        listed = [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
        values = [turn.get(content) for turn in listed if turn.get(role) == dataset.tags.get("user_tag", "human")]
    yield from (value for value in values if isinstance(value, str))
