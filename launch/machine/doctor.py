"""`lfc doctor`: does the training stack fit together, does it load, and does this machine let it run?

Nothing of the stack is imported here: the interpreter that `llamafactory-cli` belongs to is asked in children.
"""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import prep
from launch.machine.command import find_llamafactory_cli, find_stack_python
from launch.machine.gpus import GpuReport, read_gpus
from launch.machine.own_packages import check_own_packages
from launch.machine.stack import (
    advise_install,
    check_broken_pairs,
    check_declared,
    check_metrics,
    check_python,
    check_tested,
    read_stack,
    read_tested_versions,
    try_imports,
)
from prep.convert.kernel import has_kernel
from prep.errors import StackError
from prep.quality.findings import Finding, Severity, at_key
from prep.storage.os_errors import describe_os_error

_MIN_FREE_BYTES = 20 << 30
_WEBUI_PORT = 7860


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
        *check_own_packages(),
    ]
    try:
        cli = find_llamafactory_cli(given_cli)
        python = find_stack_python(cli)
    except StackError as error:
        return sort_findings([at_key("llamafactory", str(error), advise_install(), rule="install"), *findings])
    on_step("installed versions")
    stack = read_stack(python)
    findings += [
        at_key("llamafactory-cli", str(cli), severity=Severity.NOTE, rule="install"),
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
    """Give an import that fails the fix of the version that is wrong already, if there is one."""
    fix = next((finding.fix for finding in known if finding.is_error), None)
    if fix is None:
        return trials
    return [replace(trial, fix=fix) if trial.is_error else trial for trial in trials]


def _drop_repeated(findings: list[Finding]) -> list[Finding]:
    """Leave out a warning whose fix an error names already."""
    fixed = {finding.fix for finding in findings if finding.is_error}
    return [finding for finding in findings if finding.severity is not Severity.WARNING or finding.fix not in fixed]


def sort_findings(findings: list[Finding]) -> list[Finding]:
    """Return the findings with errors first, warnings after them."""
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def check_gpu(report: GpuReport) -> Iterator[Finding]:
    """What GPUs does the driver show?"""
    if report.gpus is None:
        yield at_key("gpu", "a device that is not NVIDIA's: not looked into", severity=Severity.WARNING, rule="gpu")
    elif not report.gpus:
        yield at_key(
            "gpu",
            "none: tiny models train on the CPU, with use_unsloth and bf16 false",
            "lfc launch config show cpu-smoke",
            severity=Severity.WARNING,
            rule="gpu",
        )
    else:
        memory = ", ".join(f"{gpu.name} {gpu.memory_bytes / (1 << 30):.0f} GiB" for gpu in report.gpus)
        yield at_key("gpu", f"{memory}; driver {report.driver}", severity=Severity.NOTE, rule="gpu")


def check_disk(folder: Path) -> Iterator[Finding]:
    """Is there room for a model and its checkpoints?"""
    free = shutil.disk_usage(folder).free
    message = f"{free / (1 << 30):,.0f} GiB free in {folder.absolute()}"
    if free < _MIN_FREE_BYTES:
        yield at_key(
            "disk",
            f"{message}; a 4B model with checkpoints takes 20",
            "run in a folder on a larger disk",
            severity=Severity.WARNING,
            rule="disk",
        )
    else:
        yield at_key("disk", message, severity=Severity.NOTE, rule="disk")


def check_kernel() -> Iterator[Finding]:
    """Was the fast half of conversion compiled when this tool was installed?"""
    if has_kernel():
        yield at_key("conversion", "the kernel is compiled", severity=Severity.NOTE, rule="kernel")
        return
    checkout = Path(prep.__file__).parent.parent
    is_checkout = (checkout / "pyproject.toml").is_file()
    what = f'-e "{checkout}"' if is_checkout else "--force-reinstall --no-cache-dir llamafactory-companion"
    yield at_key(
        "conversion",
        "the kernel is not compiled, so that large datasets take several times longer: it needs a C compiler",
        f"{sys.executable} -m pip install --no-deps {what}",
        severity=Severity.WARNING,
        rule="kernel",
    )


def check_network(env: Mapping[str, str]) -> Iterator[Finding]:
    """Do ports and proxies let LlamaBoard start?"""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", _WEBUI_PORT)) == 0:
            message = f"{_WEBUI_PORT} is in use: LlamaBoard would silently take another"
            yield at_key(
                "port",
                message,
                f"export GRADIO_SERVER_PORT={_WEBUI_PORT + 1}",
                severity=Severity.WARNING,
                rule="network",
            )
    proxies = {
        name: env[name] for name in env if name.lower() in ("http_proxy", "https_proxy", "all_proxy") and env[name]
    }
    if any(value.startswith("socks") for value in proxies.values()):
        names = " ".join(proxies)
        yield at_key(
            "proxy",
            f"{names} is SOCKS, which LlamaBoard needs socksio for",
            "pip install socksio",
            severity=Severity.WARNING,
            rule="network",
        )
    spared = env.get("NO_PROXY", "") + env.get("no_proxy", "")
    if proxies and not any(name in spared for name in ("127.0.0.1", "*")):
        message = f"{' '.join(proxies)} is set, and 127.0.0.1 is not spared"
        yield at_key(
            "proxy", message, "export NO_PROXY=127.0.0.1,localhost", severity=Severity.WARNING, rule="network"
        )


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
            yield at_key("cache", f"{folder} cannot be written: {reason}", f"export {name}=FOLDER", rule="cache")
