"""What depends on LLaMA-Factory's version, as data of that version: its templates, models and tool prompts.

The data is LLaMA-Factory's own (docs/new-llamafactory.md): shipped, or of an installed version that is not shipped,
asked once and kept in the project.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from prep.errors import UserError

# The version whose data is taken where none is installed; the tests prove it.
BASE_VERSION = "0.9.5"
VERSION_VARIABLE = "LFC_LLAMAFACTORY_VERSION"
# What an installed version told of itself that is not shipped; in the user's project, a folder a release.
KEPT = Path(".lfc") / "llamafactory"
_RELEASE = re.compile(r"\d+(?:\.\d+)*")
_WHOLE_RELEASE = re.compile(r"\d{1,4}(?:\.\d{1,4}){0,3}")
_MOST_KEPT_BYTES = 16 << 20


@dataclass(frozen=True)
class VersionFacts:
    """The data of one version of LLaMA-Factory: what is shipped, or what was kept in `folder`."""

    version: str
    folder: Path | None = None

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
    def discards_thoughts(self) -> bool:
        """Whether mask_history takes the thoughts of earlier answers away."""
        return bool(self._read("templates")["discards_thoughts"])

    @property
    def models(self) -> list[dict[str, Any]]:
        """Its models: `hubs`, their names on every hub; `template`; `group`, a base model's group's template."""
        models: list[dict[str, Any]] = self._read("models")
        return models

    def read_schema_text(self, kind: str) -> str:
        """Return the JSON Schema of its `train` or `infer` YAML, as text."""
        name = f"llamafactory-{self.version}-{kind}.schema.json"
        if self.folder is not None:
            return _read_kept(self.folder / name)
        return (files("llamafactory_configs") / "schemas" / name).read_text(encoding="utf-8")

    def _read(self, name: str) -> Any:
        return _read_file(self.version, self.folder, name)


def list_versions() -> list[str]:
    """Return the versions whose data is shipped or kept, oldest first."""
    kept = [entry.parent.name for entry in KEPT.glob("*/templates.json")]
    return sorted({*list_shipped(), *(name for name in kept if _WHOLE_RELEASE.fullmatch(name))}, key=_number)


def find_version_facts(version: str = "") -> VersionFacts:
    """Return the data of a version; "" is the one asked for by the environment, else installed, else 0.9.5.

    Shape: a development version such as 0.9.6.dev0 has the data of its release.
    Raises: UserError when a version that is asked for by name is not known.
    """
    asked = version or os.environ.get(VERSION_VARIABLE, "")
    if facts := _find_known(find_release(asked or _find_installed())):
        return facts
    if asked:
        known = list_versions()
        raise UserError(
            f"LLaMA-Factory {asked} is not known here; known are {', '.join(known)}",
            hint=f"set {VERSION_VARIABLE}={known[-1]}, or unset it",
        )
    return VersionFacts(BASE_VERSION)


def find_unknown_release() -> str:
    """Return the installed release whose data is neither shipped nor kept, "" when it is known or none is there."""
    release = find_release(_find_installed())
    return "" if not release or _find_known(release) else release


def _find_known(release: str) -> VersionFacts | None:
    if release in list_shipped():
        return VersionFacts(release)
    folder = KEPT / release
    return VersionFacts(release, folder) if release and (folder / "templates.json").is_file() else None


@cache
def list_shipped() -> tuple[str, ...]:
    """Return the versions whose data is shipped and proved."""
    folder = files("llamafactory_configs") / "versions"
    return tuple(sorted((entry.name for entry in folder.iterdir() if entry.name[0].isdigit()), key=_number))


def find_release(version: str) -> str:
    """Return the release that a version belongs to: 0.9.6 of 0.9.6.dev0."""
    release = _RELEASE.match(version)
    return release[0] if release else ""


@cache
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
def _read_file(version: str, folder: Path | None, name: str) -> Any:
    if folder is not None:
        return _check_kept(json.loads(_read_kept(folder / f"{name}.json")), folder, name)
    path = files("llamafactory_configs") / "versions" / version / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _read_kept(path: Path) -> str:
    """Return a kept file; raises UserError when it is not what was written there."""
    try:
        if path.stat().st_size > _MOST_KEPT_BYTES:
            raise _refuse_kept(path.parent)
        text = path.read_text(encoding="utf-8")
        json.loads(text)
    except (OSError, ValueError, RecursionError):
        raise _refuse_kept(path.parent) from None
    return text


def _check_kept(told: Any, folder: Path, name: str) -> Any:
    """Return what was kept; raises UserError when it has another shape than what was written there."""
    if name == "models":
        is_right = isinstance(told, list) and all(_has(model, "hubs", "template", "group") for model in told)
    else:
        is_right = _has(told, "templates", "tool_prompts", "strips_lone_tools", "discards_thoughts") and all(
            _has(template, "kind", "user", "thought_words") for template in dict(told["templates"]).values()
        )
    if not is_right:
        raise _refuse_kept(folder)
    return told


def _has(told: Any, *keys: str) -> bool:
    return isinstance(told, dict) and set(keys) <= set(told)


def _refuse_kept(folder: Path) -> UserError:
    name = folder.as_posix()
    return UserError(f"{name} does not hold what LLaMA-Factory told of itself", hint=f"delete the folder {name}")
