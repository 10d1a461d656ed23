"""`lfc prep convert` run here, or any `lfc prep` command in a process whose memory is measured."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner, Result

from launch.cli import lfc

ROOT = Path(__file__).parents[2]
MEASURED = """
import sys
from pathlib import Path
from launch.cli import lfc
import prep
prep.is_own_process = True
try:
    lfc()
finally:
    sys.stdout.flush()
    # Not getrusage: a child begins with its parent's peak.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) >> 10, file=sys.stderr)
"""


class Measured(NamedTuple):
    """How a process ended, what it said on stderr, and the most memory that it had."""

    code: int
    said: str
    peak_mib: int


def convert(path: Path, output: Path, *options: str) -> Result:
    """Convert one file; what is no user's fault is raised."""
    arguments = ["prep", "convert", str(path), "-o", str(output), *options]
    return CliRunner().invoke(lfc, arguments, catch_exceptions=False)


def measure(*arguments: str | Path, stdin: Path | None = None, timeout_s: float = 120) -> Measured:
    """Run `lfc prep …` in a process of its own."""
    with (stdin or Path(os.devnull)).open("rb") as source:
        result = subprocess.run(
            [sys.executable, "-c", MEASURED, "prep", *map(str, arguments)],
            cwd=ROOT,
            stdin=source,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout_s,
            check=False,
        )
    said, _, peak = result.stderr.rstrip("\n").rpartition("\n")
    return Measured(result.returncode, said, int(peak))
