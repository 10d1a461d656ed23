"""Cuts text into the pieces that Qwen's tokenizers encode one by one.

Python's own regular expressions, and `_pieces.c`, cut as the tokenizer's do for the characters of `_SAFE_RANGES`;
a text with any other character, and any other kind of tokenizer, is left to the tokenizer itself. A test holds
every safe character equal.
"""

import codecs
import json
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any

# Qwen2's, kept by Qwen3.
_KNOWN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Old characters whose class no Unicode version moved, that stay as they are under NFC whatever stands beside
# them: ASCII, Latin, Greek, Cyrillic, punctuation, mathematics, kana, Chinese, full-width forms.
_SAFE_RANGES = (
    *((0x09, 0x0A), (0x0D, 0x0D), (0x20, 0x7E), (0xA0, 0x17E), (0x391, 0x3A1), (0x3A3, 0x3C9), (0x400, 0x45F)),
    *((0x2010, 0x2027), (0x2030, 0x205E), (0x2190, 0x22FF), (0x2460, 0x24EA), (0x2500, 0x266F), (0x3000, 0x3029)),
    *((0x3041, 0x3096), (0x30A1, 0x30FE), (0x4E00, 0x9FA5), (0xFF01, 0xFF5E)),
)
# How a byte-level vocabulary writes a blank.
_SPACE_SIGN = "\u0120"
# As `_pieces.c` numbers them.
_UNSAFE, _LETTER, _NUMBER, _SPACE, _LINE_END, _OTHER = range(6)


class PieceCutter:
    """Knows whether a tokenizer cuts as Qwen's does, and then cuts as it; `added` are its added tokens and ids."""

    def __init__(self, tokenizer: Any) -> None:
        tokens = tokenizer.get_added_tokens_decoder().items()
        # Of two that begin at the same place the longer one is meant.
        self.added = sorted(((token.content, number) for number, token in tokens), key=lambda pair: -len(pair[0]))
        self.is_known = _cuts_as_known(tokenizer)
        self._added = re.compile("|".join(re.escape(text) for text, _ in self.added) or r"(?!)")
        self._piece, self._unsafe = _compile_patterns()

    def is_safe(self, text: str) -> bool:
        """Whether a text can be cut here; it is encoded whole otherwise."""
        return self.is_known and self._unsafe.search(text) is None

    def cut(self, text: str) -> list[str]:
        """Return the pieces of a safe text without added tokens."""
        return self._piece.findall(text)

    def cut_with_added(self, text: str) -> list[str]:
        """Return the pieces of a safe text, an added token being one."""
        pieces: list[str] = []
        place = 0
        for added in self._added.finditer(text) if "<" in text else ():
            pieces += self.cut(text[place : added.start()])
            pieces.append(added[0])
            place = added.end()
        return pieces + self.cut(text[place:])


def spell_bytes(piece: str) -> str:
    """Return a piece as byte-level vocabularies write it: a printable character for each byte."""
    if piece.isascii() and piece.isprintable():
        return piece.replace(" ", _SPACE_SIGN)
    return codecs.charmap_decode(piece.encode(), "strict", _spelling())[0]


@cache
def _spelling() -> str:
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    return "".join(chr(256 + others.index(byte) if byte in others else byte) for byte in range(256))


@cache
def read_classes() -> bytes:
    """Return the class of each code below 65,536."""
    classes = bytearray(1 << 16)
    for first, last in _SAFE_RANGES:
        for code in range(first, last + 1):
            classes[code] = _find_class(chr(code))
    return bytes(classes)


def _find_class(sign: str) -> int:
    category = unicodedata.category(sign)[0]
    if category in "LN":
        return _LETTER if category == "L" else _NUMBER
    if sign in "\r\n":
        return _LINE_END
    return _SPACE if sign.isspace() else _OTHER


def _compile_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the pattern of a piece, and that of a character that is not safe."""
    signs = [chr(code) for first, last in _SAFE_RANGES for code in range(first, last + 1)]
    letters = _write_class(sign for sign in signs if unicodedata.category(sign)[0] == "L")
    numbers = _write_class(sign for sign in signs if unicodedata.category(sign)[0] == "N")
    piece = (
        rf"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\r\n{letters}{numbers}]?[{letters}]+|[{numbers}]"
        rf"| ?[^\s{letters}{numbers}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return re.compile(piece), re.compile(f"[^{_write_class(signs)}]")


def _write_class(signs: Iterable[str]) -> str:
    """Return the ranges of a character class."""
    ranges: list[list[int]] = []
    for code in sorted(map(ord, signs)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


def _cuts_as_known(tokenizer: Any) -> bool:
    """Whether a tokenizer cuts as Qwen's does, so that its pieces can be found here."""
    added = tokenizer.get_added_tokens_decoder().values()
    if any(token.normalized or token.lstrip or token.rstrip or token.single_word for token in added):
        return False
    if any("<" not in token.content for token in added) or tokenizer.encode_special_tokens:
        return False
    if tokenizer.normalizer is None or tokenizer.pre_tokenizer is None:
        return False
    normalizer = json.loads(tokenizer.normalizer.__getstate__())
    steps = json.loads(tokenizer.pre_tokenizer.__getstate__()).get("pretokenizers", [])
    if normalizer != {"type": "NFC"} or [step["type"] for step in steps] != ["Split", "ByteLevel"]:
        return False
    split, bytes_step = steps
    return (
        split["pattern"] == {"Regex": _KNOWN_PATTERN}
        and (split["behavior"], split["invert"]) == ("Isolated", False)
        and (bytes_step["add_prefix_space"], bytes_step["use_regex"]) == (False, False)
    )
