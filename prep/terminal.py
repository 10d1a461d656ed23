"""Text of somebody else, made safe to show on a terminal."""

import json
import re
from collections.abc import Callable

# Runs of control characters but tab and line feed, of C1 controls, and of what turns text round or hides in it.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]+"
)

_COLOUR = re.compile("\x1b\\[[0-9;:]{0,40}m")


def neutralise(text: str) -> str:
    r"""Return text whose control characters are spelled out: `\x1b`, `\u202e`; tabs and line ends stay.

    What is left can neither move a cursor, set a title or a clipboard, nor turn the order of characters round.
    """
    return _UNSAFE.sub(lambda run: "".join([_SPELLED[letter] for letter in run[0]]), text)


def neutralise_line(text: str) -> str:
    r"""Return text as one line: as `neutralise`, and line ends are spelled `\n`."""
    return neutralise(text).replace("\n", "\\n")


def neutralise_log(text: str) -> str:
    r"""Return what a program printed, safe to show: its colours go, and a bar that is drawn anew is a new line.

    A lone `\r` becomes a line end; all other control characters are spelled out.
    """
    return neutralise(_COLOUR.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def escape_json(document: str) -> str:
    r"""Return a JSON document in which every character that `neutralise` spells out is written as `\uXXXX`."""
    return _UNSAFE.sub(lambda run: "".join([_ESCAPED[letter] for letter in run[0]]), document)


class _Spellings(dict[str, str]):
    """How each character is written, made when it is first asked for: a log may hold millions of one."""

    def __init__(self, spell: Callable[[str], str]) -> None:
        super().__init__()
        self._spell = spell

    def __missing__(self, letter: str) -> str:
        self[letter] = self._spell(letter)
        return self[letter]


def _spell(letter: str) -> str:
    code = ord(letter)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_SPELLED = _Spellings(_spell)
_ESCAPED = _Spellings(lambda letter: json.dumps(letter)[1:-1])
