"""One type for "something is wrong": which rule says so, where, how bad, and what makes it right."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self


class Severity(StrEnum):
    """An error stops the work or loses data, a warning is worth knowing, a note is no fault."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class LintRule(StrEnum):
    """What lint looks for; each value is what --ignore takes."""

    BOM = "bom"
    ENCODING = "encoding"
    CRLF = "crlf"
    BLANK_LINE = "blank-line"
    JSON = "json"
    FILE_NAME = "file-name"
    INPUT_CHANGED = "input-changed"
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
    SWITCH = "soft-switch"
    MARKUP = "chat-markup"
    ANSWERS = "same-answers"
    LABEL = "label"
    MEDIA = "media"
    CALL = "tool-call"
    DUPLICATE = "duplicate-question"
    NO_ROWS = "no-rows"
    NAME = "name"
    MISSING_FILE = "missing-file"
    FORMATTING = "formatting"
    TAGS = "tags"
    ENTRY = "entry"


@dataclass(frozen=True)
class Where:
    """A finding's place: `line` and `column` count from 1, 0 is the whole file; `key` is a config's."""

    file: str = ""
    line: int = 0
    column: int = 0
    key: str = ""

    def __str__(self) -> str:
        """The place as editors understand it: `file:line:column`; without a file, its key."""
        numbers = [str(number) for number in (self.line, self.column) if number]
        return ":".join([self.file, *numbers]) if self.file else self.key


@dataclass(frozen=True)
class Finding:
    """One thing that was found: the rule that says so, what was seen, the next step, how bad it is, and where."""

    rule: str
    message: str
    fix: str = ""
    severity: Severity = Severity.ERROR
    where: Where = Where()

    @property
    def key(self) -> str:
        """The key that it is about, "" for none."""
        return self.where.key

    @property
    def is_error(self) -> bool:
        """Whether it stops the work or loses data."""
        return self.severity is Severity.ERROR

    def at(self, file: str, line: int = 0, column: int = 0) -> Self:
        """Return the same finding with its place in a file."""
        return replace(self, where=Where(file, line, column, self.where.key))

    def describe(self) -> str:
        """Return the key, if there is one, and what was seen."""
        return f"`{self.where.key}` {self.message}" if self.where.key else self.message

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values: rule, severity, message, fix, file, line, column, key."""
        told = {"rule": str(self.rule), "severity": self.severity.value, "message": self.message, "fix": self.fix}
        return {**told, **vars(self.where)}


def at_key(
    key: str, message: str, fix: str = "", *, severity: Severity = Severity.ERROR, rule: str = "schema"
) -> Finding:
    """Return a finding about a key of a config, "" for the whole config."""
    return Finding(rule, message, fix, severity, Where(key=key))


def format_finding(finding: Finding) -> str:
    """Return a finding as people read it: `file:line:column: severity: message  [rule]`, and the fix below it."""
    text = finding.describe() if finding.where.file else finding.message
    place = f"{finding.where}: " if str(finding.where) else ""
    line = f"{place}{finding.severity}: {text}  [{finding.rule}]"
    return f"{line}\n  Try: {finding.fix}" if finding.fix else line


OnFinding = Callable[[Finding], None]


@dataclass(frozen=True)
class LintSummary:
    """How many rows were read, and how many findings of each kind there are."""

    rows: int
    counts: dict[str, int]

    @property
    def total(self) -> int:
        """All findings."""
        return sum(self.counts.values())
