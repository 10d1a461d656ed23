"""A program in llamafactory-cli's place, and batches of it, for the tests of backends."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
WAIT_S = 90.0
# In the place of llamafactory-cli: writes a checkpoint a step, and goes on from the one that it is given.
PROGRAM = """#!{python}
import json, os, sys, time, pathlib, yaml
values = yaml.safe_load(open(sys.argv[2], encoding="utf-8"))
out = pathlib.Path(values["output_dir"])
out.mkdir(parents=True, exist_ok=True)
start = dict(resume=values.get("resume_from_checkpoint"), batch=values.get("per_device_train_batch_size"),
             job=os.environ.get("SLURM_JOB_ID"), cuda=os.environ.get("CUDA_VISIBLE_DEVICES"))
with open(out / "starts", "a") as starts:
    starts.write(json.dumps(start) + "\\n")

def save_checkpoint(step):
    (out / f"checkpoint-{{step}}").mkdir(exist_ok=True)
    (out / f"checkpoint-{{step}}" / "trainer_state.json").write_text("{{}}")

exec(values.get("code", ""))
"""
# Waits until the test lets it end, once it has saved something.
HELD = "save_checkpoint(3)\nwhile not os.path.exists('let-go'): time.sleep(0.1)"
MEMORY = """
class OutOfMemoryError(Exception): pass
if values["per_device_train_batch_size"] > 1: raise OutOfMemoryError("CUDA out of memory")
"""


def install_program() -> None:
    """Put the program into the working folder's bin/."""
    program = Path("bin", "llamafactory-cli")
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)


def write_configs(codes: dict[str, str]) -> list[str]:
    for name, code in codes.items():
        values = {"output_dir": f"saves/{name}", "max_steps": 10, "per_device_train_batch_size": 4, "code": code}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return [f"{name}.yaml" for name in codes]


def start_lfc(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "launch", "launch", *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def start_batch(*arguments: str) -> subprocess.Popen[str]:
    return start_lfc(
        "batch",
        *arguments,
        "--json",
        "--no-check",
        "--llamafactory-cli",
        str(Path("bin/llamafactory-cli").absolute()),
    )


def finish(launcher: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    out, said = launcher.communicate(timeout=WAIT_S)
    assert out, said
    return launcher.returncode, {run["run"]: run for run in json.loads(out)["runs"]}


def wait_until(is_so: Callable[[], bool], tell: Callable[[], str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, tell()
        time.sleep(0.1)


def read_starts(name: str) -> list[dict[str, Any]]:
    path = Path("saves", name, "starts")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
