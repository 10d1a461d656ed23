"""Time `lfc prep convert` against the tutorials' scripts and the data libraries; print Markdown tables.

    pip install -e . pandas polars duckdb datasets
    python -m benchmarks.conversion --folder build/bench

Every way is a whole process, start-up included, with the input in the page cache and modules compiled, as pip
leaves them. Rounds go through all ways, so that a slow minute of the machine is everybody's, each in an order
of its own, because a way pays for the memory that the one before it gave back; the times are medians, the
ratios medians of the rounds' own ratios. Memory is taken in a run of its own: the highest sum over the process
and its children. What each way wrote is compared record by record with what `lfc` wrote, and a way that fails
stands in the table as such.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.generate import write_finetome, write_medical
from benchmarks.machine import describe_machine

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "benchmarks" / "peers"
SAMPLE_S = 0.02
FIELDS = ("instruction", "input", "output", "system")


class Way(NamedTuple):
    """One way from an input to an output: a name for people and its command."""

    name: str
    command: list[str]
    output: Path
    same_records: bool = True


def list_ways(shape: str, source: Path, folder: Path) -> list[Way]:
    """Return ours first, then every peer."""
    names = {
        "pandas": "pandas `iterrows` + `json.dumps` (the tutorials)",
        "loop": "`json.loads` loop (the tutorials)",
        "datasets": "HF datasets `map` + `to_json`",
        "polars": "polars `sink_ndjson`",
        "duckdb": "duckdb `COPY … TO json`",
    }
    convert = [sys.executable, "-m", "launch", "prep", "convert", str(source), "--force", "-o"]
    ways = []
    if shape == "finetome":
        first = folder / "lfc-first.jsonl"
        ways.append(Way("**`lfc prep convert --turns first`**", [*convert, str(first), "--turns", "first"], first))
    own = folder / "lfc.jsonl"
    ways.append(Way("**`lfc prep convert`**", [*convert, str(own)], own, shape == "medical"))
    for key, name in names.items():
        script = PEERS / f"{shape}_{key}.py"
        if script.exists():
            output = folder / f"{shape}-{key}.jsonl"
            ways.append(Way(name, [sys.executable, str(script), str(source), str(output)], output))
    return ways


def make_env() -> dict[str, str]:
    """Return an environment in which Python keeps what it compiled."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_once(way: Way) -> float | None:
    """Return the seconds that a way took, None when it failed."""
    clear(way)
    # What the run before left to the system to write later would be written now, at this one's cost.
    os.sync()
    start = time.perf_counter()
    result = subprocess.run(way.command, capture_output=True, check=False, cwd=ROOT, env=make_env())
    seconds = time.perf_counter() - start
    if result.returncode:
        print(result.stderr.decode(errors="replace")[-500:], file=sys.stderr)
        return None
    return seconds


def measure_peak(way: Way) -> float:
    """Return the highest memory in MiB of the process and its children together (Linux)."""
    clear(way)
    process = subprocess.Popen(
        way.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, env=make_env()
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(read_resident(pid) for pid in list_tree(process.pid)))
        time.sleep(SAMPLE_S)
    return peak / 2**20


def list_tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return [pid]
    return [pid, *(below for child in children for below in list_tree(int(child)))]


def read_resident(pid: int) -> int:
    """Return a process's resident bytes, 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4096
    except (OSError, IndexError):
        return 0


def clear(way: Way) -> None:
    """Remove what an earlier run left."""
    way.output.unlink(missing_ok=True)
    shutil.rmtree(f"{way.output}.cache", ignore_errors=True)


def digest_records(path: Path) -> str:
    """Return one hash of all records' four texts, however they were escaped; the order counts."""
    digest = hashlib.sha256()
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            record = json.loads(line)
            digest.update(json.dumps([record[name] for name in FIELDS]).encode())
    return digest.hexdigest()


def compare(shape: str, source: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Run every way, and print the table."""
    ways = list_ways(shape, source, folder)
    for way in ways:
        run_once(way)
    expected = digest_records(ways[0].output)
    equal = {way.name: digest_records(way.output) == expected for way in ways if way.output.exists()}
    times: dict[str, list[float | None]] = {way.name: [] for way in ways}
    for place in range(rounds):
        for way in random.Random(place).sample(ways, len(ways)):
            times[way.name].append(run_once(way))
    peaks = {way.name: measure_peak(way) for way in ways}
    print(f"\n**{shape}**, {source.stat().st_size / 1e6:,.0f} MB, {rounds} rounds\n")
    print("| way | wall s | × ours | peak MiB | records |\n| --- | --- | --- | --- | --- |")
    ours = times[ways[0].name]
    for way in ways:
        print(format_row(way, times[way.name], ours, peaks[way.name], equal.get(way.name, False)))
    return {
        way.name: {
            "wall_s": find_median(times[way.name]),
            "peak_mib": round(peaks[way.name]),
            "same_records": equal.get(way.name, False) if way.same_records else None,
        }
        for way in ways
    }


def find_median(times: Sequence[float | None]) -> float | None:
    """Return the median of the rounds that ended well, None when none did."""
    done = [time for time in times if time is not None]
    return round(statistics.median(done), 3) if done else None


def format_row(
    way: Way, own: Sequence[float | None], ours: Sequence[float | None], peak: float, equal: bool
) -> str:
    """Return one line of the table."""
    pairs = [(mine, base) for mine, base in zip(own, ours, strict=True) if mine and base]
    if not pairs:
        return f"| {way.name} | failed | | | |"
    wall = statistics.median(mine for mine, _ in pairs)
    ratio = statistics.median(mine / base for mine, base in pairs)
    records = ("the same" if equal else "**differ**") if way.same_records else "every answer a row"
    return f"| {way.name} | {wall:.2f} | {ratio:.2f} | {peak:,.0f} | {records} |"


def main() -> None:
    """Parse the command line, make the inputs once, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", choices=("finetome", "medical"), action="append")
    parser.add_argument("--json", type=Path, dest="target", help="write the figures here, too")
    arguments = parser.parse_args()
    told: dict[str, Any] = {"machine": describe_machine(), "rows": arguments.rows, "rounds": arguments.rounds}
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for shape in arguments.shape or ("finetome", "medical"):
        source = folder / f"{shape}-{arguments.rows}.{'parquet' if shape == 'finetome' else 'jsonl'}"
        if not source.exists():
            (write_finetome if shape == "finetome" else write_medical)(source, arguments.rows, seed=42)
        told[shape] = compare(shape, source, folder, arguments.rounds)
    if arguments.target:
        arguments.target.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
