"""What each trick of `prep.process` gains: CPU and memory of `lfc prep convert`, with and without it, in pairs.

    python -m benchmarks.process_tricks [PAIRS]

The inputs are of this machine's making: 50 rows and 60,000 rows of JSONL, and 20,000 rows of Parquet. The median of
the pairs' ratios is printed; below 1.00 the trick gains.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_RUN = "import sys, prep.process\n{off}\nfrom launch.cli import main\nmain()"
# What leaves a trick out, before the modules that use it take its name.
OFF = {
    "without_needless": "import contextlib; prep.process.without_needless = contextlib.nullcontext",
    "choose_memory_pool": "prep.process.choose_memory_pool = lambda: None",
    "keep_memory": "import prep.process; prep.process.keep_memory = lambda: None",
    "end_process": "prep.process.end_process = lambda code, flush: sys.exit(flush(code))",
}


def write_inputs(folder: Path) -> None:
    """Write the three inputs."""
    import pyarrow as pa
    from pyarrow import parquet

    words = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "敏捷的棕色狐狸"]
    texts = [" ".join(words[(number + step) % len(words)] for step in range(90)) for number in range(97)]

    def make(count: int) -> list[dict[str, str]]:
        names = ("question", "think", "answer")
        return [{name: f"{number} {texts[number % len(texts)]}" for name in names} for number in range(count)]

    for count in (50, 60_000):
        lines = (json.dumps(row) + "\n" for row in make(count))
        (folder / f"{count}.jsonl").write_text("".join(lines), encoding="utf-8")
    parquet.write_table(pa.Table.from_pylist(make(20_000)), folder / "20000.parquet", row_group_size=2_000)


def measure(off: str, source: Path, output: Path) -> tuple[float, int]:
    """Return the CPU seconds and the largest memory, in KiB, of one conversion."""
    arguments = ("prep", "convert", str(source), "-o", str(output), "--force")
    command = [sys.executable, "-c", _RUN.format(off=off), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def main() -> None:
    """Print a line for each trick and input."""
    if sys.argv[1:2] == ["write"]:
        write_inputs(Path(sys.argv[2]))
        return
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as made:
        # In a process of its own: a child's memory counts from what its parent has.
        subprocess.run([sys.executable, "-m", "benchmarks.process_tricks", "write", name], check=True)
        for source in sorted(Path(name).iterdir()):
            for trick, off in OFF.items():
                ratios, memory = [], []
                for _ in range(pairs):
                    (done, done_kib), (left, left_kib) = (
                        measure(code, source, Path(made, "out.jsonl")) for code in ("", off)
                    )
                    ratios.append(done / left)
                    memory.append((done_kib - left_kib) / 1024)
                told = f"CPU x {statistics.median(ratios):.2f}, memory {statistics.median(memory):+.0f} MiB"
                print(f"{source.name:16} {trick:20} {told}", flush=True)


if __name__ == "__main__":
    main()
