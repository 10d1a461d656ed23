"""Which program to start, with which arguments and environment: no process is started here."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.machine.gpus import Gpu
from launch.machine.variables import is_enabled
from prep.errors import ConfigError, StackError
from prep.secrets import mask_text, mask_values

CLI_VARIABLE = "LFC_LLAMAFACTORY_CLI"
# Set to 1 it boosts every training that is started, as --boost does.
BOOST_VARIABLE = "LFC_BOOST"
# Names the file that keeps a prediction's answers by row (launch/guest/answers.py).
ANSWERS_VARIABLE = "LFC_ANSWERS"
_ANSWERS_PROGRAM = Path(__file__).parent.parent / "guest" / "answers.py"
_BOOST_PROGRAM = Path(__file__).parent.parent / "guest" / "boost.py"
# What of the user's environment changes how LLaMA-Factory runs, and so belongs into a run's record.
_TELLING_PREFIXES = (
    "ACCELERATE_", "ALLOW_EXTRA_ARGS", "CUDA_", "DISABLE_VERSION_CHECK", "FORCE_TORCHRUN", "GRADIO_", "HF_",
    BOOST_VARIABLE, "LLAMABOARD_", "MASTER_", "MODELSCOPE_", "NCCL_", "NNODES", "NODE_RANK", "NPROC_PER_NODE",
    "OMP_", "PYTORCH_", "RAY_", "RECORD_VRAM", "SWANLAB_", "TOKENIZERS_", "TORCH_", "TRANSFORMERS_", "UNSLOTH_",
    "USE_", "WANDB_",
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
        """Return the line that a user would paste into a shell; secrets in it are masked."""
        argv = [mask_word(word) for word in self.argv]
        if os.name == "nt":
            import subprocess

            return subprocess.list2cmdline(argv)
        env = mask_values(self.env)
        assignments = [f"{name}={shlex.quote(value)}" for name, value in env.items() if name != "PATH"]
        return " ".join([*assignments, shlex.join(argv)])


def mask_word(word: str) -> str:
    """Return one argument as it may be shown: `hf_hub_token=***`."""
    name, equals, value = word.partition("=")
    return f"{name}={mask_values({name: value})[name]}" if equals else mask_text(word)


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
    with cli.open("rb") as stream:
        first_line = stream.read(4096)
    named = Path(os.fsdecode(first_line.partition(b"\n")[0].removeprefix(b"#!").strip()))
    if named.name.startswith("python") and named.is_file():
        return named
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
    cli: Path,
    action: str,
    config_path: Path,
    config: Mapping[str, Any],
    environ: Mapping[str, str],
    gpus: Sequence[Gpu] = (),
) -> Command:
    """Return the command that runs one LLaMA-Factory action on a config.

    Unsloth and the boost work on exactly one visible GPU, or LLaMA-Factory would start torchrun: of `gpus`, in the
    driver's order, the one with the most free memory, unless the user has chosen.
    """
    env = _child_environment(cli.parent, environ)
    is_ours = is_boosted(action, config, environ) or is_answered_by_row(action, config, environ)
    needs_one_gpu = config.get("use_unsloth") or is_ours
    if needs_one_gpu and "CUDA_VISIBLE_DEVICES" not in environ:
        emptiest = max(range(len(gpus)), key=lambda number: gpus[number].free_bytes, default=0)
        # CUDA's own order is by speed, the driver's by bus.
        env |= {"CUDA_VISIBLE_DEVICES": str(emptiest), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if not gpus and "OMP_WAIT_POLICY" not in environ:
        # Threads that spin while they wait make two runs on one CPU several times slower than one.
        env["OMP_WAIT_POLICY"] = "PASSIVE"
    if gpus and action == "train":
        # Lets the live view show the memory in use.
        env.setdefault("RECORD_VRAM", environ.get("RECORD_VRAM", "1"))
    env |= _spell_swanlab_project(config, environ)
    return Command((str(cli), action, str(config_path)), env)


def _spell_swanlab_project(config: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Return SWANLAB_PROJECT as SwanLab 0.8 and later read it: JSON, and no other text; a plain name ends the run.

    The project itself is passed on by LLaMA-Factory's own key.
    """
    project = environ.get("SWANLAB_PROJECT", "")
    if not config.get("use_swanlab") or not project or project.startswith("{"):
        return {}
    return {"SWANLAB_PROJECT": json.dumps({"name": project})}


def is_boosted(action: str, config: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    """Whether an action is a training that is to be boosted: the variable LFC_BOOST says so."""
    return action == "train" and bool(config.get("do_train")) and is_enabled(BOOST_VARIABLE, environ)


def boost_command(command: Command, report: Path | None = None) -> Command:
    """Return the command that trains the same, boosted (launch/guest/boost.py).

    Shape: `report` is the file that says whether it was boosted; by default boost.json in output_dir.
    """
    cli, _, *training = command.argv
    told = ("--report", str(report)) if report else ()
    return Command((str(find_stack_python(Path(cli))), str(_BOOST_PROGRAM), *told, *training), command.env)


def is_answered_by_row(action: str, config: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    """Whether an action is a prediction whose answers are kept by row: the variable LFC_ANSWERS names where."""
    return action == "train" and bool(config.get("do_predict")) and bool(environ.get(ANSWERS_VARIABLE))


def answer_command(
    command: Command, config: Mapping[str, Any], environ: Mapping[str, str], report: Path
) -> Command:
    """Return the command that answers by row: in batches as large as fit, or as large as the config says."""
    cli, _, *prediction = command.argv
    batch = str(config.get("per_device_eval_batch_size") or "auto")
    told = ("--answers", environ[ANSWERS_VARIABLE], "--batch", batch, "--report", str(report))
    return Command((str(find_stack_python(Path(cli))), str(_ANSWERS_PROGRAM), *told, *prediction), command.env)


@dataclass(frozen=True)
class Cluster:
    """Where one training runs when it takes more than one process; None leaves LLaMA-Factory's own choice."""

    gpus: str | None = None
    nnodes: int = 1
    node_rank: int = 0
    master_addr: str | None = None
    master_port: int | None = None
    ray: bool = False

    def build_environment(self, free_port: int) -> dict[str, str]:
        """Return the variables that LLaMA-Factory's launcher reads; `free_port` is used where none was given.

        Raises: ConfigError when several machines are asked for without an address that they all reach.
        """
        env = {"CUDA_VISIBLE_DEVICES": self.gpus, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if self.gpus else {}
        if self.ray:
            return {**env, "USE_RAY": "1"}
        several = self.nnodes > 1
        if several and not (self.master_addr and self.master_port):
            raise ConfigError(
                f"{self.nnodes} machines need one address and port that all of them reach",
                hint="--master-addr ADDRESS --master-port PORT, the same on each, and --node-rank 0, 1, …",
            )
        if several or "," in (self.gpus or ""):
            env |= {"MASTER_PORT": str(self.master_port or free_port), "FORCE_TORCHRUN": "1"}
            env |= {"MASTER_ADDR": self.master_addr} if self.master_addr else {}
        if several:
            env |= {"NNODES": str(self.nnodes), "NODE_RANK": str(self.node_rank)}
        return env


def build_python_command(
    python: Path, script: Path, arguments: tuple[str, ...], environ: Mapping[str, str]
) -> Command:
    """Return the command that runs one of our scripts under the Python that has the training stack."""
    # A Python before 3.11 does not know PYTHONSAFEPATH: the scripts themselves leave out their own folder.
    return Command((str(python), str(script), *arguments), _child_environment(python.parent, environ))


def record_environment(command: Command, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that matter to a run, secrets masked, for the run's folder."""
    masked: dict[str, str] = mask_values({**list_telling(environ), **command.env})
    return dict(sorted(masked.items()))


def list_telling(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the user's variables that change how LLaMA-Factory runs."""
    return {name: value for name, value in environ.items() if name.startswith(_TELLING_PREFIXES)}


def _child_environment(bin_folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    return {
        "PATH": os.pathsep.join([str(bin_folder), environ.get("PATH", "")]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        # No module of the working folder takes the place of one that the child, or a process of its own, imports.
        "PYTHONSAFEPATH": "1",
    }
