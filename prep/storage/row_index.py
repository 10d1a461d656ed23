"""The row index beside a data file, `data/medical.jsonl` → `data/medical.index`: where each row lies, what it is.

It is an Arrow file. The manifest of the data file has its sha256: an index that was torn, changed, or made for
other bytes is not believed, and whoever needs one makes it anew from the rows.
"""

from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from prep.errors import InputError
from prep.process import without_needless
from prep.storage.fingerprints import hash_file
from prep.storage.manifests import Manifest

# What each row has: where its line begins in the file and its bytes without the line end; keys of 16 bytes for its
# question, and for its question in its context; a hash of the conversation that it is a part of, 0 when it is one
# by itself; characters of all its texts; what it is, see prep/rows/indexing.py.
COLUMNS: Final[Mapping[str, str]] = {
    "start": "<u8",
    "size": "<u4",
    "question": "V16",
    "asked": "V16",
    "conversation": "<u8",
    "characters": "<u4",
    "kind": "|u1",
    "flags": "|u1",
}
# Changes when what a column says does: an older index is then made anew.
_VERSION = b"3"
_VERSION_KEY = b"lfc_index_version"
_SUFFIX = ".index"


def index_path(output: Path) -> Path:
    """Where the row index of a data file lies."""
    return output.with_name(f"{output.stem}{_SUFFIX}")


class RowIndex:
    """The index of one file, in memory or mapped; each column is put together when it is first asked for.

    Shape: `column` returns a numpy array, one value a row; `datasets` are the names that `dataset_codes` count in.
    """

    def __init__(self, batches: Sequence[Any]) -> None:
        self._batches = batches
        self._columns: dict[str, Any] = {}

    def __len__(self) -> int:
        return sum(batch.num_rows for batch in self._batches)

    def column(self, name: str) -> Any:
        """Return a column of COLUMNS as a numpy array."""
        import numpy as np

        if name not in self._columns:
            parts = [_view(batch.column(batch.schema.get_field_index(name)), name) for batch in self._batches]
            self._columns[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return self._columns[name]

    @cached_property
    def datasets(self) -> list[str]:
        """The names of the datasets that rows came from, the first part of an origin; "" is that of none."""
        return list(self._coded_datasets[0])

    @cached_property
    def dataset_codes(self) -> Any:
        """Which of `datasets` each row is of, int32."""
        return self._coded_datasets[1]

    @cached_property
    def _coded_datasets(self) -> tuple[dict[str, int], Any]:
        import numpy as np

        names: dict[str, int] = {}
        parts = []
        for batch in self._batches:
            coded = batch.column(batch.schema.get_field_index("dataset")).dictionary_encode()
            own = [names.setdefault(name, len(names)) for name in coded.dictionary.to_pylist()]
            codes = np.frombuffer(coded.indices.buffers()[1], np.int32, len(coded), 4 * coded.indices.offset)
            parts.append(np.array(own, dtype=np.int32)[codes])
        return names, np.concatenate(parts)


class IndexWriter:
    """Writes an index batch by batch through a function that takes bytes."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        with without_needless():
            import pyarrow as pa

        self._schema = make_schema()
        self._writer = pa.ipc.new_file(pa.PythonFile(_Sink(write), mode="w"), self._schema)

    def add(self, columns: Mapping[str, Any], codes: Sequence[int], datasets: Sequence[str]) -> None:
        """Write the next rows: a buffer for each of COLUMNS, and which of `datasets` each row is of."""
        self._writer.write_batch(make_batch(columns, codes, datasets))

    def close(self) -> None:
        """Write what ends the file."""
        self._writer.close()


def make_schema() -> Any:
    """Return the Arrow schema of an index."""
    import pyarrow as pa

    types = {"<u8": pa.uint64(), "<u4": pa.uint32(), "|u1": pa.uint8(), "V16": pa.binary(16)}
    fields = [pa.field(name, types[kind], nullable=False) for name, kind in COLUMNS.items()]
    fields.append(pa.field("dataset", pa.string(), nullable=False))
    return pa.schema(fields, metadata={_VERSION_KEY: _VERSION})


def make_batch(columns: Mapping[str, Any], codes: Sequence[int], datasets: Sequence[str]) -> Any:
    """Return rows of an index as one Arrow batch, without a copy of the columns, which may be any buffers."""
    with without_needless():
        import pyarrow as pa

    schema = make_schema()
    rows = len(codes)
    # `pa.array` would import pandas.
    arrays = [
        pa.Array.from_buffers(schema.field(name).type, rows, [None, pa.py_buffer(columns[name])])
        for name in COLUMNS
    ]
    buffers = [
        None,
        *map(pa.py_buffer, _write_texts([name.encode("utf-8", "replace") for name in datasets], codes)),
    ]
    arrays.append(pa.Array.from_buffers(pa.string(), rows, buffers))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _write_texts(names: Sequence[bytes], codes: Sequence[int]) -> "tuple[array[int], bytes]":
    """Return the offsets and the bytes of Arrow's column of texts in which each row has the name of its code."""
    if len(names) == 1 and names[0]:
        size = len(names[0])
        return array("i", range(0, size * len(codes) + 1, size)), names[0] * len(codes)
    texts = [names[code] for code in codes]
    return array("i", accumulate(map(len, texts), initial=0)), b"".join(texts)


def read_index(output: Path, manifest: Manifest | None) -> RowIndex | None:
    """Return the index of a data file that its manifest, which belongs to the file, vouches for; None without one.

    What is torn, of another version or does not fit is none: it is no error, only slower.
    """
    with without_needless():
        import pyarrow as pa

    recorded = manifest.output.get("index_sha256") if manifest else None
    path = index_path(output)
    if not isinstance(recorded, str):
        return None
    try:
        if hash_file(path) != recorded:
            return None
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            if not reader.schema.equals(make_schema(), check_metadata=True):
                return None
            return RowIndex([reader.get_batch(number) for number in range(reader.num_record_batches)])
    except (OSError, pa.ArrowException, InputError):
        return None


def _view(array: Any, name: str) -> Any:
    import numpy as np

    dtype = np.dtype(COLUMNS[name])
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)


class _Sink:
    """What Arrow writes into, as a file."""

    closed = False

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._written = 0

    def write(self, data: Any) -> int:
        block = bytes(data)
        self._write(block)
        self._written += len(block)
        return len(block)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Whoever gave the function closes what it writes into."""
