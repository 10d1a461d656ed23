"""Every compiled module, as Python calls it, under the address and undefined-behaviour sanitizers."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FUZZ = ROOT / "tests" / "support" / "native_fuzz.py"
SANITIZE = (
    "-std=c11",
    "-O1",
    "-g",
    "-fPIC",
    "-shared",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)
MODULES = {
    "_kernel": tuple(f"prep/convert/{name}.c" for name in ("_kernelmodule", "rows", "json", "csv", "arrow")),
    "_indexer": ("prep/rows/_indexer.c",),
    "_near": ("prep/rows/duplicates/_near.c",),
    "_pieces": ("prep/tokens/_pieces.c",),
    "_sha256": ("prep/storage/_sha256.c",),
    "_sound": ("prep/quality/_sound.c",),
}


def test_every_compiled_module_is_in_the_table() -> None:
    named = {ROOT / source for sources in MODULES.values() for source in sources}
    assert named == set((ROOT / "prep").rglob("*.c"))


@pytest.mark.skipif(sys.platform != "linux", reason="the sanitizers are loaded as Linux loads them")
@pytest.mark.parametrize("module", MODULES)
def test_no_input_makes_a_compiled_module_leave_its_buffers(module: str, tmp_path: Path, full: bool) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc")
    library = tmp_path / f"{module}.abi3.so"
    sources = [str(ROOT / source) for source in MODULES[module]]
    headers = sysconfig.get_path("include")
    built = subprocess.run(
        [compiler, *SANITIZE, "-DPy_LIMITED_API=0x030B0000", f"-I{headers}", *sources, "-o", str(library)],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        pytest.skip(f"it cannot be built here: {built.stderr.splitlines()[-1]}")
    find = [compiler, "-print-file-name=libasan.so"]
    sanitizer = subprocess.run(find, capture_output=True, text=True, check=True).stdout.strip()
    inputs = 5_000_000 if full else 20_000
    result = subprocess.run(
        [sys.executable, str(FUZZ), module, str(library), str(inputs), "7"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LD_PRELOAD": sanitizer,
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": "detect_leaks=0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4_000:]
    said = result.stdout.split()
    assert said[0] == str(inputs)
    assert int(said[2]) > inputs // 20, "it took too few for this to prove anything"
