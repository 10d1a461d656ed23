"""Whatever LLaMA-Factory's parser refuses, `check` refuses too: a sample of what the benchmark does by thousands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = 150


@pytest.mark.stack
def test_no_random_mutation_passes_check_that_the_real_parser_refuses() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.config_mutations", "--count", str(COUNT), "--seed", "7"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=500,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert result.stdout, result.stderr[-2000:]
    report = json.loads(result.stdout)
    assert report["missed"] == []
    assert sum(report["counts"].values()) == COUNT
    assert report["counts"]["both refuse"] > COUNT // 4
    assert report["counts"]["both accept"] > COUNT // 10
