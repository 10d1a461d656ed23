"""Plain rows → lines by the compiled half of conversion, which works without the GIL.

It is compiled when the package is installed, if there is a C compiler. Without it every row takes the slow path,
to the same bytes and several times slower.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

_OUTPUT_BYTES = 4 << 20
_LEAST_OUTPUT_BYTES = 64 << 10
_MAX_SEEN = 100

Judge = Callable[..., int]


class Job(NamedTuple):
    """How plain rows become lines; see `Job` in kernel.h."""

    texts: tuple[bytes, ...]
    turns: int
    policy: int
    roles: tuple[tuple[bytes, int], ...]
    role_fields: tuple[bytes, ...]
    text_fields: tuple[bytes, ...]


class Converted(NamedTuple):
    """What one call made: `rows` source rows, from `bytes_read` of a block's bytes, became `lines`.

    Shape: `forms` has a bit for each form of objects that a written row had; `line_ends` counts those that lines
    of fields had.
    """

    lines: bytes | bytearray
    bytes_read: int
    rows: int
    records: int
    reasoning: int
    with_system: int
    with_history: int
    filtered: int
    forms: int
    line_ends: int


class TextColumn(NamedTuple):
    """Arrow's buffers of a column of texts or lists.

    Shape: `items` items from `first` on; offsets of `width` 4 or 8 bytes; None for `valid` when nothing is null,
    for `data` when it is a list.
    """

    first: int
    items: int
    width: int
    valid: Any
    offsets: Any
    data: Any


class TableBuffers(NamedTuple):
    """A batch's columns with their uses, its turns as lists, roles and texts, and which rows are not to convert.

    Shape: `skips` has a byte a row: 0 for one to convert, 1 for one that a condition sorted out, 2 for one that
    Python reads.
    """

    columns: tuple[tuple[int, TextColumn], ...]
    turns: tuple[TextColumn, TextColumn, TextColumn] | None
    skips: bytes | None
    rows: int


@cache
def has_kernel() -> bool:
    """Whether the compiled half was made for this Python and is here."""
    try:
        from prep.convert import _kernel  # noqa: F401
    except ImportError:
        return False
    return True


class ObjectKernel:
    """Converts plain objects of JSON, in blocks of about this size; only where there is a kernel.

    Shape: `judge` takes the JSON of the `judged` columns of a row, and says 1, 0 or -1: see plain.make_judge.
    """

    def __init__(self, job: Job, judged: Sequence[str], judge: Judge, block_bytes: int) -> None:
        from prep.convert import _kernel

        self._call = _kernel.convert_objects
        self._most = (_kernel.MAX_COLUMNS, _kernel.MAX_FORMS)
        self._job = job
        self._judge = judge
        # {a column: its place}, and the uses of each form's columns.
        self._places: dict[str, int] = {}
        self._forms: list[dict[str, int]] = []
        self._seen: set[frozenset[str]] = set()
        self._names: tuple[bytes, ...] = ()
        self._packed: tuple[tuple[int, bytes], ...] = ()
        self._take_names(judged)
        self._judged = tuple(self._places[name] for name in judged)
        # A folder may hold thousands of small files.
        self._room = min(_OUTPUT_BYTES, 2 * block_bytes + _LEAST_OUTPUT_BYTES)

    def is_new(self, columns: Sequence[str]) -> bool:
        """Whether nobody asked before about rows of these columns, in any order; after many, none is new."""
        form = frozenset(columns)
        if form in self._seen or len(self._seen) == _MAX_SEEN:
            return False
        self._seen.add(form)
        return True

    def add_form(self, columns: Sequence[str], uses: Sequence[int]) -> bool:
        """Take rows of these columns too; False when there is no room for more forms."""
        most_columns, most_forms = self._most
        if len(self._forms) == most_forms or len({*self._places, *columns}) > most_columns:
            return False
        try:
            self._take_names(columns)
        except TypeError:
            # Half of a surrogate pair, which no sound line holds.
            return False
        self._forms.append(dict(zip(columns, uses, strict=True)))
        self._packed = tuple(
            (
                sum(1 << self._places[name] for name in form),
                bytes(form.get(name, 0) for name in self._places),
            )
            for form in self._forms
        )
        return True

    def list_columns(self, forms: int) -> set[str]:
        """Return the columns of the forms that a call's result names."""
        return {name for place, form in enumerate(self._forms) if forms >> place & 1 for name in form}

    def convert(self, data: bytes, start: int, row: int, *, is_array: bool = False) -> Converted:
        """Convert objects from an offset in a block on, the first of this number, until one is not plain."""
        if not self._packed:
            return Converted(b"", 0, 0, 0, 0, 0, 0, 0, 0, 0)
        made = self._call(
            self._job,
            self._names,
            self._packed,
            self._judged,
            self._judge,
            is_array,
            data,
            start,
            row,
            self._room,
        )
        return Converted._make(made)

    def _take_names(self, columns: Sequence[str]) -> None:
        new = [name for name in columns if name not in self._places]
        written = [b'"%b"' % escape_json(name) for name in new]
        # Those of the first form stand first, in their order.
        self._places |= {name: place for place, name in enumerate(new, len(self._places))}
        self._names += tuple(written)


class FieldKernel:
    """Converts plain lines of fields; only where there is a kernel.

    Shape: `uses` has one for each column; `judge` gets the `judged` columns' fields as they stand, quotes and all.
    """

    def __init__(self, job: Job, uses: Sequence[int], delimiter: str, judged: Sequence[int], judge: Judge) -> None:
        from prep.convert import _kernel

        self._call = _kernel.convert_fields
        self._given = (job, bytes(uses), delimiter.encode(), tuple(judged), judge)

    def convert(self, data: bytes, start: int, row: int, *, is_last: bool) -> Converted:
        """Convert lines from an offset on, the first of this number; `is_last` when nothing follows the data."""
        return Converted._make(self._call(*self._given, is_last, data, start, row, _OUTPUT_BYTES))


class TableKernel:
    """Converts plain rows of Arrow's columns; only where there is a kernel."""

    def __init__(self, job: Job) -> None:
        from prep.convert import _kernel

        self._call = _kernel.convert_table
        self._job = job

    def convert(self, table: TableBuffers, rows: range, first_number: int) -> Converted:
        """Convert these rows of a batch, whose row 0 has this number, until one is not plain."""
        made = self._call(self._job, *table, rows.start, rows.stop, first_number, _OUTPUT_BYTES)
        return Converted._make(made)


def escape_json(text: str) -> bytes:
    """Return a text as it stands between the quotes of JSON; raises TypeError when it has no form there."""
    import orjson

    return orjson.dumps(text)[1:-1]
