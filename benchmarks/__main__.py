"""Run every benchmark and keep its figures in benchmarks/results: `make bench`, or `python -m benchmarks NAME…`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
# {name: its arguments}, each a module beside this one; those on GPUs are run by hand.
BENCHMARKS = {
    "conversion": ("--rounds", "5"),
    "combining": ("--rounds", "3"),
    "near_copies": (),
    "token_stats": ("--rows", "20000", "--runs", "3"),
    "tokenize": ("--rows", "20000", "--runs", "3"),
}


def main() -> None:
    """Run the benchmarks that are named, all without a name; one that fails ends with its exit code."""
    names = sys.argv[1:] or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise SystemExit(f"no benchmark is called {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    for name in names:
        target = RESULTS / f"{name}.json"
        print(f"== {name} → {target.relative_to(ROOT)}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *BENCHMARKS[name], "--json", str(target)]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            raise SystemExit(code)


if __name__ == "__main__":
    main()
