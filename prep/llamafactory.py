"""What depends on LLaMA-Factory's version, as data of that version: its templates, models and tool prompts.

The data is LLaMA-Factory's own, written by `lfc launch config schema --refresh` (docs/new-llamafactory.md).
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from prep.errors import UserError

# The version whose data is taken where none is installed; the tests prove it.
BASE_VERSION = "0.9.5"
_VARIABLE = "LFC_LLAMAFACTORY_VERSION"
_RELEASE = re.compile(r"\d+(?:\.\d+)*")


@dataclass(frozen=True)
class VersionFacts:
    """The shipped data of one version of LLaMA-Factory."""

    version: str

    @property
    def templates(self) -> Mapping[str, Mapping[str, Any]]:
        """What each template writes, by name."""
        templates: dict[str, dict[str, Any]] = self._read("templates")["templates"]
        return templates

    @property
    def tool_prompts(self) -> Mapping[str, str]:
        """The texts that announce tools, by LLaMA-Factory's name of each."""
        prompts: dict[str, str] = self._read("templates")["tool_prompts"]
        return prompts

    @property
    def strips_lone_tools(self) -> bool:
        """Whether a tools prompt without a system prompt loses the line ends before it."""
        return bool(self._read("templates")["strips_lone_tools"])

    @property
    def models(self) -> list[dict[str, Any]]:
        """Its models: `hubs`, their names on every hub; `template`; `group`, a base model's group's template."""
        models: list[dict[str, Any]] = self._read("models")
        return models

    def _read(self, name: str) -> Any:
        return _read_file(self.version, name)


def list_versions() -> list[str]:
    """Return the versions whose data is shipped, oldest first."""
    folder = files("llamafactory_configs") / "versions"
    return sorted((entry.name for entry in folder.iterdir() if entry.name[0].isdigit()), key=_number)


@cache
def find_version_facts(version: str = "") -> VersionFacts:
    """Return the data of a version; "" is the one asked for by the environment, else installed, else 0.9.5.

    Shape: a development version such as 0.9.6.dev0 has the data of its release.
    Raises: UserError when a version that is asked for by name is not known.
    """
    asked = version or os.environ.get(_VARIABLE, "")
    shipped = list_versions()
    if asked:
        if find_release(asked) not in shipped:
            raise UserError(
                f"LLaMA-Factory {asked} is not known here; known are {', '.join(shipped)}",
                hint=f"set {_VARIABLE}={shipped[-1]}, or unset it",
            )
        return VersionFacts(find_release(asked))
    installed = find_release(_find_installed())
    return VersionFacts(installed if installed in shipped else BASE_VERSION)


def find_release(version: str) -> str:
    """Return the release that a version belongs to: 0.9.6 of 0.9.6.dev0."""
    release = _RELEASE.match(version)
    return release[0] if release else ""


def _find_installed() -> str:
    import importlib.metadata

    for name in ("llamafactory", "llamafactory-kt"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


@cache
def _read_file(version: str, name: str) -> Any:
    path = files("llamafactory_configs") / "versions" / version / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))
