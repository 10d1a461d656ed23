"""When two rows ask the same: a question's key, without case, width, white space and punctuation."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

# `-3` is not 3, and 2*5 not 25: before a digit these are part of a number or a sum.
_SIGN_BEFORE_DIGIT = re.compile(r"[.\-*/%:](?=\d)")
_KEPT = {ord(sign): 0xE000 + ord(sign) for sign in ".-*/%:"}


class _Dropped(dict[int, int | None]):
    """What `str.translate` makes of each character, learnt as characters come."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        keep = 0xE000 <= code < 0xE100 or character.isalnum()
        keep = keep or (unicodedata.category(character)[0] in "SM" and character not in "~`")
        self[code] = code if keep else None
        return self[code]


_DROPPED = _Dropped()


def normalise_question(text: str) -> str:
    """Return a question's key: NFKC, case folded, without white space and punctuation.

    >>> normalise_question("What  is ＡＦＰ?") == normalise_question("what is afp")
    True
    >>> normalise_question("2 * 5 =") == normalise_question("25 =")
    False
    """
    folded = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    signed = _SIGN_BEFORE_DIGIT.sub(lambda match: match[0].translate(_KEPT), folded)
    return signed.translate(_DROPPED) or folded


def read_question(record: Mapping[str, Any]) -> str:
    """Return what a row asks: instruction and input, or for a ShareGPT row all that stands before its answer."""
    if "conversations" in record:
        return "\n".join(turn["value"] for turn in record["conversations"][:-1])
    return f"{record['instruction']}\n{record.get('input') or ''}"


def hash_question(record: Mapping[str, Any]) -> bytes:
    """Return 16 bytes that are equal for rows with the same normalised question."""
    return hash_text(normalise_question(read_question(record)))


def hash_text(text: str) -> bytes:
    """Return 16 bytes of a text's hash: short enough to keep millions of them."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
