"""Compile prep/convert/kernel.c when the package is built; without a C compiler all works the same, but slower."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("prep", "convert", "kernel.c")
LIBRARY = Path("prep", "convert", "libkernel.so")


class KernelBuildHook(BuildHookInterface[Any]):
    """Puts the library beside its source, where an editable install finds it, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say that the wheel then is this platform's."""
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        if fault := compile_kernel(root / SOURCE, root / LIBRARY):
            print(f"prep/convert/kernel.c was not compiled, conversion will be slower: {fault}", file=sys.stderr)
        else:
            build_data["artifacts"].append(LIBRARY.as_posix())
            build_data["pure_python"] = False
            build_data["infer_tag"] = True


def compile_kernel(source: Path, library: Path) -> str:
    """Compile a C file into a shared library; return why that cannot be done, and leave none then."""
    library.unlink(missing_ok=True)
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        return "there is no C compiler"
    # prep/convert/kernel.py loads no library that was made from another source.
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    options = ["-std=c11", "-O3", "-shared", "-fPIC", "-fvisibility=hidden", f'-DSOURCE_SHA256="{digest}"']
    partial = library.with_suffix(f".{os.getpid()}")
    try:
        result = subprocess.run(
            [*compiler.split(), *options, str(source), "-o", str(partial)],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        return str(error)
    if result.returncode:
        partial.unlink(missing_ok=True)
        return result.stderr.strip()
    partial.replace(library)
    return ""
