"""Which rows of a file ask the same, told in 12 bytes a row."""

from array import array
from hashlib import blake2b
from itertools import pairwise


class QuestionBook:
    """Remembers questions in 12 bytes each and tells which came twice."""

    def __init__(self) -> None:
        self._digests = array("Q")
        self._lines = array("I")

    def add(self, line: int, question: str, context: tuple[object, ...]) -> None:
        """Add a row's question, without case and white space; its context makes it another one."""
        text = " ".join(question.casefold().split())
        if any(context):
            text = f"{text}\0{context}"
        self._digests.append(int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()))
        self._lines.append(line)

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
