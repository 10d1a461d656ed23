"""`python -m launch` is `lfc`, for a checkout that was not installed."""

import sys
from pathlib import Path

# `-m` puts the working folder first: its json.py would be imported in place of Python's.
if not sys.flags.safe_path and Path(sys.path[0]).resolve() != Path(__file__).resolve().parent.parent:
    del sys.path[0]

from launch.cli import main

main()
