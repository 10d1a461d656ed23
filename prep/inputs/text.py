"""Plain text for pre-training: LLaMA-Factory takes a .txt for one row a line, and so does this by default."""

import io
from collections.abc import Iterator

from prep.choices import TextRow
from prep.errors import InputError
from prep.inputs.encodings import find_encoding
from prep.inputs.reader import BadRow, InputFile, Reader, ReadOptions, SourceRow
from prep.rows.line_blocks import MAX_LINE_HINT
from prep.storage.os_errors import explain_read_error
from prep.storage.packed import open_unpacked

COLUMN = "text"


class TextReader(Reader):
    """Rows of one text each; blank ones are none. A row's number is the line on which it begins."""

    def __init__(self, file: InputFile, options: ReadOptions) -> None:
        super().__init__(file)
        if options.split_text not in tuple(TextRow):
            raise InputError(f"--split-text {options.split_text} is not known; known are {', '.join(TextRow)}")
        self._split = TextRow(options.split_text)
        with explain_read_error(file.path), open_unpacked(file.path) as stream:
            self._encoding, note = find_encoding(file.name, stream, options.encoding)
        if note:
            self.notes.append(note)
        self.notes.append(
            {
                TextRow.LINE: "each line is a row, as LLaMA-Factory reads a .txt (--split-text blank-line, file)",
                TextRow.BLANK_LINE: "the text between blank lines is a row",
                TextRow.FILE: "the file is one row",
            }[self._split]
        )

    def read_rows(self) -> Iterator[SourceRow | BadRow]:
        """Yield the texts as rows of one column."""
        lines: list[str] = []
        first, size = 1, 0
        for number, line in enumerate(self._read_lines(), 1):
            is_end = self._split == TextRow.LINE or (self._split == TextRow.BLANK_LINE and not line.strip())
            size += len(line)
            if size > self.file.max_line_bytes:
                raise InputError(
                    f"{self.file.path}: the row from line {first:,} on is longer than "
                    f"{self.file.max_line_bytes:,} bytes",
                    hint="--split-text blank-line or line" if self._split == TextRow.FILE else MAX_LINE_HINT,
                )
            lines.append(line)
            if is_end:
                yield from _make_row(first, lines)
                lines, first, size = [], number + 1, 0
        yield from _make_row(first, lines)

    def _read_lines(self) -> Iterator[str]:
        path, most = self.file.path, self.file.max_line_bytes
        encoding = "utf-8-sig" if self._encoding == "utf-8" else self._encoding
        with explain_read_error(path), open_unpacked(path) as stream:
            try:
                text = io.TextIOWrapper(stream, encoding=encoding)
                while line := text.readline(most + 1):
                    yield line
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path} is not in {encoding.upper()}: {error.reason}", hint="--encoding NAME"
                ) from error


def _make_row(number: int, lines: list[str]) -> Iterator[SourceRow]:
    text = "".join(lines).strip("\r\n")
    if text.strip():
        yield SourceRow(number, {COLUMN: text})
