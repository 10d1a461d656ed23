"""Two live runs never share a folder, a name or a GPU."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import launch.machine.gpus
from launch.cli import lfc
from launch.configs.config import RunConfig
from launch.machine.gpus import Gpu, GpuReport
from launch.runs.claims import list_claims, lock_output, parse_gpus, refuse_taken_folders, refuse_taken_gpus
from launch.runs.folder import RunFolder
from launch.runs.run import create_run_folder, stop_run
from prep.errors import ConfigError, OutputError
from tests.support.begun_runs import start_llamafactory

posix_only = pytest.mark.skipif(os.name == "nt", reason="the program is a script with a first line")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of llamafactory-cli that waits as long as it may."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bin" / "llamafactory-cli"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n", encoding="utf-8")
    path.chmod(0o755)
    Path("c.yaml").write_text("output_dir: saves/a\n", encoding="utf-8")
    return path


@pytest.fixture
def live(program: Path) -> Any:
    """A live run called `a` that writes into saves/a on GPU 1."""
    config = RunConfig({"output_dir": "saves/a"}, "output_dir: saves/a\n")
    run = start_llamafactory(program, "train", config, Path("runs/a"), {"CUDA_VISIBLE_DEVICES": "1"})
    yield run
    stop_run(run)


def lfc_launch(program: Path, *argv: str) -> Result:
    return CliRunner().invoke(lfc, ["launch", *argv, "--llamafactory-cli", str(program)], catch_exceptions=False)


@posix_only
@pytest.mark.parametrize(
    "output_dir", ["saves/a", "./saves/a/", "x/../saves/a", "saves/a/inner", "saves", "link/a", "saves/./a/.", "{}/saves/a"]
)  # fmt: skip
@pytest.mark.parametrize("how", [(), ("--fresh",), ("--detach",), ("--dry-run",)])
def test_a_live_runs_folder_is_neither_written_nor_set_aside(
    output_dir: str, how: tuple[str, ...], program: Path, live: RunFolder
) -> None:
    Path("saves/a").mkdir(parents=True, exist_ok=True)
    Path("link").symlink_to("saves")
    setting = f"output_dir={output_dir.format(Path.cwd())}"
    refused = lfc_launch(program, "train", "c.yaml", setting, "--no-check", "--name", "b", *how)
    assert refused.exit_code == 1
    assert "is in use: 'a' writes there and has not ended" in refused.stderr
    assert not Path("runs/b").exists()
    assert sorted(path.name for path in Path("saves").iterdir()) == [".lfc", "a"]


@posix_only
def test_a_batch_is_refused_a_live_runs_folder_and_gpu(
    program: Path, live: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = tuple(Gpu("H100", 80 << 30, (9, 0)) for _ in range(2))
    monkeypatch.setattr(launch.machine.gpus, "_ask_driver", lambda: GpuReport(gpus))
    Path("s.yaml").write_text("config: c.yaml\nruns: {x: {output_dir: saves/a}}\n", encoding="utf-8")
    refused = lfc_launch(program, "batch", "s.yaml", "--no-check")
    assert (refused.exit_code, "is in use: 'a' writes there" in refused.stderr) == (1, True)
    with pytest.raises(OutputError, match="GPU 1 is in use by 'a'"):
        refuse_taken_gpus(("0", "1"), list_claims())
    refuse_taken_gpus(("0",), list_claims())
    assert not Path("runs/s").exists()


@posix_only
def test_a_run_of_another_working_folder_is_noticed(program: Path, live: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    os.chdir(tmp_path / "other")
    values = {"output_dir": "../saves/a"}
    with pytest.raises(OutputError, match="a live run of another working folder"):
        refuse_taken_folders(values, list_claims())
    with lock_output(values) as held:
        assert held is None


@pytest.mark.parametrize("text", ["abc", "0,,1", "", ",", "0,", "-1", "0,0", "1.0", " 0", "0 ,1", "２", "00", "1e0", "cpu", "0;1", "9" * 5000])  # fmt: skip
@pytest.mark.parametrize("count", [None, 4])
def test_what_is_no_list_of_gpus_is_refused(text: str, count: int | None) -> None:
    with pytest.raises(ConfigError, match="--gpus"):
        parse_gpus(text, count)


def test_gpus_that_the_machine_does_not_have_are_refused() -> None:
    assert parse_gpus("0,3", 4) == ("0", "3")
    assert parse_gpus("7", None) == ("7",)
    with pytest.raises(ConfigError, match="there is no GPU 4; this machine has GPUs 0 to 3"):
        parse_gpus("0,4", 4)
    with pytest.raises(ConfigError, match="there is no GPU 0; this machine has no GPU"):
        parse_gpus("0", 0)


@posix_only
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--node-rank", "2", "--nnodes", "2"), "--node-rank 2 is outside --nnodes 2"),
        (("--node-rank", "1"), "--node-rank 1 is outside --nnodes 1"),
        (("--name", "../x"), "--name '../x' begins with '.'"),
        (("--name", "a/b"), "--name 'a/b' holds one of"),
        (("--name", "[/bold]"), "holds one of"),
        (("--name", "-x"), "begins with '-'"),
        (("--name", "a\x1b[2J"), "holds a control character"),
        (("--name", "x" * 300), "is longer than 180 bytes"),
        (("--name", ""), "is empty"),
        (("--gpus", "abc", "--no-check"), "is no GPU number"),
    ],
)
def test_a_call_that_names_nothing_is_refused(argv: tuple[str, ...], message: str, program: Path) -> None:
    refused = lfc_launch(program, "train", "c.yaml", *argv)
    assert refused.exit_code == 1
    assert message in refused.stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x"])
def test_a_port_out_of_range_is_a_wrong_call(port: str, program: Path) -> None:
    assert lfc_launch(program, "train", "c.yaml", "--master-port", port).exit_code == 2


def test_of_many_launchers_one_makes_the_folder(tmp_path: Path) -> None:
    outcomes: list[str] = []

    def make() -> None:
        try:
            create_run_folder(tmp_path / "runs" / "a")
            outcomes.append("made")
        except OutputError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=make) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("made") == 1
    assert all("exists already" in outcome for outcome in outcomes if outcome != "made")


@posix_only
def test_two_launchers_of_one_name_at_one_moment_make_one_run(program: Path) -> None:
    program.write_text(f"#!{sys.executable}\nopen('count', 'a').write('x')\n", encoding="utf-8")
    argv = [sys.executable, "-m", "launch", "launch", "train", "c.yaml", "--no-check", "--llamafactory-cli", str(program)]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    launchers = [subprocess.Popen(argv, env=env, stderr=subprocess.DEVNULL) for _ in range(4)]
    codes = sorted(launcher.wait(timeout=120) for launcher in launchers)
    assert codes == [0, 1, 1, 1]
    assert Path("count").read_text(encoding="utf-8") == "x"


def test_an_empty_folder_is_nobodys_and_a_run_takes_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert [path.name for path in create_run_folder(tmp_path / "a").path.iterdir()] == [".preparing"]


def test_a_launcher_killed_before_a_run_folder_appears_does_not_block_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("pathlib.Path.rename", "launch.runs.run.write_json"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(name, die)
            create_run_folder(tmp_path / "a")
        assert not (tmp_path / "a").exists()
    assert create_run_folder(tmp_path / "a").preparing.is_file()


def test_the_beginning_of_a_killed_launcher_is_taken_away(tmp_path: Path) -> None:
    run = create_run_folder(tmp_path / "a")
    with pytest.raises(OutputError, match="exists already"):
        create_run_folder(tmp_path / "a")
    run.preparing.write_text('{"pid": 999999, "identity": "gone"}', encoding="utf-8")
    run.config.write_text("x", encoding="utf-8")
    assert create_run_folder(tmp_path / "a").config.exists() is False
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "left", [".config.yaml.k3j_2x.partial", ".config.yaml.4711.partial", ".run.json.4711.partial",
             ".environment.json.12.partial", ".command.txt.1.partial", "..preparing.9.partial"],
)  # fmt: skip
def test_what_a_launcher_killed_while_writing_left_is_taken_away(left: str, tmp_path: Path) -> None:
    run = create_run_folder(tmp_path / "a")
    run.preparing.write_text('{"pid": 999999, "identity": "gone"}', encoding="utf-8")
    (run.path / left).write_text("half", encoding="utf-8")
    again = create_run_folder(tmp_path / "a")
    assert [path.name for path in again.path.iterdir()] == [".preparing"]


def test_a_users_own_partial_file_keeps_the_folder(tmp_path: Path) -> None:
    run = create_run_folder(tmp_path / "a")
    run.preparing.write_text('{"pid": 999999, "identity": "gone"}', encoding="utf-8")
    (run.path / "notes.partial").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="exists already"):
        create_run_folder(tmp_path / "a")
    assert (run.path / "notes.partial").read_text(encoding="utf-8") == "mine"
