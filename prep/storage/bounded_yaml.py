"""YAML of anybody, read within limits: no file, alias, nesting or tag can take more than a moment.

Source: OmegaConf 2.4, `_yaml.py`, with which LLaMA-Factory reads its configs, refuses more than 10,000 nodes after
its aliases are written out, and aliases inside themselves; OMEGACONF_MAX_YAML_EXPANDED_NODES raises that there and
here. File size and depth are our own limits.
"""

import os
import re
import stat
from pathlib import Path
from typing import Any

import yaml

from prep.errors import ConfigError
from prep.storage.os_errors import describe_os_error

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
NODES_VARIABLE = "OMEGACONF_MAX_YAML_EXPANDED_NODES"
_MAX_NODES = 10_000
# Longer than any number that fits into 64 bits, in every notation of YAML.
_MAX_NUMBER = 400
_PREFIX = "tag:yaml.org,2002:"
_TEXT_TAG = f"{_PREFIX}str"
_PLAIN_TAGS = {f"{_PREFIX}{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}
# What a value that does not fit its own tag raises, such as `!!int ""` and `!!bool x`.
_MISFITS = (ValueError, KeyError, IndexError, TypeError, OverflowError)
# By an escape a text may hold what no path and no UTF-8 file can.
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


_TIMESTAMP_TAG = f"{_PREFIX}timestamp"


class LimitError(yaml.MarkedYAMLError):
    """A YAML text that goes beyond one of the limits."""


class BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader for plain values, which ends at once when a limit is passed."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._limit = _read_node_limit()
        self._nodes = 0
        self._depth = 0
        self._deepest = 0
        # Of each whole node, by its id: its nodes with all aliases written out, and its levels.
        self._measures: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node as PyYAML does, counting it with all that is inside."""
        mark: yaml.Mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._measures:
                raise LimitError(None, None, "the alias stands inside what it stands for", mark)
            nodes, levels = self._measures[id(node)]
            self._count(nodes, self._depth + levels, mark)
            return node
        before, deepest = self._nodes, self._deepest
        self._depth += 1
        self._deepest = self._depth
        self._count(1, self._depth, mark)
        node = super().compose_node(parent, index)
        if node is not None:
            _check_node(node)
        self._measures[id(node)] = (self._nodes - before, self._deepest - self._depth + 1)
        self._deepest = max(deepest, self._deepest)
        self._depth -= 1
        return node

    def _count(self, nodes: int, depth: int, mark: yaml.Mark) -> None:
        self._nodes += nodes
        self._deepest = max(self._deepest, depth)
        if depth > MAX_DEPTH:
            raise LimitError(None, None, f"is nested deeper than {MAX_DEPTH} levels", mark)
        if self._nodes > self._limit:
            problem = f"holds more than {self._limit:,} values once its aliases are written out"
            raise LimitError(None, None, f"{problem}; {NODES_VARIABLE} allows more", mark)


# A date is a text, as OmegaConf reads it.
BoundedLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP_TAG]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_text(path: Path, missing_hint: str | None = None) -> str:
    """Return the text of a YAML file, a byte order mark left out; never waits for a pipe.

    Raises: ConfigError when it is missing, is not a file, is not UTF-8 or is larger than MAX_BYTES.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path} is not a file", hint="the path of a YAML file")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist", hint=missing_hint) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {describe_os_error(error)}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES >> 20} MiB, and no YAML of ours is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        seen = "UTF-16" if content.startswith(_UTF16_MARKS) else f"not UTF-8 at byte {error.start}"
        raise ConfigError(f"{path} cannot be read: it is {seen}", hint="save it as UTF-8") from error


def compose(loader: BoundedLoader, name: str) -> yaml.Node | None:
    """Return the root of a loader's one document, None of an empty one; `name` stands before the messages.

    Raises: ConfigError with line and column when it is not YAML, or passes a limit.
    """
    try:
        return loader.get_single_node()
    except yaml.YAMLError as error:
        raise explain(error, name) from error
    except ValueError as error:
        # PyYAML's scanner: "\U00110000" is the escape of no character.
        raise ConfigError(f"{name} holds an escape that is no character: {error}") from error


def construct(loader: BoundedLoader, root: yaml.Node, name: str) -> Any:
    """Return the value of a composed document; raises ConfigError when a value does not fit its tag."""
    try:
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        raise explain(error, name) from error
    except _MISFITS as error:
        raise ConfigError(f"{name} holds a value that is not of its type: {error}") from error


def load_plain(text: str, name: str) -> Any:
    """Return a text's value as PyYAML's safe loader types it, within the limits; raises ConfigError."""
    loader = open_loader(BoundedLoader, text, name)
    try:
        root = compose(loader, name)
        return None if root is None else construct(loader, root, name)
    finally:
        loader.dispose()


def load_config(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file, as PyYAML types them.

    Raises: ConfigError when it is missing, passes a limit, or is not one mapping of texts.
    """
    content = load_plain(read_text(path, "lfc launch config new PRESET -o FILE"), str(path))
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path} must be `key: value` lines")
    return content


def open_loader(kind: type[BoundedLoader], text: str, name: str) -> BoundedLoader:
    """Return a loader of a text; raises ConfigError for characters that YAML does not allow."""
    try:
        return kind(text)
    except yaml.YAMLError as error:
        raise explain(error, name) from error


def explain(error: yaml.YAMLError, name: str) -> ConfigError:
    """Return what PyYAML found, with line and column where it says them."""
    if isinstance(error, yaml.reader.ReaderError):
        return ConfigError(
            f"{name}: character U+{error.character:04X} at position {error.position + 1} is not allowed in YAML",
            hint="remove it, or write it as an escape inside double quotes",
        )
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1} column {mark.column + 1}" if mark else ""
        return ConfigError(f"{name}{where}: {error.problem or error.context}")
    return ConfigError(f"{name}: {error}")


def _check_node(node: yaml.Node) -> None:
    if node.tag not in _PLAIN_TAGS:
        shown = node.tag.replace(_PREFIX, "!!")[:60]
        raise LimitError(None, None, f"the tag {shown} is not one of plain values", node.start_mark)
    if isinstance(node, yaml.ScalarNode) and (found := _UNWRITABLE.search(node.value)):
        raise LimitError(None, None, f"the escape of U+{ord(found[0]):04X}, which no file takes", node.start_mark)
    if isinstance(node, yaml.ScalarNode) and node.tag != _TEXT_TAG and len(node.value) > _MAX_NUMBER:
        raise LimitError(None, None, f"a number of {len(node.value):,} characters", node.start_mark)


def _read_node_limit() -> int:
    """Return OmegaConf's limit, which the user's variable may raise; what is no number leaves it as it is."""
    given = os.environ.get(NODES_VARIABLE, "")
    return int(given[:12]) or _MAX_NODES if given.isascii() and given.isdecimal() else _MAX_NODES
