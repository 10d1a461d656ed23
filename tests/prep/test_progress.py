"""How far a step is: what steps tell, and the line that a person sees of it."""

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from prep.cli.output import ShownProgress, describe_progress
from prep.combine.mix import MixOptions, mix_files
from prep.combine.split import SplitOptions, SplitSizes, split_file
from prep.convert.convert import convert_files
from prep.convert.options import ConvertOptions
from prep.quality.lint import lint_dataset
from prep.quality.repair import RepairOptions, repair_file
from prep.quality.stats import StatsOptions, collect_stats
from prep.registry.dataset import find_dataset
from tests.support.told_progress import ToldProgress

ROWS = 3_000


def write_source(path: Path) -> Path:
    rows = [{"question": f"What is {number}?", "answer": f"The number {number}."} for number in range(ROWS)]
    if path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_bytes(orjson.dumps(rows))
    else:
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_convert_tells_its_rows_and_the_share_of_its_input(name: str, tmp_path: Path) -> None:
    told = ToldProgress()
    convert_files([write_source(tmp_path / name)], tmp_path / "out.jsonl", ConvertOptions(), told)
    assert told.rows == ROWS
    assert told.shares == sorted(told.shares)
    assert told.shares[-1] == 1.0


def test_the_share_of_several_files_goes_by_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    files = [write_source(tmp_path / "in" / name) for name in ("a.json", "b.jsonl")]
    sizes = [file.stat().st_size for file in files]
    told = ToldProgress()
    convert_files(files, tmp_path / "out.jsonl", ConvertOptions(), told)
    assert told.rows == 2 * ROWS
    assert told.shares == sorted(told.shares)
    assert any(share == pytest.approx(sizes[0] / sum(sizes)) or share == 0 for share in told.shares)
    assert told.shares[-1] == 1.0


def test_every_step_on_converted_rows_tells_as_many_as_it_expects(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    convert_files([write_source(tmp_path / "a.jsonl")], path, ConvertOptions())
    dataset = find_dataset(str(path), tmp_path)
    steps: dict[str, Callable[[ToldProgress], object]] = {
        "lint": lambda told: lint_dataset(dataset, lambda finding: None, on_rows=told),
        "stats": lambda told: collect_stats(dataset, StatsOptions(), told),
        "split": lambda told: split_file(path, tmp_path / "part", SplitOptions(SplitSizes(100, 0)), told),
        "mix": lambda told: mix_files({"set": path}, tmp_path / "mixed.jsonl", MixOptions(), told),
        "repair": lambda told: repair_file(path, tmp_path / "repaired.jsonl", RepairOptions(), told),
    }
    for name, step in steps.items():
        told = ToldProgress()
        step(told)
        assert (name, told.rows, told.expected) == (name, ROWS, ROWS)


@pytest.mark.parametrize(
    ("rows", "expected", "share", "seconds", "line"),
    [
        (0, 0, None, 0.0, "mixing: 0 rows"),
        (1_500, 0, None, 0.5, "mixing: 1,500 rows"),
        (12_000, 0, None, 2.0, "mixing: 12,000 rows · 6,000 rows/s"),
        (12_000, 48_000, None, 2.0, "mixing: 12,000 rows, 25% · 6,000 rows/s"),
        (12_000, 48_000, None, 30.0, "mixing: 12,000 rows, 25% · 400 rows/s · 1:30 left"),
        (12_000, 0, 0.5, 65.0, "mixing: 12,000 rows, 50% · 185 rows/s · 1:05 left"),
        (0, 0, 0.0, 65.0, "mixing: 0 rows, 0%"),
        (60_000, 48_000, None, 60.0, "mixing: 60,000 rows, 100% · 1,000 rows/s"),
        (48_000, 0, 1.0, 3_600.0, "mixing: 48,000 rows, 100% · 13 rows/s"),
    ],
)
def test_the_line_tells_rows_share_speed_and_what_is_left(
    rows: int, expected: int, share: float | None, seconds: float, line: str
) -> None:
    now = 100.0
    progress = ShownProgress(lambda: now)
    progress.expect(expected)
    if share is not None:
        progress.reach(share)
    progress(rows)
    now += seconds
    assert describe_progress(progress, "mixing", "rows") == line
