"""A run from its folder: the supervisor, the result, stopping, and what outlives what."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launch.configs.config import RunConfig
from launch.runs.backends.local import start_supervisor
from launch.runs.folder import RunState, find_run, is_alive, list_runs, read_run
from launch.runs.run import create_run_folder, finish_run, prepare_llamafactory, run_llamafactory, stop_run
from launch.runs.supervisor import supervise
from prep.errors import ChildFailedError, InputError, OutputError
from tests.support.begun_runs import start_llamafactory
from tests.support.processes import is_running

ROOT = Path(__file__).parents[3]
posix_only = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of llamafactory-cli that does what the config's `code` says."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bin" / "llamafactory-cli"
    path.parent.mkdir()
    path.write_text(
        f"#!{sys.executable}\nimport os, signal, sys, time, pathlib, yaml\n"
        "exec(yaml.safe_load(open(sys.argv[2], encoding='utf-8'))['code'])\n",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def doing(code: str, **values: Any) -> RunConfig:
    config = {"code": code, **values}
    return RunConfig(config, "# by hand\n" + json.dumps(config) + "\n")


WAIT = "pathlib.Path('started').write_text(str(os.getpid())); time.sleep(60)"
SAVE_ON_INTERRUPT = f"""
try:
    {WAIT}
except KeyboardInterrupt:
    pathlib.Path('saved').write_text('yes')
    raise SystemExit(3)
"""


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 30
    while not path.exists() or not path.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline, f"{path.name} never appeared"
        time.sleep(0.05)
    return path.read_text(encoding="utf-8")


def start_launcher(program: Path, code: str) -> subprocess.Popen[str]:
    """Start `lfc launch train` on a config with this code, in a process of its own."""
    Path("c.yaml").write_text(json.dumps({"code": code}), encoding="utf-8")
    argv = [
        sys.executable,
        "-m",
        "launch",
        "launch",
        "train",
        "c.yaml",
        "--no-check",
        "--llamafactory-cli",
        str(program),
    ]
    return subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)


def test_a_run_keeps_config_command_environment_log_and_result(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    config = doing("print('hello', sys.argv[1:], os.getcwd(), flush=True); print('oh', file=sys.stderr)")
    seconds = run_llamafactory(program, "train", config, Path("runs/a"))
    run = read_run(Path("runs/a"))
    assert (run.name, run.action, run.exit_code, run.seconds) == ("a", "train", 0, seconds)
    assert run.state is RunState.FINISHED
    assert run.folder.config.read_text(encoding="utf-8") == config.text
    said = run.folder.log.read_text(encoding="utf-8")
    assert said == f"hello ['train', '{Path('runs/a/config.yaml')}'] {Path.cwd()}\noh\n"
    assert "llamafactory-cli train" in run.folder.command.read_text(encoding="utf-8")
    assert b"hf_secret" not in b"".join(path.read_bytes() for path in run.path.iterdir())


def test_a_run_never_takes_another_runs_folder(tmp_path: Path) -> None:
    create_run_folder(tmp_path / "a").log.write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="exists already"):
        create_run_folder(tmp_path / "a")
    assert (tmp_path / "a" / "log.txt").read_text(encoding="utf-8") == "mine"


def test_a_failed_run_gives_the_childs_exit_code_and_last_words(program: Path) -> None:
    with pytest.raises(ChildFailedError) as caught:
        run_llamafactory(program, "train", doing("raise ValueError('Undefined dataset x')"), Path("runs/a"))
    assert caught.value.exit_code == 1
    assert "ValueError: Undefined dataset x" in str(caught.value)
    assert str(Path("runs/a/log.txt")) in str(caught.value)
    assert read_run(Path("runs/a")).state is RunState.FAILED


def test_a_program_that_cannot_be_started_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ChildFailedError) as caught:
        run_llamafactory(tmp_path / "missing", "train", doing(""), Path("runs/a"))
    assert caught.value.exit_code == 127
    assert "no such file" in str(caught.value)


@posix_only
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_launcher_lets_the_child_save_first(
    number: signal.Signals, exit_code: int, program: Path
) -> None:
    launcher = start_launcher(program, SAVE_ON_INTERRUPT)
    child = int(wait_for(Path("started")))
    launcher.send_signal(number)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == exit_code, said
    assert Path("saved").read_text(encoding="utf-8") == "yes"
    assert not is_running(child)
    assert read_run(Path("runs/c")).state is RunState.STOPPED


@posix_only
def test_a_signal_between_the_start_and_the_watching_stops_the_run(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        wait_for(Path("started"))
        raise KeyboardInterrupt

    monkeypatch.setattr("launch.runs.run.finish_run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_llamafactory(program, "train", doing(SAVE_ON_INTERRUPT), Path("runs/a"))
    assert Path("saved").read_text(encoding="utf-8") == "yes"
    assert read_run(Path("runs/a")).state is RunState.STOPPED


@posix_only
def test_a_run_outlives_a_launcher_that_was_killed(program: Path) -> None:
    launcher = start_launcher(
        program, "pathlib.Path('started').write_text('1')\nwhile not os.path.exists('go'): time.sleep(0.05)"
    )
    wait_for(Path("started"))
    launcher.kill()
    launcher.communicate()
    run = read_run(Path("runs/c"))
    assert run.state is RunState.RUNNING
    Path("go").write_text("", encoding="utf-8")
    finish_run(run.folder)
    assert read_run(Path("runs/c")).state is RunState.FINISHED


@posix_only
def test_a_run_whose_supervisor_was_killed_still_lives_and_can_be_stopped(program: Path) -> None:
    run = start_llamafactory(program, "train", doing(WAIT), Path("runs/a"))
    wait_for(Path("started"))
    os.kill(json.loads(run.process.read_text(encoding="utf-8"))["pid"], signal.SIGKILL)
    time.sleep(0.3)
    assert is_alive(run)
    stop_run(run)
    assert not is_alive(run)
    assert read_run(run.path).state is RunState.LOST


@posix_only
def test_a_child_that_was_killed_is_a_failed_run(program: Path) -> None:
    run = start_llamafactory(program, "train", doing(WAIT), Path("runs/a"))
    os.kill(int(wait_for(Path("started"))), signal.SIGKILL)
    with pytest.raises(ChildFailedError) as caught:
        finish_run(run)
    assert caught.value.exit_code == 137


def test_a_second_supervisor_starts_nothing(program: Path) -> None:
    code = "open('count', 'a').write('x')\nwhile not os.path.exists('go'): time.sleep(0.05)"
    run = start_llamafactory(program, "train", doing(code), Path("runs/a"))
    wait_for(Path("count"))
    supervise(str(run.path))
    Path("go").write_text("", encoding="utf-8")
    finish_run(run)
    supervise(str(run.path))
    assert Path("count").read_text(encoding="utf-8") == "x"


@posix_only
def test_a_run_that_another_supervisor_has_just_taken_is_awaited(program: Path) -> None:
    """A launcher that was killed had started one: the next launcher's own ends at once, and that is no fault."""
    config = doing("pass")
    run = prepare_llamafactory(program, "train", config, Path("runs/a"))
    slow = "import sys, time; sys.path.insert(0, sys.argv[1]); import launch.runs.supervisor as r; note = r.write_json\n"
    slow += "r.write_json = lambda path, content: (time.sleep(2), note(path, content)); r.supervise(sys.argv[2])"
    other = subprocess.Popen([sys.executable, "-c", slow, str(ROOT), str(run.path)])
    while not is_alive(run):
        assert other.poll() is None
        time.sleep(0.02)
    start_supervisor(run)
    finish_run(run)
    assert other.wait(timeout=30) == 0
    assert read_run(run.path).state is RunState.FINISHED


def test_runs_are_found_by_name_and_in_batches(program: Path) -> None:
    for name in ("b/two", "a", "b/one"):
        run_llamafactory(program, "train", doing("pass"), Path("runs", name))
    assert [run.name for run in list_runs()] == ["a", "b/one", "b/two"]
    assert find_run("b/one").path == Path("runs/b/one")
    with pytest.raises(InputError, match="no run is called 'c' in runs; there are a, b/one, b/two"):
        find_run("c")
