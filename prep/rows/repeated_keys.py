"""JSON objects that name one key twice: parsers keep the last and say nothing, pyarrow stops the training."""

import json
from collections import Counter
from typing import Any

from prep.errors import RecordError

_OTHER_SPACES = (b"\t", b"\n", b"\r")


def refuse_repeated_keys(line: bytes, value: object) -> None:
    """Raise RecordError when an object of a line names a key twice; `value` is the line as it was parsed."""
    key = find_repeated_key(line, value)
    if key is not None:
        raise RecordError(
            f"names '{key}' twice: one of the two would be lost", hint="take one of the two out of FILE by hand"
        )


def parse_json_once(content: bytes) -> Any:
    """Return the value of a text of JSON, or the RecordError that says which key it names twice.

    Raises: JSONDecodeError when it is no JSON.
    """
    import orjson

    value = orjson.loads(content)
    try:
        refuse_repeated_keys(content, value)
    except RecordError as error:
        return error
    return value


def find_repeated_key(line: bytes, value: object) -> str | None:
    """Return a key that one object of a line of JSON names twice, or None."""
    # Nearly every line ends here: it has as many ends of keys as the parsed value has keys.
    if _count_key_ends(line) == _count_keys(value):
        return None
    try:
        json.loads(line, object_pairs_hook=_refuse_twice)
    except _RepeatedKeyError as error:
        return str(error)
    except (ValueError, RecursionError):
        # What orjson read and json does not, such as bytes that are half a character, is told of elsewhere.
        return None
    return None


class _RepeatedKeyError(Exception):
    """Ends the parse; the message is the key."""


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = Counter(name for name, _ in pairs)
        raise _RepeatedKeyError(names.most_common(1)[0][0])
    return found


def _count_key_ends(line: bytes) -> int:
    """Count the quotes that end a key; -1 where white space or backslashes before a colon make it hard to tell."""
    # One byte is found much faster than several: most lines hold no white space but spaces.
    if b'" :' in line or any(space in line and b'"%b:' % space in line for space in _OTHER_SPACES):
        return -1
    ends, escaped = line.count(b'":'), line.count(b'\\":')
    return -1 if escaped and b'\\\\":' in line else ends - escaped


def _count_keys(value: object) -> int:
    """Count the keys of all objects in a value, without recursion: how deep it goes is up to the file."""
    keys, waiting = 0, [value]
    while waiting:
        current = waiting.pop()
        if type(current) is dict:
            keys += len(current)
            waiting.extend(part for part in current.values() if type(part) in (dict, list))
        elif type(current) is list:
            waiting.extend(part for part in current if type(part) in (dict, list))
    return keys
