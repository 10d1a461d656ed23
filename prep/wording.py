"""Numbers, and words of a shell, in sentences."""

import re
import shlex
from pathlib import PurePath

_PLAIN = re.compile(r"[\w@%+=:,./-]+")


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or the plural: `1 row`, `1,200 rows`, `0 copies`."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{number:,} {plural}"


def in_shell(word: PurePath | str) -> str:
    """Return a path or a name as a shell takes it, for a command in a message.

    >>> in_shell("my rows.csv"), in_shell("问答.csv"), in_shell("-rows.csv")
    ("'my rows.csv'", '问答.csv', './-rows.csv')
    """
    text = word.as_posix() if isinstance(word, PurePath) else word
    text = f"./{text}" if text.startswith("-") else text
    return text if _PLAIN.fullmatch(text) else shlex.quote(text)
