"""A downloaded folder: its manifest, its verification, and the exchange of an old folder for a new one."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prep.errors import DownloadError, InputError, OutputError
from prep.files import DOWNLOAD_MANIFEST_NAME, explain_os_error, hash_file, working_folder, write_json
from prep.listing import RemoteFile, show_paths

_MANIFEST_VERSION = 1
_CHUNK_BYTES = 1 << 20
_LINK_HINT = "a download never follows a link: remove it, or choose another --to"
# renameat2(2) on Linux; there is no constant for either in Python.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

OnBytes = Callable[[str, int], None]


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
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.pop("manifest_version")
        manifest = DownloadManifest(**content)
        manifest.remote_files()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be read: {error}", hint=f"remove {path}, then download again: files that are whole stay"
        ) from error
    if version != _MANIFEST_VERSION:
        raise InputError(f"{path} is of version {version}, not {_MANIFEST_VERSION}", hint="upgrade lfc")
    return manifest


def find_intact(folder: Path, files: Iterable[RemoteFile], on_bytes: OnBytes) -> set[str]:
    """Return the paths whose files stand in the folder with the listed size and sha256, read from the disk.

    A link, and anything below a linked folder, is never intact; nor is a file without a listed sha256.
    """
    intact = set()
    for file in files:
        path = folder / file.path
        if file.sha256 is None or find_link(folder, file.path) or not path.is_file():
            continue
        if path.stat().st_size == file.size and hash_file(path) == file.sha256:
            intact.add(file.path)
        on_bytes(file.path, file.size)
    return intact


def verify_folder(folder: Path, files: Sequence[RemoteFile], on_bytes: OnBytes) -> None:
    """Raise DownloadError unless each file stands in the folder, byte for byte, and no link leads to it."""
    intact = find_intact(folder, files, on_bytes)
    wrong = [file.path for file in files if file.path not in intact]
    if not wrong:
        return
    missing = [path for path in wrong if not (folder / path).exists() and not find_link(folder, path)]
    changed = [path for path in wrong if path not in missing]
    parts = [
        f"{show_paths(changed)} changed" if changed else "",
        f"{show_paths(missing)} missing" if missing else "",
    ]
    raise DownloadError(
        f"{folder} is not what was downloaded: {', '.join(part for part in parts if part)}",
        hint="download it again without --offline; --force replaces changed files",
    )


def find_link(folder: Path, path: str) -> Path | None:
    """Return the first symbolic link or junction on the way from the folder to a path inside it, or None."""
    step = folder
    for part in path.split("/"):
        step = step / part
        # Path.is_junction came with Python 3.12; before, Windows junctions show as plain folders.
        if step.is_symlink() or getattr(step, "is_junction", bool)():
            return step
    return None


def refuse_conflicts(
    target: Path, files: Iterable[RemoteFile], replaceable: Collection[str], *, force: bool
) -> None:
    """Raise OutputError when publishing `files` would follow a link, or replace what no download wrote.

    `replaceable` are paths known to be as the last download left them, or as this one would.
    """
    if target.is_symlink() or getattr(target, "is_junction", bool)():
        raise OutputError(f"{target} is a symbolic link", hint="--to the folder that the link leads to")
    if target.exists() and not target.is_dir():
        raise OutputError(
            f"{target} is a file, and would become a folder", hint="move it away, or choose another --to"
        )
    in_the_way = []
    for file in files:
        link = find_link(target, file.path)
        if link is not None:
            raise OutputError(f"{link} is a symbolic link where the repository has {file.path!r}", hint=_LINK_HINT)
        path = target / file.path
        blocking = next((parent for parent in path.parents if parent.is_file()), None)
        if blocking is not None or path.is_dir():
            what = (
                f"{blocking} is a file, and would become a folder"
                if blocking
                else f"{path} is a folder, not a file"
            )
            raise OutputError(what, hint="move it away, or choose another --to")
        if path.exists() and file.path not in replaceable:
            in_the_way.append(file.path)
    if in_the_way and not force:
        raise OutputError(
            f"{target}: {show_paths(in_the_way)} would be replaced, and no download left it so",
            hint="--force to replace it, or another --to",
        )


class Staging:
    """The place beside a target where its next state is built: `.lfc/<name>.download/<key>/`.

    Shape: `files` becomes the target; `cache` holds the client's locks; `retired` is the old state between
    two renames. The whole of it may be removed at any time when no download runs, except `retired`, which
    `recover` brings back.
    """

    def __init__(self, target: Path, key: str) -> None:
        self.target = target
        self.root = working_folder(target) / f"{target.name}.download"
        self.files = self.root / key / "files"
        self.cache = self.root / key / "cache"
        self._retired = self.root / "retired"

    def recover(self) -> None:
        """Undo a publication that was killed between its two renames, and remove what other commits left."""
        with explain_os_error(self.target):
            if self._retired.exists():
                if self.target.exists():
                    shutil.rmtree(self._retired)
                else:
                    self._retired.rename(self.target)
            for other in self.root.iterdir() if self.root.is_dir() else ():
                if other != self.files.parent:
                    shutil.rmtree(other)

    def open(self) -> None:
        """Make the folders; raises OutputError when they cannot be made."""
        with explain_os_error(self.target):
            self.files.mkdir(parents=True, exist_ok=True)
            self.cache.mkdir(exist_ok=True)
            for path in _walk_files(self.files):
                # Still the target's file too: the client must not resume by writing into it.
                if path.lstat().st_nlink > 1:
                    path.unlink()

    def count_bytes(self) -> int:
        """Return how many bytes an interrupted download left here."""
        found = [path.lstat() for path in _walk_files(self.files)]
        # One with a second name is the target's, and was not fetched.
        return sum(status.st_size for status in found if status.st_nlink == 1)

    def reuse(self, paths: Iterable[str]) -> None:
        """Bring files of the target that are known to be right here, without copying them if possible."""
        with explain_os_error(self.target):
            for path in paths:
                _link_or_copy(self.target / path, self.files / path)

    def seal(self, file: RemoteFile) -> str:
        """Flush a staged file to the disk, read it back, and return its sha256.

        Raises: DownloadError when it is not the listed one; the file is then removed, so that the next run
        fetches it anew.
        """
        path = self.files / file.path
        if find_link(self.files, file.path) or not path.is_file():
            raise DownloadError(f"{path} was not written", hint="run the same command again")
        sha256, size = hashlib.sha256(), 0
        with explain_os_error(path), path.open("rb+") as stream:
            os.fsync(stream.fileno())
            while block := stream.read(_CHUNK_BYTES):
                sha256.update(block)
                size += len(block)
        digest = sha256.hexdigest()
        if size != file.size or digest != (file.sha256 or digest):
            path.unlink()
            raise DownloadError(
                f"{file.path!r} is on the disk with {size:,} bytes and sha256 {digest}; "
                f"listed are {file.size:,} bytes and sha256 {file.sha256}",
                hint="run the same command again; if it comes again, check the disk",
            )
        return digest

    def publish(self, manifest: DownloadManifest, removed: Collection[str]) -> None:
        """Put the staged folder in the target's place in one step, with the user's own files carried over.

        `removed` are paths that an earlier download wrote and that are no longer listed.
        Raises: OutputError when the system refuses; the target is then as it was.
        """
        ours = {*manifest.files, *removed, DOWNLOAD_MANIFEST_NAME}
        with explain_os_error(self.target):
            for path in _walk_files(self.files):
                if path.relative_to(self.files).as_posix() not in manifest.files:
                    path.unlink()
            _remove_empty_folders(self.files)
            _carry_over(self.target, self.files, ours, _link_or_copy)
        _write_manifest(self.files, manifest)
        with explain_os_error(self.target):
            old = self._exchange()
            # A file that the user wrote while the others were being linked is only in the old folder.
            _carry_over(old, self.target, ours, os.replace)
        self.discard()

    def record(self, manifest: DownloadManifest) -> None:
        """Replace the manifest of a target whose files are already as it says, and nothing else."""
        self.open()
        _write_manifest(self.files, manifest)
        with explain_os_error(self.target):
            (self.files / DOWNLOAD_MANIFEST_NAME).replace(self.target / DOWNLOAD_MANIFEST_NAME)

    def discard(self) -> None:
        """Remove the staging folder; what cannot be removed now is removed by the next download."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _exchange(self) -> Path:
        """Swap target and staged folder; return where the old state is now."""
        if not self.target.exists():
            self.files.rename(self.target)
            return self.files
        shutil.copymode(self.target, self.files)
        if _swap_paths(self.files, self.target):
            return self.files
        self.target.rename(self._retired)
        try:
            self.files.rename(self.target)
        except BaseException:
            self._retired.rename(self.target)
            raise
        return self._retired


def _write_manifest(folder: Path, manifest: DownloadManifest) -> None:
    write_json(folder / DOWNLOAD_MANIFEST_NAME, {"manifest_version": _MANIFEST_VERSION, **asdict(manifest)})


def _walk_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)
        yield from (Path(parent, name) for name in folders if Path(parent, name).is_symlink())


def _remove_empty_folders(folder: Path) -> None:
    for parent, _, _ in os.walk(folder, topdown=False):
        if Path(parent) != folder:
            # One that holds something refuses.
            with suppress(OSError):
                Path(parent).rmdir()


def _carry_over(source: Path, target: Path, ours: Collection[str], bring: Callable[[Path, Path], None]) -> None:
    """Bring the user's files, links and empty folders of `source` to `target`, where they are not there yet."""
    for parent, folders, names in os.walk(source):
        for name in [*folders, *names]:
            path = Path(parent, name)
            copy = target / path.relative_to(source)
            if path.relative_to(source).as_posix() in ours or os.path.lexists(copy):
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                copy.symlink_to(path.readlink(), target_is_directory=path.is_dir())
            elif not path.is_dir():
                bring(path, copy)
            elif not any(path.iterdir()):
                copy.mkdir()


def _link_or_copy(source: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.unlink(missing_ok=True)
    try:
        os.link(source, copy)
    except OSError:
        # Not every file system has hard links (FAT, some network shares).
        shutil.copy2(source, copy)


def _swap_paths(one: Path, other: Path) -> bool:
    """Exchange two folders in one step where the system can (Linux); False where it cannot, with nothing done."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    paths = (os.fsencode(one.absolute()), os.fsencode(other.absolute()))
    return bool(renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0)
