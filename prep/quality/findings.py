"""What lint finds: one finding a fault, its kind, and what mends it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    """The kinds of faults; each value is what --ignore takes."""

    BOM = "bom"
    ENCODING = "encoding"
    CRLF = "crlf"
    BLANK_LINE = "blank-line"
    JSON = "json"
    FILE_NAME = "file-name"
    REPEATED_KEY = "repeated-key"
    NOT_OBJECT = "not-object"
    COLUMNS = "columns"
    TYPE = "type"
    HISTORY = "history"
    TURNS = "turns"
    EMPTY = "empty"
    THINK = "think"
    THINK_POLICY = "think-policy"
    HISTORY_THOUGHT = "history-thought"
    MARKUP = "chat-markup"
    DUPLICATE = "duplicate-question"
    NO_ROWS = "no-rows"
    NAME = "name"
    MISSING_FILE = "missing-file"
    FORMATTING = "formatting"
    TAGS = "tags"
    ENTRY = "entry"


@dataclass(frozen=True)
class Finding:
    """One fault: where, what, and what mends it; `line` counts from 1, and is 0 for a whole file."""

    file: str
    line: int
    kind: Fault
    message: str
    mend: str
    column: int = 0

    @property
    def place(self) -> str:
        """The place as editors understand it: `file:line:column`."""
        numbers = [str(number) for number in (self.line, self.column) if number]
        return ":".join([self.file, *numbers])

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


OnFinding = Callable[[Finding], None]
