"""The training stack: what is installed beside `llamafactory-cli`, whether it fits together, and whether it loads.

Its interpreter is asked in children; nothing of it is imported here.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from launch.machine.gpus import GpuReport
from prep.errors import StackError
from prep.quality.findings import Finding, Severity, at_key

# What decides whether training works; the rest of the tested set follows from these.
WATCHED = (
    *("llamafactory", "unsloth", "unsloth-zoo", "torch", "torchvision", "torchaudio", "transformers", "datasets"),
    *("accelerate", "peft", "trl", "torchao", "bitsandbytes", "xformers", "tokenizers", "gradio", "modelscope"),
)
METRICS = ("jieba", "nltk", "rouge-chinese")
_TRIES = (
    ("torch", "torchvision", "torchaudio"),
    ("transformers", "datasets", "accelerate", "trl", "llamafactory"),
    ("lora",),
    ("jieba", "nltk", "rouge_chinese"),
)
_GPU_TRIES = (("bitsandbytes",), ("unsloth",))
_OPTIONAL = {"unsloth", "unsloth-zoo", "xformers", "bitsandbytes", "torchao"}
# Training works without them.
_SPARED = {"jieba", "nltk", "rouge_chinese", "bitsandbytes"}
_METADATA_TIMEOUT_S = 60
_TRY_TIMEOUT_S = 300
_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 11), (3, 13)


@dataclass(frozen=True)
class Stack:
    """An environment with LLaMA-Factory: versions by normalised name, and what the deciders declare."""

    python: Path
    python_version: str
    has_pip: bool
    versions: Mapping[str, str]
    requirements: Mapping[str, list[str]]

    def install(self, *requirements: str) -> str:
        """Return the command that installs into this environment."""
        quoted = " ".join(f'"{text}"' for text in requirements)
        if self.has_pip or not shutil.which("uv"):
            return f"{self.python} -m pip install {quoted}"
        return f"uv pip install --python {self.python} {quoted}"


def read_tested_versions() -> dict[str, str]:
    """Return the exact versions of constraints.txt, the set that was seen to train, by normalised name."""
    text = _find_constraints().read_text(encoding="utf-8")
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, flags=re.MULTILINE)
    return {normalise_name(name): version for name, version in pins}


def _find_constraints() -> Path:
    """Return the tested set: the wheel carries it inside the package, in a checkout it stands beside it."""
    package = Path(str(files("llamafactory_configs")))
    inside = package / "constraints.txt"
    return inside if inside.is_file() else package.with_name("constraints.txt")


def normalise_name(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_stack(python: Path) -> Stack:
    """Ask an interpreter for what is installed beside it.

    Raises: StackError when it does not answer.
    """
    described = json.loads(_run_probe(python, ("metadata",), _METADATA_TIMEOUT_S))
    return Stack(
        python=python,
        python_version=described["python"],
        has_pip=described["has_pip"],
        versions={normalise_name(name): version for name, version in described["versions"].items()},
        requirements=described["requirements"],
    )


def check_python(stack: Stack) -> Iterator[Finding]:
    """Is Python one that LLaMA-Factory and Unsloth run on?"""
    version = tuple(int(part) for part in stack.python_version.split(".")[:2])
    if _OLDEST_PYTHON <= version <= _NEWEST_PYTHON:
        yield at_key("python", f"{stack.python_version} at {stack.python}", severity=Severity.NOTE, rule="python")
    else:
        yield at_key(
            "python",
            f"{stack.python_version}; LLaMA-Factory and Unsloth run on 3.11 to 3.13",
            "uv venv --python 3.11 .venv",
            rule="python",
        )


def check_tested(stack: Stack, tested: Mapping[str, str]) -> Iterator[Finding]:
    """Are the versions those that were seen to train?"""
    same = []
    for name in WATCHED:
        seen, expected = stack.versions.get(name), tested.get(name)
        if expected is None:
            continue
        if seen is None:
            if name not in _OPTIONAL or name == "unsloth":
                severity = Severity.WARNING if name in _OPTIONAL else Severity.ERROR
                yield at_key(
                    name,
                    "is not installed",
                    stack.install(f"{name}=={expected}"),
                    severity=severity,
                    rule="tested-set",
                )
        elif seen.partition("+")[0] != expected.partition("+")[0]:
            yield at_key(
                name,
                f"is {seen}; {expected} was seen to train",
                stack.install(f"{name}=={expected}"),
                severity=Severity.WARNING,
                rule="tested-set",
            )
        else:
            same.append(name)
    if same:
        yield at_key(
            "tested set",
            f"{len(same)} of {len(WATCHED)} watched packages are the tested versions",
            severity=Severity.NOTE,
            rule="tested-set",
        )


def check_declared(stack: Stack) -> Iterator[Finding]:
    """Is everything there that llamafactory and unsloth themselves declare, in a version that they take?"""
    from packaging.requirements import InvalidRequirement, Requirement

    tested = read_tested_versions()
    for owner, lines in stack.requirements.items():
        for line in lines:
            try:
                wanted = Requirement(line)
            except InvalidRequirement:
                yield at_key(
                    owner, f"declares `{line}`, which cannot be read", severity=Severity.WARNING, rule="declared"
                )
                continue
            # An extra is asked for by name: without one, its markers are false.
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
                continue
            name = normalise_name(wanted.name)
            seen = stack.versions.get(name)
            if seen is not None and wanted.specifier.contains(seen, prereleases=True):
                continue
            pinned = f"{name}=={tested[name]}" if name in tested else str(wanted).partition(";")[0].strip()
            message = f"is {seen or 'not installed'}; {owner} needs {name}{wanted.specifier}"
            yield at_key(name, message, stack.install(pinned), rule="declared")


def check_broken_pairs(stack: Stack) -> Iterator[Finding]:
    """Are there pairs that resolve together and break in a run?"""
    peft, torchao = stack.versions.get("peft"), stack.versions.get("torchao")
    if peft and torchao and _read_version(torchao) >= (0, 16) and _read_version(peft) < (0, 19):
        yield at_key(
            "torchao",
            f"{torchao} breaks LoRA with peft {peft}: cannot import name 'LinearActivationQuantizedTensor'",
            stack.install("torchao==0.15.0"),
            rule="broken-pair",
        )
    torch = stack.versions.get("torch", "")
    if torch.endswith("+cpu"):
        tested = read_tested_versions()
        yield at_key(
            "torch",
            f"{torch} is the CPU build: PyPI's torchvision and torchaudio cannot be imported beside it",
            stack.install(*(f"{name}=={tested[name]}" for name in ("torch", "torchvision", "torchaudio"))),
            rule="broken-pair",
        )


def check_metrics(stack: Stack) -> Iterator[Finding]:
    """Are the packages there that prediction scores with?"""
    missing = [name for name in METRICS if name not in stack.versions]
    if missing:
        message = f"{', '.join(missing)} not installed: predict_with_generate needs them"
        yield at_key("metrics", message, stack.install(*missing), severity=Severity.WARNING, rule="metrics")


def try_imports(stack: Stack, report: GpuReport, on_step: Callable[[str], None]) -> list[Finding]:
    """Really import the stack, in children, two at a time."""
    tries = [*_TRIES, *(_GPU_TRIES if report.gpus else ())]
    wanted = [tuple(name for name in group if _is_there(name, stack)) for group in tries]
    on_step("imports: " + ", ".join(name for group in wanted for name in group))
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(lambda group: _try_group(stack, group), (group for group in wanted if group)))
    return _share_fixes([_judge_trial(stack, report, result) for group in results for result in group])


def _share_fixes(trials: list[Finding]) -> list[Finding]:
    """Give imports that fail with the same words the fix of the first: the others only import it."""
    fixes: dict[str, str] = {}
    for trial in trials:
        if trial.is_error:
            fixes.setdefault(trial.message, trial.fix)
    return [replace(trial, fix=fixes.get(trial.message, trial.fix)) for trial in trials]


def _try_group(stack: Stack, names: tuple[str, ...]) -> list[dict[str, Any]]:
    try:
        output = _run_probe(stack.python, ("try", *names), _TRY_TIMEOUT_S)
    except StackError as error:
        return [{"name": names[0], "ok": False, "error": str(error), "detail": ""}]
    results = [json.loads(line) for line in output.splitlines()]
    if len(results) < len(names):
        results.append({"name": names[len(results)], "ok": False, "error": "the child died", "detail": ""})
    return results


def _judge_trial(stack: Stack, report: GpuReport, result: Mapping[str, Any]) -> Finding:
    name = str(result["name"])
    if not result["ok"]:
        severity = Severity.WARNING if name in _SPARED else Severity.ERROR
        return at_key(
            f"import {name}",
            str(result["error"]),
            stack.install(*_reinstall(name)),
            severity=severity,
            rule="import",
        )
    if name == "torch" and report.gpus and "no GPU" in result["detail"]:
        message = f"torch ({result['detail']}) sees no GPU, the driver {report.driver} shows {len(report.gpus)}"
        return at_key("import torch", message, "install a driver that is new enough for this CUDA", rule="import")
    return at_key(f"import {name}", str(result["detail"]) or "loads", severity=Severity.NOTE, rule="import")


def _reinstall(name: str) -> list[str]:
    tested = read_tested_versions()
    # Built against each other: one of them alone does not fix it.
    torch_family = ["torch", "torchvision", "torchaudio"]
    together = {
        "lora": ["peft", "torchao"],
        "llamafactory": ["llamafactory", "transformers", "trl"],
        **dict.fromkeys(torch_family, torch_family),
    }
    names = together.get(name, [name])
    return [f"{package}=={tested[package]}" for package in map(normalise_name, names) if package in tested] or [
        name
    ]


def _run_probe(python: Path, arguments: tuple[str, ...], timeout_s: int) -> str:
    script = files("launch") / "guest" / "probe_stack.py"
    try:
        result = subprocess.run(
            [str(python), "-I", str(script), *arguments], capture_output=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"{python} does not answer: {error}") from error
    output = result.stdout.decode(errors="replace")
    if not output and result.returncode:
        last = (result.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise StackError(f"{python} ended with exit code {result.returncode}: {last}")
    return output


def _is_there(name: str, stack: Stack) -> bool:
    package = {"lora": "peft"}.get(name, normalise_name(name))
    return package in stack.versions


def _read_version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def advise_install() -> str:
    """Return the command that installs the tested stack beside us."""
    here = Stack(Path(sys.executable), "", find_spec("pip") is not None, {}, {})
    tested = read_tested_versions()
    wanted = [f"{name}=={tested[name]}" for name in ("llamafactory", "unsloth", "torchao", *METRICS)]
    return f'{here.install(*wanted)} -c "{_find_constraints()}"'
