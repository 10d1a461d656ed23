"""Exact token ids and lengths of rows, as LLaMA-Factory's templates encode them; needs only tokenizers.

Tests hold the ids equal to LLaMA-Factory's own processor, id by id.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prep.errors import InputError
from prep.rows.conversation import Conversation
from prep.rows.thinking import CLOSE_TAG
from prep.tokens.part_encoder import EncodedPart, PartEncoder, TextLength, pack_ids
from prep.tokens.templates import Part, Slots, Special, Token
from prep.tokens.tokenizer import find_special_token, find_tokenizer_file, load_tokenizer
from prep.tokens.turns import PlannedTurn, TemplateOptions, plan_turns

if TYPE_CHECKING:
    from prep.tokens.part_encoder import Ids, Places

_BATCH_ROWS = 512


class EncodedTurn(NamedTuple):
    """One turn's ids: the prompt's, and the answer's with its end-of-turn token and line end."""

    source: list[int]
    target: list[int]


class EncodedRows(NamedTuple):
    """The ids of many rows, one after the other, int32.

    Shape: `ends` are where each turn's prompt and its answer end, in turn, int64; `turns` are each row's turns.
    """

    ids: "Ids"
    ends: "Places"
    turns: list[int]


class TurnLengths(NamedTuple):
    """One turn in tokens; `close` is the place of `</think>` in the target, -1 when there is none.

    `tail`: the tokens after the answer's text, its end-of-turn token first; `after`: those after that token.
    """

    source: int
    target: int
    close: int
    tail: int = 2
    after: int = 1


class LengthTable:
    """The turn lengths of many rows in a few bytes each: 4 a row and 14 a turn.

    `row_tokens` stand after each row's last turn.
    """

    def __init__(self, row_tokens: int = 0) -> None:
        self._row_tokens = row_tokens
        self._turns = array("I")
        self._sources = array("I")
        self._targets = array("I")
        self._closes = array("i")
        self._tails = array("B")
        self._afters = array("B")

    def append(self, turns: Iterable[TurnLengths]) -> None:
        """Add a row."""
        before = len(self._sources)
        for source, target, close, tail, after in turns:
            self._sources.append(source)
            self._targets.append(target)
            self._closes.append(close)
            self._tails.append(tail)
            self._afters.append(after)
        self._turns.append(len(self._sources) - before)

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[list[TurnLengths]]:
        columns = (self._sources, self._targets, self._closes, self._tails, self._afters)
        lengths = zip(*columns, strict=True)
        for count in self._turns:
            yield [TurnLengths(*next(lengths)) for _ in range(count)]

    def total_lengths(self) -> list[int]:
        """Return each row's tokens, without a cutoff."""
        pairs = zip(self._sources, self._targets, strict=True)
        extra = self._row_tokens
        return [extra + sum(source + target for source, target in islice(pairs, count)) for count in self._turns]


class RowEncoder:
    """Encodes conversations with one tokenizer under one template."""

    def __init__(self, tokenizer_path: Path, options: TemplateOptions | None = None) -> None:
        self.options = options or TemplateOptions()
        self._template = self.options.rules
        self._path = tokenizer_path
        self._tokenizer = load_tokenizer(tokenizer_path)
        for token in self._template.marks:
            if self._tokenizer.token_to_id(token) is None:
                raise InputError(
                    f"{find_tokenizer_file(tokenizer_path)} has no token {token}: it is no tokenizer of template "
                    f"{self._template.name}",
                    hint=f"--model with the folder of a model of template {self._template.name}",
                )
        self._ids: dict[Part, list[int]] = {}
        self._parts = PartEncoder(self._tokenizer, self._template.thought_marks[1])
        empty = self._template.empty_thought
        self._empty_thought = self._encode(empty)
        self._packed_empty_thought = pack_ids(self._empty_thought)
        self._close_of_empty_thought = self._parts.measure([empty])[empty].mark
        self._tails = {is_call: self._measure_tail(is_call=is_call) for is_call in (False, True)}

    @property
    def end_of_row(self) -> int | None:
        """The id that stands after a row's last turn, whatever the cutoff; None where the template has none."""
        return self._encode(Special.EOS)[0] if self._template.efficient_eos else None

    @property
    def pad_token(self) -> int:
        """The id that fills a packed sequence: the end of a text where the tokenizer has none for it."""
        text = find_special_token(self._path, "pad_token")
        found: int | None = None if text is None else self._tokenizer.token_to_id(text)
        return self._encode(Special.EOS)[0] if found is None else found

    def encode_turns(self, conversation: Conversation) -> list[EncodedTurn]:
        """Return the ids of each turn, before any truncation."""
        turns = []
        for plan in plan_turns(conversation, self.options):
            source = [token for part in plan.source for token in self._encode(part)]
            target = [token for part in plan.target for token in self._encode(part)]
            turns.append(
                EncodedTurn(
                    source + self._empty_thought if plan.source_ends_with_empty_thought else source,
                    self._empty_thought + target if plan.target_begins_with_empty_thought else target,
                )
            )
        return turns

    def encode_rows(self, conversations: Iterable[Conversation]) -> EncodedRows:
        """Return the ids of rows, as `encode_turns` gives them, before any truncation."""
        parts: list[EncodedPart] = []
        counts: list[int] = []
        turns = []
        for conversation in conversations:
            plans = plan_turns(conversation, self.options)
            turns.append(len(plans))
            for plan in plans:
                parts += [part if isinstance(part, str) else self._packed(part) for part in plan.source]
                if plan.source_ends_with_empty_thought:
                    parts.append(self._packed_empty_thought)
                counts.append(len(parts))
                if plan.target_begins_with_empty_thought:
                    parts.append(self._packed_empty_thought)
                parts += [part if isinstance(part, str) else self._packed(part) for part in plan.target]
                counts.append(len(parts))
        ids, ends = self._parts.encode(parts)
        return EncodedRows(ids, find_ends(ends, counts), turns)

    def _packed(self, part: Special | Token) -> bytes:
        return pack_ids(self._encode(part))

    def measure_rows(self, conversations: Iterable[Conversation]) -> Iterator[list[TurnLengths]]:
        """Yield the turn lengths of each row, in order; a text that repeats within a batch is encoded once.

        Of two answers the longer one counts: by it LLaMA-Factory cuts both.
        """
        rows = iter(conversations)
        while batch := [self._plan_answers(conversation) for conversation in islice(rows, _BATCH_ROWS)]:
            parts = set[Part]()
            for answers in batch:
                for plans in answers:
                    for plan in plans:
                        parts.update(plan.source, plan.target)
            measured = self._measure_parts(parts)
            for answers in batch:
                lengths = [[self._measure_turn(plan, measured) for plan in plans] for plans in answers]
                longest = max(lengths, key=lambda turns: turns[-1].target)
                # One prompt for both, that of the preferred answer.
                yield [*lengths[0][:-1], longest[-1]._replace(source=lengths[0][-1].source)]

    def _plan_answers(self, conversation: Conversation) -> list[list[PlannedTurn]]:
        return [plan_turns(answered, self.options) for answered in conversation.answered.values()]

    def _measure_parts(self, parts: Iterable[Part]) -> dict[Part, TextLength]:
        measured: dict[Part, TextLength] = {}
        measured.update(self._parts.measure([part for part in parts if isinstance(part, str)]))
        measured.update({part: TextLength(len(self._encode(part)), -1) for part in parts if part not in measured})
        return measured

    def _encode(self, part: Part) -> list[int]:
        if isinstance(part, str):
            ids: list[int] = self._tokenizer.encode(part, add_special_tokens=False).ids
            return ids
        if part not in self._ids:
            self._ids[part] = self._find_ids(part)
        return self._ids[part]

    def _find_ids(self, part: Special | Token) -> list[int]:
        """Return the id of a token that stands in a slot: none for a beginning that the tokenizer does not have."""
        if isinstance(part, Token):
            text: str | None = part.text
        else:
            text = self._find_special(part)
        found = None if text is None else self._tokenizer.token_to_id(text)
        if found is None and part is not Special.BOS:
            raise InputError(
                f"{self._path} has no {text or 'eos_token'}, which template {self._template.name} writes"
            )
        return [] if found is None else [found]

    def _find_special(self, part: Special) -> str | None:
        if part is Special.EOS and self._template.replace_eos:
            return self._template.stop_words[0]
        return find_special_token(self._path, part.value)

    def _measure_tail(self, *, is_call: bool) -> tuple[int, int]:
        """Return how many tokens stand after an answer's text, and how many of them after its end-of-turn token."""
        count = sum(len(self._encode(part)) for part in self._template.tail(is_call=is_call))
        return count, max(count - 1, 0)

    def _measure_turn(self, plan: PlannedTurn, measured: dict[Part, TextLength]) -> TurnLengths:
        source, _ = _add_up(plan.source, measured)
        target, close = _add_up(plan.target, measured)
        if plan.source_ends_with_empty_thought:
            source += len(self._empty_thought)
        if plan.target_begins_with_empty_thought:
            target += len(self._empty_thought)
            close = self._close_of_empty_thought
        return TurnLengths(source, target, close, *self._tails[plan.is_call])


def make_measurer(
    tokenizer_path: Path, options: TemplateOptions
) -> Callable[[Sequence[Conversation]], list[list[TurnLengths]]]:
    """Return what measures a batch of rows, for a process of its own."""
    encoder = RowEncoder(tokenizer_path, options)
    return lambda batch: list(encoder.measure_rows(batch))


def count_tokens(texts: Iterable[str], tokenizer_path: Path) -> Iterator[int]:
    """Yield the number of tokens of each text by itself, without a template."""
    counter = PartEncoder(load_tokenizer(tokenizer_path), CLOSE_TAG)
    stream = iter(texts)
    while batch := list(islice(stream, _BATCH_ROWS)):
        measured = counter.measure(dict.fromkeys(batch))
        yield from (measured[text].tokens for text in batch)


def find_ends(ends: "Places", counts: list[int]) -> "Places":
    """Return where groups of parts end; `counts` are the parts up to the end of each group."""
    import numpy as np

    # Of no parts at all the end is the beginning.
    return np.concatenate((np.zeros(1, np.int64), ends))[counts]


def _add_up(parts: Slots, measured: dict[Part, TextLength]) -> TextLength:
    """Return the length of parts that are encoded one by one."""
    tokens, mark = 0, -1
    for part in parts:
        length = measured[part]
        if mark < 0 <= length.mark:
            mark = tokens + length.mark
        tokens += length.tokens
    return TextLength(tokens, mark)
