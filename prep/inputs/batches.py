"""Arrow batches: what parquet and Arrow files are read in, kept small whatever the file says of itself."""

from abc import abstractmethod
from collections.abc import Generator, Iterator
from typing import Any

from prep.inputs.memory import limit_memory
from prep.inputs.reader import BadRow, InputFile, Reader, SourceRow, refuse_twice

# Large enough for the threads to wait for the GIL seldom, small enough for the CPU's cache.
BATCH_BYTES = 1_000_000
_LARGE_BATCH_BYTES = 8_000_000
_SHOWN_CHARACTERS = 300


class BatchReader(Reader):
    """A file that gives Arrow batches, which the fast road takes as they are."""

    def __init__(self, file: InputFile) -> None:
        super().__init__(file)
        self._names: list[str] | None = None

    @abstractmethod
    def read_batches(self, columns: list[str] | None = None) -> Generator[Any, None, None]:
        """Yield record batches of some columns, None for all; the caller bounds memory, see `bound`."""

    @abstractmethod
    def _read_names(self) -> list[str]:
        """Return the names of the columns as they stand in the file."""

    def read_columns(self) -> list[str]:
        """Return the names of the columns; raises InputError when two have one name."""
        if self._names is None:
            names = self._read_names()
            refuse_twice(self.file.path, names)
            self._names = names
        return self._names

    def bound(self) -> Any:
        """Return the context in which batches are to be read: it bounds what they take."""
        return limit_memory(self.file.path, self.file.max_line_bytes)

    def read_rows(self) -> Iterator[SourceRow | BadRow]:
        """Yield all rows with all their columns."""
        first_row = 1
        with self.bound():
            self.read_columns()
            for batch in self.read_batches():
                yield from read_batch(batch, first_row)
                first_row += batch.num_rows


def unpack_dictionaries(batch: Any) -> Any:
    """Return a batch whose texts stand where they are used: so they have a size, and a form the kernel knows."""
    import pyarrow as pa

    if not any(pa.types.is_dictionary(field.type) for field in batch.schema):
        return batch
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in batch.schema
    ]
    return batch.cast(pa.schema(fields))


def slice_batch(batch: Any, max_row_bytes: int) -> Iterator[Any]:
    """Yield a batch, or parts of one that is too large to become Python's objects at once."""
    if batch.nbytes <= _LARGE_BATCH_BYTES:
        yield batch
        return
    if batch.nbytes > max_row_bytes * min(batch.num_rows, 2):
        raise MemoryError
    rows = max(1, batch.num_rows * BATCH_BYTES // batch.nbytes)
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def read_batch(batch: Any, first_row: int) -> Iterator[SourceRow | BadRow]:
    """Yield a batch's rows; a value that Python has no form for makes its row a bad one."""
    try:
        rows = batch.to_pylist()
    except list_unreadable():
        for index in range(batch.num_rows):
            yield read_row(batch, index, first_row)
        return
    for number, values in enumerate(rows, first_row):
        yield SourceRow(number, values)


def read_row(batch: Any, index: int, first_row: int) -> SourceRow | BadRow:
    """Return one row of a batch."""
    try:
        return SourceRow(first_row + index, batch.slice(index, 1).to_pylist()[0])
    except UnicodeDecodeError:
        return BadRow(first_row + index, "not valid UTF-8")
    except list_unreadable() as error:
        return BadRow(first_row + index, f"a value cannot be read: {error}")


def list_unreadable() -> tuple[type[Exception], ...]:
    """Return what pyarrow raises for values that Python has no form for: the year 40,000, a name twice."""
    import pyarrow as pa

    # LookupError: a time zone that is not known here.
    return (ValueError, OverflowError, TypeError, LookupError, ImportError, pa.ArrowException)


def shorten(error: Exception) -> str:
    """Return an Arrow error's text on one line."""
    return " ".join(str(error).split())[:_SHOWN_CHARACTERS] or type(error).__name__
