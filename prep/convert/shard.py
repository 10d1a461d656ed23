"""The unit of conversion: a pure, order-stable function from a piece of a source to bytes and counts.

One process, several, or a cluster run the same function and get the same bytes.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prep.choices import OnLong, ThinkPolicy
from prep.convert.media import MediaFolders
from prep.convert.where import Condition, all_hold, condition_columns
from prep.errors import InputError, RecordError
from prep.formats import SOURCES, find_lost_columns, map_columns
from prep.formats.columns import fill_template, is_template, list_used, refuse_lost_columns
from prep.formats.reading import TURN_FIELDS, Reading
from prep.inputs.reader import BadRow, SourceRow, describe_place
from prep.rows.kinds import Kind, find_form
from prep.rows.records import AlpacaRecord, Exchange, Record, TextPiece, ToolExchange, has_thought
from prep.rows.row_writer import find_kind, write_row

if TYPE_CHECKING:
    from prep.convert.length_limit import LengthLimit, LengthMeter

_REASON_CHARACTERS = 1_000
_CELL_CHARACTERS = 200
# More than any table has: keys that are data would fill the memory.
MAX_COLUMNS, MANY_COLUMNS = 10_000, "its rows have more than 10,000 different columns, as if the keys were data"
_MAX_FORMS = 100
COUNTED = ("rows", "records", "rejects", "reasoning", "chat", "with_system", "with_history")


@dataclass(frozen=True)
class ConvertPlan:
    """All that a shard's bytes depend on beside its rows.

    `column_map` is the user's {our name: the file's}, or a template of several; `dropped` are columns that are
    left out by name; `prefix` is the source's name in origins; `system` is for rows that have none. `kind` is
    what every row must be, `label_is` takes the rows of one label alone, without it. `media` are the columns
    that every row of the output has; `media_folders` finds the files.
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
    dropped: frozenset[str] = frozenset()
    kind: Kind = Kind.SFT
    label_is: bool | None = None
    media: tuple[str, ...] = ()
    media_folders: MediaFolders | None = None

    @property
    def reading(self) -> Reading:
        """How the formats read a row."""
        fields = {ours: theirs for ours, theirs in self.column_map.items() if ours in TURN_FIELDS}
        return Reading(
            self.turns,
            frozenset(self.fixes),
            dict(self.roles),
            self.may_lack_open,
            fields,
            self.dropped,
            is_label_named="kto_tag" in self.column_map,
        )

    def find_lost(self, columns: Collection[str]) -> tuple[str, ...]:
        """Return the columns that rows with these would lose, of those that may carry meaning."""
        kept = [column for column in columns if column not in self.dropped]
        if len(kept) > MAX_COLUMNS:
            # Keys that are data: that is said where columns are counted.
            return ()
        try:
            mapping = map_columns(SOURCES[self.source], kept, self.column_map)
        except InputError:
            return ()
        asked = condition_columns(self.where)
        return tuple(name for name in find_lost_columns(SOURCES[self.source], kept, mapping) if name not in asked)

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
    `columns` are all the source's columns that were seen; `first_hint` is the next step that a reject's reason
    names, where an option would use the row.
    """

    records: bytes | bytearray = b""
    tool_records: bytes = b""
    rejects: bytes = b""
    too_long: bytes = b""
    counts: Counter[str] = field(default_factory=Counter)
    columns: set[str] = field(default_factory=set)
    first_reject: str = ""
    first_hint: str = ""


class ShardBuilder:
    """Collects the rows of one shard; rows come in the order in which they stand in the file."""

    def __init__(self, plan: ConvertPlan, path: str, label: str) -> None:
        import orjson

        self.result = ShardResult()
        # Lines, whole or in pieces.
        self.records: list[bytes | bytearray] = []
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
        self._lost: dict[tuple[str, ...], tuple[tuple[str, ...], set[str]]] = {}
        self._tool_records: list[bytes] = []
        self._rejects: list[bytes] = []
        self._too_long: list[bytes] = []
        self._meter = plan.make_meter()
        self._rows = self._records = self._reasoning = self._texts = 0
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
            exchanges = self.read_exchanges(row)
            if exchanges:
                self._convert(row, exchanges)
            else:
                self.result.counts["filtered"] += 1
        except RecordError as error:
            self.result.first_hint = self.result.first_hint or error.hint or ""
            self._reject(row, str(error))

    def count_plain(
        self, *, rows: int, records: int, with_system: int, with_history: int, reasoning: int, filtered: int
    ) -> None:
        """Count rows whose lines were put into `records` without `add`."""
        self._rows += rows
        if filtered:
            self.result.counts["filtered"] += filtered
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
        # Mostly the kernel made all of them, and they are large.
        result.records = self.records[0] if len(self.records) == 1 else b"".join(self.records)
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
            chat=written - self._reasoning - self._texts,
            with_system=self._with_system,
            with_history=self._with_history,
        )
        if self._tool_records:
            result.counts.update(
                tool_records=len(self._tool_records), tool_records_with_history=self._tools_with_history
            )
        return result

    def read_exchanges(self, row: SourceRow) -> list[Exchange | ToolExchange | TextPiece]:
        """Return what a row holds; nothing when it has another label than the plan asks for.

        Raises: RecordError with the reason when the row cannot be read.
        """
        plan, exchanges = self._plan, self._source.read_exchanges(self._map(row.values), self._reading)
        if plan.label_is is None:
            return list(exchanges)
        labelled = [exchange for exchange in exchanges if isinstance(exchange, Exchange | ToolExchange)]
        if not labelled or any(exchange.label is None for exchange in labelled):
            raise RecordError("it has no label for --label-is", hint="--map kto_tag=COLUMN")
        return [exchange._replace(label=None) for exchange in labelled if exchange.label is plan.label_is]

    def _convert(self, row: SourceRow, exchanges: list[Exchange | ToolExchange | TextPiece]) -> None:
        origin = f"{self._origin}:{row.number}"
        if len(exchanges) == 1:
            written = [self._write(exchanges[0], origin)]
        else:
            written = [self._write(exchange, f"{origin}#{answer}") for answer, exchange in enumerate(exchanges, 1)]
        if self._plan.length_limit is not None and self._meter is not None:
            written = self._judge_lengths(written, self._plan.length_limit, self._meter)
        lines = [self._dump(record) for record in written]
        self.result.counts.update(
            note for exchange in exchanges if not isinstance(exchange, TextPiece) for note in exchange.notes
        )
        # Counted when the whole row is good: an answer of a rejected conversation is not written either.
        for record, line in zip(written, lines, strict=True):
            self._count(record, line)

    def _count(self, record: Record, line: bytes) -> None:
        if isinstance(record, AlpacaRecord):
            self.records.append(line)
            self._records += 1
            self._reasoning += has_thought(record.output)
            self._with_system += record.system != ""
            self._with_history += record.history != []
            return
        values = record.as_dict()
        form = find_form(values)
        if form.formatting == "sharegpt":
            self._tool_records.append(line)
            asked = len(values["conversations"]) + ("chosen" in values)
            self._tools_with_history += asked > 2
            return
        self.records.append(line)
        self._records += 1
        if form.kind is Kind.TEXT:
            self._texts += 1
            return
        self._reasoning += has_thought(values.get("chosen", values.get("output", "")))
        self._with_system += values["system"] != ""
        self._with_history += values["history"] != []

    def _dump(self, record: Record) -> bytes:
        try:
            return self._dumps(record.as_dict(), option=self._end_line)
        except TypeError as error:
            # Half of a surrogate pair, as JSON inside a text may spell it.
            raise RecordError(f"it cannot be written as JSON: {error}") from error

    def _judge_lengths(self, written: list[Record], limit: "LengthLimit", meter: "LengthMeter") -> list[Record]:
        """Return the records of a row that stay; raises RecordError when a long one is a reject."""
        lengths = meter.measure(written)
        is_long = [length > limit.max_tokens for length in lengths]
        if not any(is_long):
            return written
        if limit.on_long == OnLong.REJECT:
            index = is_long.index(True)
            answer = f"answer {index + 1} has " if len(written) > 1 else ""
            raise RecordError(f"{answer}{lengths[index]:,} tokens, above --max-tokens {limit.max_tokens:,}")
        self.result.counts["too_long"] += sum(is_long)
        if limit.on_long == OnLong.KEEP:
            return written
        for record, length in zip(written, lengths, strict=True):
            if length > limit.max_tokens:
                entry = {"origin": record.origin, "tokens": length, "row": record.as_dict()}
                self._too_long.append(self._dumps(entry, option=self._end_line))
        return [record for record, goes in zip(written, is_long, strict=True) if not goes]

    def _write(self, exchange: Exchange | ToolExchange | TextPiece, origin: str) -> Record:
        plan = self._plan
        if (kind := find_kind(exchange)) is not plan.kind:
            raise RecordError(
                f"it is a row of kind {kind}, and the first are {plan.kind}",
                hint="convert them apart: --where takes rows by a column's value",
            )
        if isinstance(exchange, TextPiece):
            return write_row(exchange, plan.policy, origin)
        if plan.system and not exchange.system.strip():
            exchange = exchange._replace(system=plan.system)
        if exchange.media and plan.media_folders is not None:
            exchange = exchange._replace(media=plan.media_folders.find_files(exchange.media))
        return write_row(exchange, plan.policy, origin, plan.media)

    def _map(self, values: dict[str, Any]) -> dict[str, Any]:
        keys = tuple(values)
        if keys not in self._mappings:
            kept = [key for key in keys if key not in self._plan.dropped]
            try:
                mapping = map_columns(self._source, kept, self._plan.column_map)
            except InputError as error:
                raise RecordError(str(error)) from error
            if len(self._mappings) >= _MAX_FORMS:
                self._forget_forms()
            same = len(kept) == len(keys) and all(ours == theirs for ours, theirs in mapping.items())
            self._mappings[keys] = None if same else mapping
            if lost := self._plan.find_lost(keys):
                self._lost[keys] = lost, list_used(mapping, keys)
        if keys in self._lost:
            refuse_lost_columns(self._source.name, self._source.question, *self._lost[keys], values)
        mapping_of_row = self._mappings[keys]
        if mapping_of_row is None:
            return values
        return {
            ours: fill_template(theirs, values) if is_template(theirs, values) else values[theirs]
            for ours, theirs in mapping_of_row.items()
        }

    def _forget_forms(self) -> None:
        self.result.columns.update(*self._mappings)
        self._mappings.clear()
        self._lost.clear()
        if len(self.result.columns) > MAX_COLUMNS:
            raise InputError(f"{self._path}: {MANY_COLUMNS}")

    def _reject(self, row: SourceRow | BadRow, reason: str) -> None:
        # A reason may quote the row.
        reason = _as_text(reason if len(reason) <= _REASON_CHARACTERS else f"{reason[:_REASON_CHARACTERS]}…")
        if not self.result.first_reject:
            self.result.first_reject = f"{self._path} row {row.number}{describe_place(row.place)}: {reason}"
        entry: dict[str, Any] = {"file": self._path, "row": row.number, **row.place, "reason": reason}
        if isinstance(row, SourceRow) and "sheet row" in row.place:
            # Who keeps a sheet finds the row by what stands in it.
            entry["cells"] = {name: _as_text(str(cell)[:_CELL_CHARACTERS]) for name, cell in row.values.items()}
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
