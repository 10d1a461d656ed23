"""The rules of the house, read from the code itself."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for room in ("prep", "launch") for path in (ROOT / room).rglob("*.py"))
MODULE_NAMES = {
    path.relative_to(ROOT).as_posix().removesuffix(".py").removesuffix("/__init__").replace("/", "."): path
    for path in MODULES
}
# Package → the packages that it may import. `errors` and the other modules that stand in prep itself, which import
# nothing of ours but errors, are open to all; so are prep's packages to launch's, but for prep.cli.
ARROWS = {
    "prep.cli": {
        *("prep.convert", "prep.combine", "prep.quality", "prep.registry", "prep.hub", "prep.tokens", "prep.rows"),
        "prep.tokenized",
        *("prep.formats", "prep.inputs", "prep.storage", "prep.parallel"),
    },
    "prep.api": {
        *("prep.convert", "prep.combine", "prep.quality", "prep.registry", "prep.storage", "prep.tokenized"),
    },
    "prep.convert": {
        *("prep.formats", "prep.inputs", "prep.tokens", "prep.registry", "prep.rows", "prep.storage"),
        "prep.parallel",
    },
    "prep.quality": {"prep.formats", "prep.tokens", "prep.registry", "prep.rows", "prep.storage", "prep.parallel"},
    "prep.combine": {"prep.inputs", "prep.tokens", "prep.registry", "prep.rows", "prep.storage"},
    "prep.tokenized": {"prep.tokens", "prep.registry", "prep.rows", "prep.storage", "prep.parallel"},
    "prep.tokens": {"prep.rows", "prep.storage", "prep.parallel"},
    "prep.registry": {"prep.rows", "prep.storage"},
    "prep.formats": {"prep.rows"},
    "prep.inputs": {"prep.rows", "prep.storage"},
    "prep.hub": {"prep.storage"},
    "prep.storage": {"prep.parallel"},
    "prep.rows": {"prep.storage"},
    "prep.parallel": set(),
    "launch.cli": {
        *("launch.webui", "launch.results", "launch.recipes", "launch.batches", "launch.notify", "launch.runs"),
        *("launch.publish", "launch.serving"),
        *("launch.evaluation", "launch.tune"),
        *("launch.llamaboard", "launch.configs", "launch.prove", "launch.machine"),
    },
    "launch.api": {
        *("launch.batches", "launch.results", "launch.runs", "launch.configs", "launch.machine"),
    },
    "launch.webui": {"launch.runs", "launch.llamaboard", "launch.configs", "launch.machine"},
    "launch.evaluation": {"launch.configs"},
    "launch.tune": {"launch.runs", "launch.configs", "launch.machine"},
    "launch.notify": set(),
    "launch.publish": {"launch.results"},
    "launch.serving": {"launch.runs", "launch.configs", "launch.prove"},
    "launch.results": {
        "launch.serving",
        *("launch.evaluation", "launch.batches", "launch.runs", "launch.llamaboard", "launch.configs"),
        *("launch.machine", "launch.tune"),
    },
    "launch.batches": {"launch.runs", "launch.configs", "launch.machine"},
    "launch.recipes": {"launch.runs", "launch.configs", "launch.machine"},
    "launch.runs": {"launch.llamaboard", "launch.configs", "launch.machine"},
    "launch.llamaboard": {"launch.configs"},
    "launch.configs": {"launch.prove", "launch.machine"},
    "launch.prove": set(),
    "launch.machine": set(),
    # Programs of another interpreter.
    "launch.guest": set(),
}
# What launch may take of prep's command line: its root mounts the group.
CLI_DOORS = {"prep.cli.lazy", "prep.cli.output", "prep.cli.options", "prep.cli.completion"}
# The only code that may import click and print.
CLI = [path for path in MODULES if path.parent.name == "cli"]
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 55
MOST_MODULES = 14
HEAVY = {
    "numpy",
    "pandas",
    "pyarrow",
    "torch",
    "transformers",
    "modelscope",
    "modelscope_hub",
    "huggingface_hub",
    "httpx",
    "jsonschema",
    "ray",
    "rich",
    "submitit",
    "fsspec",
    "swanlab",
    "wandb",
    "apprise",
}
# Imported only by the function that opens the hub; its classes and tables are made of it.
LENT = {("prep/hub/huggingface_session.py", "huggingface_hub")}


@cache
def read_tree(path: Path) -> tuple[ast.AST, ...]:
    """Return a module's nodes, the module itself first."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def read_module(path: Path) -> ast.Module:
    module = read_tree(path)[0]
    assert isinstance(module, ast.Module)
    return module


def read_loaded(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported: those in no function, and not for the types alone."""
    for node in body:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for block in ("orelse",) if is_for_types else ("body", "handlers", "orelse", "finalbody"):
                yield from read_loaded(getattr(node, block, []))


def read_calls(path: Path) -> list[ast.Call]:
    return [node for node in read_tree(path) if isinstance(node, ast.Call)]


def read_imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    nodes = read_loaded(read_module(path).body) if top_level_only else read_tree(path)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in MODULE_NAMES else node.module or ""


def name_package(module: str) -> str:
    """Return the package of one of our modules: `prep.rows` of `prep.rows.records`, `prep` of `prep.errors`."""
    parts = module.split(".")
    package = ".".join(parts[:2])
    return package if package in ARROWS else parts[0]


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_package_stands_in_the_table_of_arrows() -> None:
    packages = {".".join(name.split(".")[:2]) for name, path in MODULE_NAMES.items() if path.name == "__init__.py"}
    assert packages - {"prep", "launch"} == set(ARROWS)


def may_import(name: str, target: str) -> bool:
    """Tell whether one of our modules may import another."""
    package, other = name_package(name), name_package(target)
    if package == "launch.guest":
        return False
    if package.startswith("launch") and other == "prep.cli":
        return package == "launch.cli" and target in CLI_DOORS
    if package.startswith("launch") and other.startswith("prep"):
        return True
    if other in ("prep", "launch"):
        return package.startswith(other)
    if package in ARROWS:
        return other == package or other in ARROWS[package]
    return target in (f"{package}.cli", f"{package}.errors")


def test_a_module_imports_only_along_the_arrows() -> None:
    ours = [
        (name, target)
        for name, path in MODULE_NAMES.items()
        for target in read_imports(path)
        if target.startswith(("prep.", "launch."))
    ]
    assert [f"{name} imports {target}" for name, target in ours if not may_import(name, target)] == []


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("prep.rows.records", "launch.choices"),
        ("prep.rows.records", "prep.convert.shard"),
        ("launch.runs.run", "launch.batches.batch"),
        ("launch.runs.run", "prep.cli.output"),
        ("launch.cli.train", "prep.cli.convert"),
        ("launch.guest.boost", "prep.errors"),
    ],
)
def test_an_import_against_the_arrows_would_be_found(name: str, target: str) -> None:
    assert not may_import(name, target)


def test_contributing_shows_the_table_of_arrows() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for package, allowed in ARROWS.items():
        row = ", ".join(f"`{name}`" for name in sorted(allowed)) or "nothing"
        assert f"| `{package}` | {row} |" in text


def test_nobody_imports_a_guest() -> None:
    for name, path in MODULE_NAMES.items():
        assert [target for target in read_imports(path) if target.startswith("launch.guest")] == [], name


def test_a_module_is_not_too_long() -> None:
    lengths = {ids(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def count_lines(function: ast.FunctionDef) -> int:
    """Count a function's lines but for its parameters and docstring, which a command's options and help make long."""
    statements = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def test_a_function_is_not_too_long() -> None:
    lengths = {
        f"{ids(path)}: {node.name}": count_lines(node)
        for path in MODULES
        for node in read_tree(path)
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FUNCTION} == {}


def test_a_folder_does_not_hold_too_many_modules() -> None:
    """But those of one file a command, or a row format: there a new one is a new file."""
    for folder in {path.parent for path in MODULES if path not in CLI} - {ROOT / "prep" / "formats"}:
        assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= MOST_MODULES, folder


def test_only_cli_imports_click_and_prints() -> None:
    works = [path for path in MODULES if path not in CLI]
    assert [ids(path) for path in works if "click" in {name.split(".")[0] for name in read_imports(path)}] == []
    assert [ids(path) for path in works for call in read_calls(path) if ast.unparse(call.func) == "print"] == []


def test_all_that_is_printed_goes_through_one_module_that_spells_out_control_characters() -> None:
    forbidden = re.compile(r"print|Console|.*\.(echo|secho)")
    called = [
        (ids(path), ast.unparse(call.func)) for path in CLI if path.name != "output.py" for call in read_calls(path)
    ]
    assert [(path, name) for path, name in called if forbidden.fullmatch(name)] == []


def test_what_an_option_may_be_is_listed_once_where_the_work_modules_read_it_too() -> None:
    choices = [
        (ids(path), call) for path in CLI for call in read_calls(path) if ast.unparse(call.func) == "click.Choice"
    ]
    assert choices
    texts = [
        (path, node.value) for path, call in choices for node in ast.walk(call) if isinstance(node, ast.Constant)
    ]
    assert [(path, text) for path, text in texts if isinstance(text, str)] == []


def test_work_modules_never_import_a_cli() -> None:
    works = [path for path in MODULES if path not in CLI and path.name != "__main__.py"]
    assert [(ids(path), name) for path in works for name in read_imports(path) if ".cli." in f"{name}."] == []


def test_heavy_packages_load_inside_the_functions_that_need_them() -> None:
    loaded = {
        (ids(path), name.split(".")[0]) for path in MODULES for name in read_imports(path, top_level_only=True)
    }
    assert {(path, name) for path, name in loaded if name in HEAVY} == LENT


@pytest.mark.parametrize(
    ("client", "modules"),
    [
        ("modelscope_hub", ["prep.hub.modelscope"]),
        # The session is made of the classes of the HTTP library that the client speaks through.
        ("huggingface_hub", ["prep.hub.huggingface", "prep.hub.huggingface_session"]),
    ],
)
def test_a_hubs_client_is_imported_where_that_hub_is_alone(client: str, modules: list[str]) -> None:
    importers = [
        name
        for name, path in MODULE_NAMES.items()
        if name.startswith("prep.") and any(target.split(".")[0] == client for target in read_imports(path))
    ]
    assert sorted(importers) == modules


def test_what_stands_in_a_module_is_used_by_another_line_of_ours() -> None:
    """What only tests use stands in tests/support; what nothing uses goes."""
    texts = [path.read_text(encoding="utf-8") for path in MODULES]
    programs = [
        path.read_text(encoding="utf-8")
        for folder in ("scripts", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    ]
    used = Counter(word for text in (*texts, *programs) for word in re.findall(r"\w+", text))
    for path in MODULES:
        for node in read_module(path).body:
            names = [getattr(node, "name", "")] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            # A decorator enters a function into a table: a command's, a rule's.
            if not getattr(node, "decorator_list", []):
                assert [name for name in names if used[name] < 2] == [], ids(path)


# What only a seam asks, as it stands in code → the packages of the seam.
SEAMS = {
    r'["\'](conversations|messages)["\'] (not )?in ': {"prep.rows", "prep.formats", "prep.registry", "prep.inputs"},
    r'(==|!=) *["\'](qwen|llama|gemma|deepseek|glm|mistral|phi)\d*["\']': {"prep.tokens"},
    r'\.(startswith|endswith)\(\(?["\']\.?(jsonl|parquet|csv|arrow)': {"prep.inputs"},
}


@pytest.mark.parametrize("pattern", SEAMS)
def test_a_seams_questions_are_asked_inside_the_seam(pattern: str) -> None:
    askers = {
        name_package(name)
        for name, path in MODULE_NAMES.items()
        if re.search(pattern, path.read_text(encoding="utf-8"))
    }
    assert askers <= SEAMS[pattern]


@pytest.mark.parametrize(
    ("pattern", "question"),
    list(
        zip(
            SEAMS,
            ('if "conversations" in record:', 'if template == "qwen3":', 'kind.startswith("jsonl")'),
            strict=True,
        )
    ),
)
def test_the_seams_questions_would_be_found(pattern: str, question: str) -> None:
    assert re.search(pattern, question)


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
    assert loaded & {"rich", "subprocess", "concurrent.futures", "pandas"} == set()
