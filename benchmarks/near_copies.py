"""Near copies: what is found of what brute force finds, and the time beside datasketch's; whole processes.

    python -m benchmarks.near_copies --rows 5000 --json benchmarks/results/near_copies.json

Rows are alike when four in five of all pieces of five characters of their normalised texts are equal. Brute
force compares every row with every earlier one that stays. datasketch gets the same texts, number of permutations
and threshold.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine, run_timed
from benchmarks.token_stats import make_words

ALIKE = 0.8
DATASKETCH = """
import json, sys
from datasketch import MinHash, MinHashLSH

index, kept = MinHashLSH(threshold=0.8, num_perm=128), 0
with open(sys.argv[1], encoding="utf-8") as source, open(sys.argv[2], "w", encoding="utf-8") as target:
    for number, line in enumerate(source):
        row = json.loads(line)
        text = " ".join((row["instruction"], row["output"])).casefold()
        sketch = MinHash(num_perm=128)
        sketch.update_batch([text[at : at + 5].encode() for at in range(len(text) - 4)])
        if not any(index.query(sketch)):
            index.insert(str(number), sketch)
            target.write(line)
"""


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
            stream.write(json.dumps({**row, "origin": f"bench:{number}"}) + "\n")


def find_by_force(texts: Sequence[str]) -> tuple[set[int], Any]:
    """Return the rows that are like an earlier one that stays, and how alike any two are, as a sparse matrix."""
    import numpy as np
    from scipy.sparse import csr_matrix

    from prep.rows.duplicates.near import cut_pieces
    from prep.rows.questions import normalise_question

    numbers: dict[str, int] = {}
    rows, columns = [], []
    for row, text in enumerate(texts):
        pieces = cut_pieces(normalise_question(f"Write. {text}"))
        rows += [row] * len(pieces)
        columns += [numbers.setdefault(piece, len(numbers)) for piece in pieces]
    has = csr_matrix((np.ones(len(rows), np.int32), (rows, columns)), (len(texts), len(numbers)))
    sizes = np.asarray(has.sum(axis=1)).ravel()
    copies: set[int] = set()
    pairs: dict[tuple[int, int], float] = {}
    for row in range(len(texts)):
        both = (has[:row] @ has[row].T).tocoo()
        alike = {
            int(other): shared / (sizes[row] + sizes[other] - shared)
            for other, shared in zip(both.row, both.data, strict=True)
        }
        pairs |= {(row, other): share for other, share in alike.items() if share >= ALIKE / 2}
        if any(share >= ALIKE and other not in copies for other, share in alike.items()):
            copies.add(row)
    return copies, pairs


def find_ours(texts: Sequence[str]) -> dict[int, int]:
    """Return the rows that lfc takes for near copies, each with the earlier row that it is like."""
    from prep.rows.duplicates.near import NearIndex, NearText

    index = NearIndex()
    found: dict[int, int] = {}
    for start in range(0, len(texts), 512):
        batch = [NearText(f"Write. {text}", "") for text in texts[start : start + 512]]
        told = enumerate(index.find_copies(batch), start)
        found |= {place: other for place, other in told if other is not None}
    return found


def compare(count: int) -> dict[str, Any]:
    """Return precision, recall and times."""
    texts = make_rows(count)
    copies, pairs = find_by_force(texts)
    found = find_ours(texts)
    right = sum(pairs.get((row, other), 0.0) >= ALIKE for row, other in found.items())
    result: dict[str, Any] = {"machine": describe_machine(), "rows": count, "copies": len(copies)}
    result |= {"found": len(found), "precision": round(right / max(len(found), 1), 4)}
    result["recall"] = round(len(copies & found.keys()) / max(len(copies), 1), 4)
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "rows.jsonl"
        write_rows(source, texts)
        mix = ["-m", "launch", "prep", "mix", f"a={source}", "-o", f"{name}/ours.jsonl", "--dedup", "near"]
        figures = {"lfc prep mix --dedup near": run_timed([sys.executable, *mix])}
        try:
            import datasketch  # noqa: F401
        except ImportError:
            pass
        else:
            theirs = ["-c", DATASKETCH, str(source), f"{name}/theirs.jsonl"]
            figures["datasketch"] = run_timed([sys.executable, *theirs])
    result["figures"] = {
        way: {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)} for way, (wall, cpu) in figures.items()
    }
    return result


def main() -> None:
    """Parse the command line, compare, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--json", type=Path, dest="target", help="write the figures here, too")
    given = parser.parse_args()
    result = compare(given.rows)
    print(json.dumps(result, indent=2))
    if given.target:
        given.target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
