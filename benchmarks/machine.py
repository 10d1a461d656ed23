"""The machine that figures come from, and the time of a whole process on it."""

import os
import platform
import resource
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def describe_machine() -> dict[str, Any]:
    """Return the CPU's model, the cores, the memory, the load at the start, and Python's version."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    load = round(os.getloadavg()[0], 2)
    python = platform.python_version()
    return {"cpu": model, "cores": os.cpu_count(), "memory_mib": memory, "load": load, "python": python}


def run_timed(command: Sequence[str], *, allowed: Sequence[int] = (0,)) -> tuple[float, float]:
    """Return the wall and CPU seconds of a whole process, its children's included; its failure is ours.

    Wall time counts on an idle machine alone; CPU time tells the work also on one that others use.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, env=environment)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode not in allowed:
        raise SystemExit(f"{' '.join(command)[:200]} failed: {result.stderr.decode(errors='replace')[-2000:]}")
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
