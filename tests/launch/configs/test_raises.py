"""Each raise and each assert of LLaMA-Factory has a rule that says it before, or a reason why none can."""

import ast
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from launch.configs.rules import RULES as CHECKED
from tests.support.raises import LATER, REASONS, RULES

# Other programs: the WebUI, the API's server, the new trainer, and what was copied from elsewhere.
_OTHER_PROGRAMS = ("v1", "webui", "api", "third_party")
_TEST_HELPERS = "train/test_utils.py"
UNPACKED = os.environ.get("LFC_TEST_UNPACKED_LLAMAFACTORY", "")


@dataclass(frozen=True)
class Raise:
    """One place: its file, the function, and the text that it tells."""

    file: str
    function: str
    text: str
    line: int

    @property
    def key(self) -> str:
        """The longest key that can fit it."""
        return f"{self.file}::{self.function}::{self.text}"


def list_raises(package: Path) -> Iterator[Raise]:
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        if file.split("/")[0] not in _OTHER_PROGRAMS and file != _TEST_HELPERS:
            yield from _walk(ast.parse(path.read_text(encoding="utf-8")), file, "")


def _walk(node: ast.AST, file: str, function: str) -> Iterator[Raise]:
    for child in ast.iter_child_nodes(node):
        name = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        told = child.exc if isinstance(child, ast.Raise) else child.msg if isinstance(child, ast.Assert) else None
        # `raise error` hands on what another place has made.
        is_handed_on = isinstance(child, ast.Raise) and (told is None or isinstance(told, ast.Name))
        if isinstance(child, ast.Raise | ast.Assert) and not is_handed_on:
            parts = [part.value for part in ast.walk(told or child) if isinstance(part, ast.Constant)]
            yield Raise(file, name, "".join(part for part in parts if isinstance(part, str)), child.lineno)
        yield from _walk(child, file, name)


def find_key(place: Raise) -> str:
    """Return the longest key of the table that fits, "" for none."""
    return max((key for key in (*RULES, *REASONS) if place.key.startswith(key)), key=len, default="")


def find_package() -> Path:
    if UNPACKED:
        return Path(UNPACKED) / "llamafactory"
    spec = importlib.util.find_spec("llamafactory")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


@pytest.mark.stack
def test_every_raise_has_a_rule_or_a_reason() -> None:
    places = list(list_raises(find_package()))
    assert len(places) > 200
    assert [f"{place.file}:{place.line} {place.key}" for place in places if not find_key(place)] == []


def test_every_rule_of_the_table_is_one() -> None:
    names = {rule.__name__ for rule in CHECKED} | {"schema"}
    assert {key: rule for key, rule in RULES.items() if rule not in names} == {}
    assert RULES.keys().isdisjoint(REASONS)


@pytest.mark.stack
@pytest.mark.skipif(bool(UNPACKED), reason="what only the tested version raises stands in the table too")
def test_no_line_of_the_table_is_idle() -> None:
    known = {find_key(place) for place in list_raises(find_package())}
    assert {key for key in (*RULES, *REASONS) if key not in known} == LATER
