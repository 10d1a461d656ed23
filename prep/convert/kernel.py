"""Plain rows → lines by the compiled half of conversion, which works without the GIL.

It is compiled when the package is installed, if there is a C compiler. Without it every row takes the slow path,
to the same bytes and several times slower.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from prep.choices import Turns

_OUTPUT_BYTES = 4 << 20
_LEAST_OUTPUT_BYTES = 64 << 10


class Converted(NamedTuple):
    """What one call made: `rows` source rows, from `bytes_read` of a block's bytes, became `lines`."""

    lines: bytes
    bytes_read: int
    rows: int
    records: int
    with_system: int
    with_history: int


class LineForm(NamedTuple):
    """How question, think, answer lines are read and written.

    Shape: `columns` are the names that each line has, in their order; `places` says which of them are the
    question, the thought and the answer; the others are JSON, between texts.
    """

    columns: Sequence[str]
    places: Sequence[int]
    writes_thought: bool
    before_question: bytes
    before_thought: bytes
    before_answer: bytes
    after_answer: bytes


class TurnForm(NamedTuple):
    """How conversations become lines; `roles` is {a role's name: system, human or gpt}, the others are JSON."""

    roles: Mapping[str, str]
    turns: str
    system: bytes
    before_question: bytes
    before_answer: bytes
    before_system: bytes
    before_history: bytes
    before_origin: bytes
    line_end: bytes


class TurnBuffers(NamedTuple):
    """Arrow's buffers of conversations.

    Shape: `rows` + 1 offsets of rows, `all_turns` + 1 of texts and of roles, all int32; the kernel checks what
    stands in them, against `all_turns` and the bytes of `texts` and `roles`.
    """

    offsets: Any
    text_offsets: Any
    role_offsets: Any
    texts: Any
    roles: Any
    rows: int
    all_turns: int


@cache
def has_kernel() -> bool:
    """Whether the compiled half was made for this Python and is here."""
    try:
        from prep.convert import _kernel  # noqa: F401
    except ImportError:
        return False
    return True


class LineKernel:
    """Converts plain lines of JSONL, in blocks of about this size; only where there is a kernel."""

    def __init__(self, form: LineForm, block_bytes: int) -> None:
        from prep.convert import _kernel

        self.columns = form.columns
        self._call = _kernel.convert_lines
        self._names = tuple(f'"{column}"'.encode() for column in form.columns)
        self._form = form
        question, thought, answer = form.places
        self._places = (question, thought, answer)
        # A folder may hold thousands of small files.
        self._output = bytearray(min(_OUTPUT_BYTES, 2 * block_bytes + _LEAST_OUTPUT_BYTES))

    def convert(self, data: bytes, start: int, row: int) -> Converted:
        """Convert lines from an offset in a block on, the first of this number, until one is not plain."""
        form = self._form
        made = self._call(
            self._names,
            self._places,
            form.writes_thought,
            form.before_question,
            form.before_thought,
            form.before_answer,
            form.after_answer,
            data,
            start,
            row,
            self._output,
        )
        return Converted._make(made)


class TurnKernel:
    """Converts plain conversations of Arrow's columns; only where there is a kernel."""

    def __init__(self, form: TurnForm) -> None:
        from prep.convert import _kernel

        codes = {"system": _kernel.SYSTEM, "human": _kernel.USER, "gpt": _kernel.ASSISTANT}
        choices: dict[str, int] = {
            Turns.EXPAND: _kernel.EXPAND,
            Turns.ALL: _kernel.ALL,
            Turns.FIRST: _kernel.FIRST,
            Turns.LAST: _kernel.LAST,
        }
        self._call = _kernel.convert_turns
        self._roles = tuple((name.encode(), codes[role]) for name, role in form.roles.items() if role in codes)
        self._turns = choices[form.turns]
        self._form = form
        self._output = bytearray(_OUTPUT_BYTES)

    def convert(self, buffers: TurnBuffers, rows: range, first_number: int) -> Converted:
        """Convert these rows of a batch, whose row 0 has this number, until one is not plain."""
        form = self._form
        made = self._call(
            self._roles,
            self._turns,
            form.system,
            form.before_question,
            form.before_answer,
            form.before_system,
            form.before_history,
            form.before_origin,
            form.line_end,
            buffers,
            rows.start,
            rows.stop,
            first_number,
            self._output,
        )
        return Converted._make(made)


def escape_json(text: str) -> bytes:
    """Return a text as it stands between the quotes of a JSON string."""
    import orjson

    return orjson.dumps(text)[1:-1]
