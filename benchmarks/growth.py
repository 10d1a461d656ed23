"""Time convert, mix, split, stats and lint on inputs of some gigabytes: time grows with them, memory does not.

    python -m benchmarks.growth --folder build/growth --gigabytes 1 5 20 --json benchmarks/results/growth.json

The input is one part of synthetic medical rows with their metrics, over and over, with other questions each time.
Every step is a whole process, run once; what it read goes before the next one needs the room: at most two copies of
the input lie on the disk at a time. Memory is the highest of the process, mapped files included.
"""

import argparse
import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.combining import lfc, write_with_metrics
from benchmarks.machine import ROOT, describe_machine

_PART_ROWS = 50_000
_START = b'{"question": "'
_PIECE_BYTES = 1 << 20
_GIGABYTE = 1_000_000_000


def write_input(path: Path, part: Path, size: int) -> int:
    """Write the part's rows until there are so many bytes; return the rows."""
    rows, number = 0, 0
    with path.open("wb") as stream:
        while stream.tell() < size:
            number += 1
            with part.open("rb") as source:
                # A child's memory is never told as less than this process had when it began.
                while data := b"".join(source.readlines(_PIECE_BYTES)):
                    stream.write(data.replace(_START, b"%s%d: " % (_START, number)))
            rows += _PART_ROWS
    return rows


def measure(command: Sequence[str], size: int) -> dict[str, float]:
    """Return seconds, CPU seconds, megabytes of input a CPU second and the peak in MiB of one process."""
    os.sync()
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    # Popen would wait for it once more.
    process.returncode = os.waitstatus_to_exitcode(status)
    # Lint ends with 1 where it finds something.
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    return {
        "wall_s": round(time.perf_counter() - started, 1),
        "cpu_s": round(cpu, 1),
        "mb_a_cpu_s": round(size / 1e6 / cpu),
        "peak_mib": usage.ru_maxrss >> 10,
    }


def grow(folder: Path, part: Path, size: int) -> dict[str, Any]:
    """Return the figures of each step on an input of this many bytes."""
    source, rows, mixed = folder / "in.jsonl", folder / "rows.jsonl", folder / "mixed.jsonl"
    count = write_input(source, part, size)
    size = source.stat().st_size
    told: dict[str, Any] = {"rows": count, "bytes": size}
    told["convert"] = measure(lfc("convert", source, "-o", rows, "--force"), size)
    source.unlink()
    size = rows.stat().st_size
    told["stats"] = measure(lfc("stats", rows, "--json"), size)
    told["lint"] = measure(lfc("lint", rows, "--json"), size)
    told["mix"] = measure(lfc("mix", f"a={rows}", "-o", mixed, "--force"), size)
    rows.unlink()
    told["split"] = measure(lfc("split", mixed, "-o", folder / "side", "--test", 500, "--force"), size)
    for path in folder.glob("*"):
        if path.is_file() and path != part:
            path.unlink()
    return told


def main() -> None:
    """Parse the command line, measure each size, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/growth"))
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1, 5, 20])
    parser.add_argument("--json", type=Path, dest="target", help="write the figures here, too")
    given = parser.parse_args()
    folder: Path = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "part.jsonl"
    write_with_metrics(part, _PART_ROWS, 42)
    sizes = {f"{size:g} GB": grow(folder, part, int(size * _GIGABYTE)) for size in given.gigabytes}
    part.unlink()
    result = {"machine": describe_machine(), "sizes": sizes}
    print(json.dumps(result, indent=2))
    if given.target:
        given.target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
