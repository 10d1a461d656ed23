"""Training rows that stand in a benchmark too: they ask one of its questions, or share thirteen words with it.

Thirteen words in a row, or thirteen characters of Chinese and Japanese, are what most papers take for a copy.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from prep.errors import InputError
from prep.rows.duplicates.characters import BASE, CharacterTable, mix, read_codes
from prep.rows.duplicates.copies import Filtered, count_row
from prep.rows.questions import hash_text, normalise_question
from prep.rows.records import TrainingRow, read_record

WORDS: Final = 13
# Columns in which benchmarks, and converted files, have what is asked.
_ENGLISH = "question instruction problem prompt query ctx goal question_text problem_statement input inputs title"
_QUESTIONS = frozenset((*_ENGLISH.split(), "question_content", "问题", "题目", "提问", "题干"))
_ASKING_ROLES = frozenset({"human", "user"})
_MOST_DEPTH = 6
_BATCH_ROWS = 500
_FILTER_BITS = 24
_HINT = "--decontaminate takes files that convert reads: fix the row, or take it out"


_Row = tuple[int, Mapping[str, Any]]
# A file's rows: the number of each, and its values, or why it cannot be read.
ReadValues = Callable[[Path], Iterator[tuple[int, Mapping[str, Any] | str]]]


class Match(NamedTuple):
    """Where a row stands in a benchmark: `place` is file and row, `by` is `question` or `13-gram`."""

    place: str
    by: str


class Benchmarks:
    """What benchmark files hold, to compare rows with; 12 bytes a word in memory."""

    def __init__(self, paths: Sequence[Path], read: ReadValues) -> None:
        """Read the files, in any format that `read` reads.

        Raises: InputError when one cannot be read, or has no text.
        """
        self._cutter = _Cutter()
        self._places: list[str] = []
        self._questions: dict[bytes, int] = {}
        hashes: list[Any] = []
        owners: list[Any] = []
        for path in paths:
            rows = _read_values(path, read)
            before = len(self._places)
            while batch := list(islice(rows, _BATCH_ROWS)):
                self._take(path, batch, hashes, owners)
            if len(self._places) == before:
                raise InputError(
                    f"{path} has no rows", hint="give --decontaminate a file with the benchmark's rows"
                )
        self._sort(hashes, owners)

    def find(self, rows: Sequence[TrainingRow]) -> list[Match | None]:
        """Return for each row where it stands in a benchmark, None for one that does not."""
        import numpy as np

        found: list[Match | None] = []
        for row in rows:
            place = self._questions.get(hash_text(normalise_question(row.question)))
            found.append(None if place is None else Match(self._places[place], "question"))
        texts = [text for row in rows for text in row.texts]
        text_rows = [number for number, row in enumerate(rows) for _ in row.texts]
        hashes, owners = self._cutter.cut(texts)
        near = np.flatnonzero(self._filter[(hashes >> np.uint64(64 - _FILTER_BITS)).astype(np.int64)])
        places = np.searchsorted(self._hashes, hashes[near])
        is_equal = self._hashes[np.minimum(places, len(self._hashes) - 1)] == hashes[near] if len(near) else near
        for gram, place in zip(near[is_equal].tolist(), places[is_equal].tolist(), strict=True):
            number = text_rows[owners[gram]]
            found[number] = found[number] or Match(self._places[self._owners[place]], f"{WORDS}-gram")
        return found

    def _take(self, path: Path, rows: list[_Row], hashes: list[Any], owners: list[Any]) -> None:
        import numpy as np

        texts: list[str] = []
        text_places: list[int] = []
        for number, values in rows:
            place = len(self._places)
            self._places.append(f"{path.name}:{number}")
            cells = list(_list_texts(values, 0))
            texts += cells
            text_places += [place] * len(cells)
            for question in _list_questions(values):
                key = normalise_question(question)
                if key:
                    self._questions.setdefault(hash_text(key), place)
        cut, of_text = self._cutter.cut(texts)
        hashes.append(cut)
        owners.append(np.array(text_places, dtype=np.uint32)[of_text])

    def _sort(self, hashes: list[Any], owners: list[Any]) -> None:
        import numpy as np

        joined = np.concatenate(hashes)
        order = np.argsort(joined, kind="stable")
        self._hashes, self._owners = joined[order], np.concatenate(owners)[order]
        self._filter = np.zeros(1 << _FILTER_BITS, dtype=bool)
        self._filter[(joined >> np.uint64(64 - _FILTER_BITS)).astype(np.int64)] = True


class ContaminationFilter:
    """Takes the rows that stand in a benchmark out of lines on their way into a file."""

    def __init__(self, paths: Sequence[Path], read: ReadValues) -> None:
        self._benchmarks = Benchmarks(paths, read)

    def filter_lines(self, lines: bytes | bytearray) -> Filtered:
        """Return what stays, what goes, and what the counts lose by that."""
        import orjson

        whole = bytes(lines).split(b"\n")[:-1]
        rows = [read_record(orjson.loads(line)) for line in whole]
        matches = self._benchmarks.find(rows)
        gone: list[bytes] = []
        lost: Counter[str] = Counter()
        for row, match in zip(rows, matches, strict=True):
            if match is not None:
                gone.append(describe_contaminated(row, match))
                lost.update(count_row(row))
        kept = b"".join(line + b"\n" for line, match in zip(whole, matches, strict=True) if match is None)
        return Filtered(kept, None, b"".join(gone), lost)


def describe_contaminated(row: TrainingRow, match: Match) -> bytes:
    """Return the line that tells of a row that went, and of which benchmark row it stands in."""
    import orjson

    entry = {"origin": row.origin, "benchmark": match.place, "by": match.by, "row": row.values}
    return orjson.dumps(entry) + b"\n"


def list_words(text: str) -> list[str]:
    """Return a text's words as they are compared: folded, without marks; each Chinese character is one.

    >>> list_words("Don't  PANIC，发热3天!")
    ['don', 't', 'panic', '发', '热', '3', '天']
    """
    words = [""]
    for character in text:
        code = _fold_word_character(ord(character))
        if not code or _is_word_by_itself(code):
            words += [chr(code)] * bool(code) + [""]
        else:
            words[-1] += chr(code)
    return [word for word in words if word]


def _read_values(path: Path, read: ReadValues) -> Iterator[_Row]:
    for number, values in read(path):
        if isinstance(values, str):
            raise InputError(f"{path} row {number}: {values}", hint=_HINT)
        yield number, values


def _list_texts(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < _MOST_DEPTH and isinstance(value, Mapping):
        for part in value.values():
            yield from _list_texts(part, depth + 1)
    elif depth < _MOST_DEPTH and isinstance(value, list):
        for part in value:
            yield from _list_texts(part, depth + 1)


def _list_questions(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a benchmark's row asks: its question columns, its turns of a user."""
    asked = {name.strip().casefold(): text for name, text in values.items() if isinstance(text, str)}
    yield from (text for name, text in asked.items() if name in _QUESTIONS)
    if asked.get("instruction") and asked.get("input"):
        yield f"{asked['instruction']}\n{asked['input']}"
    for turns in values.values():
        for turn in turns if isinstance(turns, list) else ():
            if isinstance(turn, Mapping) and turn.get("from", turn.get("role")) in _ASKING_ROLES:
                text = turn.get("value", turn.get("content"))
                if isinstance(text, str):
                    yield text


class _Cutter:
    """Cuts texts into their runs of thirteen words."""

    def __init__(self) -> None:
        self._folded = CharacterTable(_fold_word_character)
        self._is_alone = CharacterTable(_is_word_by_itself)

    def cut(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """Return a hash for each run of thirteen words, uint64, and the number of the text that it stands in."""
        import numpy as np

        codes, ends = read_codes(texts)
        folded = self._folded.look_up(codes)
        is_word, is_alone = folded != 0, self._is_alone.look_up(folded) != 0
        is_first = np.zeros(len(codes), dtype=bool)
        is_first[ends[:-1][ends[:-1] < len(codes)]] = True
        is_first[:1] = True
        # A word begins after what is none, at and after a character that is one by itself, and with its text.
        is_first[1:] |= ~is_word[:-1] | is_alone[1:] | is_alone[:-1]
        starts = np.flatnonzero(is_first & is_word)
        if len(starts) < WORDS:
            return np.zeros(0, np.uint64), np.zeros(0, np.int64)
        where = np.flatnonzero(is_word)
        word_of = np.searchsorted(starts, where, side="right") - 1
        ranks = (where - starts[word_of]).astype(np.uint64)
        letters = mix(folded[where].astype(np.uint64) + (ranks << np.uint64(21)))
        begins = np.searchsorted(where, starts)
        words = mix(np.add.reduceat(letters, begins))
        text_of = np.searchsorted(ends, starts, side="right")
        runs = len(words) - WORDS + 1
        hashes = np.zeros(runs, dtype=np.uint64)
        for place in range(WORDS):
            hashes *= np.uint64(BASE)
            hashes += words[place : place + runs]
        is_whole = text_of[:runs] == text_of[WORDS - 1 :]
        return mix(mix(hashes[is_whole])), text_of[:runs][is_whole]


def _fold_word_character(code: int) -> int:
    """Return a character of a word, folded; 0 for what stands between words."""
    folded = unicodedata.normalize("NFKC", chr(code)).casefold()[:1]
    return ord(folded) if folded.isalnum() else 0


def _is_word_by_itself(code: int) -> bool:
    """Whether a character is written without spaces around words: Han and Kana."""
    return (
        0x3040 <= code < 0x3100 or 0x3400 <= code < 0xA000 or 0xF900 <= code < 0xFB00 or 0x20000 <= code < 0x32000
    )
