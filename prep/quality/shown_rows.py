"""Rows as a person reads them: who says what, which of it is trained on, and with a model the tokens themselves."""

import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from prep.errors import InputError, RecordError
from prep.registry.dataset import Dataset, align_row, read_dataset_rows
from prep.rows.conversation import Conversation, Message
from prep.rows.kinds import MEDIA
from prep.rows.thinking import CLOSE_TAG, OPEN_TAG, split_thought
from prep.tokens.encoder import RowEncoder
from prep.tokens.masks import NO_CUTOFF, TokenText, mask_row, spell_tokens
from prep.tokens.tokenizer import load_tokenizer
from prep.tokens.turns import TemplateOptions

_RANGE = re.compile(r"(\d+)(?:-(\d*))?")
_ANSWERING = (Message.ASSISTANT, Message.FUNCTION)
# A row's fields that are told beside what is said in it.
_ABOUT = ("origin", "kto_tag", *MEDIA)
_NAMES = {
    Message.USER: "user",
    Message.ASSISTANT: "answer",
    Message.FUNCTION: "call",
    Message.OBSERVATION: "tool result",
}


@dataclass(frozen=True)
class ShowOptions:
    """How rows are shown; without `model` no tokens are."""

    template: TemplateOptions = field(default_factory=TemplateOptions)
    model: Path | None = None
    cutoff_len: int = NO_CUTOFF


class Said(NamedTuple):
    """One part of a row: who or what says it, and whether it is trained on."""

    who: str
    text: str
    is_trained: bool


class TokenRow(NamedTuple):
    """The tokens of a row, or of one `answer` of two; `cut` is how many more the cutoff took."""

    answer: str
    tokens: list[TokenText]
    cut: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        tokens = [
            {"ids": list(token.ids), "text": token.text, "trained": token.is_trained} for token in self.tokens
        ]
        total = sum(len(token.ids) for token in self.tokens)
        return {"answer": self.answer, "total": total, "trained": self.trained, "cut": self.cut, "tokens": tokens}

    @property
    def trained(self) -> int:
        """How many tokens are trained on."""
        return sum(len(token.ids) for token in self.tokens if token.is_trained)


@dataclass(frozen=True)
class ShownRow:
    """One row: its number counted from 1 over all files, and its line.

    Shape: `about` are fields that say something of the row; `fault` is why LLaMA-Factory could not read it, and
    `parts` are then its fields as they stand.
    """

    number: int
    path: Path
    line: int
    about: dict[str, Any]
    parts: list[Said]
    sequences: list[TokenRow] = field(default_factory=list)
    fault: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "row": self.number,
            "file": str(self.path),
            "line": self.line,
            "about": self.about,
            "parts": [{"who": part.who, "text": part.text, "trained": part.is_trained} for part in self.parts],
            "sequences": [sequence.as_dict() for sequence in self.sequences],
            "fault": self.fault or None,
        }


class RowChoice(NamedTuple):
    """Which rows: ranges of numbers counted from 1, or so many by chance."""

    ranges: tuple[tuple[int, int], ...] = ()
    by_chance: int = 0
    seed: int = 42

    def holds(self, number: int) -> bool:
        """Whether a row is chosen by its number."""
        return any(first <= number <= last for first, last in self.ranges)

    @property
    def last(self) -> int:
        """The last number of all ranges."""
        return max((last for _, last in self.ranges), default=0)


def parse_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Return (first, last) of each part of a text such as `3`, `3-7`, `1,5,9-`.

    Raises: ValueError with the reason.
    """
    ranges = []
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None or len(part) > 40:
            raise ValueError(f"'{part[:40]}' is no row and no range of rows: 3, 3-7, 1,5,9 or 20- are")
        first = int(found[1])
        last = int(found[2]) if found[2] else (1 << 60 if found[2] == "" else first)
        if not 1 <= first <= last:
            raise ValueError(f"'{part}' is no range of rows: they count from 1, the lower number first")
        ranges.append((first, last))
    return tuple(ranges)


def show_rows(dataset: Dataset, choice: RowChoice, options: ShowOptions) -> Iterator[ShownRow]:
    """Yield the chosen rows in the file's order.

    Raises: InputError when a file cannot be read, or none of the rows is there.
    """
    encoder = RowEncoder(options.model, options.template) if options.model else None
    shown = 0
    for number, (path, line, row) in _choose_rows(dataset, choice):
        shown += 1
        yield ShownRow(number, path, line, **_show_row(row, dataset, options, encoder))
    if not shown:
        rows = sum(1 for _ in read_dataset_rows(dataset))
        raise InputError(f"there is no such row: {', '.join(map(str, dataset.paths))} holds {rows:,}")


def _choose_rows(dataset: Dataset, choice: RowChoice) -> Iterable[tuple[int, tuple[Path, int, dict[str, Any]]]]:
    rows = enumerate(read_dataset_rows(dataset), 1)
    if choice.by_chance:
        return _draw_rows(rows, choice)
    return _take_rows(rows, choice)


def _take_rows(rows: Iterator[tuple[int, Any]], choice: RowChoice) -> Iterator[tuple[int, Any]]:
    for number, row in rows:
        if choice.holds(number):
            yield number, row
        if number >= choice.last:
            return


def _draw_rows(rows: Iterator[tuple[int, Any]], choice: RowChoice) -> list[tuple[int, Any]]:
    """Return so many rows of all, each as likely as any other, in one pass over the file."""
    drawn: list[tuple[int, Any]] = []
    chance = random.Random(choice.seed)  # noqa: S311
    for number, row in rows:
        if len(drawn) < choice.by_chance:
            drawn.append((number, row))
        elif (place := chance.randrange(number)) < choice.by_chance:
            drawn[place] = (number, row)
    return sorted(drawn, key=lambda one: one[0])


def _show_row(
    row: dict[str, Any], dataset: Dataset, options: ShowOptions, encoder: RowEncoder | None
) -> dict[str, Any]:
    """Return all of a ShownRow but where it stands."""
    about = {name: row[name] for name in _ABOUT if name in row and row[name] not in (None, "", [])}
    try:
        conversation = align_row(row, dataset)
        parts = list(list_parts(conversation, options.template))
        sequences = [] if encoder is None else _list_tokens(conversation, encoder, options)
    except InputError as error:
        fields = [Said(name, _write_field(value), False) for name, value in row.items()]
        return {"about": {}, "parts": fields, "fault": str(error)}
    return {"about": about, "parts": parts, "sequences": sequences}


def _write_field(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _list_tokens(row: Conversation, encoder: RowEncoder, options: ShowOptions) -> list[TokenRow]:
    if options.model is None:
        return []
    tokenizer = load_tokenizer(options.model)
    masked = mask_row(encoder, row, options.cutoff_len)
    return [TokenRow(one.answer, spell_tokens(tokenizer, one), one.cut) for one in masked]


def list_parts(row: Conversation, options: TemplateOptions) -> Iterator[Said]:
    """Yield what is said in a row, in order, a thought apart from its answer.

    An answer is trained on unless later ones alone are: under mask_history, or in a stage that has one answer.
    """
    if row.system:
        yield Said("system", row.system, is_trained=False)
    if row.tools:
        yield Said("tools", row.tools, is_trained=False)
    if len(row.messages) == 1:
        yield Said("text", row.messages[0][1], is_trained=True)
        return
    earlier = row.messages[:-1]
    trains_all = not (options.mask_history or options.has_one_answer)
    for role, text in earlier:
        yield from _part_answer(role, text, "", is_trained=trains_all)
    for answer, one in row.answered.items():
        yield from _part_answer(*one.messages[-1], answer, is_trained=True)


def _part_answer(role: str, text: str, name: str, *, is_trained: bool) -> Iterator[Said]:
    who = f"{name} {_NAMES[role]}".strip()
    if role not in _ANSWERING:
        yield Said(who, text, is_trained=False)
        return
    thought = ""
    if OPEN_TAG in text and CLOSE_TAG in text:
        try:
            thought, text = split_thought(text)
        except RecordError:
            thought = ""
    if thought.strip():
        yield Said(f"{name} thought".strip(), thought, is_trained=is_trained)
    yield Said(who, text, is_trained=is_trained)
