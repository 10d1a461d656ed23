"""Write the benchmarks' inputs: seeded, synthetic, in the shapes and sizes of the real sets.

python -m benchmarks.generate finetome build/finetome.parquet --rows 100000
python -m benchmarks.generate medical build/medical.jsonl --rows 100000
"""

import argparse
import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

ROWS_A_GROUP = 10_000
_LATIN = "abcdefghijklmnopqrstuvwxyz"
_ENDS = (". ", ". ", ", ", ": ", '." ', ".\n", ".\n\n", ";\n\t")
_HAN_ENDS = ("，", "。", "。\n", "；", "\n\n", "、", "（AFP 400 ng/mL）", '"')


class Prose:
    """Makes text out of a made-up vocabulary; `han` picks Chinese instead of Latin."""

    def __init__(self, seed: int, *, han: bool) -> None:
        self._rng = random.Random(seed)
        self._ends = _HAN_ENDS if han else _ENDS
        make = self._make_han_word if han else self._make_latin_word
        # A few hundred words make most of a text, so that it compresses as prose does.
        self._words = [make() for _ in range(6_000)] + [make() for _ in range(300)] * 40

    def write(self, words: int) -> str:
        """Return a text of about this many words, with punctuation, quotes and line ends."""
        parts = self._rng.choices(self._words, k=words)
        for place in range(7, words, 11):
            parts[place] += self._rng.choice(self._ends)
        return "".join(parts).strip() + "。" if self._ends is _HAN_ENDS else " ".join(parts).strip() + "."

    def pick_size(self, mean: int) -> int:
        """Return a word count of a long-tailed distribution."""
        return max(4, min(mean * 6, int(self._rng.expovariate(1 / mean))))

    def toss(self, chance: float) -> bool:
        """Return true with this chance."""
        return self._rng.random() < chance

    def _make_latin_word(self) -> str:
        return "".join(self._rng.choices(_LATIN, k=self._rng.randint(2, 9)))

    def _make_han_word(self) -> str:
        return "".join(chr(self._rng.randint(0x4E00, 0x9FA5)) for _ in range(self._rng.randint(1, 4)))


def make_finetome_rows(rows: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield ShareGPT rows: one in ten of several turns, one in fifty with a system turn."""
    prose = Prose(seed, han=False)
    for _ in range(rows):
        turns = []
        if prose.toss(0.02):
            turns.append({"from": "system", "value": prose.write(20)})
        for _ in range(1 if prose.toss(0.9) else 3):
            turns.append({"from": "human", "value": prose.write(prose.pick_size(80))})
            turns.append({"from": "gpt", "value": prose.write(prose.pick_size(240))})
        yield {"conversations": turns, "source": "synthetic", "score": 4.0 + prose.pick_size(200) / 2_000}


def make_medical_rows(rows: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield question, think, answer rows in Chinese, about 6 KB each."""
    prose = Prose(seed, han=True)
    for _ in range(rows):
        yield {
            "question": prose.write(prose.pick_size(30)),
            "think": prose.write(prose.pick_size(500)),
            "answer": prose.write(prose.pick_size(210)),
        }


def write_finetome(path: Path, rows: int, seed: int, group_rows: int = ROWS_A_GROUP) -> None:
    """Write the ShareGPT parquet: snappy, several row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    schema = pa.schema([("conversations", pa.list_(turn)), ("source", pa.string()), ("score", pa.float64())])
    source = make_finetome_rows(rows, seed)
    with pq.ParquetWriter(path, schema, compression="snappy") as writer:
        for _ in range(0, rows, group_rows):
            group = list(islice(source, group_rows))
            writer.write_table(pa.Table.from_pylist(group, schema=schema), row_group_size=group_rows)


def write_medical(path: Path, rows: int, seed: int) -> None:
    """Write the medical JSONL, as `json.dumps` writes it."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in make_medical_rows(rows, seed):
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def main() -> None:
    """Parse the command line and write one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=("finetome", "medical"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    arguments.path.parent.mkdir(parents=True, exist_ok=True)
    write = write_finetome if arguments.shape == "finetome" else write_medical
    write(arguments.path, arguments.rows, arguments.seed)
    print(f"{arguments.path}: {arguments.rows:,} rows, {arguments.path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
