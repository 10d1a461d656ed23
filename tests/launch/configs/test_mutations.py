"""Whatever LLaMA-Factory refuses, in its parser or in a run, `check` refuses too: a sample of the benchmark's thousands.

`--full` runs two thousand of another seed.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SAMPLE, ALL = 50, 2_000
_TIMEOUT_S = 4 * 3600


def run_benchmark(count: int, seed: int) -> dict[str, Any]:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.config_mutations", "--count", str(count), "--seed", str(seed)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=_TIMEOUT_S,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert result.stdout, result.stderr[-2000:]
    report: dict[str, Any] = json.loads(result.stdout)
    return report


@pytest.mark.stack
def test_no_random_mutation_passes_check_that_a_real_start_refuses(request: pytest.FixtureRequest) -> None:
    count, seed = (ALL, 11) if request.config.getoption("--full") else (SAMPLE, 7)
    report = run_benchmark(count, seed)
    assert report["missed"] == []
    assert len(report["false_alarms"]) <= count // 100
    assert sum(report["counts"].values()) == count
    assert report["counts"]["both refuse, parser"] > count // 8
    assert report["counts"]["both refuse, run"] > count // 8
    assert report["counts"]["both accept"] > count // 10
