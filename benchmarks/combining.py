"""Time mix, split, near-duplicates, stats and lint against copying lines by offset and polars; print Markdown.

    python -m benchmarks.combining --folder build/bench --rounds 3 --json build/bench/combining.json

The inputs have the columns of the real files: `metrics` as an object, `source`, `score`. Every way is a whole
process, in rounds through all ways, each in an order of its own; times are CPU seconds, user and system, children
included, and medians; memory is the highest of a run of its own.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.conversion import Way, make_env, measure_peak
from benchmarks.generate import write_finetome, write_medical
from benchmarks.machine import describe_machine

ROOT = Path(__file__).parent.parent
COPY = """
import os, random, sys
*paths, rows, out = sys.argv[1:]
files, lines = [open(path, "rb", buffering=0) for path in paths], []
for number, path in enumerate(paths):
    start = 0
    for line in open(path, "rb"):
        lines.append((number, start, len(line)))
        start += len(line)
random.Random(1).shuffle(lines)
with open(out, "wb") as stream:
    for number, start, size in lines[: int(rows)]:
        stream.write(os.pread(files[number].fileno(), size, start))
"""
POLARS = """
import sys, polars
*paths, rows, out = sys.argv[1:]
frames = [polars.read_ndjson(path) for path in paths]
polars.concat(frames).sample(int(rows), shuffle=True, seed=1).write_ndjson(out)
"""


def lfc(*words: object) -> list[str]:
    """Return the command line of one of our commands."""
    return [sys.executable, "-m", "launch", "prep", *map(str, words)]


def list_ways(folder: Path, rows: int) -> dict[str, Way]:
    """Return what is timed, by name."""
    chat, medical, mixed = (folder / f"{name}.jsonl" for name in ("chat", "medical", "mixed"))
    mix = lfc("mix", f"a={chat}", f"b={medical}", "-o", mixed, "--force")
    ways = {
        "mix": mix,
        "mix: copying lines by offset": [
            sys.executable,
            "-c",
            COPY,
            *map(str, (chat, medical, 2 * rows, folder / "x")),
        ],
        "split --test 500": lfc("split", mixed, "-o", folder / "side", "--test", 500, "--force"),
        "stats, by characters": lfc("stats", mixed, "--json"),
        "lint": lfc("lint", mixed, "--json"),
        "mix --dedup near": [*lfc("mix", f"a={chat}", "-o", folder / "near.jsonl", "--force"), "--dedup", "near"],
        "mix --dedup question": [*mix[:-2], str(folder / "once.jsonl"), "--force", "--dedup", "question"],
    }
    try:
        import polars  # noqa: F401
    except ImportError:
        pass
    else:
        ways["mix: polars"] = [sys.executable, "-c", POLARS, *map(str, (chat, medical, 2 * rows, folder / "y"))]
    return {name: Way(name, command, folder / "none") for name, command in ways.items()}


def run_once(way: Way) -> float:
    """Return the CPU seconds of one run, its children's included."""
    os.sync()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(way.command, capture_output=True, check=False, cwd=ROOT, env=make_env())
    # Lint ends with 1 where it finds something.
    if result.returncode not in ((0, 1) if way.name == "lint" else (0,)):
        raise SystemExit(f"{way.name} failed: {result.stderr.decode(errors='replace')[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def prepare(folder: Path, rows: int) -> None:
    """Make the raw files and convert them, once."""
    sources = {
        "chat": (folder / f"finetome-{rows}.parquet", write_finetome),
        "medical": (folder / f"metrics-{rows}.jsonl", None),
    }
    for name, (source, write) in sources.items():
        if not source.exists():
            (write or write_with_metrics)(source, rows, 42)
        command = lfc("convert", source, "-o", folder / f"{name}.jsonl", "--force")
        subprocess.run(command, check=True, cwd=ROOT, env=make_env(), capture_output=True)
    for way in list(list_ways(folder, rows).values())[:1]:
        run_once(way)


def write_with_metrics(path: Path, rows: int, seed: int) -> None:
    """Write the medical JSONL with the column of the real set that is an object."""
    plain = path.with_suffix(".plain")
    write_medical(plain, rows, seed)
    with plain.open("rb") as source, path.open("wb") as target:
        for number, line in enumerate(source):
            metrics = json.dumps({"quality": number % 10 / 10, "length": len(line), "tags": ["synthetic"]}).encode()
            target.write(line.rstrip()[:-1] + b', "metrics": ' + metrics + b"}\n")
    plain.unlink()


def compare(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    """Run every way, and return its figures."""
    machine = describe_machine()
    prepare(folder, rows)
    ways = list_ways(folder, rows)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for place in range(rounds):
        for name in random.Random(place).sample(list(ways), len(ways)):
            times[name].append(run_once(ways[name]))
    figures = {
        name: {"cpu_s": round(statistics.median(own), 2), "peak_mib": round(measure_peak(ways[name]))}
        for name, own in times.items()
    }
    copied = times["mix: copying lines by offset"]
    for name in ("mix", "split --test 500"):
        figures[name]["times_copying"] = round(statistics.median(map(divide, times[name], copied)), 2)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.glob("*.jsonl"))}
    return {"machine": machine, "rows": rows, "rounds": rounds, "bytes": sizes, "figures": figures}


def divide(one: float, other: float) -> float:
    """Return a ratio."""
    return one / other


def print_table(figures: dict[str, dict[str, float]]) -> None:
    """Print the figures as Markdown."""
    print("| work | CPU s | × copying | peak MiB |\n| --- | --- | --- | --- |")
    for name, own in figures.items():
        print(f"| {name} | {own['cpu_s']:.2f} | {own.get('times_copying', '')} | {own['peak_mib']:,.0f} |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compare, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--rows", type=int, default=100_000, help="of each of the two parts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, dest="target", help="write the figures here, too")
    given = parser.parse_args(arguments)
    folder: Path = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    result = compare(folder, given.rows, given.rounds)
    print_table(result["figures"])
    if given.target:
        given.target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
