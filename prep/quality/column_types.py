"""Which JSON type stands in each column of a file's rows: pyarrow stops where one changes to another."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_KINDS: dict[type, str] = {
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
# More than any table has: keys that are data would fill the memory.
_MOST_NODES = 10_000


@dataclass
class _Node:
    """One column, or what stands inside it: its type, and the row where that was seen first."""

    name: str
    kind: str = ""
    first: int = 0
    fields: dict[str, "_Node"] = field(default_factory=dict)
    is_told: bool = False


@dataclass(frozen=True)
class TypeChange:
    """A column, `now` of another type than `before`, which it was in row `first`."""

    column: str
    now: str
    before: str
    first: int


class ColumnTypes:
    """Learns the types of rows one by one; null and what is missing fit every type, whole numbers are numbers."""

    def __init__(self) -> None:
        self._root = _Node("", "an object")
        self._nodes = 0

    def learn(self, number: int, row: dict[str, Any]) -> Iterator[TypeChange]:
        """Take a row by its number, and yield each change of type; of one column it is told once."""
        stack: list[tuple[_Node, Any]] = [(self._root, row)]
        while stack:
            node, value = stack.pop()
            kind = _KINDS.get(type(value))
            if kind is None:
                continue
            if not node.kind:
                node.kind, node.first = kind, number
            elif node.kind != kind:
                if not node.is_told:
                    node.is_told = True
                    yield TypeChange(node.name, kind, node.kind, node.first)
                continue
            if type(value) is dict:
                stack += [(self._find(node, key), part) for key, part in value.items() if part is not None]
            elif type(value) is list and value:
                inner = self._find(node, "[]")
                stack += [(inner, part) for part in value if part is not None]

    @property
    def size(self) -> int:
        """How many columns are remembered, those inside others too."""
        return self._nodes

    def _find(self, node: _Node, key: str) -> _Node:
        found = node.fields.get(key)
        if found is None:
            found = _Node(f"{node.name}{key}" if key == "[]" or not node.name else f"{node.name}.{key}")
            if self._nodes < _MOST_NODES:
                node.fields[key] = found
                self._nodes += 1
        return found
