"""JSONL, packed or not: the format with a fast road, which reads it in blocks."""

from collections.abc import Generator, Iterator

from prep.inputs.reader import BadRow, InputFile, Reader, SourceRow, parse_lines
from prep.rows.line_blocks import BLOCK_BYTES, Block, read_blocks, read_byte_blocks
from prep.storage.packed import find_packing


class LinesReader(Reader):
    """One JSON object a line; `is_packed` files have no places to seek."""

    def __init__(self, file: InputFile) -> None:
        super().__init__(file)
        self.is_packed = find_packing(file.path) is not None
        self._bytes = file.path.stat().st_size

    def read_rows(self) -> Iterator[SourceRow | BadRow]:
        """Yield the rows; each one's number is its line."""
        for block in self.read_blocks():
            yield from parse_lines(block.data, block.first_row)

    def read_blocks(self, size: int = BLOCK_BYTES) -> Generator[Block, None, None]:
        """Yield blocks of whole lines with the place and number of each."""
        for block in read_blocks(self.file.path, size, self.file.max_line_bytes):
            self._note(block.start + len(block.data))
            yield block

    def read_bytes(self, size: int) -> Generator[bytes, None, None]:
        """Yield blocks of whole lines alone, which is faster."""
        done = 0
        for data in read_byte_blocks(self.file.path, size, self.file.max_line_bytes):
            done += len(data)
            self._note(done)
            yield data

    def _note(self, done: int) -> None:
        """Take note of bytes that were read; of a packed file nobody knows how many there are."""
        self.share = 0.0 if self.is_packed else min(done / max(self._bytes, 1), 1.0)
