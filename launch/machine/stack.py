"""`lfc doctor`: does the training stack fit together, does it load, and does this machine let it run?

Nothing of the stack is imported here: the interpreter that `llamafactory-cli` belongs to is asked in children.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import prep
from launch.machine.command import find_llamafactory_cli, find_stack_python
from launch.machine.gpus import GpuReport, read_gpus
from prep.convert.kernel import has_kernel
from prep.errors import StackError
from prep.storage.os_errors import describe_os_error

Status = Literal["ok", "warning", "error"]

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
_METADATA_TIMEOUT_S = 60
_TRY_TIMEOUT_S = 300
_MIN_FREE_BYTES = 20 << 30
_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 11), (3, 13)
_WEBUI_PORT = 7860


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `error` when training cannot work, and the one command that mends it."""

    what: str
    status: Status
    message: str
    mend: str = ""


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


def examine(
    given_cli: str | None, *, quick: bool = False, on_step: Callable[[str], None] = lambda _: None
) -> list[Finding]:
    """Look at everything and return what was found, errors first.

    `quick` leaves out the imports, which take most of a minute; `on_step` is called with what is looked at.
    """
    on_step("this machine")
    gpu_report = read_gpus()
    findings = [
        *check_gpu(gpu_report),
        *check_disk(Path()),
        *check_network(os.environ),
        *check_caches(os.environ),
        *check_kernel(),
    ]
    try:
        cli = find_llamafactory_cli(given_cli)
        python = find_stack_python(cli)
    except StackError as error:
        return sort_findings([Finding("llamafactory", "error", str(error), _install_all()), *findings])
    on_step("installed versions")
    stack = read_stack(python)
    findings += [
        Finding("llamafactory-cli", "ok", str(cli)),
        *check_python(stack),
        *check_tested(stack, read_tested_versions()),
        *check_declared(stack),
        *check_broken_pairs(stack),
        *check_metrics(stack),
    ]
    if not quick:
        findings += _blame_versions(findings, try_imports(stack, gpu_report, on_step))
    return sort_findings(_drop_repeated(findings))


def _blame_versions(known: list[Finding], trials: list[Finding]) -> list[Finding]:
    """Give an import that fails the mend of the version that is wrong already, if there is one."""
    mend = next((finding.mend for finding in known if finding.status == "error"), None)
    if mend is None:
        return trials
    return [replace(trial, mend=mend) if trial.status == "error" else trial for trial in trials]


def _drop_repeated(findings: list[Finding]) -> list[Finding]:
    """Leave out a warning whose mend an error names already."""
    mended = {finding.mend for finding in findings if finding.status == "error"}
    return [finding for finding in findings if finding.status != "warning" or finding.mend not in mended]


def sort_findings(findings: list[Finding]) -> list[Finding]:
    """Return the findings with errors first, warnings after them."""
    order = {"error": 0, "warning": 1, "ok": 2}
    return sorted(findings, key=lambda finding: order[finding.status])


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
        yield Finding("python", "ok", f"{stack.python_version} at {stack.python}")
    else:
        yield Finding(
            "python",
            "error",
            f"{stack.python_version}; LLaMA-Factory and Unsloth run on 3.11 to 3.13",
            "uv venv --python 3.11 .venv",
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
                status: Status = "warning" if name in _OPTIONAL else "error"
                yield Finding(name, status, "is not installed", stack.install(f"{name}=={expected}"))
        elif seen.partition("+")[0] != expected.partition("+")[0]:
            yield Finding(
                name, "warning", f"is {seen}; {expected} was seen to train", stack.install(f"{name}=={expected}")
            )
        else:
            same.append(name)
    if same:
        yield Finding("tested set", "ok", f"{len(same)} of {len(WATCHED)} watched packages are the tested versions")


def check_declared(stack: Stack) -> Iterator[Finding]:
    """Is everything there that llamafactory and unsloth themselves declare, in a version that they take?"""
    from packaging.requirements import InvalidRequirement, Requirement

    tested = read_tested_versions()
    for owner, lines in stack.requirements.items():
        for line in lines:
            try:
                wanted = Requirement(line)
            except InvalidRequirement:
                yield Finding(owner, "warning", f"declares `{line}`, which cannot be read")
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
            yield Finding(name, "error", message, stack.install(pinned))


def check_broken_pairs(stack: Stack) -> Iterator[Finding]:
    """Are there pairs that resolve together and break in a run?"""
    peft, torchao = stack.versions.get("peft"), stack.versions.get("torchao")
    if peft and torchao and _read_version(torchao) >= (0, 16) and _read_version(peft) < (0, 19):
        yield Finding(
            "torchao",
            "error",
            f"{torchao} breaks LoRA with peft {peft}: cannot import name 'LinearActivationQuantizedTensor'",
            stack.install("torchao==0.15.0"),
        )
    torch = stack.versions.get("torch", "")
    if torch.endswith("+cpu"):
        tested = read_tested_versions()
        yield Finding(
            "torch",
            "error",
            f"{torch} is the CPU build: PyPI's torchvision and torchaudio cannot be imported beside it",
            stack.install(*(f"{name}=={tested[name]}" for name in ("torch", "torchvision", "torchaudio"))),
        )


def check_metrics(stack: Stack) -> Iterator[Finding]:
    """Are the packages there that prediction scores with?"""
    missing = [name for name in METRICS if name not in stack.versions]
    if missing:
        message = f"{', '.join(missing)} not installed: predict_with_generate needs them"
        yield Finding("metrics", "warning", message, stack.install(*missing))


def check_gpu(report: GpuReport) -> Iterator[Finding]:
    """What GPUs does the driver show?"""
    if report.gpus is None:
        yield Finding("gpu", "warning", "a device that is not NVIDIA's: not looked into")
    elif not report.gpus:
        yield Finding(
            "gpu",
            "warning",
            "none: tiny models train on the CPU, with use_unsloth and bf16 false",
            "lfc launch config show cpu-smoke",
        )
    else:
        memory = ", ".join(f"{gpu.name} {gpu.memory_bytes / (1 << 30):.0f} GiB" for gpu in report.gpus)
        yield Finding("gpu", "ok", f"{memory}; driver {report.driver}")


def check_disk(folder: Path) -> Iterator[Finding]:
    """Is there room for a model and its checkpoints?"""
    free = shutil.disk_usage(folder).free
    message = f"{free / (1 << 30):,.0f} GiB free in {folder.absolute()}"
    if free < _MIN_FREE_BYTES:
        yield Finding(
            "disk",
            "warning",
            f"{message}; a 4B model with checkpoints takes 20",
            "run in a folder on a larger disk",
        )
    else:
        yield Finding("disk", "ok", message)


def check_kernel() -> Iterator[Finding]:
    """Was the fast half of conversion compiled when this tool was installed?"""
    if has_kernel():
        yield Finding("conversion", "ok", "the kernel is compiled")
        return
    checkout = Path(prep.__file__).parent.parent
    is_checkout = (checkout / "pyproject.toml").is_file()
    what = f'-e "{checkout}"' if is_checkout else "--force-reinstall --no-cache-dir llamafactory-companion"
    yield Finding(
        "conversion",
        "warning",
        "the kernel is not compiled, so that large datasets take several times longer: it needs a C compiler",
        f"{sys.executable} -m pip install --no-deps {what}",
    )


def check_network(env: Mapping[str, str]) -> Iterator[Finding]:
    """Do ports and proxies let LlamaBoard start?"""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", _WEBUI_PORT)) == 0:
            message = f"{_WEBUI_PORT} is in use: LlamaBoard would silently take another"
            yield Finding("port", "warning", message, f"export GRADIO_SERVER_PORT={_WEBUI_PORT + 1}")
    proxies = {
        name: env[name] for name in env if name.lower() in ("http_proxy", "https_proxy", "all_proxy") and env[name]
    }
    if any(value.startswith("socks") for value in proxies.values()):
        names = " ".join(proxies)
        yield Finding(
            "proxy", "warning", f"{names} is SOCKS, which LlamaBoard needs socksio for", "pip install socksio"
        )
    spared = env.get("NO_PROXY", "") + env.get("no_proxy", "")
    if proxies and not any(name in spared for name in ("127.0.0.1", "*")):
        message = f"{' '.join(proxies)} is set, and 127.0.0.1 is not spared"
        yield Finding("proxy", "warning", message, "export NO_PROXY=127.0.0.1,localhost")


def check_caches(env: Mapping[str, str]) -> Iterator[Finding]:
    """Can models and compiled kernels be kept?"""
    caches = {
        "HF_HOME": env.get("HF_HOME") or "~/.cache/huggingface",
        "MODELSCOPE_CACHE": env.get("MODELSCOPE_CACHE") or "~/.cache/modelscope",
        "TRITON_CACHE_DIR": env.get("TRITON_CACHE_DIR") or "~/.triton",
    }
    for name, value in caches.items():
        folder = Path(value).expanduser()
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            reason = describe_os_error(error)
            yield Finding("cache", "error", f"{folder} cannot be written: {reason}", f"export {name}=FOLDER")


def try_imports(stack: Stack, report: GpuReport, on_step: Callable[[str], None]) -> list[Finding]:
    """Really import the stack, in children, two at a time."""
    tries = [*_TRIES, *(_GPU_TRIES if report.gpus else ())]
    wanted = [tuple(name for name in group if _is_there(name, stack)) for group in tries]
    on_step("imports: " + ", ".join(name for group in wanted for name in group))
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(lambda group: _try_group(stack, group), (group for group in wanted if group)))
    return _share_mends([_judge_trial(stack, report, result) for group in results for result in group])


def _share_mends(trials: list[Finding]) -> list[Finding]:
    """Give imports that fail with the same words the mend of the first: the others only import it."""
    mends: dict[str, str] = {}
    for trial in trials:
        if trial.status == "error":
            mends.setdefault(trial.message, trial.mend)
    return [replace(trial, mend=mends.get(trial.message, trial.mend)) for trial in trials]


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
        status: Status = "warning" if name in ("jieba", "nltk", "rouge_chinese", "bitsandbytes") else "error"
        return Finding(f"import {name}", status, str(result["error"]), stack.install(*_reinstall(name)))
    if name == "torch" and report.gpus and "no GPU" in result["detail"]:
        message = f"torch ({result['detail']}) sees no GPU, the driver {report.driver} shows {len(report.gpus)}"
        return Finding("import torch", "error", message, "install a driver that is new enough for this CUDA")
    return Finding(f"import {name}", "ok", str(result["detail"]) or "loads")


def _reinstall(name: str) -> list[str]:
    tested = read_tested_versions()
    # Built against each other: one of them alone does not mend it.
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


def _install_all() -> str:
    """Return the command that installs the tested stack beside us."""
    here = Stack(Path(sys.executable), "", find_spec("pip") is not None, {}, {})
    tested = read_tested_versions()
    wanted = [f"{name}=={tested[name]}" for name in ("llamafactory", "unsloth", "torchao", *METRICS)]
    return f'{here.install(*wanted)} -c "{_find_constraints()}"'
