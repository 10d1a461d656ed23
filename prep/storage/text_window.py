"""A window on a text file as UTF-8, from which whole lines can be taken as bytes, or read one by one."""

import codecs
from collections.abc import Callable
from typing import BinaryIO

_CHUNK_BYTES = 1 << 20
_CHARACTER_BYTES = 4


class TextWindow:
    """What was read and not taken yet is `data` from `at` on; `has_ended` when nothing follows it.

    Shape: `encoding` is what the stream is in; one that `is_sound` is in UTF-8 for certain, and is not decoded.
    `watch` gets all bytes as they are read.
    """

    def __init__(
        self,
        stream: BinaryIO,
        encoding: str,
        *,
        is_sound: bool,
        watch: Callable[[bytes], None] | None = None,
    ) -> None:
        self._stream = stream
        self._watch = watch
        usual = "utf-8-sig" if encoding == "utf-8" else encoding
        self._decoder = None if is_sound else codecs.getincrementaldecoder(usual)()
        self.data, self.at, self.has_ended = b"", 0, False

    @property
    def waiting(self) -> int:
        """How many bytes were read and not taken yet."""
        return len(self.data) - self.at

    def read_on(self) -> bool:
        """Let go of what was taken, and read as much again as is left, or a chunk; False at the end.

        Raises: UnicodeDecodeError at bytes that the encoding does not have.
        """
        if self.has_ended:
            return False
        kept = self.data[self.at :]
        more = self._stream.read(max(_CHUNK_BYTES, len(kept)))
        self.has_ended = not more
        if self._watch is not None:
            self._watch(more)
        self.data, self.at = kept + self._decode(more), 0
        return not self.has_ended or len(self.data) > len(kept)

    def readline(self, most: int) -> str:
        """Take a line with its end, or of a longer one the first characters; "" at the end."""
        end = self._find_line_end(most * _CHARACTER_BYTES)
        line = self.data[self.at : end]
        self.at = end
        # One that is cut may end amid a character, and is too long in any case.
        return line.decode("utf-8", "replace" if len(line) > most else "strict")[:most]

    def _find_line_end(self, most: int) -> int:
        searched = 0
        while searched < most:
            place = self.at + searched
            end = self.data.find(b"\n", place)
            last = len(self.data) if end < 0 else end
            single = self.data.find(b"\r", place, last)
            if 0 <= single < last - 1 or (0 <= single == last - 1 and end < 0 and self.has_ended):
                return single + 1
            if end >= 0:
                return end + 1
            # A line end of two bytes may be cut in two.
            searched = max(self.waiting - 1, 0)
            if not self.read_on():
                return len(self.data)
        return self.at + most

    def _decode(self, more: bytes) -> bytes:
        return more if self._decoder is None else self._decoder.decode(more, final=not more).encode()
