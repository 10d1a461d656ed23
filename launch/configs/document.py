"""A YAML config and the place of each key in it, read exactly as LLaMA-Factory reads it.

Source of the reading: OmegaConf's own loader (omegaconf 2.4, `_yaml.py`), which differs from PyYAML's:
`1e-4` is a number, a date is a string, and a key given twice is an error.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from prep.errors import ConfigError
from prep.quality.findings import Finding, at_key
from prep.storage.bounded_yaml import BoundedLoader, compose, construct, open_loader, read_text
from prep.terminal import neutralise_line

_STRING_TAG = "tag:yaml.org,2002:str"
_MERGE_TAG = "tag:yaml.org,2002:merge"
_FLOAT_TAG = "tag:yaml.org,2002:float"
_TIMESTAMP_TAG = "tag:yaml.org,2002:timestamp"
# Of a value that nobody bounded, what a message shows.
_SHOWN = 80
# What ends a line for Python or for YAML: a text that holds one is written with escapes.
_LINE_END = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_FLOAT = re.compile(
    r"""^(?:
      [-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    | [-+]?[0-9]+(?:_[0-9]+)*[eE][-+]?[0-9]+
    | \.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?
    | [-+]?[0-9]+(?:_[0-9]+)*(?::[0-5]?[0-9])+\.[0-9_]*
    | [-+]?\.(?:inf|Inf|INF)
    | \.(?:nan|NaN|NAN)
    )$""",
    re.VERBOSE,
)


class Place(NamedTuple):
    """Where something stands in a file; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Document:
    """What a YAML config says: `values` as LLaMA-Factory gets them, where each key stands, its own faults."""

    values: dict[str, Any]
    places: dict[str, Place] = field(default_factory=dict)
    faults: list[Finding] = field(default_factory=list)


class _Loader(BoundedLoader):
    """The bounded loader with OmegaConf's idea of what a number is."""


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back: a string that looks like a number is quoted."""


def _resolve_scalars(like: type[yaml.SafeLoader] | type[yaml.SafeDumper]) -> None:
    like.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_TIMESTAMP_TAG, _FLOAT_TAG)]
        for first, resolvers in like.yaml_implicit_resolvers.items()
    }
    # First in its list, so that `1_0.5` is a number before anything else is tried.
    like.add_implicit_resolver(_FLOAT_TAG, _FLOAT, list("-+0123456789."))


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(_STRING_TAG, text, style='"' if _LINE_END.search(text) else None)


_Dumper.add_representer(str, _represent_text)
_resolve_scalars(_Loader)
_resolve_scalars(_Dumper)


def load_document(path: Path) -> Document:
    """Read a YAML config file with the place of every key.

    Raises: ConfigError when it is missing, is not one YAML mapping, or passes a limit of
    `prep.storage.bounded_yaml`.
    """
    return parse_document(read_text(path, "lfc launch config new PRESET -o FILE"), str(path))


def parse_document(text: str, name: str) -> Document:
    """Parse a YAML config; `name` stands before the messages.

    Raises: ConfigError with line and column when the text is not one YAML mapping or passes a limit.
    """
    loader = open_loader(_Loader, text, name)
    try:
        root = compose(loader, name)
        if root is None:
            raise ConfigError(f"{name} is empty", hint="lfc launch config new PRESET -o FILE")
        if not isinstance(root, yaml.MappingNode):
            kind = "list" if isinstance(root, yaml.SequenceNode) else "value"
            raise ConfigError(f"{name} must be `key: value` lines, not one {kind}")
        places, faults = _find_places(root)
        values = {_name_key(key): value for key, value in construct(loader, root, name).items()}
    finally:
        loader.dispose()
    return Document(values, places, faults)


def parse_value(text: str) -> Any:
    """Return the value that a YAML file would give for `key: <text>`; raises ConfigError when it is not YAML."""
    name = f"'{neutralise_line(text if len(text) <= _SHOWN else text[:_SHOWN] + '…')}'"
    loader = open_loader(_Loader, text, name)
    try:
        root = compose(loader, name)
        return None if root is None else construct(loader, root, name)
    except ConfigError as error:
        reason = str(error).removeprefix(name).strip(" :")
        raise ConfigError(f"{name} is not a YAML value: {reason}", hint=error.hint) from error
    finally:
        loader.dispose()


def format_value(value: Any) -> str:
    """Return a value as one line of YAML that reads back as the same value."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def show_value(value: Any) -> str:
    """Return a value as `format_value` does, cut where it is too long for a message."""
    text = format_value(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"


def format_entry(key: str, value: Any) -> str:
    """Return `key: value` as YAML without its line end; a mapping stands in a block below its key."""
    name = format_value(key)
    if isinstance(value, dict) and value:
        block = yaml.dump(value, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)
        return f"{name}:\n" + "\n".join(f"  {line}" for line in block.split("\n")[:-1])
    return f"{name}: {format_value(value)}"


def suggest_names(name: str, known: Iterable[str], nearness: float = 0.6) -> list[str]:
    """Return up to three known names that are near to a mistyped one, the nearest first.

    Shape: `nearness` runs from 0 to 1, the same name. A long list needs more of it: something in it is always near.
    """
    return difflib.get_close_matches(name[:_SHOWN], list(known), n=3, cutoff=nearness)


def _name_key(key: Any) -> str:
    return key if isinstance(key, str) else format_value(key)


def _find_places(root: yaml.MappingNode) -> tuple[dict[str, Place], list[Finding]]:
    places: dict[str, Place] = {}
    faults = []
    for node, _ in root.value:
        if isinstance(node, yaml.ScalarNode) and node.tag not in (_STRING_TAG, _MERGE_TAG):
            kind = node.tag.rpartition(":")[2]
            faults.append(
                at_key(node.value, f"is a key of type {kind}, and a key is a text", "remove the line", rule="yaml")
            )
    for key, where in _walk_keys(root, ""):
        if key in places:
            faults.append(
                at_key(
                    key,
                    f"is given twice, first on line {places[key].line}",
                    f"keep one of the two `{key}` lines",
                    rule="yaml",
                )
            )
        places[key] = where
    return places, faults


def _walk_keys(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, Place]]:
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE_TAG:
            continue
        name = f"{prefix}{key.value}"
        yield name, Place(key.start_mark.line + 1, key.start_mark.column + 1)
        if isinstance(value, yaml.MappingNode):
            yield from _walk_keys(value, f"{name}.")
