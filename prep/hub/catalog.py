"""The named sets that `lfc prep download` knows, and what a name on its command line means."""

import unicodedata
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from prep.errors import DownloadError
from prep.hub.endpoint import MODELSCOPE, SITES, Site
from prep.names import find_name_fault


class NamedSet(NamedTuple):
    """One named set. `include` are the patterns of its data files; `format` is convert's."""

    name: str
    repository: str
    format: str
    include: tuple[str, ...]
    size: str
    licence: str


class Request(NamedTuple):
    """One repository to download, `owner/name`, the patterns that its name stands for, and the hub that has it."""

    repository: str
    include: tuple[str, ...] = ()
    site: Site = MODELSCOPE

    @property
    def name(self) -> str:
        """The name as a command line takes it: `owner/name` of ModelScope, `hf:owner/name` of Hugging Face."""
        return self.repository if self.site is MODELSCOPE else f"{self.site.prefix}:{self.repository}"

    @property
    def folder_name(self) -> str:
        """The name of the folder that it becomes: the repository's, without its owner."""
        return self.repository.partition("/")[2]


def read_catalog() -> dict[str, NamedSet]:
    """Return the named sets, in the order of llamafactory_configs/sources.yaml.

    Raises: DownloadError when the file is broken.
    """
    import yaml

    try:
        content = yaml.safe_load((files("llamafactory_configs") / "sources.yaml").read_text(encoding="utf-8"))
        return {str(name): _read_set(name, fields) for name, fields in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).partition("\n")[0]
        raise DownloadError(
            f"llamafactory_configs/sources.yaml cannot be read: {reason}",
            hint="install llamafactory-companion again; OWNER/NAME works without it",
        ) from error


def _read_set(name: object, fields: dict[str, object]) -> NamedSet:
    include = fields.get("include")
    texts = {key: value for key, value in fields.items() if key != "include"}
    if set(fields) != {*NamedSet._fields} - {"name"} or not isinstance(include, list):
        raise ValueError(f"{name!r} has other fields than {', '.join(NamedSet._fields[1:])}")
    if not all(isinstance(value, str) for value in (name, *texts.values(), *include)):
        raise ValueError(f"{name!r} holds something that is no text")
    if find_repository_fault(str(fields["repository"])):
        raise ValueError(f"{name!r} is not of an OWNER/NAME")
    return NamedSet(str(name), include=tuple(map(str, include)), **{key: str(text) for key, text in texts.items()})


def find_repository_fault(name: str) -> str | None:
    """Return why a text is not an OWNER/NAME, None when it is; NAME becomes a folder."""
    parts = name.split("/")
    if len(parts) != 2:
        return "is not an owner and a name with one '/' between them"
    faults = [(part, find_name_fault(part)) for part in parts]
    faults += [(part, "holds a space") for part in parts if any(character.isspace() for character in part)]
    faults += [(part, "holds '#', '%' or '&'") for part in parts if set(part) & set("#%&;")]
    return next((f"{part[:80]!r} {fault}" for part, fault in faults if fault), None)


def resolve_names(names: Sequence[str], repo_type: str) -> list[Request]:
    """Return what to download for each `owner/name`, `hf:owner/name`, `ms:owner/name` or named set.

    Raises: DownloadError for a name that is neither, and for two that would become the same folder.
    """
    requests = list(dict.fromkeys(_resolve_name(name, repo_type) for name in names))
    owners: dict[str, Request] = {}
    for request in requests:
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", request.folder_name).casefold())
        other = owners.setdefault(folded, request)
        if other is not request:
            raise DownloadError(
                f"{other.name} and {request.name} would both become the folder {other.folder_name}",
                hint="download them in two calls with two --to",
            )
    return requests


def _split_prefix(name: str) -> tuple[Site | None, str]:
    """Return the hub that a name begins with, None without one, and the rest: `hf:owner/name`, `ms:owner/name`."""
    prefix, colon, rest = name.partition(":")
    site = next((site for site in SITES.values() if colon and prefix == site.prefix), None)
    return (site, rest) if site else (None, name)


def _resolve_name(name: str, repo_type: str) -> Request:
    site, repository = _split_prefix(name)
    fault = find_repository_fault(repository)
    if fault is None:
        return Request(repository, site=site or MODELSCOPE)
    if repo_type == "model":
        raise DownloadError(f"{name[:200]!r} is not a model's OWNER/NAME", hint="such as Qwen/Qwen3-4B")
    if "/" in name or site:
        raise DownloadError(
            f"{name[:200]!r} is no OWNER/NAME: {fault}", hint="OWNER/NAME as the hub's page shows it"
        )
    catalog = read_catalog()
    if name not in catalog:
        raise DownloadError(
            f"{name[:200]!r} is neither OWNER/NAME nor a named set; the sets are {', '.join(catalog)}",
            hint="lfc prep sources",
        )
    return Request(catalog[name].repository, catalog[name].include)
