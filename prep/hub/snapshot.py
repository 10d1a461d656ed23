"""A downloaded folder: its verification, and the exchange of an old folder for a new one."""

import hashlib
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from prep.errors import DownloadError, OutputError
from prep.hub.download_manifest import DownloadManifest, write_download_manifest
from prep.hub.listing import RemoteFile, show_paths
from prep.storage.atomic import write_json
from prep.storage.fingerprints import hash_file
from prep.storage.locks import working_folder
from prep.storage.manifests import DOWNLOAD_MANIFEST_NAME
from prep.storage.os_errors import explain_os_error

_CHUNK_BYTES = 1 << 20
_LINK_HINT = "a download never follows a link: remove it, or choose another --to"
# renameat2(2) on Linux; there is no constant for either in Python.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

OnBytes = Callable[[str, int], None]


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
        hint="download it again without --offline; --force sets changed files aside",
    )


def find_link(folder: Path, path: str) -> Path | None:
    """Return the first symbolic link or junction on the way from the folder to a path inside it, or None."""
    step = folder
    for part in path.split("/"):
        step = step / part
        if _is_link(step):
            return step
    return None


def find_conflicts(
    target: Path, files: Iterable[RemoteFile], replaceable: Collection[str], *, force: bool
) -> list[str]:
    """Return the files in the way that no download wrote, which with `force` are set aside.

    `replaceable` are paths known to be as the last download left them, or as this one would.
    Raises: OutputError when publishing `files` would follow a link, or replace a folder, or such a file.
    """
    refuse_link(target)
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
            hint="--force to set it aside and go on, or another --to",
        )
    return in_the_way


def refuse_link(target: Path) -> None:
    """Raise OutputError when a folder to be exchanged is a link: what it leads to stands elsewhere."""
    if _is_link(target):
        raise OutputError(f"{target} is a symbolic link", hint="--to the folder that the link leads to")


def _is_link(path: Path) -> bool:
    # Path.is_junction came with Python 3.12; before, Windows junctions show as plain folders.
    return path.is_symlink() or bool(getattr(path, "is_junction", bool)())


class Staging:
    """The place beside a target where its next state is built: `.lfc/<name>.download/<key>/`.

    Shape: `files` becomes the target; `cache` holds the client's locks; `retired` is the old state between
    two renames; `publishing.json` stands while the two are exchanged, and names the paths that are not the
    user's. All but these two may be removed at any time when no download runs; `recover` deals with them.
    """

    def __init__(self, target: Path, key: str) -> None:
        self.target = target
        self.root = working_folder(target) / f"{target.name}.download"
        self.files = self.root / key / "files"
        self.cache = self.root / key / "cache"
        self._retired = self.root / "retired"
        self._marker = self.root / "publishing.json"

    def recover(self) -> None:
        """Undo or end a publication that was killed, and remove what other commits left.

        Raises: OutputError when the working folder is a link: what it leads to is not ours to clear.
        """
        for path in (self.root.parent, self.root):
            if _is_link(path):
                raise OutputError(f"{path} is a symbolic link", hint=_LINK_HINT)
        with explain_os_error(self.target):
            if self._retired.is_dir() and not _is_link(self._retired) and not os.path.lexists(self.target):
                self._retired.rename(self.target)
            if self.target.is_dir() and self._marker.is_file():
                self._rescue_users_files()
            self._marker.unlink(missing_ok=True)
            for other in self.root.iterdir() if self.root.is_dir() else ():
                if other != self.files.parent or _is_link(other):
                    _remove(other)

    def _rescue_users_files(self) -> None:
        """Bring what the user wrote while a publication was under way out of the old state, wherever it is."""
        try:
            ours = json.loads(self._marker.read_bytes())["ours"]
        except (ValueError, KeyError, TypeError):
            # Half-written: the exchange had not begun.
            return
        for old in (self._retired, *self.root.glob("*/files")):
            if old.is_dir() and not find_link(self.root, old.relative_to(self.root).as_posix()):
                _carry_over(old, self.target, ours, _link_or_copy)

    def open(self) -> None:
        """Make the folders; raises OutputError when they cannot be made.

        Links in them are removed: the client would write where they lead.
        """
        with explain_os_error(self.target):
            for path in (self.files, self.cache):
                if _is_link(path):
                    path.unlink()
                path.mkdir(parents=True, exist_ok=True)
            for path in [*_walk_files(self.files), *_walk_files(self.cache)]:
                # One with a second name is still the target's too: the client must not resume by writing into it.
                if _is_link(path) or path.lstat().st_nlink > 1:
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

    def publish(
        self, manifest: DownloadManifest, removed: Collection[str], in_the_way: Collection[str] = ()
    ) -> list[str]:
        """Put the staged folder in the target's place in one step, with the user's own files carried over.

        `removed` are paths that an earlier download wrote and that are no longer listed; `in_the_way` are the
        user's files under listed names. They are set aside, and the names that they got are returned.
        Raises: OutputError when the system refuses; the target is then as it was.
        """
        ours = {*manifest.files, *removed, DOWNLOAD_MANIFEST_NAME}
        with explain_os_error(self.target):
            for path in _walk_files(self.files):
                if path.relative_to(self.files).as_posix() not in manifest.files:
                    path.unlink()
            _remove_empty_folders(self.files)
            _carry_over(self.target, self.files, ours, _link_or_copy)
            aside = [self._set_aside(path) for path in sorted(in_the_way)]
        ours.update(aside)
        write_download_manifest(self.files, manifest)
        write_json(self._marker, {"ours": sorted(ours)})
        with explain_os_error(self.target):
            old = self._exchange()
            # A file that the user wrote while the others were being linked is only in the old folder.
            _carry_over(old, self.target, ours, os.replace)
            self._marker.unlink()
        self.discard()
        return aside

    def _set_aside(self, path: str) -> str:
        """Keep a file of the user's under a name that says so."""
        numbers = itertools.count(2)
        name = f"{path}.set-aside"
        while os.path.lexists(self.files / name):
            name = f"{path}.set-aside-{next(numbers)}"
        _link_or_copy(self.target / path, self.files / name)
        return name

    def record(self, manifest: DownloadManifest) -> None:
        """Replace the manifest of a target whose files are already as it says, and nothing else."""
        self.open()
        write_download_manifest(self.files, manifest)
        with explain_os_error(self.target):
            (self.files / DOWNLOAD_MANIFEST_NAME).replace(self.target / DOWNLOAD_MANIFEST_NAME)

    def discard(self) -> None:
        """Remove the staging folder; what cannot be removed now is removed by the next download."""
        if not _is_link(self.root):
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


def _remove(path: Path) -> None:
    if path.is_dir() and not _is_link(path):
        shutil.rmtree(path)
    else:
        path.unlink()


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
