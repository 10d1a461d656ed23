"""Stopping: the queue too, from a background as well, only what is ours, and never what had ended."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launch.batches.batch import read_queue
from launch.cli import lfc
from launch.configs.config import RunConfig
from launch.runs.batch_plan import read_batch
from launch.runs.causes import Cause, find_cause
from launch.runs.folder import RunFolder, RunState, is_alive, read_run
from launch.runs.run import prepare_llamafactory, run_llamafactory, stop_run
from launch.runs.supervisor import supervise
from prep.errors import ChildFailedError, OutputError
from prep.storage.atomic import write_json
from tests.support.begun_runs import plan_batch, start_llamafactory
from tests.support.processes import is_running

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
WAIT = "open('started', 'w').write(str(os.getpid())); time.sleep(60)"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of llamafactory-cli that does what the config's `code` says."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bin" / "llamafactory-cli"
    path.parent.mkdir()
    path.write_text(
        f"#!{sys.executable}\nimport os, signal, sys, time, yaml\n"
        "exec(yaml.safe_load(open(sys.argv[2], encoding='utf-8'))['code'])\n",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def doing(code: str, **values: Any) -> RunConfig:
    config = {"code": code, **values}
    return RunConfig(config, json.dumps(config) + "\n")


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 30
    while not path.exists() or not path.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline, f"{path.name} never appeared"
        time.sleep(0.05)
    return path.read_text(encoding="utf-8")


def in_background(program: Path, *argv: str) -> int:
    """Start lfc as a shell starts what stands before `&`: SIGINT ignored; return its process id."""
    line = f'"{sys.executable}" -m launch launch "$@" > said 2>&1 & echo $!'
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LFC_LLAMAFACTORY_CLI": str(program)}
    started = subprocess.run(["sh", "-c", line, "sh", *argv], env=env, capture_output=True, text=True, check=True)
    return int(started.stdout)


def wait_for_end(pid: int, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while is_running(pid):
        state = Path(f"/proc/{pid}/stat")
        if state.exists() and state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
            return
        assert time.monotonic() < deadline, f"it goes on: {Path('said').read_text(encoding='utf-8')}"
        time.sleep(0.05)


def lfc_launch(program: Path, *argv: str) -> Result:
    env = {"LFC_LLAMAFACTORY_CLI": str(program)}
    return CliRunner().invoke(lfc, ["launch", *argv], env=env, catch_exceptions=False)


def configure(**codes: str) -> dict[str, dict[str, Any]]:
    return {name: {"output_dir": f"saves/{name}", "max_steps": 9, "code": code} for name, code in codes.items()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["train", "batch"])
def test_a_launcher_in_the_background_stops_within_seconds(
    command: str, number: signal.Signals, program: Path
) -> None:
    Path("c.yaml").write_text(json.dumps({"code": WAIT, "output_dir": "saves/c"}), encoding="utf-8")
    pid = in_background(program, command, "c.yaml", "--no-check")
    child = int(wait_for(Path("started")))
    os.kill(pid, number)
    wait_for_end(pid, 15)
    assert not is_running(child)
    path = Path("runs/c") if command == "train" else Path("runs/c/c")
    assert (read_run(path).state, find_cause(read_run(path))) == (RunState.STOPPED, Cause.STOPPED)


def test_stop_ends_a_batch_with_its_queue_and_continue_takes_up_what_was_stopped(program: Path) -> None:
    code = "exec(open('code').read())"
    Path("code").write_text(WAIT, encoding="utf-8")
    for name in ("a", "b"):
        Path(f"{name}.yaml").write_text(json.dumps({"code": code, "output_dir": f"saves/{name}"}), encoding="utf-8")
    pid = in_background(program, "batch", "a.yaml", "b.yaml", "--name", "q", "--no-check")
    wait_for(Path("started"))
    assert lfc_launch(program, "stop", "q").output == "q: stopped\n"
    wait_for_end(pid, 5)
    states = [run.last.state if run.last else None for run in read_queue(read_batch("q"))]
    assert sorted(map(str, states)) == ["None", "stopped"]
    Path("code").write_text("pass", encoding="utf-8")
    preview = lfc_launch(program, "batch", "--continue", "q", "--dry-run", "--json")
    assert sorted(json.loads(preview.stdout)["commands"]) == ["a", "b"]
    assert lfc_launch(program, "batch", "--continue", "q").exit_code == 0
    assert {run.last.state for run in read_queue(read_batch("q")) if run.last} == {RunState.FINISHED}
    assert lfc_launch(program, "stop", "q").output == "q: had ended already\n"


def test_a_run_that_was_stopped_by_its_name_stays_stopped_while_its_batch_goes_on(program: Path) -> None:
    plan = plan_batch("q", configure(a="pass"), ("cpu",), 3)
    run = prepare_llamafactory(program, "train", doing("pass", output_dir="saves/a"), Path("runs/q/a"), {}, "cpu")
    run.stop_request.write_text("", encoding="utf-8")
    run.process.write_text("{}", encoding="utf-8")
    run.result.write_text('{"exit_code": 130, "stopped": true}', encoding="utf-8")
    assert read_queue(plan)[0].next_values is None


def test_stop_of_several_tells_what_had_ended_and_what_is_unknown(program: Path) -> None:
    run_llamafactory(program, "train", doing("pass"), Path("runs/done"))
    start_llamafactory(program, "train", doing(WAIT), Path("runs/live"))
    result = lfc_launch(program, "stop", "done", "nope", "live")
    assert result.exit_code == 1
    assert result.stdout == "done: had ended already: finished\nlive: stopped\n"
    assert "Error: no run is called 'nope'" in result.stderr
    assert lfc_launch(program, "stop", "done", "live").exit_code == 0
    assert read_run(Path("runs/done")).state is RunState.FINISHED


def test_a_request_that_comes_when_the_run_has_ended_does_not_make_it_stopped(program: Path) -> None:
    code = "open(os.path.join(os.path.dirname(sys.argv[2]), 'stop'), 'w').close(); os._exit(0)"
    run_llamafactory(program, "train", doing(code), Path("runs/a"))
    assert read_run(Path("runs/a")).state is RunState.FINISHED


def test_a_process_that_has_the_number_of_a_dead_child_is_never_ended(program: Path) -> None:
    """The lock is still held, the supervisor is gone, and its note names somebody else's process."""
    innocent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    run = start_llamafactory(program, "train", doing(WAIT), Path("runs/a"))
    child = int(wait_for(Path("started")))
    note = json.loads(run.process.read_text(encoding="utf-8"))
    os.kill(note["pid"], signal.SIGKILL)
    time.sleep(0.3)
    try:
        for change in ({}, {"child_identity": None}):
            run.process.write_text(json.dumps({**note, **change, "child": innocent.pid}), encoding="utf-8")
            with pytest.raises(ChildFailedError, match="cannot be proved to be its own"):
                stop_run(run)
            assert innocent.poll() is None
        # As an older version noted it: the number alone, proved by the lock that it holds.
        run.process.write_text(json.dumps({"pid": 1, "child": child}), encoding="utf-8")
        stop_run(run)
        assert not is_alive(run)
    finally:
        innocent.kill()
        innocent.wait()


def test_sigterm_to_api_ends_the_server(program: Path) -> None:
    Path("c.yaml").write_text(json.dumps({"code": WAIT}), encoding="utf-8")
    pid = in_background(program, "api", "c.yaml", "--no-check", "--port", "18765")
    child = int(wait_for(Path("started")))
    os.kill(pid, signal.SIGTERM)
    wait_for_end(pid, 15)
    assert not is_running(child)


MODULES = (
    "json",
    "signal",
    "yaml",
    "random",
    "pickle",
    "re",
    "os",
    "pathlib",
    "typing",
    "subprocess",
    "launch",
    "prep",
    "click",
)


@pytest.mark.parametrize("path", [None, "", ".", ":"])
def test_no_file_of_the_working_folder_is_run_by_the_supervisor(
    path: str | None, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in MODULES:
        Path(f"{name}.py").write_text(
            f"open({str(Path.cwd() / 'ran')!r}, 'a').write('{name} ')\n", encoding="utf-8"
        )
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", path)
    program.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
    run_llamafactory(program, "train", doing("pass"), Path("runs/a"))
    assert read_run(Path("runs/a")).state is RunState.FINISHED
    assert not Path("ran").exists()


def test_a_supervisor_that_was_preempted_is_taken_up_and_a_crash_is_not_tried_again(program: Path) -> None:
    preempted = (
        "if not os.path.exists('again'): open('again', 'w'); os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    )
    crashed = "open('count', 'a').write('x'); os.kill(os.getpid(), signal.SIGSEGV)"
    for name, code in (("p", preempted), ("c", crashed)):
        Path(f"{name}.yaml").write_text(json.dumps({"code": code, "output_dir": f"saves/{name}"}), encoding="utf-8")
    result = lfc_launch(program, "batch", "p.yaml", "c.yaml", "--name", "q", "--no-check", "--json")
    runs = {run["run"]: (run["state"], run["attempts"], run["cause"]) for run in json.loads(result.stdout)["runs"]}
    assert runs == {"p": ("finished", 2, None), "c": ("failed", 1, "crashed")}
    assert find_cause(read_run(Path("runs/q/p"))) is Cause.PREEMPTED
    assert Path("count").read_text(encoding="utf-8") == "x"


@pytest.mark.parametrize(
    ("exit_code", "state", "cause"), [(0, RunState.FINISHED, None), (1, RunState.FAILED, Cause.DISK_FULL)]
)
def test_a_training_that_ends_on_a_full_disk_is_said_to_be_that(
    exit_code: int, state: RunState, cause: Cause | None, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepare_llamafactory(
        program, "train", doing(f"sys.exit({exit_code})", output_dir="saves/a"), Path("runs/a")
    )

    def write(path: Path, content: Any) -> None:
        if path == run.result and run.reserve.exists():
            raise OutputError("no space left on device")
        write_json(path, content)

    monkeypatch.setattr("launch.runs.supervisor.write_json", write)
    monkeypatch.setattr("launch.runs.supervisor.is_disk_full", lambda _: True)
    supervise(str(run.path))
    ended = read_run(run.path)
    assert (ended.state, find_cause(ended)) == (state, cause)
    assert cause or "the disk was full when it ended" in ended.flags[0]
    assert not run.reserve.exists()


def test_a_dry_run_shows_the_resumed_command_and_fails_where_the_run_would(program: Path) -> None:
    Path("c.yaml").write_text(
        json.dumps({"code": "pass", "output_dir": "saves/c", "overwrite_output_dir": True}), encoding="utf-8"
    )
    refused = lfc_launch(program, "train", "c.yaml", "--resume", "--dry-run", "--no-check")
    assert (refused.exit_code, "holds no whole checkpoint" in refused.stderr) == (1, True)
    Path("saves/c/checkpoint-5").mkdir(parents=True)
    Path("saves/c/checkpoint-5/trainer_state.json").write_text("{}", encoding="utf-8")
    shown = lfc_launch(program, "train", "c.yaml", "--resume", "--dry-run", "--no-check")
    assert shown.stdout.endswith("c.yaml resume_from_checkpoint=saves/c/checkpoint-5 overwrite_output_dir=false\n")
    checked = lfc_launch(program, "train", "c.yaml", "--dry-run")
    assert (checked.exit_code, "neither trains nor predicts" in checked.stderr) == (1, True)
    RunFolder(Path("runs/c")).path.mkdir(parents=True)
    (Path("runs/c") / "note").write_text("mine", encoding="utf-8")
    taken = lfc_launch(program, "train", "c.yaml", "--dry-run", "--no-check")
    assert (taken.exit_code, "run folder runs/c exists already" in taken.stderr) == (1, True)
