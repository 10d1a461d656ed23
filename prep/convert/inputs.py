"""What a conversion reads: its files, stdin's copy, their format, hashes, and whether they change meanwhile."""

import sys
import threading
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from prep.choices import StdinFormat
from prep.convert.objects import fetch_input, name_last, read_address
from prep.errors import InputError, UserError
from prep.formats import SOURCES, Source, UnknownFormatError, check_column_map, list_columns, recognise_source
from prep.formats.columns import suggest_map, write_map
from prep.inputs.files import FoundInputs, find_inputs
from prep.inputs.formats import open_reader
from prep.inputs.lines import LinesReader
from prep.inputs.reader import InputFile, Reader, ReadOptions, SourceRow
from prep.inputs.tables import DelimitedReader
from prep.parallel.threads import WorkAhead
from prep.rows.line_blocks import cut_into_lines
from prep.storage.fingerprints import Fingerprint, hash_file
from prep.storage.manifests import describe_making
from prep.storage.os_errors import explain_os_error, explain_read_error
from prep.storage.stream_hash import open_hash

STDIN = Path("-")
_LOOKED_AT_BYTES = 4096
_HASHED_BYTES = 1 << 20
# How long a file's hash waits for output to be hashed with it, before it goes on a little by itself.
_PATIENCE_S = 0.05
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_MOST_NOTES = 20
_LOOKED_AT_ROWS = 50


class OpenedInputs(NamedTuple):
    """What reads each input, what was left out of folders, and what was found out on the way, in words."""

    readers: list[Reader]
    left_out: list[Path]
    found_notes: list[str]

    @property
    def notes(self) -> list[str]:
        """Say how inputs are read, each with its file; of very many alike, the first ones."""
        of_readers = [f"{reader.file.name}: {note}" for reader in self.readers for note in reader.notes]
        notes = self.found_notes + of_readers
        more = len(notes) - _MOST_NOTES
        return notes if more <= 0 else [*notes[:_MOST_NOTES], f"and {more:,} more inputs that were looked into"]


def open_inputs(inputs: Sequence[Path], options: ReadOptions, stack: ExitStack) -> OpenedInputs:
    """Return what reads the files to convert; the stack keeps a copy of stdin and of what lies in object stores."""
    if STDIN in inputs and len(inputs) > 1:
        raise UserError("'-' reads stdin, and cannot stand beside other inputs")
    reads_stdin = STDIN in inputs
    found = FoundInputs([_keep_stdin(options, stack)]) if reads_stdin else _find_inputs(inputs, options, stack)
    return OpenedInputs([open_reader(file, options) for file in found.files], found.left_out, found.notes)


def _find_inputs(inputs: Sequence[Path], options: ReadOptions, stack: ExitStack) -> FoundInputs:
    """Return the input files; the stack keeps the copies of those that lie in object stores."""
    addresses = {path: address for path in inputs if (address := read_address(path))}
    if not addresses:
        return find_inputs(inputs, options)
    import tempfile

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lfc-")))
    fetched = {}
    for number, (path, address) in enumerate(addresses.items()):
        room = folder / str(number) / name_last(address)
        room.mkdir(parents=True)
        fetched[path] = fetch_input(address, room)
    copies = [fetched[path].path if path in fetched else path for path in inputs]
    names = {local: name for each in fetched.values() for local, name in each.names.items()}

    def rename(text: str) -> str:
        for each in fetched.values():
            text = each.rename(text)
        return text

    try:
        found = find_inputs(copies, options)
    except UserError as error:
        raise InputError(rename(str(error)), hint=error.hint) from error
    found.files = [file._replace(name=names.get(file.path, file.name)) for file in found.files]
    found.left_out = [Path(names.get(path, path)) for path in found.left_out]
    found.notes = [*(each.note for each in fetched.values()), *map(rename, found.notes)]
    return found


def _keep_stdin(options: ReadOptions, stack: ExitStack) -> InputFile:
    """Copy stdin to a file: it is looked at more than once."""
    import tempfile

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lfc-")))
    path = folder / f"stdin.{options.stdin_format or 'jsonl'}"
    with explain_os_error(path), path.open("wb") as stream:
        for data in cut_into_lines(sys.stdin.buffer, "stdin", 1 << 20, options.max_line_bytes):
            stream.write(data)
    if not options.stdin_format:
        _require_json(path)
    return InputFile(path, "stdin", "-", options.max_line_bytes)


def _require_json(path: Path) -> None:
    """Raise InputError when what stdin held does not begin as JSON does: a table and a text look alike."""
    with path.open("rb") as stream:
        start = stream.read(_LOOKED_AT_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start and start[:1] not in b"{[" and not start.startswith(_UTF_16):
        raise InputError("stdin holds no JSON", hint=f"--stdin-format {', '.join(StdinFormat)}: say what it holds")


def recognise_inputs(
    readers: Sequence[Reader],
    format_name: str | None,
    column_map: Mapping[str, str],
    dropped: Collection[str] = (),
) -> tuple[Source, set[str]]:
    """Return the source of all files, and the columns of its first ones, but those that are dropped."""
    if format_name is not None and format_name not in SOURCES:
        raise UserError(f"--format {format_name} is not known; known are {', '.join(SOURCES)}")
    source = SOURCES[format_name] if format_name else None
    seen: set[str] = set()
    there: set[str] = set()
    for reader in readers:
        found = reader.read_columns()
        if not found:
            continue
        columns = [column for column in found if column not in dropped]
        there.update(found)
        try:
            source = source or recognise_source(columns, column_map)
            if not seen:
                check_column_map(source, columns, column_map)
        except InputError as error:
            hint = (_suggest(reader, columns) if isinstance(error, UnknownFormatError) else "") or error.hint
            raise InputError(f"{reader.file.name}: {error}", hint=hint) from error
        seen |= set(columns)
    absent = sorted(set(dropped) - there)
    # A turn's field that is not dropped is told of by the turn itself.
    if absent and there and not (source is not None and source.holds_turns):
        raise InputError(f"column '{absent[0]}' of --drop not found; {list_columns(sorted(there))}")
    if source is None:
        # Not one row can be read: any source rejects them all, each with its own reason.
        source = SOURCES["alpaca"]
    return source, seen


def _suggest(reader: Reader, columns: Sequence[str]) -> str:
    """Return the options that read a file of no known format, judged by its columns and first rows; "" for none."""
    rows = [row.values for row in islice(reader.read_rows(), _LOOKED_AT_ROWS) if isinstance(row, SourceRow)]
    mapping = suggest_map(columns, rows)
    return f"{write_map(mapping)}, if that is what they hold" if mapping else ""


class InputWatch:
    """Notices that an input changes while it is read."""

    def __init__(self, files: Sequence[InputFile]) -> None:
        self._seen = {file.path: Fingerprint.of(file.path) for file in files}

    def check(self) -> None:
        """Raise InputError when a file is no longer what it was at the start."""
        for path, fingerprint in self._seen.items():
            fingerprint.check(path)


class InputHashes:
    """The files' sha256; of those that are not hashed while read, a thread works it out from the start on."""

    def __init__(self, readers: Sequence[Reader], stack: ExitStack) -> None:
        self._files = [reader.file for reader in readers]
        self._known: dict[int, str] = {}
        self._is_early = True
        indices = [index for index, reader in enumerate(readers) if not _is_hashed_while_read(reader)]
        self._coming: Iterator[tuple[int, str]] = iter(())
        if indices:
            stop = threading.Event()
            self._coming = stack.enter_context(closing(WorkAhead(self._hash(indices, stop), len(indices))))
            stack.callback(stop.set)

    def note(self, index: int, sha256: str) -> None:
        """Take the hash of a file that was hashed while it was read."""
        self._known[index] = sha256

    def of(self, index: int) -> str:
        """Return the hash of a file, once all that the thread works out are there."""
        self._is_early = False
        self._known.update(self._coming)
        if index not in self._known:
            self._known[index] = hash_file(self._files[index].path)
        return self._known[index]

    def _hash(self, indices: list[int], stop: threading.Event) -> Generator[tuple[int, str], None, None]:
        for index in indices:
            yield index, self._hash_early(self._files[index].path, stop)

    def _hash_early(self, path: Path, stop: threading.Event) -> str:
        """Hash a file while it is converted, together with what is written: that takes half as long."""
        digest = open_hash()
        with closing(digest), explain_read_error(path), path.open("rb", buffering=0) as stream:
            while not stop.is_set() and (block := stream.read(_HASHED_BYTES)):
                digest.update(block)
                if self._is_early:
                    digest.wait_for_others(_PATIENCE_S)
            return digest.hexdigest()


def _is_hashed_while_read(reader: Reader) -> bool:
    return isinstance(reader, LinesReader | DelimitedReader) and not reader.is_packed


def describe_input_file(file: InputFile, sha256: str, rows: int) -> dict[str, Any]:
    """Return the manifest's entry of an input."""
    return {
        "path": file.name,
        "label": file.label,
        "bytes": file.path.stat().st_size,
        "sha256": sha256,
        "rows": rows,
        **describe_making(file.path, sha256),
    }


def check_texts(arguments: Mapping[str, Sequence[str]]) -> None:
    """Raise UserError when an option's argument is no text: bytes that are no UTF-8 would end in rows."""
    for name, given in arguments.items():
        for text in given:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise UserError(f"{name} is not valid UTF-8", hint="type it in a terminal set to UTF-8") from error
