"""The rules of the house, read from the code itself."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for room in ("prep", "launch") for path in (ROOT / room).rglob("*.py"))
MODULE_NAMES = {
    path.relative_to(ROOT).as_posix().removesuffix(".py").removesuffix("/__init__").replace("/", "."): path
    for path in MODULES
}
# The only code that may import click and print.
CLI = [path for path in MODULES if path.parent.name == "cli"]
HEAVY = {
    "msgspec",
    "numpy",
    "pandas",
    "pyarrow",
    "torch",
    "transformers",
    "modelscope",
    "modelscope_hub",
    "jsonschema",
    "ray",
    "rich",
}


def read_imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in MODULE_NAMES else node.module or ""


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [path for path in MODULES if ids(path).startswith("prep")], ids=ids)
def test_prep_never_imports_launch(path: Path) -> None:
    assert [name for name in read_imports(path) if name.split(".")[0] == "launch"] == []


@pytest.mark.parametrize("path", [path for path in MODULES if path not in CLI], ids=ids)
def test_only_cli_imports_click_and_prints(path: Path) -> None:
    assert [name for name in read_imports(path) if name.split(".")[0] == "click"] == []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [func.id for func in calls if isinstance(func, ast.Name) and func.id == "print"] == []


@pytest.mark.parametrize("path", [path for path in CLI if path.name != "output.py"], ids=ids)
def test_all_that_is_printed_goes_through_one_module_that_spells_out_control_characters(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [func.attr for func in calls if isinstance(func, ast.Attribute) and func.attr in ("echo", "secho")] == []
    assert [func.id for func in calls if isinstance(func, ast.Name) and func.id in ("print", "Console")] == []


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path not in CLI and path.name != "__main__.py"], ids=ids
)
def test_work_modules_never_import_a_cli(path: Path) -> None:
    assert [name for name in read_imports(path) if ".cli." in f"{name}."] == []


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_heavy_packages_load_inside_the_functions_that_need_them(path: Path) -> None:
    assert {name.split(".")[0] for name in read_imports(path, top_level_only=True)} & HEAVY == set()


def test_errors_imports_nothing() -> None:
    assert list(read_imports(ROOT / "prep" / "errors.py")) == []


def test_imports_make_no_circle() -> None:
    arrows = {
        name: {target for target in read_imports(path, top_level_only=True) if target in MODULE_NAMES}
        for name, path in MODULE_NAMES.items()
    }
    finished: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " → ".join((*way, name))
        if name not in finished:
            for target in sorted(arrows[name]):
                visit(target, (*way, name))
            finished.add(name)

    for name in arrows:
        visit(name, ())


def test_importing_the_cli_loads_nothing_heavy() -> None:
    code = "import launch.cli, sys, json; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(result.stdout)}
    assert loaded & (HEAVY | {"orjson", "yaml", "numpy"}) == set()


def test_a_conversion_loads_little(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"question": "q", "think": "t", "answer": "a"}\n', encoding="utf-8")
    code = (
        "import sys, json; from launch.cli import lfc; sys.argv[1:] = ['prep', 'convert', *sys.argv[1:]]\n"
        "try: lfc()\n"
        "finally: print(json.dumps(sorted(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    loaded = set(json.loads(result.stdout.splitlines()[-1]))
    ours = {name for name in loaded if name.startswith("launch")}
    assert ours == {"launch", "launch.cli", "launch.cli.root"}
    assert loaded & {"rich", "subprocess", "logging", "concurrent.futures"} == set()
