"""How far a long step is, in the cell of a notebook that waits for it; nothing anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from prep.progress import SILENT, Progress

_INTERVAL_S = 0.25


class CellProgress(Progress):
    """Counts in one line, which `show` changes; with the whole number, or the share, where that is known."""

    def __init__(self, verb: str, unit: str, show: Callable[[str], None]) -> None:
        self._verb, self._unit, self._show = verb, unit, show
        self._done = 0
        self._all: int | None = None
        self._share: float | None = None
        self._shown = 0.0

    def __call__(self, rows: int) -> None:
        """Count rows that are done."""
        self._done += rows
        if time.monotonic() - self._shown >= _INTERVAL_S:
            self.show()

    def expect(self, rows: int) -> None:
        """Take note of how many rows there are in all."""
        self._all = rows

    def reach(self, share: float) -> None:
        """Take note of the share of the input that is done."""
        self._share = share

    def show(self) -> None:
        """Change the line."""
        self._shown = time.monotonic()
        of_all = f" of {self._all:,}" if self._all else ""
        share = f" ({self._share:.0%})" if self._share is not None and not of_all else ""
        self._show(f"{self._verb}: {self._done:,}{of_all} {self._unit}{share}")


@contextmanager
def watch(verb: str, unit: str) -> Iterator[Progress]:
    """Count what is done in a line of the notebook's cell that changes; it stays with the end's count."""
    show = _open_line()
    if show is None:
        yield SILENT
        return
    progress = CellProgress(verb, unit, show)
    yield progress
    progress.show()


def _open_line() -> Callable[[str], None] | None:
    """Return what changes a line of the cell, None where there is no notebook."""
    # Whoever runs in a notebook has it imported.
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    handle = import_module("IPython.display").display({"text/plain": ""}, raw=True, display_id=True)
    return lambda text: handle.update({"text/plain": text}, raw=True)
