"""What may stand beside the columns of any format, and makes another kind of row of it.

A label (KTO), a second answer that is not preferred, and the files of images, videos and audio.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prep.choices import Turns
from prep.errors import RecordError
from prep.formats.fields import describe_type, parse_json
from prep.formats.preference import Answered, pair_answers
from prep.formats.reading import Reading
from prep.rows.kinds import MEDIA, PLACEHOLDERS
from prep.rows.records import MediaFiles, TextPiece
from prep.rows.row_writer import list_texts

Row = Mapping[str, Any]
Reader = Callable[[Row, Reading], Sequence[Answered | TextPiece]]
EXTRAS = ("kto_tag", "rejected", *MEDIA)
SYNONYMS = {
    "kto_tag": ("label", "kto_label"),
    "rejected": ("rejected_response", "rejected_output", "rejected_answer", "rejected_messages"),
    "images": ("image", "image_path", "image_paths", "图片"),
    "videos": ("video", "video_path", "video_paths", "视频"),
    "audios": ("audio", "audio_path", "audio_paths", "音频"),
}
_LABELS = {"true": True, "false": False}
# Such labels may say anything else as well: they count where the user named the column.
_NAMED_LABELS = _LABELS | {
    word: label
    for words, label in (
        ("1 1.0 yes y good like liked up thumbs_up positive chosen accepted desirable 好 是 赞 喜欢", True),
        ("0 0.0 -1 no n bad dislike disliked down thumbs_down negative rejected undesirable 差 否 踩", False),
    )
    for word in words.split()
}
# The types of a message's parts, OpenAI's and ms-swift's, with the key under which the file's path stands.
_PARTS = {
    "image": "images",
    "image_url": "images",
    "input_image": "images",
    "video": "videos",
    "video_url": "videos",
    "audio": "audios",
    "audio_url": "audios",
    "input_audio": "audios",
}
# A turn's own fields for files, as Ollama and some vision sets write them.
_TURN_MEDIA = {word: name for name in MEDIA for word in (name, *SYNONYMS[name])}
_TURN_COLUMNS = ("conversations", "messages", "rejected")
_PATH_KEYS = ("url", "path", "data", "value")


def read_with_extras(read: Reader, answer: str, row: Row, reading: Reading) -> Sequence[Answered | TextPiece]:
    """Return what a format's reader makes of a row, with the extras that the row has.

    Shape: `answer` is the format's column that holds the answer, or the conversation that ends in it.
    Raises: RecordError when an extra is of the wrong type, or does not fit the row.
    """
    row, parts = _flatten_parts(row, answer)
    two = _find_two_answers(row.get(answer)) if answer not in _TURN_COLUMNS else []
    if not two and not parts and row.keys().isdisjoint(EXTRAS):
        return read(row, reading)
    files = _read_files(row, parts)
    if "kto_tag" in row or "rejected" in row or two:
        # An earlier answer has no label, and no second answer.
        reading = reading.of_turns(Turns.LAST if reading.turns == Turns.LAST else Turns.ALL)
    if two:
        row = {**row, answer: two[0], "rejected": two[1]}
    exchanges = read(row, reading)
    if "rejected" in row and "chosen" not in row:
        exchanges = [_pair(read, answer, row, exchange, reading) for exchange in exchanges]
    if "kto_tag" in row:
        label = _read_label(row["kto_tag"], _NAMED_LABELS if reading.is_label_named else _LABELS)
        exchanges = [_answered(exchange)._replace(label=label) for exchange in exchanges]
    return (
        [_give_files(_answered(exchange), files, reading.turns) for exchange in exchanges] if files else exchanges
    )


def _find_two_answers(value: object) -> list[str]:
    """Return the two texts of a column that holds two answers, the better one first; none of any other."""
    is_pair = isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)
    return list(value) if is_pair and isinstance(value, list) else []


def _answered(exchange: Answered | TextPiece) -> Answered:
    if isinstance(exchange, TextPiece):
        raise RecordError("a text has a label, a second answer or files, and nobody asks or answers in it")
    return exchange


def _pair(read: Reader, answer: str, row: Row, chosen: Answered | TextPiece, reading: Reading) -> Answered:
    """Read the row again with its last answer replaced by the one that is not preferred."""
    other, said = row["rejected"], row.get(answer)
    if isinstance(said, list):
        if isinstance(other, list) and len(other) > 1:
            said = other
        else:
            said = [*said[:-1], _as_turn(said[-1], other[0] if isinstance(other, list) and other else other)]
    elif isinstance(other, str):
        said = other
    else:
        raise RecordError(f"column 'rejected' is {describe_type(other)}, not a string")
    rejected = read({**row, answer: said}, reading)[-1]
    return pair_answers(_answered(chosen), _answered(rejected))


def _as_turn(last: object, answer: object) -> object:
    """Return an answer as a turn like the last one."""
    if not isinstance(answer, str) or not isinstance(last, dict):
        return answer
    role, content = ("role", "content") if "role" in last else ("from", "value")
    return {role: last.get(role), content: answer}


def _read_label(label: object, words: Mapping[str, bool]) -> bool:
    if isinstance(label, bool):
        return label
    written = str(label).strip().casefold() if isinstance(label, str | int | float) else ""
    if written in words and (isinstance(label, str) or words is not _LABELS):
        return words[written]
    told = f"'{written[:40]}'" if written else describe_type(label)
    raise RecordError(
        f"its label is {told}, not true or false",
        hint="--map kto_tag=COLUMN takes 1, yes, good and thumbs_up for true, --drop COLUMN leaves it out",
    )


def _read_files(row: Row, parts: dict[str, list[str | None]]) -> dict[str, tuple[str, ...]]:
    """Return {column: paths} of the media that a row has: from its columns, or from the parts of its messages."""
    files = {}
    for name in MEDIA:
        named = _read_paths(name, row.get(name))
        found = [path for path in parts.get(name, ()) if path is not None]
        if named and found:
            raise RecordError(f"it has {name} in a column and inside its messages", hint="--drop that column")
        if found and len(found) != len(parts[name]):
            raise RecordError(f"some {name} of its messages have a path, and others have none")
        if named or found:
            files[name] = tuple(named or found)
    return files


def _read_paths(name: str, value: object) -> list[str]:
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parse_json(value, f"column '{name}'")
    paths = value if isinstance(value, list) else [value]
    paths = [path.get("path") or path.get("url") if isinstance(path, dict) else path for path in paths]
    if value is None or value == "":
        return []
    for path in paths:
        if not isinstance(path, str) or not path:
            raise RecordError(f"column '{name}' holds {describe_type(path)}, not the path of a file")
    return [str(path) for path in paths]


def _give_files(exchange: Answered, files: dict[str, tuple[str, ...]], turns: str) -> Answered:
    """Give an exchange those files whose placeholders stand in its texts.

    The last answers of one row have all of them, the earlier ones of `expand` the first, `last` alone the last.
    """
    texts, media = list_texts(exchange), []
    for name, paths in files.items():
        wanted = sum(text.count(PLACEHOLDERS[name]) for text in texts)
        if turns not in (Turns.EXPAND, Turns.FIRST, Turns.LAST) or not wanted or wanted > len(paths):
            wanted = len(paths)
        media.append((name, paths[-wanted:] if turns == Turns.LAST else paths[:wanted]))
    found: MediaFiles = tuple(media)
    return exchange._replace(media=found)


def _flatten_parts(row: Row, answer: str) -> tuple[Row, dict[str, list[str | None]]]:
    """Write a placeholder for each file among the parts of a row's messages; return the paths too."""
    found: dict[str, list[str | None]] = {}
    for column in dict.fromkeys(("question", "input", answer, *_TURN_COLUMNS)):
        turns = row.get(column)
        if not isinstance(turns, list) or not any(_holds_files(turn) for turn in turns):
            continue
        # The other conversation holds the same files once more.
        seen = {} if column == "rejected" else found
        row = {**row, column: [_flatten_turn(turn, seen) for turn in turns]}
    return row, found


def _flatten_turn(turn: Any, found: dict[str, list[str | None]]) -> Any:
    key = _content_key(turn)
    if not key:
        return turn
    turn = {**turn, key: _mark_files(turn[key], found)} if isinstance(turn[key], list) else dict(turn)
    for field in _list_media_fields(turn):
        name = _TURN_MEDIA[field]
        paths = _read_paths(field, turn.pop(field))
        found.setdefault(name, []).extend(paths)
        if isinstance(turn[key], str) and PLACEHOLDERS[name] not in turn[key]:
            # Who names files beside a text, and no place in it, means them to stand before it.
            turn[key] = PLACEHOLDERS[name] * len(paths) + turn[key]
    return turn


def _list_media_fields(turn: Mapping[str, Any]) -> list[str]:
    return [field for field in turn if field in _TURN_MEDIA and turn[field] not in (None, "", [])]


def _content_key(turn: object) -> str:
    return next((key for key in ("content", "value") if isinstance(turn, dict) and key in turn), "")


def _holds_files(turn: object) -> bool:
    key = _content_key(turn)
    if not key or not isinstance(turn, dict):
        return False
    parts = turn[key]
    has_parts = isinstance(parts, list) and any(_name_part(part) in _PARTS for part in parts)
    return has_parts or bool(_list_media_fields(turn))


def _name_part(part: object) -> str:
    """Return the type of a message's part, "" when it says none."""
    kind = part.get("type") if isinstance(part, dict) else None
    return kind if isinstance(kind, str) else ""


def _mark_files(parts: list[Any], found: dict[str, list[str | None]]) -> list[Any]:
    """Return parts in which a text with a placeholder stands for each file."""
    marked = []
    for part in parts:
        kind = _name_part(part)
        if kind not in _PARTS:
            marked.append(part)
            continue
        name = _PARTS[kind]
        found.setdefault(name, []).append(_read_part_path(part, kind))
        marked.append({"type": "text", "text": PLACEHOLDERS[name]})
    return marked


def _read_part_path(part: dict[str, Any], kind: str) -> str | None:
    """Return the path that a part gives, None when it only says where the file belongs."""
    value = next((part[key] for key in (kind, kind.removesuffix("_url"), *_PATH_KEYS) if part.get(key)), None)
    if isinstance(value, dict):
        value = next((value[key] for key in _PATH_KEYS if value.get(key)), value)
    if value is not None and not isinstance(value, str):
        raise RecordError(f"a message's {kind} part holds {describe_type(value)}, not a path")
    return value
