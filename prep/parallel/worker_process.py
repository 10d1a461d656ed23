"""What a worker process runs: it finds `prep` beside itself, and Python's own modules before all others."""

import sys
from pathlib import Path


def _add_own_root() -> None:
    """Put the folder that holds `prep` behind the standard library, and before installed packages."""
    root = str(Path(__file__).parents[2])
    installed = [
        index for index, entry in enumerate(sys.path) if entry.endswith(("site-packages", "dist-packages"))
    ]
    sys.path.insert(installed[0] if installed else len(sys.path), root)


if __name__ == "__main__":
    _add_own_root()
    from prep.parallel.processes import serve

    serve()
