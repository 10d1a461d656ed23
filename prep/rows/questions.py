"""When two rows ask the same: a question's key, without case, width, white space and punctuation."""

import hashlib
import re
import unicodedata

from prep.patterns import LazyPattern

# `-3` is not 3, and 2*5 not 25: before a digit these are part of a number or a sum.
_SIGN_BEFORE_DIGIT = re.compile(r"([.\-*/%:])(?=\d)")
_KEPT = {ord(sign): 0xE000 + ord(sign) for sign in ".-*/%:"}
# Superscripts, subscripts, fractions and Roman numerals, which NFKC would make plain digits and letters of.
_WRITTEN_SMALL = {
    code: 0xE100 + (code & 0xFFF)
    for code in (0xB2, 0xB3, 0xB9, *range(0xBC, 0xBF), *range(0x2070, 0x20A0), *range(0x2150, 0x2190))
}
# What changes what a text says however much of it stays: a number with the sign before it and the unit after
# it, a Chinese numeral, a negation. Two characters of Chinese are a unit, four letters of other scripts.
_NUMERALS = "零〇一二两三四五六七八九十百千万亿壹贰叁肆伍陆柒捌玖拾佰仟半"
_NEGATIONS = "不没沒無无非未勿别莫否"
_FACT = LazyPattern(
    r"[-+*/×÷^=<>≤≥≠±\u2212]?\s?\d+(?:[.,:/]\d+)*\s?(?:[\u4e00-\u9fff]{1,2}|[^\W\d_\u4e00-\u9fff]{1,4}\b|[%‰°])?"
    rf"|[{_NUMERALS}]+|[\ue100-\uefff]+"
    r"|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)"
    r"teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|billion|half|third|quarter|once|twice"
    r"|not|no|never|none|neither|nor|cannot|without|except|unless)\b|n['\u2019]t\b|[不没沒无無非未勿别莫否]"
)


# Wide punctuation, that normalising drops: taken out first, most Chinese texts are in NFKC already.
_WIDE_MARKS = LazyPattern("[，。！？；、“”‘’（）《》〈〉【】「」『』…—·]+")
_MARKS = LazyPattern(r"""[\s.\-*/%:,!?;"'()\[\]{}\\_#&@`~]+""")
_NO_LETTERS = re.compile(r"[\W_]+")
_SMALL = LazyPattern(f"[{''.join(map(chr, _WRITTEN_SMALL))}]")


class _Dropped(dict[int, int | None]):
    """What `str.translate` makes of each character, learnt as characters come."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        keep = 0xE000 <= code < 0xF000 or character.isalnum()
        keep = keep or (unicodedata.category(character)[0] in "SM" and character not in "~`")
        self[code] = code if keep else None
        return self[code]


_DROPPED = _Dropped()
_WHITE_ASCII = bytes(code for code in range(128) if chr(code).isspace())
_DROPPED_ASCII = bytes(code for code in range(128) if _DROPPED[code] is None)


def normalise_question(text: str) -> str:
    """Return a question's key: NFKC, case folded, without white space and punctuation.

    >>> normalise_question("What  is ＡＦＰ?") == normalise_question("what is afp")
    True
    >>> normalise_question("2 * 5 =") == normalise_question("25 =")
    False
    """
    if text.isascii():
        folded = text.encode().lower().translate(None, _WHITE_ASCII).decode()
    else:
        folded = "".join(_fold(_WIDE_MARKS.sub(",", text)).split())
    if _SIGN_BEFORE_DIGIT.search(folded) is None:
        return _drop_marks(folded) or "".join(_fold(text).split())
    pieces = _SIGN_BEFORE_DIGIT.split(folded)
    for index, piece in enumerate(pieces):
        pieces[index] = piece.translate(_KEPT) if index % 2 else _drop_marks(piece)
    return "".join(pieces)


def fold_character(code: int) -> int:
    """Return the one character that normalising makes of one, by itself; 0 when it is dropped."""
    kept = _drop_marks("".join(_fold(chr(code)).split()))
    return ord(kept[0]) if kept else 0


def is_fact_character(character: str) -> bool:
    """Whether a character, folded, always stands in one of a text's facts, as digits do."""
    is_small = 0xE100 <= ord(character) < 0xF000
    return character.isdecimal() or is_small or character in _NUMERALS or character in _NEGATIONS


def _drop_marks(text: str) -> str:
    if text.isascii():
        return text.encode().translate(None, _DROPPED_ASCII).decode()
    return _NO_LETTERS.sub(lambda found: found[0].translate(_DROPPED), _MARKS.sub("", text))


def list_facts(text: str) -> list[str]:
    """Return the numbers with sign and unit, and the negations, of a text: rows that differ in one are not alike.

    >>> list_facts("Take ５ mg, not -3")
    ['5mg', 'not', '-3']
    """
    return ["".join(fact.split()) for fact in _FACT.findall(_fold(text))]


def hash_text(text: str | bytes) -> bytes:
    """Return 16 bytes of a text's hash: short enough to keep millions of them."""
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return hashlib.blake2b(content, digest_size=16).digest()


def _fold(text: str) -> str:
    """Fold case and width, and keep x² apart from x2."""
    if text.isascii():
        return text.lower()
    kept = text.translate(_WRITTEN_SMALL) if _SMALL.search(text) else text
    return unicodedata.normalize("NFKC", kept).casefold()
