"""The unit of conversion: a pure, order-stable function from a piece of a source to bytes and counts.

One process, several, or a cluster run the same function and get the same bytes.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prep.convert.where import Condition, all_hold
from prep.errors import InputError, RecordError
from prep.formats import SOURCES, map_columns
from prep.formats.reading import Reading
from prep.rows.readers import BadRow, SourceRow
from prep.rows.records import (
    AlpacaRecord,
    Exchange,
    ToolExchange,
    ToolRecord,
    has_thought,
    write_record,
    write_tool_record,
)
from prep.rows.thinking import ThinkPolicy

if TYPE_CHECKING:
    from prep.convert.length_limit import LengthLimit, LengthMeter

_REASON_CHARACTERS = 1_000
# More than any table has: keys that are data would fill the memory.
MAX_COLUMNS, MANY_COLUMNS = 10_000, "its rows have more than 10,000 different columns, as if the keys were data"
_MAX_FORMS = 100
COUNTED = ("rows", "records", "rejects", "reasoning", "chat", "with_system", "with_history")


@dataclass(frozen=True)
class ConvertPlan:
    """All that a shard's bytes depend on beside its rows.

    `column_map` is the user's {our name: the file's}; `prefix` is the source's name in origins;
    `system` is for rows that have none.
    """

    source: str
    column_map: dict[str, str]
    policy: ThinkPolicy
    turns: str
    prefix: str
    system: str = ""
    where: tuple[Condition, ...] = ()
    length_limit: "LengthLimit | None" = None
    fixes: tuple[str, ...] = ()
    roles: tuple[tuple[str, str], ...] = ()
    may_lack_open: bool = False

    @property
    def reading(self) -> Reading:
        """How the formats read a row."""
        return Reading(self.turns, frozenset(self.fixes), dict(self.roles), self.may_lack_open)

    def make_meter(self) -> "LengthMeter | None":
        """Return what measures rows for the limit, None without one: the tokenizer takes a second to load."""
        if self.length_limit is None:
            return None
        from prep.convert.length_limit import LengthMeter

        return LengthMeter(self.length_limit, self.policy)


@dataclass
class ShardResult:
    """What a shard became: lines of JSONL, ready to be written.

    Shape: `rejects`, `tool_records` and `too_long` (records that were dropped for their length) are lines too;
    `columns` are all the source's columns that were seen.
    """

    records: bytes = b""
    tool_records: bytes = b""
    rejects: bytes = b""
    too_long: bytes = b""
    counts: Counter[str] = field(default_factory=Counter)
    columns: set[str] = field(default_factory=set)
    first_reject: str = ""


class ShardBuilder:
    """Collects the rows of one shard; rows come in the order in which they stand in the file."""

    def __init__(self, plan: ConvertPlan, path: str, label: str) -> None:
        import orjson

        self.result = ShardResult()
        # Lines, whole or in pieces.
        self.records: list[bytes | memoryview] = []
        self._dumps = orjson.dumps
        self._end_line = orjson.OPT_APPEND_NEWLINE
        self._plan = plan
        # A file's name need not be text; what is written must be.
        self._path = _as_text(path)
        self._origin = name_origin(plan, label)
        self._source = SOURCES[plan.source]
        self._reading = plan.reading
        # {a row's keys: {our name: its name}}; None where they are the same.
        self._mappings: dict[tuple[str, ...], dict[str, str] | None] = {}
        self._tool_records: list[bytes] = []
        self._rejects: list[bytes] = []
        self._too_long: list[bytes] = []
        self._meter = plan.make_meter()
        self._rows = self._records = self._reasoning = 0
        self._with_system = self._with_history = self._tools_with_history = 0

    def add(self, row: SourceRow | BadRow) -> None:
        """Convert one row, or count it as filtered or rejected."""
        self._rows += 1
        try:
            if isinstance(row, BadRow):
                raise RecordError(row.reason)
            if self._plan.where and not all_hold(self._plan.where, row.values):
                self.result.counts["filtered"] += 1
                return
            self._convert(row)
        except RecordError as error:
            self._reject(row.number, str(error))

    def count_plain(
        self, *, rows: int, records: int, with_system: int, with_history: int, reasoning: int = 0
    ) -> None:
        """Count rows whose lines were put into `records` without `add`."""
        self._rows += rows
        self._records += records
        self._reasoning += reasoning
        self._with_system += with_system
        self._with_history += with_history

    def note_columns(self, keys: Iterable[str]) -> None:
        """Say which columns rows had that were not given to `add`."""
        self.result.columns.update(keys)

    def finish(self) -> ShardResult:
        """Return the shard's bytes and counts."""
        result = self.result
        result.records = b"".join(self.records)
        result.tool_records = b"".join(self._tool_records)
        result.rejects = b"".join(self._rejects)
        result.too_long = b"".join(self._too_long)
        result.columns.update(*self._mappings)
        written = self._records
        result.counts.update(
            rows=self._rows,
            records=written,
            rejects=len(self._rejects),
            reasoning=self._reasoning,
            chat=written - self._reasoning,
            with_system=self._with_system,
            with_history=self._with_history,
        )
        if self._tool_records:
            result.counts.update(
                tool_records=len(self._tool_records), tool_records_with_history=self._tools_with_history
            )
        return result

    def _convert(self, row: SourceRow) -> None:
        exchanges = self._source.read_exchanges(self._map(row.values), self._reading)
        origin = f"{self._origin}:{row.number}"
        if len(exchanges) == 1:
            written = [self._write(exchanges[0], origin)]
        else:
            written = [self._write(exchange, f"{origin}#{answer}") for answer, exchange in enumerate(exchanges, 1)]
        if self._plan.length_limit is not None and self._meter is not None:
            written = self._judge_lengths(written, self._plan.length_limit, self._meter)
        lines = [self._dump(record) for record in written]
        self.result.counts.update(note for exchange in exchanges for note in exchange.notes)
        # Counted when the whole row is good: an answer of a rejected conversation is not written either.
        for record, line in zip(written, lines, strict=True):
            if isinstance(record, AlpacaRecord):
                self.records.append(line)
                self._records += 1
                self._reasoning += has_thought(record.output)
                self._with_system += record.system != ""
                self._with_history += record.history != []
            else:
                self._tool_records.append(line)
                self._tools_with_history += len(record.conversations) > 2

    def _dump(self, record: AlpacaRecord | ToolRecord) -> bytes:
        try:
            return self._dumps(record._asdict(), option=self._end_line)
        except TypeError as error:
            # Half of a surrogate pair, as JSON inside a text may spell it.
            raise RecordError(f"it cannot be written as JSON: {error}") from error

    def _judge_lengths(
        self, written: list[AlpacaRecord | ToolRecord], limit: "LengthLimit", meter: "LengthMeter"
    ) -> list[AlpacaRecord | ToolRecord]:
        """Return the records of a row that stay; raises RecordError when a long one is a reject."""
        lengths = meter.measure(written)
        is_long = [length > limit.max_tokens for length in lengths]
        if not any(is_long):
            return written
        if limit.on_long == "reject":
            index = is_long.index(True)
            answer = f"answer {index + 1} has " if len(written) > 1 else ""
            raise RecordError(f"{answer}{lengths[index]:,} tokens, above --max-tokens {limit.max_tokens:,}")
        self.result.counts["too_long"] += sum(is_long)
        if limit.on_long == "keep":
            return written
        for record, length in zip(written, lengths, strict=True):
            if length > limit.max_tokens:
                entry = {"origin": record.origin, "tokens": length, "row": record._asdict()}
                self._too_long.append(self._dumps(entry, option=self._end_line))
        return [record for record, goes in zip(written, is_long, strict=True) if not goes]

    def _write(self, exchange: Exchange | ToolExchange, origin: str) -> AlpacaRecord | ToolRecord:
        if self._plan.system and not exchange.system.strip():
            exchange = exchange._replace(system=self._plan.system)
        if isinstance(exchange, Exchange):
            return write_record(exchange, self._plan.policy, origin)
        return write_tool_record(exchange, self._plan.policy, origin)

    def _map(self, values: dict[str, Any]) -> dict[str, Any]:
        keys = tuple(values)
        if keys not in self._mappings:
            try:
                mapping = map_columns(self._source, keys, self._plan.column_map)
            except InputError as error:
                raise RecordError(str(error)) from error
            if len(self._mappings) >= _MAX_FORMS:
                self._forget_forms()
            same = all(ours == theirs for ours, theirs in mapping.items())
            self._mappings[keys] = None if same else mapping
        mapping_of_row = self._mappings[keys]
        if mapping_of_row is None:
            return values
        return {ours: values[theirs] for ours, theirs in mapping_of_row.items()}

    def _forget_forms(self) -> None:
        self.result.columns.update(*self._mappings)
        self._mappings.clear()
        if len(self.result.columns) > MAX_COLUMNS:
            raise InputError(f"{self._path}: {MANY_COLUMNS}")

    def _reject(self, number: int, reason: str) -> None:
        # A reason may quote the row.
        reason = _as_text(reason if len(reason) <= _REASON_CHARACTERS else f"{reason[:_REASON_CHARACTERS]}…")
        if not self.result.first_reject:
            self.result.first_reject = f"{self._path} row {number}: {reason}"
        entry = {"file": self._path, "row": number, "reason": reason}
        self._rejects.append(self._dumps(entry, option=self._end_line))


def convert_rows(plan: ConvertPlan, rows: Iterable[SourceRow | BadRow], path: str, label: str) -> ShardResult:
    """Convert the rows of one shard of the file `path`, which origins call `label`."""
    builder = ShardBuilder(plan, path, label)
    for row in rows:
        builder.add(row)
    return builder.finish()


def name_origin(plan: ConvertPlan, label: str) -> str:
    """Return what origins of a file's rows begin with, before the colon and the number."""
    return _as_text(f"{plan.prefix}/{label}")


def _as_text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
