"""The rows of several files as one set, which is copied in any order: their bytes and their index alike."""

from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from prep.progress import Progress
from prep.rows.indexing import RowWriter, hash_conversation
from prep.rows.origins import Origin
from prep.rows.row_file import RowFile
from prep.storage.row_index import COLUMNS

_COPIED_ROWS = 1 << 14
_READ_ROWS = 256


class RowSet:
    """Files one after the other: a row's place counts from 0 over all of them.

    `renamed` is {a file's index: {a dataset's name in its origins: the name to write}}.
    """

    def __init__(self, files: Sequence[RowFile], renamed: Mapping[int, Mapping[str, str]] | None = None) -> None:
        self.files = files
        self.renamed = renamed or {}
        self.starts = [0, *accumulate(map(len, files))]
        self.datasets: list[str] = []
        self._codes = [self._code_datasets(number) for number in range(len(files))]

    def __len__(self) -> int:
        return self.starts[-1]

    def column(self, name: str) -> Any:
        """Return a column of the index over all files."""
        import numpy as np

        return np.concatenate([file.index.column(name) for file in self.files])

    def copy(self, places: "array[int]", writer: RowWriter, on_rows: Progress) -> None:
        """Append rows, in this order."""
        import numpy as np

        wanted = np.frombuffer(places, np.uint64).astype(np.int64)
        for start in range(0, len(wanted), _COPIED_ROWS):
            self._copy_some(wanted[start : start + _COPIED_ROWS], writer, on_rows)

    def _copy_some(self, places: Any, writer: RowWriter, on_rows: Progress) -> None:
        import numpy as np

        owners = np.searchsorted(np.array(self.starts[1:]), places, side="right")
        own = places - np.array(self.starts)[owners]
        columns = {name: np.empty(len(places), dtype=kind) for name, kind in COLUMNS.items()}
        codes = np.empty(len(places), dtype=np.int32)
        for number in np.unique(owners).tolist():
            is_here, index = owners == number, self.files[number].index
            for name, column in columns.items():
                column[is_here] = index.column(name)[own[is_here]]
            codes[is_here] = self._codes[number][own[is_here]]
        start = writer.file.bytes_written
        for begin in range(0, len(places), _READ_ROWS):
            piece = slice(begin, begin + _READ_ROWS)
            lines = self._read_lines(owners[piece], own[piece])
            for number in set(owners[piece].tolist()) & self.renamed.keys():
                self._rename(number, begin, owners[piece], lines, columns)
            writer.file.write(b"\n".join(lines) + b"\n")
            on_rows(len(lines))
        sizes = columns["size"].astype(np.uint64) + np.uint64(1)
        columns["start"] = np.uint64(start) + np.cumsum(sizes) - sizes
        writer.add_index(columns, codes.tolist(), self.datasets)

    def _read_lines(self, owners: Any, own: Any) -> list[bytes]:
        numbers = set(owners.tolist())
        if len(numbers) == 1:
            return list(self.files[numbers.pop()].read_lines(own))
        lines = [b""] * len(owners)
        for number in numbers:
            places = (owners == number).nonzero()[0]
            for place, line in zip(places.tolist(), self.files[number].read_lines(own[places]), strict=True):
                lines[place] = line
        return lines

    def _rename(self, number: int, begin: int, owners: Any, lines: list[bytes], columns: Mapping[str, Any]) -> None:
        for place in (owners == number).nonzero()[0].tolist():
            lines[place], origin = _rename_source(lines[place], self.renamed[number])
            columns["size"][begin + place] = len(lines[place])
            if columns["conversation"][begin + place] and origin is not None:
                columns["conversation"][begin + place] = hash_conversation(origin.conversation)

    def _code_datasets(self, number: int) -> Any:
        """Return the codes of a file's datasets, by their names after renaming."""
        import numpy as np

        index, names = self.files[number].index, self.renamed.get(number, {})
        own = []
        for name in index.datasets:
            written = names.get(name, name)
            if written not in self.datasets:
                self.datasets.append(written)
            own.append(self.datasets.index(written))
        return np.array(own, dtype=np.int32)[index.dataset_codes]


def _rename_source(line: bytes, names: Mapping[str, str]) -> tuple[bytes, Origin | None]:
    """Return a line with another dataset's name in its origin."""
    import orjson

    record = orjson.loads(line)
    source, slash, rest = str(record.get("origin", "")).partition("/")
    record["origin"] = f"{names.get(source, source)}{slash}{rest}"
    return orjson.dumps(record), Origin.parse(record["origin"])
