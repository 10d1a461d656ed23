"""Parquet files → Arrow batches."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from prep.errors import InputError
from prep.inputs.batches import (
    BATCH_BYTES,
    BatchReader,
    shorten,
    slice_batch,
    unpack_dictionaries,
)
from prep.process import choose_memory_pool, without_needless
from prep.storage.packed import find_packing, unpack_whole

_MAX_BATCH_ROWS = 8_000
_PROBED_ROWS = 64


class ParquetReader(BatchReader):
    """A parquet file, read in batches of about the same size."""

    def _read_names(self) -> list[str]:
        with self.bound(), _open_parquet(self.file.path) as parquet:
            return list(parquet.schema_arrow.names)

    def read_batches(self, columns: list[str] | None = None) -> Generator[Any, None, None]:
        """Yield batches of about BATCH_BYTES."""
        with _open_parquet(self.file.path) as parquet:
            done, rows = 0, max(parquet.metadata.num_rows, 1)
            for batch in _read_batches(parquet, columns, self.file.max_line_bytes):
                done += batch.num_rows
                self.share = done / rows
                yield batch


@contextmanager
def _open_parquet(path: Path) -> Iterator[Any]:
    """Open a parquet file for reading in small pieces; raises InputError when it is broken."""
    with without_needless():
        import pyarrow as pa
        import pyarrow.parquet as pq

    choose_memory_pool()
    try:
        # Without pre_buffer=False memory grows with the file.
        with _open_source(path) as source, pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20) as file:
            yield file
    except pa.ArrowNotImplementedError as error:
        raise InputError(
            f"{path} holds what cannot be read: {shorten(error)}",
            hint="write the columns that you need into a new file, as text, numbers and lists of them",
        ) from error
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        reason = shorten(error)
        raise InputError(f"{path} is not a whole parquet file: {reason}", hint="download it again") from error


def _open_source(path: Path) -> Any:
    """Return a parquet file's path, which is read best, or what a packed one holds."""
    return nullcontext(path) if find_packing(path) is None else unpack_whole(path)


def _read_batches(parquet: Any, columns: list[str] | None, max_row_bytes: int) -> Iterator[Any]:
    """Yield batches of about BATCH_BYTES; raises MemoryError at one far beyond what the file let expect."""
    metadata = parquet.metadata
    unpacking = 1.0
    for group in range(metadata.num_row_groups):
        rows, size = metadata.row_group(group).num_rows, max(metadata.row_group(group).total_byte_size, 1)
        if not group and rows > _PROBED_ROWS:
            # A dictionary holds a text once, and may make a batch many times what the file has.
            probe = next(parquet.iter_batches(batch_size=_PROBED_ROWS, row_groups=[0], columns=columns), None)
            unpacking = max(1.0, _measure_row(probe) * rows / size) if probe else 1.0
        batch_rows = max(1, min(_MAX_BATCH_ROWS, int(BATCH_BYTES * rows / (size * unpacking))))
        read = 0
        for packed in parquet.iter_batches(
            batch_size=batch_rows, row_groups=[group], columns=columns, use_threads=False
        ):
            batch = unpack_dictionaries(packed)
            read += batch.nbytes
            yield from slice_batch(batch, max_row_bytes)
        unpacking = max(1.0, read / size)


def _measure_row(batch: Any) -> float:
    return float(unpack_dictionaries(batch).nbytes / max(batch.num_rows, 1))
