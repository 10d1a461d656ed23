"""What the first rows of an input say of all: their kind, and which media they have."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import islice

from prep.convert.shard import ConvertPlan, ShardBuilder
from prep.convert.where import all_hold
from prep.errors import InputError, RecordError, UserError
from prep.formats import SOURCES, map_columns
from prep.formats.columns import list_used, refuse_lost_columns
from prep.formats.extras import EXTRAS
from prep.inputs.batches import BatchReader
from prep.inputs.reader import Reader, SourceRow
from prep.rows.kinds import MEDIA, Kind
from prep.rows.records import TextPiece
from prep.rows.row_writer import find_kind

_PROBED_ROWS = 100
# Formats whose answers may be a list of two, and whose messages may hold files in their parts.
_VARYING = ("alpaca", "sharegpt", "messages", "preference", "text")


def settle_plan(plan: ConvertPlan, readers: Sequence[Reader], columns: Collection[str]) -> ConvertPlan:
    """Return the plan with the kind of the first row that can be read, and the media of the first rows.

    Raises: InputError when a column would be lost; UserError when an option does not fit such rows.
    """
    _refuse_lost(plan, readers, columns)
    kinds: list[Kind] = []
    media = set(plan.media)
    for reader in readers:
        if not _may_vary(plan, reader, columns):
            continue
        builder = ShardBuilder(replace(plan, length_limit=None), reader.file.name, reader.file.label)
        for row in islice(reader.read_rows(), _PROBED_ROWS):
            if not isinstance(row, SourceRow):
                continue
            try:
                exchanges = builder.read_exchanges(row) if all_hold(plan.where, row.values) else []
            except RecordError:
                continue
            kinds += [find_kind(exchange) for exchange in exchanges]
            for exchange in exchanges:
                media.update(name for name, _ in (() if isinstance(exchange, TextPiece) else exchange.media))
    kind = kinds[0] if kinds else Kind.TEXT if plan.source == "text" else plan.kind
    if media and plan.length_limit is not None:
        raise UserError(
            "--max-tokens counts texts alone, and these rows have " + " and ".join(sorted(media)),
            hint="leave --max-tokens out, and set cutoff_len with room for the media",
        )
    return replace(plan, kind=kind, media=tuple(name for name in MEDIA if name in media))


def _may_vary(plan: ConvertPlan, reader: Reader, columns: Collection[str]) -> bool:
    """Whether rows of a file may be of several kinds, or have media, as far as its columns tell."""
    try:
        mapping = map_columns(SOURCES[plan.source], columns, plan.column_map)
    except InputError:
        return False
    # In parquet a text is a text: the first rows are not decoded twice.
    has_parts = plan.source in _VARYING and not (plan.source == "sharegpt" and isinstance(reader, BatchReader))
    return has_parts or not mapping.keys().isdisjoint(EXTRAS)


def _refuse_lost(plan: ConvertPlan, readers: Sequence[Reader], columns: Collection[str]) -> None:
    """Raise InputError when the first row of a file holds what would be lost: so would the others."""
    if not plan.find_lost(columns):
        return
    for reader in readers:
        row = next(iter(reader.read_rows()), None)
        if not isinstance(row, SourceRow):
            continue
        source, kept = SOURCES[plan.source], [name for name in row.values if name not in plan.dropped]
        if not (lost := plan.find_lost(row.values)):
            continue
        try:
            used = list_used(map_columns(source, kept, plan.column_map), kept)
            refuse_lost_columns(source.name, source.question, lost, used, row.values)
        except RecordError as error:
            raise InputError(f"{reader.file.name}: {error}", hint=error.hint) from error
