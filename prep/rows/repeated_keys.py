"""JSON objects that name one key twice: parsers keep the last and say nothing, pyarrow stops the training."""

import json
from collections import Counter
from typing import Any

from prep.errors import RecordError


def refuse_repeated_keys(line: bytes, value: object) -> None:
    """Raise RecordError when an object of a line names a key twice; `value` is the line as it was parsed."""
    key = find_repeated_key(line, value)
    if key is not None:
        raise RecordError(
            f"names '{key}' twice: one of the two would be lost", hint="take one of the two out of FILE by hand"
        )


def find_repeated_key(line: bytes, value: object) -> str | None:
    """Return a key that one object of a line of JSON names twice, or None."""
    # Nearly every line ends here: it has as many ends of keys as the parsed value has keys.
    if line.count(b'":') == _count_keys(value) and b'" :' not in line:
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
