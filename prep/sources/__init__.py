"""The source shapes: each module turns one shape's rows into exchanges; recognised by their columns."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from prep.errors import InputError
from prep.records import Exchange
from prep.sources import medical_cot, sharegpt


class Source(NamedTuple):
    """One shape: its name, the columns it cannot do without, and its row function."""

    name: str
    columns: tuple[str, ...]
    read_exchanges: Callable[[dict[str, Any]], Iterator[Exchange]]


SOURCES = {
    source.name: source
    for source in (
        Source("medical-cot", medical_cot.COLUMNS, medical_cot.read_exchanges),
        Source("sharegpt", sharegpt.COLUMNS, sharegpt.read_exchanges),
    )
}


def recognise_source(columns: Collection[str]) -> Source:
    """Return the source whose columns all stand in `columns`.

    Raises: InputError when none fits, naming what each would need.
    """
    for source in SOURCES.values():
        if set(source.columns) <= set(columns):
            return source
    known = "; ".join(f"{source.name} needs {', '.join(source.columns)}" for source in SOURCES.values())
    raise InputError(
        f"no known format has the columns {', '.join(sorted(columns))}: {known}",
        hint="--map question=YOUR_COLUMN --map answer=YOUR_COLUMN, or --format",
    )
