"""Many texts as one array of characters, and tables that say something of each of them."""

from collections.abc import Callable, Sequence
from typing import Any

_UNKNOWN = 0xFFFFFFFF
_CODES = 0x110000
BASE = 0x9E3779B97F4A7C15


def read_codes(texts: Sequence[str]) -> tuple[Any, Any]:
    """Return the characters of all texts, one after the other, as uint32, and where each text ends."""
    import numpy as np

    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return codes, np.cumsum(np.array([len(text) for text in texts], dtype=np.int64))


class CharacterTable:
    """What a function says of each character, asked once for each."""

    def __init__(self, tell: Callable[[int], int]) -> None:
        import numpy as np

        self._tell = tell
        # What it said, by code; 0xFFFFFFFF for a character that it was not asked of.
        self.table = np.full(_CODES, _UNKNOWN, dtype=np.uint32)

    def look_up(self, codes: Any) -> Any:
        """Return what the function says of each of the characters, uint32."""
        import numpy as np

        told = self.table[codes]
        is_new = told == _UNKNOWN
        if is_new.any():
            for code in np.unique(codes[is_new]).tolist():
                self.table[code] = self._tell(code)
            told = self.table[codes]
        return told


def mix(numbers: Any) -> Any:
    """Return numbers, uint64, whose bits depend on more of each other."""
    import numpy as np

    mixed = numbers * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    return mixed
