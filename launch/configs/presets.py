"""Find, list and show the presets that llamafactory_configs/ ships."""

import re
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import pairwise
from typing import Any

from launch.configs.document import Document, parse_document, suggest_names
from prep.errors import ConfigError

_SCHEMA_LINE = "# yaml-language-server:"
_TRAILING_COMMENT = re.compile(r"^(?P<key>\w+):[^#]*\s# (?P<comment>.+)$")
_SECTION = re.compile(r"^# (?P<section>[a-z].*)$")


@dataclass(frozen=True)
class Preset:
    """A shipped YAML: its name, its text, and what its opening comments say."""

    name: str
    text: str

    @cached_property
    def document(self) -> Document:
        """Its values and where they stand."""
        return parse_document(self.text, f"preset {self.name}")

    @property
    def values(self) -> dict[str, Any]:
        """A fresh copy of what it sets, in order."""
        return dict(self.document.values)

    @property
    def opening(self) -> list[str]:
        """The lines of its opening comment: title, what it needs, how to run it."""
        lines = []
        for line in self.text.splitlines():
            if not line.startswith("#"):
                break
            if not line.startswith(_SCHEMA_LINE):
                lines.append(line.removeprefix("#").removeprefix(" "))
        return lines

    @property
    def title(self) -> str:
        """What it is for, in one line."""
        return self.opening[0]

    @property
    def needs(self) -> str:
        """What it needs: GPU memory and packages."""
        return next(line.removeprefix("Needs:").strip() for line in self.opening if line.startswith("Needs:"))

    @property
    def comments(self) -> dict[str, str]:
        """The comments that stand behind values, by key."""
        found = filter(None, map(_TRAILING_COMMENT.match, self.text.splitlines()))
        return {match["key"]: match["comment"] for match in found}

    @property
    def sections(self) -> dict[str, str]:
        """The heading that stands above a key, by that key."""
        lines = self.text.splitlines()
        headings = {}
        for line, following in pairwise(lines):
            match = _SECTION.match(line)
            if match and not following.startswith("#"):
                headings[following.partition(":")[0]] = match["section"]
        return headings


def list_presets() -> list[Preset]:
    """Return every shipped preset in the order of the names."""
    folder = files("llamafactory_configs") / "presets"
    shipped = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return [Preset(name.removesuffix(".yaml"), (folder / name).read_text(encoding="utf-8")) for name in shipped]


def find_preset(name: str) -> Preset:
    """Return a preset by its name; raises ConfigError that names the nearest."""
    presets = {preset.name: preset for preset in list_presets()}
    if name not in presets:
        near = suggest_names(name, presets)
        raise ConfigError(
            f"no preset is called '{name}'; there are {', '.join(presets)}",
            hint=near[0] if near else "lfc launch config ls",
        )
    return presets[name]
