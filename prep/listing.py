"""What a hub says is in a repository, checked before one byte of it is believed. Pure: no files, no network."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from prep.errors import DownloadError
from prep.files import DOWNLOAD_MANIFEST_NAME

_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
_WINDOWS_CHARACTER = re.compile(r'[<>:"|?*]')
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)
_SHOWN_PATHS = 5


class RemoteFile(NamedTuple):
    """One listed file. `sha256` is lower-case hex, None where the hub states none."""

    path: str
    size: int
    sha256: str | None


def check_listing(entries: Iterable[Any], repository: str) -> list[RemoteFile]:
    """Return the files of a hub's raw listing, in its order; folders are left out.

    Shape: an entry is {"Path", "Type": "blob" or "tree", "Size" in bytes, "Sha256"}.
    Raises: DownloadError for an empty listing, a path that could leave the folder or stands twice, or a
    missing or malformed size or sha256: one such entry discredits the whole listing.
    """
    files: dict[str, RemoteFile] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise DownloadError(f"{repository}: the listing holds {type(entry).__name__}, not files")
        if (entry.get("Type") or "blob") == "tree":
            continue
        file = _read_entry(entry, repository)
        if file.path in files:
            raise DownloadError(f"{repository}: the listing names {file.path!r} twice")
        files[file.path] = file
    return list(files.values())


def select_files(
    files: Sequence[RemoteFile], include: Sequence[str], exclude: Sequence[str], keep: Collection[str] = ()
) -> list[RemoteFile]:
    """Return the files that some pattern of `include` takes (all, without one) and none of `exclude` leaves out.

    A pattern is a shell's: `*` also crosses `/`. The paths in `keep` stay in the selection.
    """
    return [
        file
        for file in files
        if file.path in keep
        or (
            (not include or any(fnmatchcase(file.path, pattern) for pattern in include))
            and not any(fnmatchcase(file.path, pattern) for pattern in exclude)
        )
    ]


def check_selection(files: Sequence[RemoteFile], repository: str, *, allow_unhashed: bool) -> None:
    """Raise DownloadError when the files cannot stand beside each other on every system, or cannot be verified.

    `--exclude` is the way around each of these, so only what was selected is judged.
    """
    exclude = "leave it out with --exclude"
    spellings: dict[str, str] = {}
    for file in files:
        fault = _find_portability_fault(file.path)
        if fault:
            raise DownloadError(f"{repository}: {file.path!r} {fault}", hint=exclude)
        other = spellings.setdefault(_fold(file.path), file.path)
        if other != file.path:
            raise DownloadError(
                f"{repository}: {other!r} and {file.path!r} are one file where case is ignored", hint=exclude
            )
    for folded, path in spellings.items():
        parents = [folded[: match.start()] for match in re.finditer("/", folded)]
        clash = next((spellings[parent] for parent in parents if parent in spellings), None)
        if clash is not None:
            raise DownloadError(
                f"{repository}: {clash!r} is listed as a file, and as the folder of {path!r}", hint=exclude
            )
    unhashed = [file.path for file in files if file.sha256 is None]
    if unhashed and not allow_unhashed:
        raise DownloadError(
            f"{repository}: the hub states no sha256 for {show_paths(unhashed)}: damage would go unseen",
            hint="--exclude it, or --allow-unhashed to take it on its size alone",
        )


def find_commit(entries: Iterable[dict[str, Any]]) -> str | None:
    """Return the newest commit that touched a listed file: at it, every listed file is as listed.

    Each entry carries the commit that last changed it and that commit's time. None when they do not, or
    when two commits share the newest second.
    """
    dated = set()
    for entry in entries:
        if entry.get("Type") == "tree":
            continue
        commit, date = entry.get("Revision"), entry.get("CommittedDate")
        if not isinstance(commit, str) or not commit or isinstance(date, bool) or not isinstance(date, int):
            return None
        dated.add((date, commit))
    newest = max((date for date, _ in dated), default=None)
    commits = [commit for date, commit in dated if date == newest]
    return commits[0] if len(commits) == 1 else None


def count_largest_folder(entries: Iterable[dict[str, Any]]) -> int:
    """Return how many entries the fullest folder of a checked listing holds itself."""
    return max(Counter(str(entry.get("Path")).rpartition("/")[0] for entry in entries).values(), default=0)


def show_paths(paths: Sequence[str]) -> str:
    """Return the first few paths for a message, and how many more there are."""
    shown = ", ".join(repr(path) for path in paths[:_SHOWN_PATHS])
    return shown if len(paths) <= _SHOWN_PATHS else f"{shown} and {len(paths) - _SHOWN_PATHS:,} more"


def _read_entry(entry: dict[str, Any], repository: str) -> RemoteFile:
    path = entry.get("Path")
    if not isinstance(path, str) or not path:
        raise DownloadError(f"{repository}: the listing holds a file without a path")
    fault = _find_path_fault(path)
    if fault:
        raise DownloadError(
            f"{repository}: the listing names {path!r}, {fault}; nothing was downloaded",
            hint="report the repository to its owner: no honest listing holds such a path",
        )
    size, sha256 = entry.get("Size"), entry.get("Sha256") or None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise DownloadError(f"{repository}: the listing gives {path!r} the size {size!r}, not a number of bytes")
    if sha256 is not None and not (isinstance(sha256, str) and _HEX_SHA256.fullmatch(sha256.lower())):
        raise DownloadError(f"{repository}: the listing gives {path!r} the sha256 {sha256!r}, not 64 hex digits")
    return RemoteFile(path, size, sha256.lower() if sha256 else None)


def _find_path_fault(path: str) -> str | None:
    if path.startswith("/") or _DRIVE.match(path):
        return "an absolute path"
    if "\\" in path:
        return "a path with a backslash"
    if _CONTROL_CHARACTER.search(path):
        return "a path with a control character"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "a path that could leave its folder"
    return None


def _find_portability_fault(path: str) -> str | None:
    if _fold(path) == DOWNLOAD_MANIFEST_NAME:
        return "is the name of the download's own manifest"
    for part in path.split("/"):
        if _WINDOWS_DEVICE.fullmatch(part):
            return "is a device's name on Windows"
        if _WINDOWS_CHARACTER.search(part) or part.endswith((".", " ")):
            return "is not a file name on Windows"
    return None


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
