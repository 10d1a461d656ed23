"""`.lfc-download.json`: what stands in a downloaded folder. It is read as what anybody may have written."""

import json
import stat
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from prep.errors import InputError
from prep.hub.listing import MAX_FILES, RemoteFile, find_file_fault
from prep.storage.atomic import write_json
from prep.storage.manifests import DOWNLOAD_MANIFEST_NAME

_VERSION = 1
_MAX_BYTES = 128 << 20
# Three values and a path for each file: what JSON becomes in memory is bounded by them, not by its bytes.
_MAX_VALUES = 6 * MAX_FILES + 1000
_MAX_TEXT = 4096


@dataclass(frozen=True)
class DownloadManifest:
    """What stands in a downloaded folder, and where every byte of it came from.

    Shape: `files` maps a path to {bytes, sha256, verified}; `verified` is "sha256", or "size" where the hub
    stated no sha256 and the recorded one is only what arrived. `clients` are package versions. There is no
    time in it: the same commit and files give the same bytes.
    """

    endpoint: str
    repository: str
    type: str
    revision: str
    commit: str | None
    files: dict[str, dict[str, Any]]
    clients: dict[str, str]

    def remote_files(self) -> list[RemoteFile]:
        """Return the recorded files as a listing would name them."""
        return [RemoteFile(path, entry["bytes"], entry["sha256"]) for path, entry in self.files.items()]


def read_download_manifest(folder: Path) -> DownloadManifest | None:
    """Return a folder's download manifest, or None when it has none; raises InputError when it is broken."""
    path = folder / DOWNLOAD_MANIFEST_NAME
    try:
        content = _load(path)
        _check_version(content, path)
        return _check_manifest(content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise InputError(
        f"{path} cannot be read: {reason}", hint=f"remove {path}, then download again: files that are whole stay"
    )


def write_download_manifest(folder: Path, manifest: DownloadManifest) -> None:
    """Write a folder's download manifest."""
    write_json(folder / DOWNLOAD_MANIFEST_NAME, {"manifest_version": _VERSION, **asdict(manifest)})


def _load(path: Path) -> Any:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no file of its own")
    if status.st_size > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES >> 20} MiB")
    data = path.read_bytes()
    if sum(data.count(mark) for mark in (b",", b"{", b"[")) > _MAX_VALUES:
        raise ValueError("it holds more than any download")
    return json.loads(data)


def _check_version(content: Any, path: Path) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not the fields of a manifest")
    version = content.pop("manifest_version", None)
    if isinstance(version, bool) or not isinstance(version, int):
        raise ValueError("it states no manifest_version")
    if version != _VERSION:
        raise InputError(f"{path} is of version {version}, not {_VERSION}", hint="upgrade lfc")


def _check_manifest(content: dict[str, Any]) -> DownloadManifest:
    expected = {field.name for field in fields(DownloadManifest)}
    if set(content) != expected:
        wrong = sorted(expected.symmetric_difference(content))
        raise ValueError(f"{', '.join(repr(name[:80]) for name in wrong[:5])} is missing, or not known")
    for name in ("endpoint", "repository", "type", "revision"):
        _check_text(content[name], name)
    if content["commit"] is not None:
        _check_text(content["commit"], "commit")
    if not isinstance(content["clients"], dict):
        raise ValueError("'clients' is no mapping")
    for name, version in content["clients"].items():
        _check_text(version, f"version of {name[:80]}")
    if not isinstance(content["files"], dict):
        raise ValueError("'files' is no mapping")
    for path, entry in content["files"].items():
        if not isinstance(entry, dict) or set(entry) != {"bytes", "sha256", "verified"}:
            raise ValueError(f"{path[:80]!r} has not bytes, sha256 and verified")
        fault = find_file_fault(path, entry["bytes"], entry["sha256"])
        if fault or entry["sha256"] is None or entry["verified"] not in ("sha256", "size"):
            raise ValueError(f"{path[:80]!r}: {fault or 'no sha256, or not verified by sha256 or size'}")
    return DownloadManifest(**content)


def _check_text(value: Any, name: str) -> None:
    if not isinstance(value, str) or not value or len(value) > _MAX_TEXT or not value.isprintable():
        raise ValueError(f"{name!r} is no text of one line")
