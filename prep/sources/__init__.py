"""The source shapes: each module turns one shape's rows into exchanges; recognised by their columns."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from prep.errors import InputError
from prep.records import Exchange, ToolExchange
from prep.sources import alpaca, medical_cot, messages, openmath, sharegpt

Row = Mapping[str, Any]
Exchanges = Sequence[Exchange | ToolExchange]


class Source(NamedTuple):
    """One shape: its name, the columns it needs, those it can use, other names for them, its row function.

    `read_exchanges` takes a row under our column names and which turns to train: expand, all, first, last.
    """

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    synonyms: Mapping[str, tuple[str, ...]]
    read_exchanges: Callable[[Row, str], Exchanges]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that this shape can use."""
        return self.required + self.optional


# In the order in which they are tried: the most particular first.
SOURCES = {
    source.name: source
    for source in (
        Source("alpaca", alpaca.REQUIRED, alpaca.OPTIONAL, {}, alpaca.read_exchanges),
        Source("openmath", openmath.REQUIRED, (), {}, openmath.read_exchanges),
        Source("sharegpt", sharegpt.REQUIRED, sharegpt.OPTIONAL, {}, sharegpt.read_exchanges),
        Source("messages", messages.REQUIRED, messages.OPTIONAL, {}, messages.read_exchanges),
        Source(
            "medical-cot",
            medical_cot.REQUIRED,
            medical_cot.OPTIONAL,
            medical_cot.SYNONYMS,
            medical_cot.read_exchanges,
        ),
    )
}


def recognise_source(columns: Collection[str], column_map: Mapping[str, str]) -> Source:
    """Return the first source whose needed columns all stand in `columns`, mapped, or under a synonym.

    Raises: InputError when none fits, naming what each would need.
    """
    for source in SOURCES.values():
        if set(column_map) <= set(source.columns) and not _missing(source, columns, column_map):
            return source
    known = "; ".join(f"{source.name} needs {', '.join(source.required)}" for source in SOURCES.values())
    raise InputError(
        f"no known format has the columns {', '.join(sorted(columns))}: {known}",
        hint="--map question=YOUR_COLUMN --map answer=YOUR_COLUMN, or --format",
    )


def map_columns(source: Source, columns: Collection[str], column_map: Mapping[str, str]) -> dict[str, str]:
    """Return {our name: the file's name} for every column of a source that the file has.

    Raises: InputError when a needed one is not there, or two columns could be meant.
    """
    missing = _missing(source, columns, column_map)
    if missing:
        wanted = column_map.get(missing[0], missing[0])
        raise InputError(
            f"column '{wanted}' not found; {list_columns(columns)}", hint=f"--map {missing[0]}=YOUR_COLUMN"
        )
    found = {name: _find_column(source, name, columns, column_map) for name in source.columns}
    return {name: column for name, column in found.items() if column is not None}


def check_column_map(source: Source, columns: Collection[str], column_map: Mapping[str, str]) -> None:
    """Raise InputError when the user maps a column that the source or the file does not have."""
    for ours, theirs in column_map.items():
        if ours not in source.columns:
            raise InputError(f"{source.name} has no column '{ours}' to map; it has {', '.join(source.columns)}")
        if theirs not in columns:
            raise InputError(
                f"column '{theirs}' not found; {list_columns(columns)}", hint=f"--map {ours}=YOUR_COLUMN"
            )


def list_columns(columns: Iterable[str]) -> str:
    """Say which columns there are, for an error."""
    return "columns are " + ", ".join(f"'{column}'" for column in columns)


def _missing(source: Source, columns: Collection[str], column_map: Mapping[str, str]) -> list[str]:
    return [name for name in source.required if _find_column(source, name, columns, column_map) is None]


def _find_column(source: Source, name: str, columns: Collection[str], column_map: Mapping[str, str]) -> str | None:
    if name in column_map:
        return column_map[name] if column_map[name] in columns else None
    if name in columns:
        return name
    synonyms = source.synonyms.get(name, ())
    found = [column for column in columns if column.strip().casefold().replace(" ", "_") in synonyms]
    if len(found) > 1:
        raise InputError(
            f"'{name}' could be any of the columns {', '.join(found)}", hint=f"--map {name}={found[0]}"
        )
    return found[0] if found else None
