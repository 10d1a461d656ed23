"""`lfc launch train`, `chat` and `api` on a program in llamafactory-cli's place: what they refuse and hand on."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import launch.machine.gpus
from launch.cli import lfc
from launch.machine.gpus import Gpu, GpuReport

ROOT = Path(__file__).parents[2]
CONFIG = {"stage": "sft", "do_train": True, "model_name_or_path": "m", "output_dir": "saves/m"}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A llamafactory-cli that notes how it ran; the working folder holds configs for it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bin" / "llamafactory-cli"
    path.parent.mkdir()
    noting = "pathlib.Path('ran').write_text(json.dumps([sys.argv[1:], dict(os.environ)]))"
    path.write_text(f"#!{sys.executable}\nimport json, os, pathlib, sys\n{noting}\n", encoding="utf-8")
    path.chmod(0o755)
    Path("c.yaml").write_text(json.dumps(CONFIG), encoding="utf-8")
    Path("infer.yaml").write_text(json.dumps({"model_name_or_path": "m", "template": "qwen3"}), encoding="utf-8")
    return path


def train(program: Path, *options: str) -> Result:
    return CliRunner().invoke(
        lfc, ["launch", "train", "c.yaml", "--no-check", *options, "--llamafactory-cli", str(program)]
    )


def leave_checkpoint(step: int) -> Path:
    checkpoint = Path("saves/m") / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}", encoding="utf-8")
    return checkpoint


@pytest.mark.skipif(os.name == "nt", reason="the program is a script with a first line")
def test_a_checkpoint_that_stands_there_is_never_gone_on_from_unasked(program: Path) -> None:
    checkpoint = leave_checkpoint(30)
    refused = train(program)
    assert refused.exit_code == 1
    assert isinstance(refused.exception, SystemExit)
    assert "saves/m holds checkpoint-30 of an earlier run, from which this one would go on" in refused.stderr
    assert "--resume, --fresh, or another output_dir=FOLDER" in refused.stderr
    assert not Path("ran").exists()
    assert not Path("runs/c").exists()

    assert train(program, "--resume").exit_code == 0
    assert f"resume_from_checkpoint: {checkpoint.as_posix()}" in Path("runs/c/config.yaml").read_text("utf-8")
    assert train(program, "output_dir=saves/other", "--name", "other").exit_code == 0
    assert train(program, "--fresh").exit_code == 0
    assert not checkpoint.exists()
    assert Path("saves/m.old-1/checkpoint-30").is_dir()


@pytest.mark.parametrize(
    ("key", "value"), [("overwrite_output_dir", "true"), ("resume_from_checkpoint", "saves/m/checkpoint-30")]
)
@pytest.mark.skipif(os.name == "nt", reason="the program is a script with a first line")
def test_a_config_that_says_what_is_meant_is_not_asked_again(key: str, value: str, program: Path) -> None:
    leave_checkpoint(30)
    assert train(program, f"{key}={value}").exit_code == 0
    assert Path("ran").exists()


def test_a_batch_never_goes_on_from_a_checkpoint_unasked_either(program: Path) -> None:
    checkpoint = leave_checkpoint(30)
    checkpoint.parent.rename("saves/m-fast")
    Path("two.yaml").write_text("config: c.yaml\nruns: {slow: {seed: 1}, fast: {seed: 2}}\n", encoding="utf-8")
    argv = ["launch", "batch", "two.yaml", "--no-check", "--llamafactory-cli", str(program)]
    refused = CliRunner().invoke(lfc, argv)
    assert refused.exit_code == 1
    assert "saves/m-fast holds checkpoint-30 of an earlier run" in refused.stderr
    assert not Path("ran").exists()
    assert not Path("runs/two").exists()


def test_unsloth_is_refused_on_the_several_gpus_that_were_asked_for(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = tuple(Gpu("H200", 140 << 30, (9, 0)) for _ in range(3))
    monkeypatch.setattr(launch.machine.gpus, "_ask_driver", lambda: GpuReport(gpus))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    argv = ["launch", "train", "c.yaml", "use_unsloth=true", "--llamafactory-cli", str(program), "--gpus", "0,2"]
    refused = CliRunner().invoke(lfc, argv)
    assert refused.exit_code == 1
    assert "error: `use_unsloth` trains on one GPU, and 2 are visible" in refused.stderr
    assert not Path("ran").exists()


def run_in_terminal(program: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch", "launch", *argv, "--llamafactory-cli", str(program)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.skipif(os.name == "nt", reason="the program is a script with a first line")
def test_the_api_listens_on_this_machine_alone_unless_told_otherwise(program: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        server.listen()
        refused = run_in_terminal(program, "api", "infer.yaml", "--no-check", "--port", str(port))
    assert refused.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in refused.stderr
    assert not Path("ran").exists()

    served = run_in_terminal(program, "api", "infer.yaml", "infer_dtype=float32", "--no-check", "--port", str(port))
    assert served.returncode == 0, served.stderr
    assert f"API: http://127.0.0.1:{port}/v1" in served.stderr
    argv, env = json.loads(Path("ran").read_text(encoding="utf-8"))
    assert argv == ["api", "infer.yaml", "infer_dtype=float32"]
    assert (env["API_HOST"], env["API_PORT"]) == ("127.0.0.1", str(port))


@pytest.mark.skipif(os.name == "nt", reason="the program is a script with a first line")
@pytest.mark.parametrize("action", ["chat", "api"])
def test_a_config_is_checked_before_a_model_is_loaded(action: str, program: Path) -> None:
    refused = run_in_terminal(program, action, "infer.yaml", "templat=qwen3")
    assert refused.returncode == 1
    assert "template" in refused.stderr
    assert "nothing was started" in refused.stderr
    assert not Path("ran").exists()


@pytest.mark.skipif(os.name == "nt", reason="the program is a script with a first line")
@pytest.mark.parametrize("has_weights", [True, False])
def test_a_training_that_left_no_weights_is_not_said_to_have_left_any(program: Path, has_weights: bool) -> None:
    if has_weights:
        with program.open("a", encoding="utf-8") as script:
            script.write("pathlib.Path('saves/m').mkdir(parents=True)\n")
            script.write("pathlib.Path('saves/m/adapter_model.safetensors').write_bytes(b'')\n")
    told = json.loads(train(program, "--json").stdout)
    assert (told["state"], told["has_weights"]) == ("finished", has_weights)
