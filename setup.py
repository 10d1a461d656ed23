"""Compile what is in C, which may fail, and take constraints.txt along; all else is in pyproject.toml."""

import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

# A Python without the lock has no limited API.
HAS_LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")
MAKES_FOR_MSVC = sysconfig.get_platform().startswith("win")
SOURCES = Path("prep", "convert")


class BuildWithConstraints(build_py):
    """`lfc doctor` compares an environment with the set that was seen to train, which stands in the root."""

    def run(self) -> None:
        """Copy the modules, and constraints.txt to where an installed package looks for it."""
        super().run()
        if not self.editable_mode:
            self.copy_file("constraints.txt", str(Path(self.build_lib, "llamafactory_configs", "constraints.txt")))


KERNEL = Extension(
    "prep.convert._kernel",
    [str(SOURCES / name) for name in ("_kernelmodule.c", "rows.c", "json.c", "csv.c", "arrow.c")],
    depends=[str(SOURCES / name) for name in ("kernel.h", "text.h")],
    define_macros=[("Py_LIMITED_API", "0x030B0000")] if HAS_LIMITED_API else [],
    extra_compile_args=["/std:c11", "/O2"] if MAKES_FOR_MSVC else ["-std=c11", "-O3", "-fvisibility=hidden"],
    py_limited_api=HAS_LIMITED_API,
    # Without it every row takes the general way, to the same bytes.
    optional=True,
)


def describe(name: str, *headers: str) -> Extension:
    """Return an extension of one source, which stands where its module will."""
    source = Path(*name.split(".")).with_suffix(".c")
    return Extension(
        name,
        [str(source)],
        depends=[str(Path(*header.split("/"))) for header in headers],
        define_macros=KERNEL.define_macros,
        extra_compile_args=KERNEL.extra_compile_args,
        py_limited_api=HAS_LIMITED_API,
        optional=True,
    )


OTHERS = [
    describe("prep.rows._indexer"),
    describe("prep.tokens._pieces"),
    describe("prep.rows.duplicates._near", "prep/rows/lines.h"),
    describe("prep.quality._sound", "prep/rows/lines.h"),
    describe("prep.storage._sha256"),
]

setup(
    ext_modules=[KERNEL, *OTHERS],
    cmdclass={"build_py": BuildWithConstraints},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if HAS_LIMITED_API else {},
)
