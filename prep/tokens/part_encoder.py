"""Token ids of many texts, an order of magnitude faster than encoding each: no piece is encoded twice.

A text that `PieceCutter` can cut is the sum of its pieces, each encoded by the tokenizer once and remembered; any
other text is encoded whole. `_pieces.c` cuts and looks up; where it was not built, Python does the same.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from prep.tokens.piece_cutter import PieceCutter, read_classes, spell_bytes

if TYPE_CHECKING:
    import numpy as np

    Ids = np.ndarray[Any, np.dtype[np.int32]]
    Places = np.ndarray[Any, np.dtype[np.int64]]

try:
    from prep.tokens import _pieces
except ImportError:  # pragma: no cover - it was not built
    _pieces = None  # type: ignore[assignment]

# A text, or ids that stand as they are: int32 in the machine's order.
EncodedPart = str | bytes
_MOST_PIECES = 400_000


class TextLength(NamedTuple):
    """A text in tokens; `mark` is the place of the first mark token in it, -1 when there is none."""

    tokens: int
    mark: int


class _Engine(Protocol):
    """What looks up pieces: `encode` and `measure` tell which to learn, and which parts are not for it."""

    def learn(self, pieces: list[str], ids: list[list[int]]) -> None: ...
    def encode(self, parts: list[EncodedPart]) -> "tuple[Ids, Places, list[str], list[int]]": ...
    # -1 is the length of a part some of whose pieces are to learn.
    def measure(self, parts: list[EncodedPart]) -> tuple[list[TextLength], list[str], list[int]]: ...


class PartEncoder:
    """Encodes and measures texts with one tokenizer; `mark` is the added token whose place is told."""

    def __init__(self, tokenizer: Any, mark: str, *, uses_c: bool = True) -> None:
        self._tokenizer = tokenizer
        self._mark_id: int | None = tokenizer.token_to_id(mark)
        self.cutter = PieceCutter(tokenizer)
        self._is_compiled = uses_c and _pieces is not None and self.cutter.is_known
        self._engine = self._make_engine()
        self._known = 0

    def encode(self, parts: Sequence[EncodedPart]) -> "tuple[Ids, Places]":
        """Return the ids of all parts one after the other, int32, and where each part's end, int64."""
        asked = list(parts)
        with self._forgetting():
            while True:
                ids, ends, unknown, whole = self._engine.encode(asked)
                if not self._prepare(asked, unknown, whole):
                    return ids, ends

    def measure(self, texts: Collection[str]) -> dict[str, TextLength]:
        """Return the length of each text, by text."""
        asked: list[EncodedPart] = list(texts)
        names = list(texts)
        measured: dict[str, TextLength] = {}
        with self._forgetting():
            while True:
                lengths, unknown, whole = self._engine.measure(asked)
                self._prepare(asked, unknown, whole)
                again = {*whole, *(place for place, length in enumerate(lengths) if length.tokens < 0)}
                measured.update((name, length) for name, length in zip(names, lengths, strict=True))
                if not again:
                    return measured
                # The others are measured; what a part lacked is known now, unless all had to be forgotten.
                asked = [asked[place] for place in sorted(again)]
                names = [names[place] for place in sorted(again)]

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        """Forget all pieces when something breaks off: those asked for and not learned would be left out."""
        try:
            yield
        except BaseException:
            self._engine, self._known = self._make_engine(), 0
            raise

    def _prepare(self, parts: list[EncodedPart], unknown: list[str], whole: list[int]) -> bool:
        """Learn pieces, and put ids in the place of parts that are encoded whole; return whether there were any."""
        if whole:
            texts = [str(parts[place]) for place in whole]
            for place, ids in zip(whole, self._encode_whole(texts), strict=True):
                parts[place] = pack_ids(ids)
        if unknown:
            if self._known + len(unknown) > _MOST_PIECES and self._known:
                # Forget all: to know which pieces are rare would cost more than to learn the frequent ones again.
                self._engine, self._known = self._make_engine(), 0
            else:
                self._engine.learn(unknown, self._encode_pieces(unknown))
                self._known += len(unknown)
        return bool(whole or unknown)

    def _encode_whole(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _encode_pieces(self, pieces: Sequence[str]) -> list[list[int]]:
        """Return the ids of pieces that the cutter cut: the model alone, as there is nothing left to cut."""
        tokenize = self._tokenizer.model.tokenize
        return [[token.id for token in tokenize(spell_bytes(piece))] for piece in pieces]

    def _make_engine(self) -> _Engine:
        return (_CompiledEngine if self._is_compiled else _PythonEngine)(self.cutter, self._mark_id)


def pack_ids(ids: Iterable[int]) -> bytes:
    """Return ids as a part that stands as it is."""
    from array import array

    return array("i", ids).tobytes()


class _CompiledEngine:
    def __init__(self, cutter: PieceCutter, mark: int | None) -> None:
        added = [(text.encode(), token) for text, token in cutter.added]
        self._table = _pieces.new_table(read_classes(), added, -1 if mark is None else mark)

    def learn(self, pieces: list[str], ids: list[list[int]]) -> None:
        _pieces.learn(self._table, pieces, pack_ids(map(len, ids)), pack_ids(chain.from_iterable(ids)))

    def encode(self, parts: list[EncodedPart]) -> "tuple[Ids, Places, list[str], list[int]]":
        import numpy as np

        ids, ends, unknown, whole = _pieces.encode(self._table, parts)
        return np.frombuffer(ids, np.int32), np.frombuffer(ends, np.int64), unknown, whole

    def measure(self, parts: list[EncodedPart]) -> tuple[list[TextLength], list[str], list[int]]:
        from array import array

        _, told, unknown, whole = _pieces.measure(self._table, parts)
        numbers = array("i", told)
        return list(map(TextLength, numbers[::2], numbers[1::2])), unknown, whole


class _PythonEngine:
    def __init__(self, cutter: PieceCutter, mark: int | None) -> None:
        self._cutter, self._mark = cutter, mark
        self._ids: dict[str, list[int]] = {}
        self._added = {text: [token] for text, token in cutter.added}

    def learn(self, pieces: list[str], ids: list[list[int]]) -> None:
        self._ids.update(zip(pieces, ids, strict=True))

    def encode(self, parts: list[EncodedPart]) -> "tuple[Ids, Places, list[str], list[int]]":
        import numpy as np

        found, _, unknown, whole = self._look_up(parts)
        ids = np.fromiter(chain.from_iterable(found), np.int32)
        ends = np.fromiter(accumulate(map(len, found)), np.int64, len(found))
        return ids, ends, unknown, whole

    def measure(self, parts: list[EncodedPart]) -> tuple[list[TextLength], list[str], list[int]]:
        found, lacks, unknown, whole = self._look_up(parts)
        lengths = [
            TextLength(-1 if place in lacks else len(ids), ids.index(self._mark) if self._mark in ids else -1)
            for place, ids in enumerate(found)
        ]
        return lengths, unknown, whole

    def _look_up(self, parts: list[EncodedPart]) -> tuple[list[list[int]], set[int], list[str], list[int]]:
        """Return each part's ids, the parts that lack some, the pieces to learn, and the parts not for us."""
        from array import array

        unknown: dict[str, None] = {}
        lacks: set[int] = set()
        whole = []
        found: list[list[int]] = []
        for place, part in enumerate(parts):
            ids: list[int] = []
            if isinstance(part, bytes):
                ids = array("i", part).tolist()
            elif self._cutter.is_safe(part):
                for piece in self._cutter.cut_with_added(part):
                    known = self._ids.get(piece) or self._added.get(piece)
                    if known is None:
                        unknown[piece] = None
                        lacks.add(place)
                    else:
                        ids += known
            else:
                whole.append(place)
            found.append(ids)
        return found, lacks, list(unknown), whole
