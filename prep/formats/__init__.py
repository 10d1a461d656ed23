"""The source shapes: each module turns one shape's rows into exchanges; recognised by their columns."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from prep.errors import InputError
from prep.formats import alpaca, medical_cot, messages, openmath, sharegpt, xlam
from prep.formats.reading import Reading
from prep.rows.records import Exchange, ToolExchange

Row = Mapping[str, Any]
Exchanges = Sequence[Exchange | ToolExchange]
_SHOWN_COLUMNS, _SHOWN_CHARACTERS = 50, 80


class Source(NamedTuple):
    """One shape: its name, the columns it needs, those it can use, other names for them, its row function.

    `read_exchanges` takes a row under our column names and how to read it.
    """

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    synonyms: Mapping[str, tuple[str, ...]]
    read_exchanges: Callable[[Row, Reading], Exchanges]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that this shape can use."""
        return self.required + self.optional


# In the order in which they are tried: the most particular first.
SOURCES = {
    source.name: source
    for source in (
        Source("alpaca", alpaca.REQUIRED, alpaca.OPTIONAL, alpaca.SYNONYMS, alpaca.read_exchanges),
        Source("openmath", openmath.REQUIRED, (), {}, openmath.read_exchanges),
        Source("sharegpt", sharegpt.REQUIRED, sharegpt.OPTIONAL, sharegpt.SYNONYMS, sharegpt.read_exchanges),
        Source("messages", messages.REQUIRED, messages.OPTIONAL, messages.SYNONYMS, messages.read_exchanges),
        Source("xlam", xlam.REQUIRED, xlam.OPTIONAL, {}, xlam.read_exchanges),
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
    _check_mapped(columns, column_map)
    for source in SOURCES.values():
        if set(column_map) <= set(source.columns) and not _missing(source, columns, column_map):
            return source
    known = "; ".join(f"{source.name} needs {', '.join(source.required)}" for source in SOURCES.values())
    raise InputError(
        f"no known format has the columns {', '.join(_shorten_names(sorted(columns)))}: {known}",
        hint="--map question=YOUR_COLUMN --map answer=YOUR_COLUMN, or --format",
    )


def map_columns(source: Source, columns: Collection[str], column_map: Mapping[str, str]) -> dict[str, str]:
    """Return {our name: the file's name} for every column of a source that the file has.

    Raises: InputError when a needed one is not there, two columns could be meant, or one would be read twice.
    """
    missing = _missing(source, columns, column_map)
    if missing:
        wanted = column_map.get(missing[0], missing[0])
        raise InputError(
            f"column '{wanted}' not found; {list_columns(columns)}", hint=f"--map {missing[0]}=YOUR_COLUMN"
        )
    found = {name: _find_column(source, name, columns, column_map) for name in source.columns}
    mapping = {name: column for name, column in found.items() if column is not None}
    _refuse_one_column_twice(mapping, column_map)
    return mapping


def _refuse_one_column_twice(mapping: Mapping[str, str], column_map: Mapping[str, str]) -> None:
    """Raise InputError when two of our columns would be one of the file's."""
    reader_of: dict[str, str] = {}
    for ours, theirs in mapping.items():
        other = reader_of.setdefault(theirs, ours)
        if other == ours:
            continue
        mapped = [f"--map {name}={theirs}" for name in (other, ours) if name in column_map]
        implicit = [name for name in (other, ours) if name not in column_map]
        ways = " and ".join(mapped) + "".join(f", and as '{name}'" for name in implicit)
        raise InputError(
            f"column '{theirs}' would be read twice: {ways}",
            hint=f"--map {implicit[0]}=YOUR_COLUMN too" if implicit else "give each its own column",
        )


def check_column_map(source: Source, columns: Collection[str], column_map: Mapping[str, str]) -> None:
    """Raise InputError when the user maps a column that the source or the file does not have, or one twice."""
    for ours in column_map:
        if ours not in source.columns:
            raise InputError(f"{source.name} has no column '{ours}' to map; it has {', '.join(source.columns)}")
    _check_mapped(columns, column_map)
    map_columns(source, columns, column_map)


def _check_mapped(columns: Collection[str], column_map: Mapping[str, str]) -> None:
    for ours, theirs in column_map.items():
        if theirs not in columns:
            raise InputError(
                f"column '{theirs}' not found; {list_columns(columns)}", hint=f"--map {ours}=YOUR_COLUMN"
            )


def list_columns(columns: Iterable[str]) -> str:
    """Say which columns there are, for an error; of very many or very long ones the first."""
    return "columns are " + ", ".join(f"'{name}'" for name in _shorten_names(columns)).replace("'…'", "…")


def _shorten_names(columns: Iterable[str]) -> list[str]:
    names = [name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…" for name in columns]
    return names if len(names) <= _SHOWN_COLUMNS else [*names[:_SHOWN_COLUMNS], "…"]


def _missing(source: Source, columns: Collection[str], column_map: Mapping[str, str]) -> list[str]:
    return [name for name in source.required if _find_column(source, name, columns, column_map) is None]


def _find_column(source: Source, name: str, columns: Collection[str], column_map: Mapping[str, str]) -> str | None:
    if name in column_map:
        return column_map[name] if column_map[name] in columns else None
    if name in columns:
        return name
    synonyms = source.synonyms.get(name, ())
    # What the user maps to another name is no longer guessed to be this one.
    open_columns = [column for column in columns if column not in column_map.values()] if synonyms else ()
    found = [column for column in open_columns if column.strip().casefold().replace(" ", "_") in synonyms]
    if len(found) > 1:
        raise InputError(
            f"'{name}' could be any of the columns {', '.join(found)}", hint=f"--map {name}={found[0]}"
        )
    return found[0] if found else None
