"""Which program to start, with which arguments and environment: no process is started here."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prep.errors import StackError

CLI_VARIABLE = "LFC_LLAMAFACTORY_CLI"
_SECRET_WORDS = ("TOKEN", "KEY", "SECRET", "PASSWORD", "COOKIE", "CREDENTIAL")
# What of the user's environment changes how LLaMA-Factory runs, and so belongs into a run's record.
_TELLING_PREFIXES = (
    "ACCELERATE_", "ALLOW_EXTRA_ARGS", "CUDA_", "DISABLE_VERSION_CHECK", "FORCE_TORCHRUN", "HF_", "LLAMABOARD_",
    "MASTER_", "MODELSCOPE_", "NCCL_", "NNODES", "NODE_RANK", "NPROC_PER_NODE", "OMP_", "PYTORCH_", "RAY_",
    "RECORD_VRAM", "TOKENIZERS_", "TORCH_", "TRANSFORMERS_", "UNSLOTH_", "USE_", "WANDB_",
)  # fmt: skip


@dataclass(frozen=True)
class Command:
    """One child process: its arguments, and the variables it gets on top of the user's environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]

    def with_arguments(self, more: tuple[str, ...]) -> "Command":
        """Return the same command with more arguments at its end."""
        return Command((*self.argv, *more), self.env)

    def with_env(self, more: Mapping[str, str]) -> "Command":
        """Return the same command with more variables."""
        return Command(self.argv, {**self.env, **more})

    def format(self) -> str:
        """Return the line that a user would paste into a shell."""
        if os.name == "nt":
            import subprocess

            return subprocess.list2cmdline(self.argv)
        assignments = [f"{name}={shlex.quote(value)}" for name, value in self.env.items() if name != "PATH"]
        return " ".join([*assignments, shlex.join(self.argv)])


def find_llamafactory_cli(given: str | None = None) -> Path:
    """Return the `llamafactory-cli` to run: the one given, else beside this Python, else on the PATH.

    Raises: StackError when there is none.
    """
    if given:
        found = shutil.which(given)
        if found is None:
            raise StackError(f"{given} is not a program that can be run", hint="--llamafactory-cli PATH")
        return Path(found).absolute()
    folder = Path(sys.executable).parent
    found = shutil.which("llamafactory-cli", path=str(folder)) or shutil.which("llamafactory-cli")
    if found is None:
        raise StackError(
            "llamafactory-cli is not installed here",
            hint=f"pip install -c constraints.txt '.[train]', or name one by --llamafactory-cli or {CLI_VARIABLE}",
        )
    return Path(found).absolute()


def find_stack_python(cli: Path) -> Path:
    """Return the Python of the environment that `llamafactory-cli` belongs to; raises StackError."""
    names = ("python.exe",) if os.name == "nt" else ("python", "python3")
    for folder in (cli.parent, cli.parent.parent):  # conda on Windows keeps python.exe one folder up
        for name in names:
            if (folder / name).is_file():
                return folder / name
    first_line = cli.read_bytes()[:4096].partition(b"\n")[0]
    if first_line.startswith(b"#!") and Path(os.fsdecode(first_line[2:].strip())).is_file():
        return Path(os.fsdecode(first_line[2:].strip()))
    raise StackError(f"no Python stands beside {cli}", hint="name the llamafactory-cli of a whole environment")


def find_lm_eval() -> Path:
    """Return lm-evaluation-harness's program, beside this Python or on the PATH; raises StackError."""
    folder = Path(sys.executable).parent
    found = shutil.which("lm_eval", path=str(folder)) or shutil.which("lm_eval")
    if found is None:
        raise StackError(
            "multiple-choice tasks need lm-evaluation-harness, which is not installed here",
            hint="pip install 'llamafactory-companion[harness]', or: pip install 'lm-eval[hf]>=0.4.10'",
        )
    return Path(found).absolute()


def build_harness_command(lm_eval: Path, config_path: Path, environ: Mapping[str, str]) -> Command:
    """Return the command that lets lm-evaluation-harness run a YAML of its own."""
    return Command((str(lm_eval), "run", "--config", str(config_path)), _child_environment(lm_eval.parent, environ))


def build_llamafactory_command(
    cli: Path, action: str, config_path: Path, config: Mapping[str, Any], environ: Mapping[str, str]
) -> Command:
    """Return the command that runs one LLaMA-Factory action on a config.

    Unsloth works on exactly one visible GPU: with more, LLaMA-Factory would start torchrun.
    """
    env = _child_environment(cli.parent, environ)
    if config.get("use_unsloth") and "CUDA_VISIBLE_DEVICES" not in environ:
        env["CUDA_VISIBLE_DEVICES"] = "0"
    return Command((str(cli), action, str(config_path)), env)


def build_python_command(
    python: Path, script: Path, arguments: tuple[str, ...], environ: Mapping[str, str]
) -> Command:
    """Return the command that runs one of our scripts under the Python that has the training stack."""
    # Run directly, the script's folder would stand first on the path and our modules hide others' names; `-c` puts
    # the working folder there, whose files would do the same.
    code = (
        "import sys; sys.path[:] = filter(None, sys.path); import runpy; "
        "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    return Command((str(python), "-c", code, str(script), *arguments), _child_environment(python.parent, environ))


def record_environment(command: Command, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that matter to a run, secrets masked, for the run's folder."""
    telling = {name: value for name, value in environ.items() if name.startswith(_TELLING_PREFIXES)}
    merged = {**telling, **command.env}
    return {name: "***" if is_secret(name) else value for name, value in sorted(merged.items())}


def is_secret(name: str) -> bool:
    """Tell whether a variable's or a key's value must not be shown."""
    return any(word in name.upper() for word in _SECRET_WORDS) and not name.upper().startswith("TOKENIZERS_")


def _child_environment(bin_folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    return {
        "PATH": os.pathsep.join([str(bin_folder), environ.get("PATH", "")]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }
