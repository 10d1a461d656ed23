"""Is what each rule refuses really wrong, and does LLaMA-Factory really train what the rule's fix makes of it?

`python -m scripts.rule_runs cpu` trains every fixed config for a step in one process; `… gpu` starts
`llamafactory-cli train` on one GPU with the broken and with the fixed config of the rules that need one.
Names of rules behind it run those alone. One line a case goes to stderr; exit code 1 when something went
another way than tests/support/rule_cases.py says.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launch.configs.config import write_config
from launch.machine.command import build_llamafactory_command, find_llamafactory_cli
from tests.support import rule_judge
from tests.support.rule_cases import CASES, case_name, make_workplace, plan_case

_TIMEOUT_S = 600


def run_on_cpu(wanted: list[str]) -> Iterator[tuple[str, bool, list[str]]]:
    """Judge in this process: the parser on the broken, a training of the fixed."""
    for number, case in enumerate(CASES):
        if case.runs == "cpu" and case.gpus == () and (not wanted or case.rule in wanted):
            plan = plan_case(case, number)
            broken = rule_judge.judge(plan["broken"], run=False)
            fixed = rule_judge.judge(plan["fixed"], run=True)
            yield case_name(case), bool(broken) is case.parser and not fixed, [broken, fixed]


def run_on_gpu(wanted: list[str]) -> Iterator[tuple[str, bool, list[str]]]:
    """Start the real command for both configs: the broken must fail, the fixed must end well."""
    for number, case in enumerate(CASES):
        if case.runs == "gpu" and (not wanted or case.rule in wanted):
            plan = plan_case(case, number)
            told = [start(plan[side], Path(f"{side}-{number}.yaml")) for side in ("broken", "fixed")]
            yield case_name(case), bool(told[0]) and not told[1], told


def start(values: dict[str, Any], path: Path) -> str:
    """Train by `llamafactory-cli`; return the last line of its error, "" when it ended well."""
    write_config(path, {**values, "bf16": True}, header=path.stem)
    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": "0"}
    command = build_llamafactory_command(find_llamafactory_cli(), "train", path, values, environ)
    result = subprocess.run(
        command.argv,
        env={**environ, **command.env},
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=_TIMEOUT_S,
        check=False,
    )
    lines = [line for line in result.stderr.splitlines() if "Error" in line]
    return "" if result.returncode == 0 else (lines or [f"exit code {result.returncode}"])[-1]


def main(device: str, wanted: list[str]) -> int:
    """Run all cases of a device in a workplace of their own."""
    from launch.recipes.tiny_model import write_tiny_model

    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        make_workplace(Path(folder))
        os.chdir(folder)
        write_tiny_model(Path("data/mini.jsonl"), Path("tiny-qwen3"))
        for name, as_said, told in run_on_gpu(wanted) if device == "gpu" else run_on_cpu(wanted):
            wrong += not as_said
            answer = {"case": name, "as_said": as_said, "broken": told[0][:200], "fixed": told[1][:200]}
            os.write(2, (json.dumps(answer, ensure_ascii=False) + "\n").encode())
        os.chdir("/")
    return int(wrong > 0)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("device", choices=["cpu", "gpu"])
    arguments.add_argument("rules", nargs="*")
    given = arguments.parse_args()
    sys.exit(main(given.device, given.rules))
