"""Text of somebody else, made safe to show on a terminal."""

import json
import re

# Control characters but tab and line feed, C1 controls, and what changes the direction of text or hides in it.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)

_COLOUR = re.compile("\x1b\\[[0-9;:]{0,40}m")


def neutralise(text: str) -> str:
    r"""Return text whose control characters are spelled out: `\x1b`, `\u202e`; tabs and line ends stay.

    What is left can neither move a cursor, set a title or a clipboard, nor turn the order of characters round.
    """
    return _UNSAFE.sub(_spell, text)


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
    return _UNSAFE.sub(lambda match: json.dumps(match[0])[1:-1], document)


def _spell(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
