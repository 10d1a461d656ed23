"""What an option may be: each list stands here once, and loads nothing."""

from enum import StrEnum

# The template of Qwen3, which the presets train.
DEFAULT_TEMPLATE = "qwen3"


class ThinkPolicy(StrEnum):
    """How thoughts are written into rows; it fixes `enable_thinking` of the YAML too."""

    TAGGED = "tagged"
    MASKED = "masked"
    STRIP = "strip"

    @property
    def enable_thinking(self) -> bool | None:
        """The value of LLaMA-Factory's `enable_thinking` under which these rows train as intended.

        `tagged` true: the empty thought of a chat row is trained on. `masked` null: the empty thought
        is put into the prompt and carries no loss. `strip` false: every answer follows an empty thought.
        """
        return {ThinkPolicy.TAGGED: True, ThinkPolicy.MASKED: None, ThinkPolicy.STRIP: False}[self]


class ThinkOpen(StrEnum):
    """Whether a thought needs its opening tag."""

    NEEDED = "needed"
    MISSING = "missing"


class Turns(StrEnum):
    """Which answers of a conversation become rows."""

    EXPAND = "expand"
    ALL = "all"
    FIRST = "first"
    LAST = "last"


class MissingMedia(StrEnum):
    """What becomes of a row whose image, video or audio is not there."""

    REJECT = "reject"
    KEEP = "keep"


class OnLong(StrEnum):
    """What becomes of a row above --max-tokens."""

    DROP = "drop"
    REJECT = "reject"
    KEEP = "keep"


class Dedup(StrEnum):
    """Which rows are copies of an earlier one."""

    EXACT = "exact"
    QUESTION = "question"
    NEAR = "near"


class ShareOf(StrEnum):
    """What the shares of a mixture are of."""

    ROWS = "rows"
    CHARACTERS = "characters"
    TOKENS = "tokens"


class TextRow(StrEnum):
    """What a row of a text file is."""

    LINE = "line"
    BLANK_LINE = "blank-line"
    FILE = "file"


class StdinFormat(StrEnum):
    """What convert's `-` may hold; each is the ending that a file of it has."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"
    TXT = "txt"


class Thinking(StrEnum):
    """LLaMA-Factory's `enable_thinking`, as a YAML writes it."""

    TRUE = "true"
    FALSE = "false"
    NULL = "null"

    @property
    def value_in_yaml(self) -> bool | None:
        """True, False or None."""
        return {Thinking.TRUE: True, Thinking.FALSE: False, Thinking.NULL: None}[self]


class Engine(StrEnum):
    """What does the work of a conversion."""

    LOCAL = "local"
    RAY = "ray"
