"""How far a long step is, in the cell of a notebook that waits for it; nothing anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

_INTERVAL_S = 0.25


@contextmanager
def watch(verb: str, unit: str) -> Iterator[Callable[[int], None]]:
    """Count what is done in a line of the notebook's cell that changes; it stays with the end's count."""
    show = _open_line()
    if show is None:
        yield lambda _: None
        return
    done, shown = 0, 0.0

    def count(more: int) -> None:
        nonlocal done, shown
        done += more
        if time.monotonic() - shown >= _INTERVAL_S:
            shown = time.monotonic()
            show(f"{verb}: {done:,} {unit}")

    yield count
    show(f"{verb}: {done:,} {unit}")


def _open_line() -> Callable[[str], None] | None:
    """Return what changes a line of the cell, None where there is no notebook."""
    # Whoever runs in a notebook has it imported.
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    handle = import_module("IPython.display").display({"text/plain": ""}, raw=True, display_id=True)
    return lambda text: handle.update({"text/plain": text}, raw=True)
