"""Arrow files, of the kind that `datasets` saves and Feather is: streams and files with an index."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prep.errors import InputError
from prep.inputs.batches import (
    BATCH_BYTES,
    BatchReader,
    shorten,
    unpack_dictionaries,
)
from prep.process import choose_memory_pool, without_needless
from prep.storage.packed import find_packing, unpack_whole

_FILE_MARK = b"ARROW1"


class ArrowReader(BatchReader):
    """An Arrow IPC file: its batches are as its writer made them, and are cut when they are large."""

    def _read_names(self) -> list[str]:
        with self.bound(), self._open() as (schema, _):
            return list(schema.names)

    def read_batches(self, columns: list[str] | None = None) -> Generator[Any, None, None]:
        """Yield batches, cut into pieces that can become Python's objects."""
        with self._open() as (_, batches):
            for batch in batches:
                taken = batch if columns is None else batch.select(columns)
                yield from self._cut(taken)

    def _cut(self, batch: Any) -> Iterator[Any]:
        rows = max(1, batch.num_rows * BATCH_BYTES // max(batch.nbytes, 1))
        for start in range(0, batch.num_rows, rows):
            piece = unpack_dictionaries(batch.slice(start, rows))
            if piece.nbytes > self.file.max_line_bytes * min(piece.num_rows, 2):
                raise MemoryError
            yield piece

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Iterator[Any]]]:
        with without_needless():
            import pyarrow as pa

        choose_memory_pool()
        path = self.file.path
        try:
            with _open_source(path) as source:
                is_file = source.read(len(_FILE_MARK)) == _FILE_MARK
                source.seek(0)
                if is_file:
                    file = pa.ipc.open_file(source)
                    yield file.schema, map(file.get_batch, range(file.num_record_batches))
                else:
                    reader = pa.ipc.open_stream(source)
                    yield reader.schema, iter(reader)
        except MemoryError:
            raise
        except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
            raise InputError(
                f"{path} is not a whole Arrow file: {shorten(error)}", hint="save it again, or as parquet"
            ) from error


def _open_source(path: Path) -> Any:
    """Return a file as it lies on the disk, which takes no memory of ours, or what a packed one holds."""
    import pyarrow as pa

    return pa.memory_map(str(path)) if find_packing(path) is None else unpack_whole(path)
