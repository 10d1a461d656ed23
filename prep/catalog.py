"""The named sets that `lfc prep download` knows, and what a name on its command line means."""

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from prep.errors import DownloadError

_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


class NamedSet(NamedTuple):
    """One named set. `include` are the patterns of its data files; `format` is convert's."""

    name: str
    repository: str
    format: str
    include: tuple[str, ...]
    size: str
    licence: str


class Request(NamedTuple):
    """One repository to download, `owner/name`, and the patterns that its name stands for."""

    repository: str
    include: tuple[str, ...] = ()

    @property
    def folder_name(self) -> str:
        """The name of the folder that it becomes: the repository's, without its owner."""
        return self.repository.partition("/")[2]


def read_catalog() -> dict[str, NamedSet]:
    """Return the named sets, in the order of llamafactory_configs/sources.yaml."""
    import yaml

    content = yaml.safe_load((files("llamafactory_configs") / "sources.yaml").read_text(encoding="utf-8"))
    return {
        name: NamedSet(name, **{**fields, "include": tuple(fields["include"])}) for name, fields in content.items()
    }


def resolve_names(names: Sequence[str], repo_type: str) -> list[Request]:
    """Return what to download for each `owner/name` or named set.

    Raises: DownloadError for a name that is neither, and for two that would become the same folder.
    """
    requests = [_resolve_name(name, repo_type) for name in dict.fromkeys(names)]
    owners: dict[str, Request] = {}
    for request in requests:
        other = owners.setdefault(request.folder_name.casefold(), request)
        if other is not request:
            raise DownloadError(
                f"{other.repository} and {request.repository} would both become the folder {other.folder_name}",
                hint="download them in two calls with two --to",
            )
    return requests


def _resolve_name(name: str, repo_type: str) -> Request:
    if _REPOSITORY.fullmatch(name) and not name.endswith("."):
        return Request(name)
    if repo_type == "model":
        raise DownloadError(f"'{name}' is not a model's OWNER/NAME", hint="such as Qwen/Qwen3-4B")
    catalog = read_catalog()
    if name not in catalog:
        raise DownloadError(
            f"'{name}' is neither OWNER/NAME nor a named set; the sets are {', '.join(catalog)}",
            hint="lfc prep sources",
        )
    return Request(catalog[name].repository, catalog[name].include)
