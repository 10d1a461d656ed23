"""Time `lfc prep convert` on every shape of input against polars, and options against none; print Markdown.

    pip install -e . polars
    python -m benchmarks.shapes --folder build/bench --rounds 3 --json build/bench/shapes.json

The inputs have the columns of the real files: `metrics` as an object, `source`, `score`. Every way is a whole
process; the two of a pair run one after the other, and the first changes from round to round. Times are CPU
seconds, user and system, and of the wall, and medians; ratios are medians of the pairs' own; memory is the highest
of one run.
polars writes the first exchange of a conversation, `lfc` every one, with checks, hashes, index and manifest.
"""

import argparse
import csv
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.combining import lfc, write_with_metrics
from benchmarks.conversion import PEERS, ROOT, Way, make_env, measure_peak
from benchmarks.generate import Prose, make_finetome_rows
from benchmarks.machine import describe_machine

_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
# {a name for people: (the file, what the peer is told, our options)}; without a peer it is the plain conversion.
PAIRS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "FineTome parquet": ("sharegpt.parquet", "sharegpt", ()),
    "ShareGPT JSONL": ("sharegpt.jsonl", "sharegpt", ()),
    "messages JSONL": ("messages.jsonl", "messages", ()),
    "messages parquet": ("messages.parquet", "messages", ()),
    "medical JSONL with metrics": ("medical.jsonl", "medical", ()),
    "maths parquet": ("maths.parquet", "maths", ()),
    "question and answer CSV": ("table.csv", "table", ()),
    "JSON array, against its JSONL": ("array.json", "sharegpt.jsonl", ()),
    "FineTome parquet --where": ("sharegpt.parquet", "", ("--where", "score>=4.0")),
    "ShareGPT JSONL --where": ("sharegpt.jsonl", "", ("--where", "score>=4.0")),
    "CSV --where": ("table.csv", "", ("--where", "source==synthetic")),
    "FineTome parquet --dedup question": ("sharegpt.parquet", "", ("--dedup", "question")),
    "medical JSONL --dedup question": ("medical.jsonl", "", ("--dedup", "question")),
    "CSV --map": ("table.csv", "", ("--map", "question=question", "--map", "answer=answer")),
}


def make_chats(rows: int) -> list[dict[str, Any]]:
    return list(make_finetome_rows(rows, seed=42))


def to_messages(row: dict[str, Any]) -> dict[str, Any]:
    """Return a ShareGPT row as OpenAI writes it."""
    turns = [{"role": _ROLES[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
    return {"messages": turns, **{name: value for name, value in row.items() if name != "conversations"}}


def make_maths(rows: int) -> Iterator[dict[str, Any]]:
    """Yield rows with the columns of nvidia/OpenMathReasoning."""
    prose = Prose(42, han=False)
    for number in range(rows):
        thought, said = prose.write(prose.pick_size(300)), prose.write(prose.pick_size(40))
        yield {
            "expected_answer": str(number),
            "problem_type": "has_answer_extracted",
            "problem_source": "synthetic",
            "generation_model": "none",
            "pass_rate_72b_tir": "0.5",
            "problem": prose.write(prose.pick_size(40)),
            "generated_solution": f"<think>\n{thought}\n</think>\n\n{said}",
            "inference_mode": "cot",
            "used_in_kaggle": True,
        }


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_array(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=10_000)


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "question", "answer", "source"])
        for number, row in enumerate(rows):
            turns = [turn["value"] for turn in row["conversations"] if turn["from"] != "system"]
            writer.writerow([number, *turns[:2], row["source"]])


def prepare(folder: Path, rows: int) -> None:
    """Make the files that are not there yet."""
    writers: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
        "sharegpt.parquet": write_parquet,
        "sharegpt.jsonl": write_lines,
        "array.json": write_array,
        "table.csv": write_table,
    }
    chats: list[dict[str, Any]] = []
    for name, write in writers.items():
        if not (folder / name).exists():
            chats = chats or make_chats(rows)
            write(folder / name, chats)
    for name, write in (("messages.parquet", write_parquet), ("messages.jsonl", write_lines)):
        if not (folder / name).exists():
            chats = chats or make_chats(rows)
            write(folder / name, list(map(to_messages, chats)))
    if not (folder / "maths.parquet").exists():
        write_parquet(folder / "maths.parquet", list(make_maths(rows)))
    if not (folder / "medical.jsonl").exists():
        write_with_metrics(folder / "medical.jsonl", rows, 42)


def make_pair(name: str, folder: Path) -> tuple[Way, Way]:
    """Return our way, and the one that it is compared with."""
    file, peer, options = PAIRS[name]
    output = folder / "out.jsonl"
    own = [*lfc("convert", folder / file, "-o", output, "--force"), *options]
    if not peer or peer.endswith(".jsonl"):
        other = lfc("convert", folder / (peer or file), "-o", output, "--force")
    else:
        script = str(PEERS / "shapes_polars.py")
        other = [sys.executable, script, peer, str(folder / file), str(folder / "peer.jsonl")]
    return Way(name, own, output), Way(f"{name}, compared with", other, output)


class Taken(NamedTuple):
    """What one run took, in seconds."""

    cpu_s: float
    wall_s: float


def time_once(way: Way) -> Taken:
    """Run a way, and return what it took; what an earlier run left to be written is written before."""
    os.sync()
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(way.command, capture_output=True, check=True, cwd=ROOT, env=make_env())
    wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Taken(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall_s)


def measure(name: str, folder: Path, rounds: int) -> dict[str, float]:
    """Return the CPU and wall seconds of both ways, their ratios, and our memory."""
    pair = make_pair(name, folder)
    runs: list[tuple[Taken, Taken]] = []
    for place in range(rounds):
        order = random.Random(place).sample((0, 1), 2)
        taken = {side: time_once(pair[side]) for side in order}
        runs.append((taken[0], taken[1]))
    cpu, wall = ([(own[kind], other[kind]) for own, other in runs] for kind in (0, 1))
    return {
        "cpu_s": round(statistics.median(own for own, _ in cpu), 2),
        "compared_cpu_s": round(statistics.median(other for _, other in cpu), 2),
        "ratio": round(statistics.median(own / other for own, other in cpu), 2),
        "wall_s": round(statistics.median(own for own, _ in wall), 2),
        "compared_wall_s": round(statistics.median(other for _, other in wall), 2),
        "wall_ratio": round(statistics.median(own / other for own, other in wall), 2),
        "peak_mib": round(measure_peak(pair[0])),
    }


def main() -> None:
    """Parse the command line, make the inputs once, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder = (arguments.folder / f"shapes-{arguments.rows}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    prepare(folder, arguments.rows)
    figures: dict[str, dict[str, float]] = {}
    print("| work | CPU s | compared with | ratio | wall s | compared with | ratio | peak MiB |")
    print(f"|{' --- |' * 8}")
    for name in PAIRS:
        found = figures[name] = measure(name, folder, arguments.rounds)
        print("|", name, "|", " | ".join(map(str, found.values())), "|", flush=True)
    if arguments.json:
        told = {"machine": machine, "rows": arguments.rows, "rounds": arguments.rounds, "figures": figures}
        arguments.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
