"""The queue: every run once, a slot each, retried by cause, and nothing lost with its launcher."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from launch.batches.batch import read_queue, refuse_taken, run_batch, run_environment, slot_environment, stop_batch
from launch.batches.sweep import read_sweep
from launch.cli.batch import find_best
from launch.results.report import write_report
from launch.runs.batch_plan import read_batch
from launch.runs.claims import lock_output
from launch.runs.folder import RunState, list_runs
from prep.errors import ConfigError, InputError, OutputError
from tests.support.begun_runs import plan_batch
from tests.support.run_folders import write_run

ROOT = Path(__file__).parents[3]
posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

# A program in the place of llamafactory-cli: it counts its starts, does what `code` says, and writes checkpoints.
PROGRAM = """#!{python}
import json, os, signal, sys, time, pathlib, yaml
values = yaml.safe_load(open(sys.argv[2], encoding="utf-8"))
out = pathlib.Path(values["output_dir"])
out.mkdir(parents=True, exist_ok=True)
with open(out / "starts", "a") as starts:
    starts.write(json.dumps(dict(at=time.time(), batch=values.get("per_device_train_batch_size"),
        accumulation=values.get("gradient_accumulation_steps"), resume=values.get("resume_from_checkpoint"),
        gpu=os.environ.get("CUDA_VISIBLE_DEVICES"))) + "\\n")

def save_checkpoint(step):
    (out / f"checkpoint-{{step}}").mkdir(exist_ok=True)
    (out / f"checkpoint-{{step}}" / "trainer_state.json").write_text("{{}}")

exec(values.get("code", ""))
(out / "ended").write_text(str(time.time()))
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bin" / "llamafactory-cli"
    path.parent.mkdir()
    path.write_text(PROGRAM.format(python=sys.executable), encoding="utf-8")
    path.chmod(0o755)
    return path


def configure(**codes: str) -> dict[str, dict[str, Any]]:
    return {name: {"output_dir": f"saves/{name}", "max_steps": 10, "code": code} for name, code in codes.items()}


def read_starts(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("saves", name, "starts").read_text(encoding="utf-8").splitlines()]


def work_off(
    program: Path, configs: dict[str, dict[str, Any]], slots: tuple[str, ...] = ("cpu", "cpu")
) -> dict[str, RunState]:
    plan = plan_batch("b", configs, slots, 3)
    queue = run_batch(plan, program, lambda _: None)
    return {run.planned.name: run.last.state for run in queue if run.last}


def test_a_sweep_makes_the_grid_the_pairs_and_the_named_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text("output_dir: saves/m/lora/base\nseed: 1\n", encoding="utf-8")
    Path("s.yaml").write_text(
        "config: base.yaml\nset: {max_steps: 5}\ngrid: {lora_rank: [8, 16]}\n"
        "zip: {dataset: [a, b], cutoff_len: [10, 20]}\nruns: {slow: {learning_rate: 1.0e-5}}\n",
        encoding="utf-8",
    )
    configs = read_sweep([Path("s.yaml")], "s")
    assert list(configs) == [
        "lora_rank-8_dataset-a_cutoff_len-10",
        "lora_rank-16_dataset-a_cutoff_len-10",
        "lora_rank-8_dataset-b_cutoff_len-20",
        "lora_rank-16_dataset-b_cutoff_len-20",
        "slow",
    ]
    assert configs["slow"] == {
        "output_dir": "saves/m/lora/base-slow",
        "seed": 1,
        "max_steps": 5,
        "learning_rate": 1e-5,
    }


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("config: base.yaml\ngird: {a: [1]}\n", "unknown key gird"),
        ("config: base.yaml\ngrid: {a: 1}\n", "`grid.a` must be a list of values, not 1"),
        ("config: base.yaml\nzip: {a: [1], b: [1, 2]}\n", "equally long"),
        ("config: base.yaml\n", "are all empty"),
        (
            "config: base.yaml\nset: {output_dir: x}\nruns: {a: {output_dir: y}, b: {output_dir: y}}\n",
            "share the output_dir y",
        ),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(
    sweep: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text("output_dir: out\n", encoding="utf-8")
    Path("s.yaml").write_text(sweep, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_sweep([Path("s.yaml")], "s")


def test_every_run_ends_and_one_failure_stops_no_other(program: Path) -> None:
    states = work_off(program, configure(a="", bad="raise ValueError('bad data')", c=""))
    assert states == {"a": RunState.FINISHED, "bad": RunState.FAILED, "c": RunState.FINISHED}
    assert len(read_starts("bad")) == 1


def test_a_slot_is_one_gpu_and_no_gpu_has_two_runs(program: Path) -> None:
    codes = {f"r{number}": "time.sleep(0.6)" for number in range(4)}
    work_off(program, configure(**codes), ("0", "3"))
    spans = [
        (start["gpu"], start["at"], float(Path("saves", name, "ended").read_text(encoding="utf-8")))
        for name in codes
        for start in read_starts(name)
    ]
    assert {gpu for gpu, _, _ in spans} == {"0", "3"}
    for gpu in ("0", "3"):
        mine = sorted((begin, end) for place, begin, end in spans if place == gpu)
        assert all(first[1] <= second[0] for first, second in pairwise(mine))


def test_the_largest_run_starts_first(program: Path) -> None:
    configs = configure(small="", large="")
    configs["large"]["max_steps"] = 1000
    work_off(program, configs, ("cpu",))
    assert read_starts("large")[0]["at"] < read_starts("small")[0]["at"]


def test_out_of_memory_is_tried_again_with_half_the_batch(program: Path) -> None:
    code = "save_checkpoint(4)\nif values['per_device_train_batch_size'] > 2: sys.exit('CUDA out of memory')"
    configs = configure(a=code)
    configs["a"] |= {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    assert work_off(program, configs) == {"a": RunState.FINISHED}
    assert [(start["batch"], start["accumulation"]) for start in read_starts("a")] == [(8, 1), (4, 2), (2, 4)]
    assert [start["resume"] for start in read_starts("a")] == [None, "saves/a/checkpoint-4", "saves/a/checkpoint-4"]


@posix_only
def test_a_run_that_was_killed_goes_on_from_its_checkpoint(program: Path) -> None:
    code = "if not values.get('resume_from_checkpoint'): save_checkpoint(7); os.kill(os.getpid(), signal.SIGKILL)"
    assert work_off(program, configure(a=code)) == {"a": RunState.FINISHED}
    assert [start["resume"] for start in read_starts("a")] == [None, "saves/a/checkpoint-7"]
    assert [run.name for run in list_runs()] == ["b/a", "b/a.2"]
    assert "1 of 1 run finished" in write_report("b").read_text(encoding="utf-8"), "runs are counted, not attempts"


@posix_only
def test_attempts_come_to_an_end(program: Path) -> None:
    assert work_off(program, configure(a="os.kill(os.getpid(), signal.SIGKILL)")) == {"a": RunState.FAILED}
    assert len(read_starts("a")) == 3


def test_a_batch_never_takes_another_ones_folder(program: Path) -> None:
    plan_batch("b", configure(a=""), ("cpu",), 1)
    with pytest.raises(OutputError, match="exists already"):
        plan_batch("b", configure(a=""), ("cpu",), 1)


def test_a_finished_batch_goes_on_to_nothing(program: Path) -> None:
    work_off(program, configure(a="", b=""))
    run_batch(read_batch("b"), program, lambda _: None)
    assert len(read_starts("a")) == len(read_starts("b")) == 1


@posix_only
def test_stopping_a_batch_leaves_no_process(program: Path) -> None:
    plan = plan_batch("b", configure(a="time.sleep(60)", b="time.sleep(60)"), ("cpu", "cpu"), 3)

    def interrupt_when_both_run(_: object) -> None:
        if all(Path("saves", name, "starts").exists() for name in ("a", "b")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch(plan, program, interrupt_when_both_run)
    stop_batch(plan)
    assert {run.last.state for run in read_queue(plan) if run.last} == {RunState.STOPPED}
    assert not Path("saves/a/ended").exists()


@posix_only
def test_killing_the_launcher_loses_no_run_and_starts_none_twice(program: Path, full: bool) -> None:
    """Each round kills the launcher at another moment; all runs still end, each with one start."""
    rounds = 20 if full else 4
    names = [f"r{number}" for number in range(6)]
    configs = configure(**dict.fromkeys(names, "time.sleep(0.5)"))
    moments = random.Random(42)
    for number in range(rounds):
        batch = f"b{number}"
        for name in names:
            configs[name]["output_dir"] = f"saves/{batch}/{name}"
        plan_batch(batch, configs, ("cpu", "cpu"), 3)
        argv = [
            sys.executable,
            "-m",
            "launch",
            "launch",
            "batch",
            "--continue",
            batch,
            "--llamafactory-cli",
            str(program),
        ]
        for wait_s in (moments.uniform(0.2, 2.5), moments.uniform(0.2, 2.5), None):
            launcher = subprocess.Popen(
                argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
            )
            if wait_s is None:
                assert launcher.wait(timeout=120) == 0
            else:
                time.sleep(wait_s)
                launcher.send_signal(signal.SIGKILL)
                launcher.wait()
        assert {run.last.state for run in read_queue(read_batch(batch)) if run.last} == {RunState.FINISHED}
        assert [len(read_starts(f"{batch}/{name}")) for name in names] == [1] * len(names)


def test_a_run_of_its_own_that_is_just_beginning_is_no_reason_to_refuse_a_batch(program: Path) -> None:
    configs = configure(a="")
    plan = plan_batch("b", configs, ("cpu",), 1)
    with lock_output(configs["a"]) as held:
        assert held
        with pytest.raises(OutputError, match="is in use"):
            refuse_taken(plan)
        # Written down by a launcher that was killed; its supervisor has the folder, and has not said so yet.
        run = write_run(plan.folder / "a", configs["a"])
        (run / "process.json").unlink()
        (run / "result.json").unlink()
        refuse_taken(plan)


def test_a_batch_that_is_to_be_boosted_boosts_each_of_its_runs_also_when_it_is_taken_up(program: Path) -> None:
    plan_batch("b", configure(a=""), ("3",), 1, boost=True)
    assert run_environment(read_batch("b"), "3") == {"CUDA_VISIBLE_DEVICES": "3", "LFC_BOOST": "1"}
    plan_batch("c", configure(a=""), ("3",), 1)
    assert run_environment(read_batch("c"), "3") == {"CUDA_VISIBLE_DEVICES": "3"}
    written = Path("runs/b/batch.json")
    written.write_text(written.read_text(encoding="utf-8").replace('"boost": true', '"boost": 1'), encoding="utf-8")
    with pytest.raises(InputError, match="`boost` is neither true nor false"):
        read_batch("b")


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ({"a": [2.0, 1.5], "b": [2.0, 1.25]}, "b"),
        ({"a": [2.0, 1.0], "b": [2.0, 1.25]}, "a"),
        ({"a": [2.0]}, None),
        ({"a": [2.0], "b": []}, None),
    ],
)
def test_the_best_run_of_a_batch_is_the_one_with_the_lowest_loss(
    program: Path, losses: dict[str, list[float]], best: str | None
) -> None:
    configs = configure(**dict.fromkeys(losses, ""))
    plan = plan_batch("b", configs, ("cpu",), 1)
    for name, values in losses.items():
        write_run(plan.folder / name, configs[name], values)
    found = find_best(read_queue(plan))
    assert (found.name if found else None) == best


def test_a_slot_of_the_processor_is_a_share_of_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert slot_environment("cpu", 2) == {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "4"}
    assert slot_environment("3", 4) == {"CUDA_VISIBLE_DEVICES": "3"}
