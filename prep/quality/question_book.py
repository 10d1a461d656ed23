"""Which rows of a file ask the same in the same context, told in 12 bytes a row."""

from array import array
from itertools import pairwise
from typing import Any

from prep.rows.questions import hash_text, normalise_question
from prep.storage.row_index import RowIndex


class QuestionBook:
    """Remembers questions in 12 bytes each and tells which came twice."""

    def __init__(self) -> None:
        # Whether all questions are in it, so that none is to be added.
        self.is_whole = False
        self._digests = array("Q")
        self._lines = array("I")

    def add(self, line: int, question: str, context: tuple[object, ...]) -> None:
        """Add a row's question, normalised; its context makes it another one."""
        text = normalise_question(question)
        if any(context):
            text = f"{text}\0{context}"
        self._digests.append(int.from_bytes(hash_text(text)[:8], "little"))
        self._lines.append(line)

    @classmethod
    def of(cls, index: RowIndex) -> "QuestionBook":
        """Return the questions that a file's row index tells of."""
        import numpy as np

        book = cls()
        book.is_whole = True
        keys: Any = index.column("asked").view(np.uint64).reshape(-1, 2)[:, 0]
        book._digests.frombytes(np.ascontiguousarray(keys).tobytes())
        book._lines.extend(range(1, len(index) + 1))
        return book

    def find_duplicates(self) -> list[tuple[int, int]]:
        """Return (line, first line) of each question that came before, in file order."""
        ordered = sorted(self._digests)
        twice = {left for left, right in pairwise(ordered) if left == right}
        first_lines: dict[int, int] = {}
        found = []
        for digest, line in zip(self._digests, self._lines, strict=True) if twice else ():
            if digest in twice:
                first = first_lines.setdefault(digest, line)
                if first != line:
                    found.append((line, first))
        return found
