"""Lines in which lint would find nothing, told in C (`_sound.c`), so that Python looks at the others alone."""

from collections.abc import Callable
from functools import cache
from typing import Final

from prep.choices import ThinkPolicy
from prep.registry.dataset import Dataset
from prep.rows.kinds import Kind
from prep.rows.line_blocks import BLOCK_BYTES
from prep.rows.records import AlpacaRecord

OTHER, UNTAGGED, EMPTY, WITH_THOUGHT = b"\0", b"\1", b"\2", b"\3"
# What a policy allows in the rows of a file.
_ALLOWED: Final = {
    None: UNTAGGED + EMPTY + WITH_THOUGHT,
    ThinkPolicy.TAGGED: EMPTY + WITH_THOUGHT,
    ThinkPolicy.MASKED: UNTAGGED + WITH_THOUGHT,
    ThinkPolicy.STRIP: UNTAGGED,
}
# The columns that such a line has.
SOUND_KEYS: Final = frozenset(AlpacaRecord._fields)


class SoundLines:
    """Says of the lines of a dataset's file, one byte a line, which thought they have if they are plainly sound."""

    def __init__(self, dataset: Dataset, *, can_tell: bool = True) -> None:
        sort = _load_compiled()
        can_tell = (
            can_tell and dataset.formatting == "alpaca" and dataset.kind is Kind.SFT and dataset.policy in _ALLOWED
        )
        self._sort = sort if can_tell else None
        allowed = _ALLOWED.get(dataset.policy, b"")
        self._clear = bytes(code if code in allowed else OTHER[0] for code in range(256))
        self._output = bytearray(BLOCK_BYTES)

    def sort(self, data: bytes) -> bytes:
        """Return the byte of each line, `OTHER` where nothing is said; b"" when nothing is said of any.

        Shape: lines as `data.split(b"\\n")` gives them, less an empty last one; only as many as are told of.
        """
        if self._sort is None:
            return b""
        lines = self._sort(data, self._output)
        return bytes(memoryview(self._output)[:lines]).translate(self._clear)


@cache
def _load_compiled() -> Callable[[bytes, bytearray], int] | None:
    try:
        from prep.quality import _sound
    except ImportError:
        return None
    return _sound.sort_lines
