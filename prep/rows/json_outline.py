"""The outline of a JSON document that begins with an object: which lists and objects stand in it, and where."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from prep.errors import InputError
from prep.rows.json_arrays import ArrayFault, JsonArrayError
from prep.rows.line_blocks import BOM, MAX_LINE_HINT

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]|[^\s"\[\]{},:]++', re.DOTALL)
_CHUNK_BYTES = 1 << 20
_MAX_PARTS = 10_000


class Part(NamedTuple):
    """A value under a key of the document's object.

    Shape: `start` is the place of its first byte, `line` counts from 1, `opener` is its first byte, `first` that
    of its first element, `names` are the keys of its first element, or of itself when it is an object; `size` is
    how many elements it has.
    """

    key: str
    start: int
    line: int
    opener: str
    first: str = ""
    names: tuple[str, ...] = ()
    size: int = 0


class Outline(NamedTuple):
    """The parts of the first object, and whether another value follows it."""

    parts: list[Part]
    is_followed: bool


class _Token(NamedTuple):
    start: int
    line: int
    text: bytes


def read_outline(path: Path, stream: BinaryIO, max_bytes: int) -> Outline:
    """Read a document to its first object's end; raises JsonArrayError when it is not JSON so far."""
    tokens = _read_tokens(path, stream, max_bytes)
    first = next(tokens, None)
    if first is None or first.text != b"{":
        raise JsonArrayError(ArrayFault(1, 1, "it does not begin with an object"))
    parts: list[Part] = []
    while (part := _read_part(tokens)) is not None:
        parts.append(part)
        if len(parts) > _MAX_PARTS:
            raise InputError(f"{path} is one object of more than {_MAX_PARTS:,} keys")
    return Outline(parts, next(tokens, None) is not None)


def _read_part(tokens: Iterator[_Token]) -> Part | None:
    """Return the next key's part; None at the object's end."""
    key = _need(tokens)
    if key.text == b",":
        key = _need(tokens)
    if key.text == b"}":
        return None
    if not key.text.startswith(b'"'):
        raise JsonArrayError(ArrayFault(key.line, 1, "a key is expected"))
    value = _need(tokens)
    opener = value.text[:1].decode("latin-1")
    part = Part(_as_text(key.text), value.start, value.line, opener)
    return _look_into(part, tokens) if opener in "[{" else part


def _look_into(part: Part, tokens: Iterator[_Token]) -> Part:
    """Read a list or an object to its end: its size, and what its first element is."""
    depth, count, first = 1, 0, ""
    names: list[str] = []
    is_key, key_depth = part.opener == "{", 1
    while depth:
        token = _need(tokens).text
        if token in (b"]", b"}"):
            depth -= 1
            continue
        if not count:
            count = 1
        if token == b",":
            count += depth == 1
            is_key = depth == key_depth
            continue
        if not first and not (part.opener == "{" and is_key):
            first = token[:1].decode("latin-1")
            if part.opener == "[" and token == b"{":
                key_depth, is_key = 2, True
        elif is_key and depth == key_depth and (part.opener == "{" or count == 1):
            if len(names) < _MAX_PARTS:
                names.append(_as_text(token))
            is_key = False
        if token in (b"[", b"{"):
            depth += 1
    return part._replace(first=first, names=tuple(names), size=count)


def _need(tokens: Iterator[_Token]) -> _Token:
    token = next(tokens, None)
    if token is None:
        raise JsonArrayError(ArrayFault(1, 1, "unexpected end of data"))
    return token


def _read_tokens(path: Path, stream: BinaryIO, max_bytes: int) -> Iterator[_Token]:
    """Yield strings, brackets, commas and plain values, with the place where each begins."""
    data = stream.read(_CHUNK_BYTES)
    base, line = 0, 1
    at = len(BOM) if data.startswith(BOM) else 0
    counted = 0
    while True:
        is_cut = False
        for match in _TOKEN.finditer(data, at):
            is_cut = match[0] == b'"' or match.end() == len(data)
            if is_cut:
                at = match.start()
                break
            line += data.count(b"\n", counted, match.start())
            counted = match.start()
            yield _Token(base + match.start(), line, match[0])
            at = match.end()
        more = stream.read(max(_CHUNK_BYTES, len(data) - at))
        if not more:
            yield from _last_token(data, at, base, line)
            return
        line += data.count(b"\n", counted, at)
        base, data, at, counted = base + at, data[at:] + more, 0, 0
        if len(data) - len(more) > max_bytes:
            raise InputError(f"{path}: the text from line {line:,} on is too long", hint=MAX_LINE_HINT)


def _last_token(data: bytes, at: int, base: int, line: int) -> Iterator[_Token]:
    if (match := _TOKEN.match(data, at)) and match[0] != b'"':
        yield _Token(base + at, line, match[0])


def _as_text(token: bytes) -> str:
    import orjson

    try:
        text: Any = orjson.loads(token)
    except orjson.JSONDecodeError:
        return token.decode("utf-8", "replace")
    return str(text)
