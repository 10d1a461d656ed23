"""Which program is started, with which environment."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.machine.command import (
    Cluster,
    Command,
    boost_command,
    build_llamafactory_command,
    build_python_command,
    find_llamafactory_cli,
    find_stack_python,
    is_boosted,
    record_environment,
)
from launch.machine.gpus import Gpu
from prep.errors import ConfigError, StackError


def make_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_given_program_comes_first(tmp_path: Path) -> None:
    program = make_program(tmp_path / "bin" / "llamafactory-cli")
    assert find_llamafactory_cli(str(program)) == program


def test_a_given_program_that_cannot_run_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="nowhere is not a program that can be run"):
        find_llamafactory_cli(str(tmp_path / "nowhere"))


def test_the_program_beside_this_python_comes_before_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = make_program(tmp_path / "env" / "bin" / "llamafactory-cli")
    other = make_program(tmp_path / "other" / "llamafactory-cli")
    monkeypatch.setenv("PATH", str(other.parent))
    monkeypatch.setattr(sys, "executable", str(beside.parent / "python"))
    assert find_llamafactory_cli() == beside


def test_without_the_stack_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(StackError) as caught:
        find_llamafactory_cli()
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("pip install -c constraints.txt '.[train]'")


def test_the_stacks_python_stands_beside_its_cli(tmp_path: Path) -> None:
    cli = make_program(tmp_path / "bin" / "llamafactory-cli")
    python = make_program(tmp_path / "bin" / ("python.exe" if os.name == "nt" else "python"))
    assert find_stack_python(cli) == python


def test_a_cli_without_a_python_is_an_error(tmp_path: Path) -> None:
    cli = make_program(tmp_path / "a" / "b" / "llamafactory-cli")
    with pytest.raises(StackError, match="no Python stands beside"):
        find_stack_python(cli)


def test_unsloth_gets_exactly_one_visible_gpu() -> None:
    command = build_llamafactory_command(
        Path("/e/bin/llamafactory-cli"), "train", Path("c.yaml"), {"use_unsloth": True}, {}
    )
    assert command.env["CUDA_VISIBLE_DEVICES"] == "0"


def test_a_choice_of_gpus_that_the_user_made_stays() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "3"}
    command = build_llamafactory_command(
        Path("/e/bin/cli"), "train", Path("c.yaml"), {"use_unsloth": True}, environ
    )
    assert "CUDA_VISIBLE_DEVICES" not in command.env


@pytest.mark.parametrize(
    ("action", "config", "variable", "boosted"),
    [
        ("train", {"do_train": True}, "1", True),
        ("train", {"do_train": True}, "true", True),
        ("train", {"do_train": True}, "0", False),
        ("train", {"do_train": False, "do_predict": True}, "1", False),
        ("export", {"do_train": True}, "1", False),
    ],
)
def test_a_training_alone_is_boosted(action: str, config: dict[str, Any], variable: str, boosted: bool) -> None:
    assert is_boosted(action, config, {"LFC_BOOST": variable}) is boosted


def test_a_boosted_training_gets_one_gpu_and_the_stacks_own_python(tmp_path: Path) -> None:
    cli, python = make_program(tmp_path / "bin" / "llamafactory-cli"), make_program(tmp_path / "bin" / "python")
    plain = build_llamafactory_command(cli, "train", Path("c.yaml"), {"do_train": True}, {"LFC_BOOST": "1"})
    boosted = boost_command(plain, tmp_path / "boost.json")
    assert boosted.argv[0] == str(python)
    assert boosted.argv[2:] == ("--report", str(tmp_path / "boost.json"), "c.yaml")
    assert Path(boosted.argv[1]).is_file()
    assert boosted.env["CUDA_VISIBLE_DEVICES"] == "0"
    assert boost_command(plain).argv[2:] == ("c.yaml",)


def test_the_childs_path_begins_with_the_environment_of_the_cli() -> None:
    command = build_llamafactory_command(Path("/e/bin/cli"), "train", Path("c.yaml"), {}, {"PATH": "/usr/bin"})
    assert command.env["PATH"] == os.pathsep.join([str(Path("/e/bin")), "/usr/bin"])


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell's quoting")
def test_a_command_is_written_ready_to_paste() -> None:
    command = Command(("/e/bin/llamafactory-cli", "train", "my configs/a.yaml"), {"PATH": "x", "PYTHONUTF8": "1"})
    assert command.with_arguments(("lr=1",)).format() == (
        "PYTHONUTF8=1 /e/bin/llamafactory-cli train 'my configs/a.yaml' lr=1"
    )


def test_secrets_are_masked_in_the_record_of_a_run() -> None:
    command = Command(("x",), {"PYTHONUTF8": "1"})
    environ = {
        "HF_TOKEN": "hf_abc",
        "WANDB_API_KEY": "k",
        "HF_HOME": "/h",
        "TOKENIZERS_PARALLELISM": "false",
        "EDITOR": "vi",
    }
    assert record_environment(command, environ) == {
        "HF_HOME": "/h",
        "HF_TOKEN": "***",
        "PYTHONUTF8": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_API_KEY": "***",
    }


def test_a_script_run_by_the_stacks_python_sees_its_arguments_and_not_our_folder(tmp_path: Path) -> None:
    import subprocess

    script = tmp_path / "say.py"
    script.write_text("import sys; print(sys.argv[1:], str(sys.path[0]))", encoding="utf-8")
    command = build_python_command(Path(sys.executable), script, ("a", "b c"), os.environ)
    env = {**os.environ, **command.env}
    result = subprocess.run(command.argv, env=env, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("['a', 'b c']")
    assert str(tmp_path) not in result.stdout


def test_files_in_the_working_folder_do_not_stand_in_for_packages(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "filecmp.py").write_text("raise SystemExit('the wrong module')", encoding="utf-8")
    script = tmp_path / "script" / "say.py"
    script.parent.mkdir()
    script.write_text("import filecmp; print(filecmp.cmp.__name__)", encoding="utf-8")
    command = build_python_command(Path(sys.executable), script, (), os.environ)
    env = {**os.environ, **command.env}
    result = subprocess.run(command.argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (result.stdout, result.returncode) == ("cmp\n", 0), result.stderr


def test_of_several_gpus_unsloth_gets_the_one_with_the_most_free_memory() -> None:
    gpus = [Gpu("H200", 100, (9, 0), free_bytes=free) for free in (10, 90, 50)]
    command = build_llamafactory_command(
        Path("/e/bin/cli"), "train", Path("c.yaml"), {"use_unsloth": True}, {}, gpus
    )
    assert command.env["CUDA_VISIBLE_DEVICES"] == "1"
    assert command.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        (Cluster(), {}),
        (Cluster(gpus="2"), {"CUDA_VISIBLE_DEVICES": "2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        (
            Cluster(gpus="0,1"),
            {
                "CUDA_VISIBLE_DEVICES": "0,1",
                "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
                "MASTER_PORT": "4242",
                "FORCE_TORCHRUN": "1",
            },
        ),
        (
            Cluster(nnodes=2, node_rank=1, master_addr="10.0.0.1", master_port=29500),
            {
                "MASTER_PORT": "29500",
                "FORCE_TORCHRUN": "1",
                "MASTER_ADDR": "10.0.0.1",
                "NNODES": "2",
                "NODE_RANK": "1",
            },
        ),
        (Cluster(ray=True), {"USE_RAY": "1"}),
    ],
)
def test_a_cluster_becomes_the_variables_that_llamafactory_reads(
    cluster: Cluster, expected: dict[str, str]
) -> None:
    assert cluster.build_environment(4242) == expected


def test_several_machines_need_one_address() -> None:
    with pytest.raises(ConfigError, match="2 machines need one address"):
        Cluster(nnodes=2).build_environment(4242)


def test_on_the_processor_threads_wait_without_spinning_unless_the_user_chose() -> None:
    gpu = [Gpu("H200", 100, (9, 0))]
    for gpus, environ, expected in (
        ((), {}, "PASSIVE"),
        ((), {"OMP_WAIT_POLICY": "ACTIVE"}, None),
        (gpu, {}, None),
    ):
        command = build_llamafactory_command(Path("/e/bin/cli"), "train", Path("c.yaml"), {}, environ, gpus)
        assert command.env.get("OMP_WAIT_POLICY") == expected
