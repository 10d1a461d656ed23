"""No command, and no process that it starts, runs a module of the working folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launch.guest import webui_page
from launch.machine.command import build_python_command
from launch.recipes import tiny_model
from tests.launch.llamaboard.test_page import BASE
from tests.launch.webui.test_datasets import describe, write_registry, write_rows
from tests.support.lfc_process import ROOT, run_lfc, write_recorder

# What our processes, LLaMA-Factory's and Python's own helpers import.
MODULES = (
    *("json", "pickle", "re", "signal", "threading", "subprocess", "tempfile", "yaml", "torch", "click", "runpy"),
    *("multiprocessing", "importlib_metadata", "logging", "socket", "hashlib", "dataclasses", "typing", "copy"),
    *("rich", "orjson", "msgspec", "numpy", "pyarrow", "transformers", "tokenizers", "llamafactory", "gradio"),
    *("html", "queue", "fcntl", "webbrowser", "filecmp", "sitecustomize", "usercustomize", "platform", "enum"),
)
# What plays LLaMA-Factory here is a program, and no package.
PLAYED = {"LFC_PLAIN_EVAL": "1"}
SCRIPTS = [module.__file__ or "" for module in (tiny_model, webui_page)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a module of every name that says who ran it, and all that the commands need."""
    monkeypatch.chdir(tmp_path)
    for name in MODULES:
        code = f"import sys\nopen({str(tmp_path / 'ran')!r}, 'a').write({name!r} + ' ' + ' '.join(sys.orig_argv) + '\\n')\n"
        Path(f"{name}.py").write_text(code, encoding="utf-8")
    Path("data").mkdir()
    write_rows(Path("data/medical.jsonl"))
    write_registry(Path("data"), {"medical": describe("medical.jsonl")})
    row = json.dumps({"question": "q", "think": "t", "answer": "a"}) + "\n"
    Path("rows.jsonl").write_text(row * 3_000, encoding="utf-8")
    Path("mine.yaml").write_text(yaml.safe_dump({**BASE, "lora_target": "all"}), encoding="utf-8")
    Path("sweep.yaml").write_text("config: mine.yaml\ngrid: {lora_rank: [4, 8]}\n", encoding="utf-8")
    write_recorder(tmp_path)
    return tmp_path


def read_ran() -> str:
    return Path("ran").read_text(encoding="utf-8") if Path("ran").exists() else ""


@pytest.mark.skipif(os.name == "nt", reason="the recorder is a POSIX script")
@pytest.mark.parametrize(
    "argv",
    [
        [
            "prep",
            "convert",
            "rows.jsonl",
            "-o",
            "x.jsonl",
            "--workers",
            "2",
            "--dedup",
            "near",
            "--max-rejects",
            "9",
        ],
        ["prep", "lint", "data/medical.jsonl"],
        ["prep", "stats", "data/medical.jsonl", "--html", "x.html"],
        ["launch", "config", "check", "mine.yaml"],
        ["launch", "config", "schema", "--refresh", "--to", "schemas", "--python", "bin/python"],
        ["launch", "train", "mine.yaml", "--no-check"],
        ["launch", "train", "mine.yaml", "--no-check", "--gpus", "0,1"],
        ["launch", "chat", "mine.yaml", "--no-check", "output_dir=x"],
        ["launch", "batch", "sweep.yaml", "--no-check"],
        ["launch", "eval", "mine.yaml", "--eval-dataset", "medical"],
        ["launch", "webui", "--no-browser"],
        ["launch", "tiny-model", "data/medical.jsonl", "--to", "tiny"],
        ["launch", "runs"],
        ["doctor", "--quick"],
        ["run", "quickstart", "--dry-run"],
    ],
    ids=" ".join,
)
def test_no_command_runs_a_module_of_the_working_folder(folder: Path, argv: list[str]) -> None:
    if "tiny-model" in argv or "webui" in argv:
        # What they start is another Python, which has no torch: it shall miss it rather than find the folder's.
        Path("bin/python").unlink()
        Path("bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n', encoding="utf-8")
        Path("bin/python").chmod(0o755)
    result = run_lfc(
        folder, *argv, env={**PLAYED, "LFC_LLAMAFACTORY_CLI": str(folder / "bin" / "llamafactory-cli")}
    )
    assert b"usage" not in result.stderr.lower(), result.stderr
    assert read_ran() == ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: Path(script).name)
@pytest.mark.parametrize("is_old", [False, True], ids=["3.11", "before 3.11"])
def test_a_script_for_another_python_finds_neither_the_working_folder_nor_ours(
    folder: Path, script: str, is_old: bool
) -> None:
    look = folder / "look"
    look.mkdir()
    for name in ("torch", "llamafactory"):
        # The first thing that each script imports of its environment.
        code = "import sys; sys.stderr.write('PATH ' + repr(sys.path)); sys.exit()"
        (look / f"{name}.py").write_text(code, encoding="utf-8")
    command = build_python_command(Path(sys.executable), Path(script), ("metadata", "{}"), os.environ)
    env = {**os.environ, **command.env, "PYTHONPATH": str(look)}
    if is_old:
        # An older Python does not know the variable.
        del env["PYTHONSAFEPATH"]
    result = subprocess.run(command.argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
    path = result.stderr.rpartition("PATH ")[2]
    assert str(look) in path
    assert repr(str(Path(script).parent)) not in path
    assert "''" not in path
    assert repr(str(folder)) not in path
    assert read_ran() == ""


def test_lfc_as_a_module_leaves_out_the_working_folder_too(folder: Path) -> None:
    for name in ("runpy", "sitecustomize", "usercustomize", "re", "enum", "copy", "html"):
        Path(f"{name}.py").unlink()  # Python itself imports these before any code of ours, or for `-m`.
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "launch", "prep", "convert", "rows.jsonl", "-o", "x.jsonl"]
    result = subprocess.run(command, env=env, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert read_ran() == ""


def test_every_child_of_a_run_is_told_to_leave_out_its_working_folder(folder: Path) -> None:
    if os.name == "nt":
        pytest.skip("the recorder is a POSIX script")
    env = {"LFC_LLAMAFACTORY_CLI": str(folder / "bin" / "llamafactory-cli")}
    result = run_lfc(folder, "launch", "train", "mine.yaml", "--no-check", env=env)
    assert result.returncode == 0, result.stderr
    assert "'PYTHONSAFEPATH': '1'" in Path("runs/mine/log.txt").read_text(encoding="utf-8")
