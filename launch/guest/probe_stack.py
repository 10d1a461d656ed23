"""Run by the training stack's own interpreter: print what is installed there, or try it. Imports nothing of ours.

`python -I probe.py metadata` prints one JSON object; `python -I probe.py try NAME…` prints one JSON object a
line, {"name", "ok", "error", "detail"}, as each is tried, so that a crash tells where it was.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any, TextIO

# The packages whose declared requirements decide whether the set fits together.
DECLARING = ("llamafactory", "unsloth", "unsloth_zoo")


def describe_environment() -> dict[str, Any]:
    """Return Python's version, every installed version, and what the deciding packages require."""
    versions: dict[str, str] = {}
    requirements: dict[str, list[str]] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            versions.setdefault(name.lower().replace("_", "-"), distribution.version)
    for name in DECLARING:
        try:
            requirements[name.replace("_", "-")] = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "prefix": sys.prefix,
        "has_pip": importlib.util.find_spec("pip") is not None,
        "versions": versions,
        "requirements": requirements,
    }


def try_torch() -> str:
    """Import torch, say its CUDA, and compute on a GPU where it sees one."""
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return f"cuda {torch.version.cuda or 'none'}, no GPU"
    total = torch.ones(8, 8, device="cuda").sum().item()
    return f"cuda {torch.version.cuda}, {torch.cuda.device_count()} GPU, sum {total:g}"


def try_lora() -> str:
    """Put LoRA on one linear layer: peft looks into torchao there, and fails with one that it does not know."""
    torch = importlib.import_module("torch")
    peft = importlib.import_module("peft")
    peft.get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), peft.LoraConfig(target_modules=["0"]))
    return "LoRA on one layer"


def try_llamafactory() -> str:
    """Import what `llamafactory-cli train` runs: it checks its own pins, and needs torchaudio."""
    importlib.import_module("llamafactory.train.tuner")
    return ""


TRIALS: dict[str, Callable[[], str]] = {"torch": try_torch, "lora": try_lora, "llamafactory": try_llamafactory}


def try_packages(names: list[str], out: TextIO) -> None:
    """Try each name and print its result at once."""
    for name in names:
        result = {"name": name, "ok": True, "error": "", "detail": ""}
        try:
            result["detail"] = TRIALS[name]() if name in TRIALS else importlib.import_module(name) and ""
        except BaseException as error:  # noqa: BLE001 - whatever it raises is what a run would meet
            result.update(ok=False, error=f"{type(error).__name__}: {' '.join(str(error).split())}"[:300])
        out.write(json.dumps(result) + "\n")
        out.flush()


if __name__ == "__main__":
    # What the packages print while they load must not mix with the answer.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if sys.argv[1] == "metadata":
        json.dump(describe_environment(), answer)
    else:
        try_packages(sys.argv[2:], answer)
    answer.close()
