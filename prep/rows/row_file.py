"""Converted files as rows that stay on the disk, found by their index, and copied as the bytes that they are."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prep.errors import InputError, RecordError
from prep.rows.indexing import MEDIA_FLAGS, ROW_FORMS, RowFacts, build_index, describe_form, describe_row
from prep.rows.json_rows import check_json_suffix
from prep.rows.kinds import Form
from prep.rows.line_blocks import read_blocks
from prep.rows.records import TrainingRow, read_record
from prep.rows.repeated_keys import refuse_repeated_keys
from prep.storage.fingerprints import Fingerprint
from prep.storage.manifests import describe_input, read_manifest
from prep.storage.os_errors import explain_read_error
from prep.storage.paths import require_file
from prep.storage.row_index import RowIndex, read_index
from prep.wording import in_shell

_COPIED_ROWS = 256


class RowFile:
    """A JSONL whose rows are read in any order; `index` says of each where it lies and what it is.

    The index is the file's own where there is one that fits; else every row is read and judged once.
    """

    def __init__(self, path: Path, *, is_input: bool = False) -> None:
        """Open a file; `is_input` hashes it, so that the index fits for certain, and `entry` describes it.

        Raises: InputError at the first row that `lfc prep convert` would not have written.
        """
        require_file(path)
        check_json_suffix(path)
        self.path = path
        self._seen = Fingerprint.of(path)
        # What a manifest says of this input.
        self.entry = describe_input(path) if is_input else {}
        index = read_index(path, read_manifest(path, self.entry.get("sha256")))
        self._is_mapped = index is not None
        self.index: RowIndex = index if index is not None else build_index(_describe_rows(path))
        if not len(self.index):
            raise InputError(f"{path} has no rows")
        with explain_read_error(path):
            self._stream = path.open("rb", buffering=0)

    def __len__(self) -> int:
        return len(self.index)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    @property
    def form(self) -> Form:
        """The form of all the rows; raises InputError when some have another, or other media."""
        kinds, media = self.index.column("kind"), self.index.column("flags") & sum(MEDIA_FLAGS.values())
        others = ((kinds != kinds[0]) | (media != media[0])).nonzero()[0]
        if len(others):
            first, other = self.describe_form(0), self.describe_form(int(others[0]))
            raise InputError(
                f"{self.path} row {int(others[0]) + 1} is {other}, and row 1 is {first}",
                hint=f"lfc prep lint {in_shell(self.path)} tells all",
            )
        return ROW_FORMS[kinds[0]]

    def describe_form(self, place: int) -> str:
        """Return what a row is, for a message."""
        return describe_form(ROW_FORMS[self.index.column("kind")[place]], int(self.index.column("flags")[place]))

    def read_lines(self, places: Any) -> list[bytes]:
        """Return rows' lines without their line ends; places count from 0."""
        starts, sizes = self.index.column("start")[places].tolist(), self.index.column("size")[places].tolist()
        with explain_read_error(self.path):
            lines = self._read_run(starts, sizes)
            lines = lines or [self._read(start, size) for start, size in zip(starts, sizes, strict=True)]
        for line, size in zip(lines, sizes, strict=True):
            if len(line) != size or (self._is_mapped and line[:1] + line[-1:] != b"{}"):
                raise InputError(
                    f"{self.path} changed while it was read", hint="run again when nothing writes to it"
                )
        return lines

    def read_row(self, place: int) -> TrainingRow:
        """Return a row as `lfc prep convert` wrote it; raises InputError with its number when it did not."""
        return parse_row(self.path, place, self.read_lines([place])[0], was_judged=self._is_mapped)

    def read_rows(self, places: Iterable[int] | None = None) -> Iterator[TrainingRow]:
        """Yield rows, all in the file's order when no places are given."""
        for batch in self._cut_batches(places):
            for place, line in zip(batch, self.read_lines(batch), strict=True):
                yield parse_row(self.path, place, line, was_judged=self._is_mapped)

    def stream_lines(self, places: Iterable[int] | None = None) -> Iterator[bytes]:
        """Yield rows' lines as `read_lines` returns them, all in the file's order when no places are given."""
        for batch in self._cut_batches(places):
            yield from self.read_lines(batch)

    def _cut_batches(self, places: Iterable[int] | None) -> Iterator[list[int]]:
        wanted = iter(range(len(self)) if places is None else places)
        while batch := list(islice(wanted, _COPIED_ROWS)):
            yield batch

    def check_unchanged(self) -> None:
        """Raise InputError when the file is no longer the one that was opened."""
        self._seen.check(self.path)

    def _read_run(self, starts: list[int], sizes: list[int]) -> list[bytes]:
        """Return lines that follow each other, read at once; none when they do not."""
        if len(starts) < 2 or starts[-1] + sizes[-1] - starts[0] != sum(sizes) + len(sizes) - 1:
            return []
        if any(start + size + 1 != later for start, size, later in zip(starts, sizes, starts[1:], strict=False)):
            return []
        run = self._read(starts[0], starts[-1] + sizes[-1] - starts[0])
        return [
            run[start - starts[0] : start - starts[0] + size] for start, size in zip(starts, sizes, strict=True)
        ]

    def _read(self, start: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._stream.fileno(), size, start)
        self._stream.seek(start)
        return self._stream.read(size)


def parse_row(path: Path, place: int, line: bytes, *, was_judged: bool = False) -> TrainingRow:
    """Return a line's row; raises InputError with its number when it is none that convert writes.

    Which keys stand twice is not asked again of a row that was judged when it was written.
    """
    import orjson

    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"{path} row {place + 1}: not JSON: {error}", hint=f"lfc prep lint {in_shell(path)} tells all"
        ) from error
    try:
        if not was_judged:
            refuse_repeated_keys(line, value)
        return read_record(value)
    except RecordError as error:
        hint = error.hint and error.hint.replace("FILE", str(path))
        raise InputError(f"{path} row {place + 1} {error}", hint=hint) from error


def _describe_rows(path: Path) -> Iterator[tuple[int, int, RowFacts]]:
    place = 0
    for block in read_blocks(path):
        start = block.start
        for line in block.data.split(b"\n"):
            text = line.rstrip(b"\r")
            if text and not text.isspace():
                yield start, len(text), describe_row(parse_row(path, place, text))
                place += 1
            start += len(line) + 1
