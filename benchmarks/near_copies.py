"""Near copies: what is found of what brute force finds, and the time beside the libraries' own; whole processes.

    python -m benchmarks.near_copies --rows 5000 --timed-rows 20000 --json benchmarks/results/near_copies.json
    python -m benchmarks.near_copies --peers build/peers/bin/python

Rows are alike when four in five of all pieces of five characters of their normalised texts are equal. Brute force
compares every row with every earlier one that stays, by counting the pieces that both have. datasketch, text-dedup
and datatrove get the same rows, pieces of five characters, permutations (datatrove: bands) and threshold; none of
them compares the rows that it finds. They do not go with lfc's own requirements: `make bench` puts them into
build/peers (benchmarks/requirements-near.txt).
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, describe_machine, run_timed
from benchmarks.token_stats import make_words

ALIKE = 0.8
PEERS = {"datasketch": "datasketch", "text-dedup": "text_dedup", "datatrove": "datatrove"}


def make_rows(count: int, seed: int = 7) -> list[str]:
    """Return texts of which a third are earlier ones with some of the words changed: few, or many."""
    chance = random.Random(seed)
    words, weights = make_words(chance)
    texts: list[list[str]] = []
    for _ in range(count):
        if texts and chance.random() < 0.35:
            text = list(chance.choice(texts))
            for place in range(len(text)):
                if chance.random() < chance.choice((0.0, 0.02, 0.04, 0.08, 0.15)):
                    text[place] = chance.choice(words)
        else:
            text = chance.choices(words, weights, k=chance.randint(40, 160))
        texts.append(text)
    return [" ".join(text) for text in texts]


def write_rows(path: Path, texts: Sequence[str]) -> None:
    """Write the texts as answers of one question, in the form that `lfc prep convert` writes."""
    with path.open("w", encoding="utf-8") as stream:
        for number, text in enumerate(texts):
            row = {"instruction": "Write.", "input": "", "output": text, "system": "", "history": []}
            line = json.dumps({**row, "origin": f"bench/rows.jsonl:{number + 1}"}, separators=(",", ":"))
            stream.write(line + "\n")


def find_by_force(texts: Sequence[str]) -> set[int]:
    """Return the rows that are like an earlier one that stays."""
    import numpy as np

    numbers: dict[str, int] = {}
    rows = [
        np.array([numbers.setdefault(piece, len(numbers)) for piece in read_pieces(text)], np.int64)
        for text in texts
    ]
    sizes = np.array([len(row) for row in rows])
    # For each piece the rows that have it, in one array: a row's pieces lead to those that share any.
    pieces = np.concatenate(rows)
    owners = np.repeat(np.arange(len(rows)), sizes)[np.argsort(pieces, kind="stable")]
    starts = np.concatenate(([0], np.cumsum(np.bincount(pieces, minlength=len(numbers)))))
    copies = np.zeros(len(rows), dtype=bool)
    for number, row in enumerate(rows):
        others = np.concatenate([owners[starts[piece] : starts[piece + 1]] for piece in row])
        shared = np.bincount(others[others < number], minlength=number)[:number]
        alike = shared >= ALIKE * (sizes[:number] + len(row) - shared)
        copies[number] = bool((alike & ~copies[:number]).any())
    return set(np.flatnonzero(copies).tolist())


def read_pieces(text: str) -> set[str]:
    """Return the pieces that are compared of a row."""
    from prep.rows.duplicates.pieces import cut_pieces
    from prep.rows.questions import normalise_question

    return cut_pieces(normalise_question(f"Write.\n\n{text}"))


def find_ours(path: Path) -> dict[int, int]:
    """Return the rows that lfc takes for near copies, each with the earlier row that it is like."""
    from prep.rows.duplicates.near import NearIndex

    with path.open("rb") as stream:
        found = NearIndex().find_copies(line.rstrip(b"\n") for line in stream)
    return {place: other for place, other in enumerate(found) if other is not None}


def judge(folder: Path, count: int) -> dict[str, Any]:
    """Return how many of the near copies are found, and how many of those that are found are any."""
    texts = make_rows(count)
    write_rows(folder / "judged.jsonl", texts)
    copies, found = find_by_force(texts), find_ours(folder / "judged.jsonl")
    right = 0
    for row, other in found.items():
        mine, theirs = read_pieces(texts[row]), read_pieces(texts[other])
        right += len(mine & theirs) >= ALIKE * len(mine | theirs)
    return {
        "rows": count,
        "copies": len(copies),
        "found": len(found),
        "precision": round(right / max(len(found), 1), 4),
        "recall": round(len(copies & found.keys()) / max(len(copies), 1), 4),
    }


def time_ways(folder: Path, count: int, runs: int, python: str) -> dict[str, Any]:
    """Return the CPU seconds of each whole process, their ratios, and the rows that each leaves."""
    source = folder / "rows.jsonl"
    write_rows(source, make_rows(count, seed=8))
    mix = ["launch", "prep", "mix", f"a={source}", "-o", str(folder / "lfc.jsonl"), "--dedup", "near", "--force"]
    ways = {"lfc": [sys.executable, "-m", *mix]}
    for name, module in PEERS.items():
        if subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode:
            print(f"{name} is not installed in {python}", file=sys.stderr)
            continue
        script = ROOT / "benchmarks" / "peers" / f"near_{module}.py"
        ways[name] = [python, str(script), str(source), str(folder / f"{name}.jsonl")]
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(runs):
        for name in random.Random(number).sample(list(ways), len(ways)):
            times[name].append(run_timed(ways[name])[1])
    figures: dict[str, Any] = {}
    for name, own in times.items():
        kept = (folder / f"{name}.jsonl").read_bytes().count(b"\n")
        figures[name] = {"cpu_s": round(statistics.median(own), 2), "rows_left": kept}
        ratios = [other / mine for other, mine in zip(own, times["lfc"], strict=True)]
        figures[name]["times_ours"] = round(statistics.median(ratios), 1)
    return {"rows": count, "bytes": source.stat().st_size, "runs": runs, "figures": figures}


def main() -> None:
    """Parse the command line, compare, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000, help="that brute force compares")
    parser.add_argument("--timed-rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    own = ROOT / "build" / "peers" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    parser.add_argument(
        "--peers",
        default=str(own) if own.exists() else sys.executable,
        help="the Python in which the other libraries are",
    )
    parser.add_argument("--json", type=Path, dest="target", help="write the figures here, too")
    given = parser.parse_args()
    result: dict[str, Any] = {"machine": describe_machine(), "threshold": ALIKE, "piece_characters": 5}
    with tempfile.TemporaryDirectory() as name:
        result["judged"] = judge(Path(name), given.rows)
        result["timed"] = time_ways(Path(name), given.timed_rows, given.runs, given.peers)
    print(json.dumps(result, indent=2))
    if given.target:
        given.target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
