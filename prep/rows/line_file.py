"""Converted files as rows that stay on the disk: where each line lies, and what its record is."""

from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from prep.errors import InputError, RecordError
from prep.rows.line_blocks import read_blocks
from prep.rows.records import TrainingRow, read_record
from prep.rows.repeated_keys import refuse_repeated_keys
from prep.storage.fingerprints import Fingerprint
from prep.storage.os_errors import explain_read_error
from prep.storage.paths import require_file


class LineFile:
    """A JSONL whose lines are read one by one, in any order: 16 bytes a row in memory."""

    def __init__(self, path: Path) -> None:
        require_file(path)
        self.path = path
        self._starts = array("Q")
        self._sizes = array("Q")
        self._seen = Fingerprint.of(path)
        with explain_read_error(path):
            self._stream = path.open("rb")
        for block in read_blocks(path):
            start = block.start
            for line in block.data.split(b"\n"):
                if line and not line.isspace():
                    self._starts.append(start)
                    self._sizes.append(len(line))
                start += len(line) + 1
        if not self._starts:
            self._stream.close()
            raise InputError(f"{path} has no rows")

    def __len__(self) -> int:
        return len(self._starts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def read_line(self, place: int) -> bytes:
        """Return a row's bytes with its line end; places count from 0."""
        with explain_read_error(self.path):
            self._stream.seek(self._starts[place])
            return self._stream.read(self._sizes[place]).rstrip(b"\r") + b"\n"

    def read_row(self, place: int) -> TrainingRow:
        """Return a row as `lfc prep convert` wrote it; raises InputError with its number when it did not."""
        return self._parse(place, self.read_line(place))

    def read_rows(self) -> Iterator[TrainingRow]:
        """Yield every row in the file's order."""
        return (self.read_row(place) for place in range(len(self)))

    def _parse(self, place: int, line: bytes) -> TrainingRow:
        import orjson

        try:
            # Without the line end, which would make every error one of line 2.
            value = orjson.loads(memoryview(line)[:-1])
        except orjson.JSONDecodeError as error:
            raise InputError(
                f"{self.path} row {place + 1}: not JSON: {error}", hint=f"lfc prep lint {self.path} tells all"
            ) from error
        try:
            refuse_repeated_keys(line, value)
            return read_record(value)
        except RecordError as error:
            hint = error.hint and error.hint.replace("FILE", str(self.path))
            raise InputError(f"{self.path} row {place + 1} {error}", hint=hint) from error

    def check_unchanged(self) -> None:
        """Raise InputError when the file is no longer the one whose lines were found."""
        self._seen.check(self.path)
