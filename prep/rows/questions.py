"""When two rows ask the same: a question's key, without case, width, white space and punctuation."""

import hashlib
import re
import unicodedata

from prep.rows.records import TrainingRow

# `-3` is not 3, and 2*5 not 25: before a digit these are part of a number or a sum.
_SIGN_BEFORE_DIGIT = re.compile(r"[.\-*/%:](?=\d)")
_KEPT = {ord(sign): 0xE000 + ord(sign) for sign in ".-*/%:"}
# Superscripts, subscripts, fractions and Roman numerals, which NFKC would make plain digits and letters of.
_WRITTEN_SMALL = {
    code: 0xE100 + (code & 0xFFF)
    for code in (0xB2, 0xB3, 0xB9, *range(0xBC, 0xBF), *range(0x2070, 0x20A0), *range(0x2150, 0x2190))
}
# What changes what a text says however much of it stays: a number with the sign before it and the unit after
# it, a Chinese numeral, a negation. Two characters of Chinese are a unit, four letters of other scripts.
_FACT = re.compile(
    r"[-+*/×÷^=<>≤≥≠±\u2212]?\s?\d+(?:[.,:/]\d+)*\s?(?:[\u4e00-\u9fff]{1,2}|[^\W\d_\u4e00-\u9fff]{1,4}\b|[%‰°])?"
    r"|[零〇一二两三四五六七八九十百千万亿壹贰叁肆伍陆柒捌玖拾佰仟半]+|[\ue100-\uefff]+"
    r"|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)"
    r"teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|billion|half|third|quarter|once|twice"
    r"|not|no|never|none|neither|nor|cannot|without|except|unless)\b|n['\u2019]t\b|[不没沒无無非未勿别莫否]"
)


class _Dropped(dict[int, int | None]):
    """What `str.translate` makes of each character, learnt as characters come."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        keep = 0xE000 <= code < 0xF000 or character.isalnum()
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
    folded = "".join(_fold(text).split())
    signed = _SIGN_BEFORE_DIGIT.sub(lambda match: match[0].translate(_KEPT), folded)
    return signed.translate(_DROPPED) or folded


def list_facts(text: str) -> list[str]:
    """Return the numbers with sign and unit, and the negations, of a text: rows that differ in one are not alike.

    >>> list_facts("Take ５ mg, not -3")
    ['5mg', 'not', '-3']
    """
    return ["".join(fact.split()) for fact in _FACT.findall(_fold(text))]


def hash_question(row: TrainingRow) -> bytes:
    """Return 16 bytes that are equal for rows with the same normalised question, in whatever context."""
    return hash_text(normalise_question(row.question))


def hash_text(text: str) -> bytes:
    """Return 16 bytes of a text's hash: short enough to keep millions of them."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _fold(text: str) -> str:
    """Fold case and width, and keep x² apart from x2."""
    kept = text if text.isascii() else text.translate(_WRITTEN_SMALL)
    return unicodedata.normalize("NFKC", kept).casefold()
