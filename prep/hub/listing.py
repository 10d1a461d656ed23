"""What a hub says is in a repository, checked before one byte of it is believed. Pure: no files, no network."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from prep.errors import DownloadError
from prep.storage.manifests import DOWNLOAD_MANIFEST_NAME

_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DRIVE = re.compile(r"[A-Za-z]:")
_WINDOWS_CHARACTER = re.compile(r'[<>:"|?*]')
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)( *\..*)?", re.IGNORECASE)
_GIT_FOLDER = re.compile(r"\.git[. ]*|git~\d+")
# Beyond these, a listing is not one of data; what a file becomes in memory is about 1 KB.
MAX_FILES = 300_000
MAX_FILE_BYTES = 1 << 50
_MAX_PATH_BYTES = 1024
# File systems take 255 bytes; the client and we need the rest (`.incomplete`, `.set-aside-2`).
_MAX_NAME_BYTES = 240
# The kinds of a tree's entries in git, as numbers and in the octal in which git prints them.
_LINK_MODES = ("40960", "120000")
_SUBMODULE_MODES = ("57344", "160000")
_SHOWN_PATHS = 5
_SHOWN_CHARACTERS = 200


class RemoteFile(NamedTuple):
    """One listed file. `sha256` is lower-case hex, None where the hub states none.

    Shape: `kind` is file, link, submodule or unknown; only files are downloaded.
    """

    path: str
    size: int
    sha256: str | None
    kind: str = "file"


def check_listing(
    entries: Iterable[Any], repository: str, is_secret: Callable[[str], bool] = lambda text: False
) -> list[RemoteFile]:
    """Return the files of a hub's raw listing, in its order; folders are left out.

    Shape: an entry is {"Path", "Type": "blob" or "tree", "Size" in bytes, "Sha256"}. `is_secret` tells whether
    a path repeats the token, and must be neither shown nor written.
    Raises: DownloadError for an empty listing, a path that could leave the folder or stands twice, or a
    missing or malformed size or sha256: one such entry discredits the whole listing.
    """
    files: dict[str, RemoteFile] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise DownloadError(f"{repository}: the listing holds {type(entry).__name__}, not files")
        if (entry.get("Type") or "blob") == "tree":
            continue
        if is_secret(str(entry)):
            raise DownloadError(
                f"{repository}: the listing repeats the token",
                hint="tell whoever runs the hub, and make a new token",
            )
        file = _read_entry(entry, repository)
        if file.path in files:
            raise DownloadError(f"{repository}: the listing names {_show(file.path)} twice")
        if len(files) == MAX_FILES:
            raise DownloadError(
                f"{repository}: the listing names more than {MAX_FILES:,} files",
                hint="ask the repository's owner to pack them",
            )
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
        fault = _find_kind_fault(file.kind) or _find_portability_fault(file.path)
        if fault:
            raise DownloadError(f"{repository}: {_show(file.path)} {fault}", hint=exclude)
        other = spellings.setdefault(_fold(file.path), file.path)
        if other != file.path:
            raise DownloadError(
                f"{repository}: {_show(other)} and {_show(file.path)} are one file where case is ignored",
                hint=exclude,
            )
    for folded, path in spellings.items():
        parents = [folded[: match.start()] for match in re.finditer("/", folded)]
        clash = next((spellings[parent] for parent in parents if parent in spellings), None)
        if clash is not None:
            raise DownloadError(
                f"{repository}: {_show(clash)} is listed as a file, and as the folder of {_show(path)}",
                hint=exclude,
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
        if (
            not isinstance(commit, str)
            or not _COMMIT.fullmatch(commit)
            or isinstance(date, bool)
            or not isinstance(date, int)
        ):
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
    shown = ", ".join(_show(path) for path in paths[:_SHOWN_PATHS])
    return shown if len(paths) <= _SHOWN_PATHS else f"{shown} and {len(paths) - _SHOWN_PATHS:,} more"


def find_file_fault(path: str, size: Any, sha256: Any) -> str | None:
    """Return why a path, size and sha256 are not to be believed, None when they may be."""
    fault = _find_path_fault(path)
    if fault:
        return fault
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_FILE_BYTES:
        return f"the size {_show(size)}, not a number of bytes"
    if sha256 is not None and not (isinstance(sha256, str) and _HEX_SHA256.fullmatch(sha256.lower())):
        return f"the sha256 {_show(sha256)}, not 64 hex digits"
    return None


def _read_entry(entry: dict[str, Any], repository: str) -> RemoteFile:
    path = entry.get("Path")
    if not isinstance(path, str) or not path:
        raise DownloadError(f"{repository}: the listing holds a file without a path")
    fault = _find_path_fault(path)
    if fault:
        raise DownloadError(
            f"{repository}: the listing names {_show(path)}, {fault}; nothing was downloaded",
            hint="report the repository to its owner: no honest listing holds such a path",
        )
    size, sha256 = entry.get("Size"), entry.get("Sha256") or None
    fault = find_file_fault(path, size, sha256)
    if fault:
        raise DownloadError(f"{repository}: the listing gives {_show(path)} {fault}")
    return RemoteFile(path, size or 0, sha256.lower() if sha256 else None, _read_kind(entry))


def _read_kind(entry: dict[str, Any]) -> str:
    kind, mode = entry.get("Type") or "blob", str(entry.get("Mode"))
    if kind in ("commit", "submodule") or mode in _SUBMODULE_MODES:
        return "submodule"
    if mode in _LINK_MODES or kind in ("link", "symlink"):
        return "link"
    return "file" if kind == "blob" else "unknown"


def _find_kind_fault(kind: str) -> str | None:
    return {
        "file": None,
        "link": "is a symbolic link, which a download does not make",
        "submodule": "is another repository (a git submodule)",
    }.get(kind, "is neither a file nor a folder")


def _find_path_fault(path: str) -> str | None:
    if path.startswith("/") or _DRIVE.match(path):
        return "an absolute path"
    if "\\" in path:
        return "a path with a backslash"
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in path):
        return "a path with a control character"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "a path that could leave its folder"
    return None


def _find_portability_fault(path: str) -> str | None:
    if _fold(path) == DOWNLOAD_MANIFEST_NAME:
        return "is the name of the download's own manifest"
    if any(unicodedata.category(character) == "Cf" for character in path):
        return "holds a character that does not show"
    if len(path.encode()) > _MAX_PATH_BYTES:
        return f"is longer than {_MAX_PATH_BYTES:,} bytes"
    for part in path.split("/"):
        if _WINDOWS_DEVICE.fullmatch(part):
            return "is a device's name on Windows"
        if _WINDOWS_CHARACTER.search(part) or part.endswith((".", " ")):
            return "is not a file name on Windows"
        if len(part.encode()) > _MAX_NAME_BYTES:
            return f"has a name of more than {_MAX_NAME_BYTES} bytes"
        if _fold(part).startswith(".lfc"):
            return "is a name that lfc keeps for itself"
        if _GIT_FOLDER.fullmatch(_fold(part)):
            return "is inside a folder that git would obey"
    return None


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _show(value: object) -> str:
    """Return a value of somebody else's for a message, cut where it is long."""
    shown = repr(value) if not isinstance(value, int) or abs(value) < 1 << 64 else "of more than 64 bits"
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}… ({len(shown):,} characters)"
