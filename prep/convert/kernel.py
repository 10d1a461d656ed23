"""The compiled half of conversion: `kernel.c`, called without the GIL.

It is compiled when the package is installed, if there is a C compiler. Without it every row takes the slow path,
to the same bytes and several times slower.
"""

import ctypes
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from prep.formats.turns import TURN_CHOICES

_SOURCE, _LIBRARY = "kernel.c", "libkernel.so"
_OUTPUT_BYTES = 4 << 20
_LEAST_OUTPUT_BYTES = 64 << 10
_SYSTEM, _USER, _ASSISTANT = 1, 2, 3


class _Piece(ctypes.Structure):
    _fields_ = (("at", ctypes.c_char_p), ("size", ctypes.c_size_t))


class _Done(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("bytes_read", "rows", "records", "with_system", "with_history", "bytes_written")
    )


class _LinesJob(ctypes.Structure):
    _fields_ = (
        ("names", ctypes.POINTER(_Piece)),
        ("columns", ctypes.c_uint64),
        ("places", ctypes.c_uint64 * 3),
        ("writes_thought", ctypes.c_uint64),
        *((name, _Piece) for name in ("before_question", "before_thought", "before_answer", "after_answer")),
    )


class _TurnsJob(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("offsets", "text_offsets", "role_offsets", "texts", "roles")),
        *((name, ctypes.c_uint64) for name in ("rows", "all_turns", "texts_size", "roles_size")),
        ("role_names", ctypes.POINTER(_Piece)),
        ("role_codes", ctypes.POINTER(ctypes.c_uint64)),
        ("role_count", ctypes.c_uint64),
        ("turns", ctypes.c_uint64),
        *(
            (name, _Piece)
            for name in (
                *("system", "before_question", "before_answer", "before_system"),
                *("before_history", "before_origin", "line_end"),
            )
        ),
    )


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
    """The addresses of Arrow's buffers of conversations; whoever made them keeps them alive.

    Shape: `rows` + 1 offsets of rows, `all_turns` + 1 of texts and of roles, all int32; the kernel checks what
    stands in them, against `all_turns` and the bytes of `texts` and `roles`.
    """

    offsets: int
    text_offsets: int
    role_offsets: int
    texts: int
    roles: int
    rows: int
    all_turns: int
    texts_size: int
    roles_size: int


@cache
def load_kernel() -> ctypes.CDLL | None:
    """Return the compiled functions, None when they were not compiled, or from another source than is here."""
    source, path = Path(__file__).with_name(_SOURCE), Path(__file__).with_name(_LIBRARY)
    try:
        library = ctypes.CDLL(str(path))
        digest = ctypes.c_char * 64
        made_from = digest.in_dll(library, "lfc_source_sha256").value.decode()
        if made_from != hashlib.sha256(source.read_bytes()).hexdigest():
            return None
    except (OSError, ValueError):
        # Not there, made for another platform, or not ours.
        return None
    size, number, buffer = ctypes.c_size_t, ctypes.c_uint64, ctypes.c_void_p
    done = ctypes.POINTER(_Done)
    lines, turns = library.lfc_convert_lines, library.lfc_convert_turns
    lines.argtypes = [ctypes.POINTER(_LinesJob), buffer, size, number, buffer, size, done]
    turns.argtypes = [ctypes.POINTER(_TurnsJob), number, number, number, buffer, size, done]
    lines.restype = turns.restype = None
    return library


class LineKernel:
    """Converts plain lines of JSONL, in blocks of about this size."""

    def __init__(self, library: ctypes.CDLL, form: LineForm, block_bytes: int) -> None:
        names = [f'"{column}"'.encode() for column in form.columns]
        self.columns = form.columns
        self._call = library.lfc_convert_lines
        self._job = _LinesJob(
            (_Piece * len(names))(*map(_as_piece, names)),
            len(names),
            (ctypes.c_uint64 * 3)(*form.places),
            form.writes_thought,
            *(_as_piece(text) for text in form[3:]),
        )
        # A folder may hold thousands of small files.
        self._output = ctypes.create_string_buffer(min(_OUTPUT_BYTES, 2 * block_bytes + _LEAST_OUTPUT_BYTES))

    def convert(self, data: bytes, start: int, row: int) -> Converted:
        """Convert lines from an offset in a block on, the first of this number, until one is not plain."""
        done = _Done()
        address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
        self._call(self._job, address + start, len(data) - start, row, self._output, len(self._output), done)
        return _describe(done, self._output)


class TurnKernel:
    """Converts plain conversations of Arrow's columns."""

    def __init__(self, library: ctypes.CDLL, form: TurnForm) -> None:
        codes = {"system": _SYSTEM, "human": _USER, "gpt": _ASSISTANT}
        roles = [(name.encode(), codes[role]) for name, role in form.roles.items() if role in codes]
        self._call = library.lfc_convert_turns
        self._names = (_Piece * len(roles))(*(_as_piece(name) for name, _ in roles))
        self._codes = (ctypes.c_uint64 * len(roles))(*(code for _, code in roles))
        self._rest = (len(roles), TURN_CHOICES.index(form.turns), *(_as_piece(text) for text in form[2:]))
        self._output = ctypes.create_string_buffer(_OUTPUT_BYTES)

    def convert(self, buffers: TurnBuffers, rows: range, first_number: int) -> Converted:
        """Convert these rows of a batch, whose row 0 has this number, until one is not plain."""
        done = _Done()
        job = _TurnsJob(*buffers, self._names, self._codes, *self._rest)
        self._call(job, rows.start, rows.stop, first_number, self._output, _OUTPUT_BYTES, done)
        return _describe(done, self._output)


def escape_json(text: str) -> bytes:
    """Return a text as it stands between the quotes of a JSON string."""
    import orjson

    return orjson.dumps(text)[1:-1]


def _as_piece(text: bytes) -> _Piece:
    return _Piece(text, len(text))


def _describe(done: _Done, output: Any) -> Converted:
    lines = ctypes.string_at(output, done.bytes_written)
    return Converted(lines, done.bytes_read, done.rows, done.records, done.with_system, done.with_history)
