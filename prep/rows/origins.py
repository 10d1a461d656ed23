"""Where a row came from: reading `<source>/<file>:<row>#<answer>`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from prep.errors import InputError
from prep.storage.manifests import manifest_path

_ORIGIN = re.compile(r"(?P<source>[^/]+)/(?P<file>.+):(?P<row>\d+)(?:#(?P<answer>\d+))?", re.DOTALL)


class Origin(NamedTuple):
    """One row's origin; `answer` is 0 where the conversation became a single row."""

    source: str
    file: str
    row: int
    answer: int

    @classmethod
    def parse(cls, text: object) -> Self | None:
        """Return the origin that a text says, or None when it says none."""
        match = _ORIGIN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            return None
        return cls(match["source"], match["file"], int(match["row"]), int(match["answer"] or 0))

    @property
    def conversation(self) -> str:
        """What the rows of one conversation share."""
        return f"{self.source}/{self.file}:{self.row}"


def source_of(origin: object) -> str:
    """Return the source that an origin names, "" without one."""
    parsed = Origin.parse(origin)
    return parsed.source if parsed else ""


@contextmanager
def explain_broken_way(path: Path) -> Iterator[None]:
    """Turn what a manifest of wrong content raises, read for the way of a file's rows, into an InputError.

    A manifest carries those of its inputs, whole, and each of them may have been edited.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{manifest_path(path)} does not tell where the rows came from: {type(error).__name__} {error}",
            hint="make the data file again",
        ) from error
