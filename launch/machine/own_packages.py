"""Whether `prep` and `launch` are ours: both are plain names, and `launch` is also that of ROS 2."""

import importlib.metadata
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import launch
import prep
from prep.quality.findings import Finding, Severity, at_key

OUR_DISTRIBUTION = "llamafactory-companion"
_OWN = {"prep": prep, "launch": launch}
_ELSEWHERE = "install this one into an environment of its own, and drive the other by --llamafactory-cli"


def check_own_packages(
    modules: Mapping[str, ModuleType] = _OWN,
    path: Sequence[str] | None = None,
    distributions: Mapping[str, list[str]] | None = None,
) -> Iterator[Finding]:
    """Are the packages that were imported ours, and could another of their name be imported in their place?

    `path` is sys.path, `distributions` {package: names of what installed it}; both as they are if not given.
    """
    root = _find_root(modules["prep"])
    installed = importlib.metadata.packages_distributions() if distributions is None else distributions
    for name, module in modules.items():
        if (place := _find_root(module)) != root:
            message = f"is imported from {place}, and prep from {root}: they are not of one lfc"
            yield at_key(name, message, _ELSEWHERE, rule="own_packages")
        for other in sorted({*installed.get(name, ())} - {OUR_DISTRIBUTION}):
            message = f"{other} installs a package of this name, too: each writes over the other's files"
            yield at_key(name, message, _ELSEWHERE, rule="own_packages")
        for entry in _find_others(name, root, sys.path if path is None else path):
            message = f"another package of this name stands in {entry}, and may be imported in the place of ours"
            fix = "take that folder out of PYTHONPATH for lfc, or keep lfc in an environment of its own"
            yield at_key(name, message, fix, severity=Severity.WARNING, rule="own_packages")


def _find_root(module: ModuleType) -> Path:
    return Path(str(module.__file__)).resolve().parent.parent


def _find_others(name: str, root: Path, path: Sequence[str]) -> Iterator[Path]:
    seen = {root}
    for entry in map(Path, path):
        place = entry.resolve()
        if place not in seen and (place / name / "__init__.py").is_file():
            seen.add(place)
            yield entry
