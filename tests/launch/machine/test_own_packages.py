"""`prep` and `launch` are plain names: what else bears them is told."""

from pathlib import Path
from types import ModuleType

import pytest

from launch.machine.own_packages import OUR_DISTRIBUTION, check_own_packages
from prep.quality.findings import Severity


def make_package(folder: Path, name: str) -> ModuleType:
    file = folder / name / "__init__.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("", encoding="utf-8")
    module = ModuleType(name)
    module.__file__ = str(file)
    return module


@pytest.fixture
def ours(tmp_path: Path) -> dict[str, ModuleType]:
    return {name: make_package(tmp_path / "site", name) for name in ("prep", "launch")}


INSTALLED = {name: [OUR_DISTRIBUTION] for name in ("prep", "launch")}


def test_these_packages_are_ours() -> None:
    assert list(check_own_packages()) == []


def test_alone_they_are_well(ours: dict[str, ModuleType], tmp_path: Path) -> None:
    (tmp_path / "work" / "launch").mkdir(parents=True)
    path = [
        str(tmp_path / "site"),
        str(tmp_path / "work"),
        str(tmp_path / "nowhere"),
        str(tmp_path / "site" / ".."),
    ]
    assert list(check_own_packages(ours, path, INSTALLED)) == []


def test_a_launch_of_somewhere_else_is_an_error(ours: dict[str, ModuleType], tmp_path: Path) -> None:
    ros = tmp_path / "ros"
    (finding,) = check_own_packages({**ours, "launch": make_package(ros, "launch")}, [], INSTALLED)
    assert (finding.key, finding.severity) == ("launch", Severity.ERROR)
    assert finding.message == f"is imported from {ros}, and prep from {tmp_path / 'site'}: they are not of one lfc"


def test_another_distribution_that_installs_one_of_them_is_an_error(ours: dict[str, ModuleType]) -> None:
    (finding,) = check_own_packages(ours, [], {**INSTALLED, "launch": ["launch", OUR_DISTRIBUTION]})
    assert (finding.key, finding.severity) == ("launch", Severity.ERROR)
    assert finding.message.startswith("launch installs a package of this name, too")
    assert "environment of its own" in finding.fix


def test_another_package_on_the_path_is_told_once(ours: dict[str, ModuleType], tmp_path: Path) -> None:
    ros = tmp_path / "ros"
    make_package(ros, "launch")
    path = [str(ros), str(tmp_path / "site"), str(ros)]
    (finding,) = check_own_packages(ours, path, INSTALLED)
    assert (finding.key, finding.severity) == ("launch", Severity.WARNING)
    assert f"stands in {ros}" in finding.message
    assert "PYTHONPATH" in finding.fix
