"""The source shapes: each module turns one shape's rows into exchanges; recognised by their columns."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from prep.errors import InputError
from prep.formats import (
    alpaca,
    extras,
    glaive,
    input_output,
    medical_cot,
    messages,
    openmath,
    preference,
    sharegpt,
    text,
    xlam,
)
from prep.formats.columns import (
    find_near,
    is_metadata,
    is_template,
    list_slots,
    list_used,
    quote_column,
    simplify_name,
)
from prep.formats.extras import read_with_extras
from prep.formats.reading import TURN_FIELDS, Reading
from prep.rows.records import Exchange, TextPiece, ToolExchange

Row = Mapping[str, Any]
Exchanges = Sequence[Exchange | ToolExchange | TextPiece]
_SHOWN_COLUMNS, _SHOWN_CHARACTERS, _SHOWN_WAYS = 50, 80, 3


class UnknownFormatError(InputError):
    """No format can read such columns."""


class Source(NamedTuple):
    """One format: its name, the columns it needs, those it can use, other names for them, its row function.

    Shape: `metadata` are groups of columns that a known set has beside these: a group counts where all of it is
    there, and holds nothing to train on; `answer` is the column that ends in the answer;
    `plain` says what the compiled half of conversion makes of each column that it knows: {ours: a word of
    prep/convert/plain.py}; `read_row` takes a row under our column names and how to read it.
    """

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    synonyms: Mapping[str, tuple[str, ...]]
    metadata: tuple[tuple[str, ...], ...]
    answer: str
    plain: Mapping[str, str]
    read_row: Callable[[Row, Reading], Exchanges]

    @property
    def question(self) -> str:
        """The column that a template can write more into: the question, or the first needed one; "" for turns."""
        if self.required[0] in ("conversations", "messages", "system"):
            return ""
        return "question" if "question" in self.columns else self.required[0]

    @property
    def holds_turns(self) -> bool:
        """Whether a column holds turns, whose fields `--map` and `--drop` may name too."""
        return not {"conversations", "messages", "chat"}.isdisjoint(self.columns)

    @property
    def mappable(self) -> tuple[str, ...]:
        """Every name of ours that `--map` can give to something of the file's."""
        return (*self.columns, *TURN_FIELDS) if self.holds_turns else self.columns

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that this format can use."""
        return self.required + self.optional

    def read_exchanges(self, row: Row, reading: Reading) -> Exchanges:
        """Return what a row holds, with its label, second answer and files where it has them.

        Raises: RecordError with the reason when the row cannot be read.
        """
        return read_with_extras(self.read_row, self.answer, row, reading)


def _make_source(name: str, module: ModuleType, answer: str) -> Source:
    """Return a format by its module's REQUIRED, OPTIONAL, SYNONYMS, METADATA, PLAIN and read_exchanges."""
    optional = tuple(getattr(module, "OPTIONAL", ()))
    required = tuple(module.REQUIRED)
    optional += tuple(extra for extra in extras.EXTRAS if extra not in required)
    synonyms = {**extras.SYNONYMS, **getattr(module, "SYNONYMS", {})}
    metadata = tuple(getattr(module, "METADATA", ()))
    plain = getattr(module, "PLAIN", {})
    return Source(name, required, optional, synonyms, metadata, answer, plain, module.read_exchanges)


# In the order in which they are tried: the most particular first.
SOURCES = {
    name: _make_source(name, module, answer)
    for name, module, answer in (
        ("preference", preference, "chosen"),
        ("alpaca", alpaca, "output"),
        ("openmath", openmath, "generated_solution"),
        ("sharegpt", sharegpt, "conversations"),
        ("glaive", glaive, "chat"),
        ("messages", messages, "messages"),
        ("xlam", xlam, "answers"),
        ("medical-cot", medical_cot, "answer"),
        ("input-output", input_output, "output"),
        ("text", text, "text"),
    )
}


def recognise_source(columns: Collection[str], column_map: Mapping[str, str]) -> Source:
    """Return the first source whose needed columns all stand in `columns`, mapped, or under a synonym.

    Raises: InputError when none fits, naming what each would need.
    """
    _check_mapped(columns, column_map)
    for source in SOURCES.values():
        if set(column_map) <= set(source.mappable) and not _missing(source, columns, column_map):
            return source
    known = "; ".join(f"{source.name} needs {', '.join(source.required)}" for source in SOURCES.values())
    raise UnknownFormatError(
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


def find_lost_columns(source: Source, columns: Collection[str], mapping: Mapping[str, str]) -> tuple[str, ...]:
    """Return the columns that a mapping does not read, and that are not known to be metadata."""
    unused = set(columns) - list_used(mapping, columns) - _list_metadata(source, columns)
    return tuple(name for name in columns if name in unused and not is_metadata(name))


def _list_metadata(source: Source, columns: Collection[str]) -> set[str]:
    groups = [group for group in source.metadata if all(name in columns for name in group)]
    return {name for group in groups for name in group}


def _refuse_one_column_twice(mapping: Mapping[str, str], column_map: Mapping[str, str]) -> None:
    """Raise InputError when two of our columns would be one of the file's; in templates one may stand often."""
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
        if ours not in source.mappable:
            raise InputError(f"{source.name} has no column '{ours}' to map; it has {', '.join(source.mappable)}")
    _check_mapped(columns, column_map)
    map_columns(source, columns, column_map)


def _check_mapped(columns: Collection[str], column_map: Mapping[str, str]) -> None:
    for ours, theirs in column_map.items():
        if ours in TURN_FIELDS:
            # A field of turns, which no list of columns tells of.
            continue
        named = list_slots(theirs) if is_template(theirs, columns) else [theirs]
        missing = [name for name in named if name not in columns]
        if missing:
            near = find_near(missing[0], columns)
            raise InputError(
                f"column '{missing[0]}' not found; {list_columns(columns)}",
                hint=f"--map {ours}={quote_column(near) if near else 'YOUR_COLUMN'}",
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
        theirs = column_map[name]
        return theirs if theirs in columns or is_template(theirs, columns) else None
    taken = [name for theirs in column_map.values() for name in (theirs, *list_slots(theirs))]
    synonyms = source.synonyms.get(name, ())
    if not synonyms or name in taken:
        return name if name in columns else None
    # What the user maps to another name is no longer guessed to be this one.
    closed = {*taken, *_list_metadata(source, columns)}
    open_columns = [column for column in columns if column not in closed]
    names = {simplify_name(known) for known in (name, *synonyms)}
    found = [column for column in open_columns if simplify_name(column) in names]
    if len(found) > 1:
        quoted = [quote_column(column) for column in found]
        ways = (
            " ".join([f"--map {name}={one}", *(f"--drop {other}" for other in quoted if other != one)])
            for one in quoted[:_SHOWN_WAYS]
        )
        raise InputError(f"'{name}' could be any of the columns {', '.join(found)}", hint=", or ".join(ways))
    return found[0] if found else None
