"""Pack the training stack of constraints.txt for a GPU machine that has torch and CUDA, and no network.

What such a machine has already (torch, triton, CUDA, numpy, pillow, pyarrow, scipy, matplotlib) stays out, so do
the parts that no training loads. Then the archive has less than 50 MB; setup.sh unpacks it there.

Run:   python benchmarks/gpu/pack_stack.py --to .gpu/stack.tar.xz
"""

import argparse
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# What is trained with, what prediction scores with, and what lfc needs. Their requirements are read from what is
# installed here.
WANTED = ("llamafactory", "unsloth", "jieba", "nltk", "rouge-chinese", "jsonschema", "orjson")
ON_THE_MACHINE = {
    "torch", "triton", "numpy", "pillow", "torchvision", "torchaudio", "pyarrow", "scipy", "matplotlib",
    "contourpy", "fonttools", "kiwisolver", "cycler", "pyparsing", "sympy", "mpmath", "networkx", "setuptools",
    "wheel", "pip", "cryptography", "cffi", "pycparser",
}  # fmt: skip
# For the WebUI, the API, video and documents: no training loads them.
UNUSED = {"gradio", "gradio-client", "av", "pydub", "ffmpy", "ruff", "safehttpx", "groovy", "brotli"}
SOURCE_ONLY = ("jieba", "fire")
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "manylinux1")
_DROPPED = re.compile(
    r"(^|/)(tests?|testing/_?tests|docs?|examples|locales?|__pycache__)/|\.(pyi|pyx|pxd|c|h|cpp|ipynb)$"
    r"|^studio/|^unsloth_cli/|^jieba/(lac_small|posseg/.*\.p$)|^torchao/.*\.so$|^bitsandbytes/(?!.*cuda130).*\.so$"
    r"|^modelscope/(models|pipelines|preprocessors|trainers|ops|msdatasets)/.+/"
)
# Packages whose folders of that name are code.
_KEPT = re.compile(r"^(torch|numpy|pandas|accelerate|transformers)/testing|^accelerate/test_utils|\.dist-info/")


def main() -> None:
    """Download, prune and pack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--wheels", type=Path, help="a folder that keeps the downloads")
    given = parser.parse_args()
    given.to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.to.parent) as name:
        work = Path(name)
        wheels = given.wheels or work / "wheels"
        download(list_requirements(), wheels, work)
        site = work / "site"
        for wheel in sorted(wheels.glob("*.whl")):
            unpack(wheel, site)
        pack(site, given.to)
    print(f"{given.to}: {given.to.stat().st_size / 1e6:.1f} MB")


def list_requirements() -> list[str]:
    """Return `name==version` of all that the wanted packages need, as constraints.txt pins them."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    found: set[str] = set()
    waiting = list(WANTED)
    while waiting:
        name = waiting.pop()
        if name in found or name in ON_THE_MACHINE | UNUSED or name.startswith(("nvidia-", "cuda-")):
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or ():
            needed = re.match(r"[\w.-]+", text.partition(";")[0])
            name_needed = re.sub(r"[-_.]+", "-", needed.group()).lower() if needed else ""
            if "extra ==" not in text and name_needed in pins:
                waiting.append(name_needed)
    return sorted(f"{name}=={pins[name]}" for name in found)


def download(requirements: list[str], wheels: Path, work: Path) -> None:
    """Fetch the wheels for the machine's Python, from the registry that pip is set up for."""
    built = [item for item in requirements if item.partition("==")[0] in SOURCE_ONLY]
    listing = work / "requirements.txt"
    listing.write_text("\n".join(sorted(set(requirements) - set(built))), encoding="utf-8")
    pip = [sys.executable, "-m", "pip"] if shutil.which("pip") is None else ["pip"]
    platforms = [f"--platform={name}_x86_64" for name in PLATFORMS]
    target = ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp", *platforms]
    subprocess.run([*pip, "download", "-q", "--no-deps", *target, "-d", wheels, "-r", listing], check=True)
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", wheels, *built], check=True)


def unpack(wheel: Path, site: Path) -> None:
    """Unpack the parts of a wheel that a training may load."""
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            if _KEPT.search(item.filename) or not _DROPPED.search(item.filename):
                archive.extract(item, site)


def pack(site: Path, target: Path) -> None:
    """Write the folder as one archive, files of one kind beside each other, which packs best."""
    members = sorted(
        (path for path in site.rglob("*") if path.is_file()), key=lambda path: (path.suffix, str(path))
    )
    partial = target.with_name(f".{target.name}.partial")
    with tarfile.open(partial, "w:xz", preset=9) as archive:
        for path in members:
            archive.add(path, arcname=str(path.relative_to(site)))
    partial.replace(target)


if __name__ == "__main__":
    main()
