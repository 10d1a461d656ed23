"""Writing files so that the old or the new one stands there, never half of one; locks; manifests."""

import errno
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from prep import __version__
from prep.ahead import WorkBehind
from prep.errors import InputError, OutputError
from prep.secrets import mask_urls

DOWNLOAD_MANIFEST_NAME = ".lfc-download.json"
_MAX_DOWNLOAD_MANIFEST_BYTES = 128 << 20
_MAX_DOWNLOAD_MANIFEST_VALUES = 2_000_000
_CHUNK_BYTES = 1 << 20
_WRITE_AHEAD_BYTES = 16 << 20
# Below this a thread is not worth its start.
_BEHIND_BYTES = 1 << 20
_LOCK_WAIT_S = 0.01


class AtomicFile:
    """A binary file under way: it counts and hashes what is written, and becomes `path` on `publish`.

    Until then it is a hidden `.partial` file on the target's disk, which the next run overwrites.
    """

    def __init__(self, path: Path, stream: BinaryIO, partial: Path) -> None:
        self.path = path
        self.bytes_written = 0
        self._stream = stream
        self._partial = partial
        self._hash = hashlib.sha256()
        self._taken = self._on_its_way = 0
        self._behind: WorkBehind | None = None

    def write(self, block: bytes) -> None:
        """Append a block, of a large file in a thread.

        Raises: OutputError, here or later, when the disk is full or the file cannot be written.
        """
        self.bytes_written += len(block)
        if self._behind is None and self.bytes_written >= _BEHIND_BYTES:
            self._behind = WorkBehind(self._take)
        if self._behind is None:
            self._take(block)
        else:
            self._behind.put(block)

    @property
    def sha256(self) -> str:
        """Hex digest of all bytes written so far."""
        self._wait()
        return self._hash.hexdigest()

    def flush(self) -> None:
        """Wait until the disk has all that was written."""
        self._wait()
        with explain_os_error(self.path):
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def publish(self) -> None:
        """Flush to the disk and rename onto the target."""
        self.flush()
        with explain_os_error(self.path):
            self._stream.close()
            self._partial.replace(self.path)

    def close(self) -> None:
        """Let go of the file; what was not published is lost."""
        if self._behind is not None:
            self._behind.stop()
        # Closing flushes: on a full disk that fails again, and the first error is the one to show.
        with suppress(OSError):
            self._stream.close()

    def _wait(self) -> None:
        if self._behind is not None:
            self._behind.wait()

    def _take(self, block: bytes) -> None:
        with explain_os_error(self.path):
            self._stream.write(block)
        self._hash.update(block)
        self._taken += len(block)
        if self._taken - self._on_its_way >= _WRITE_AHEAD_BYTES:
            self._start_writing()

    def _start_writing(self) -> None:
        """Let the system begin with what it would else hold back until `flush`, which then waits less."""
        if hasattr(os, "posix_fadvise"):
            start, size = self._on_its_way, self._taken - self._on_its_way
            # A hint alone: a file system that does not know it loses nothing.
            with suppress(OSError):
                os.posix_fadvise(self._stream.fileno(), start, size, os.POSIX_FADV_DONTNEED)
        self._on_its_way = self._taken


@contextmanager
def open_atomic(path: Path) -> Iterator[AtomicFile]:
    """Open a file that appears under its name only when the block ends without an exception.

    Raises: OutputError when the target cannot be written, or another process is writing it now.
    """
    with lock_file(path, timeout_s=0), stage_file(path) as staged:
        yield staged
        staged.publish()


@contextmanager
def stage_file(path: Path) -> Iterator[AtomicFile]:
    """Open a file that appears only when the caller, who holds its lock, calls `publish`."""
    with _open_partial(path, working_folder(path) / f"{path.name}.partial") as staged:
        yield staged


def write_json(path: Path, content: Any) -> None:
    """Write one JSON document atomically: ASCII-escaped, so that every locale reads it."""
    _replace_file(path, encode_json(content))


def encode_json(content: Any) -> bytes:
    """Return an indented JSON document as ASCII bytes."""
    return (json.dumps(content, indent=2) + "\n").encode("ascii")


def write_text(path: Path, text: str) -> None:
    """Write one UTF-8 text file atomically, with `\\n` line ends on every system."""
    _replace_file(path, text.encode())


@contextmanager
def lock_file(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold an exclusive lock for `path`, in the hidden folder `.lfc` beside it.

    Raises: OutputError when another process still holds it after `timeout_s` seconds.
    """
    with try_lock(working_folder(path) / f"{path.name}.lock", patience_s=timeout_s) as handle:
        if handle is None:
            raise OutputError(
                f"{path} is being written by another process", hint="wait until it has finished, then run again"
            )
        yield


@contextmanager
def try_lock(path: Path, *, patience_s: float = 0) -> Iterator[int | None]:
    """Hold an exclusive lock that ends with the last process that has its file open; None when it is taken.

    Yields: the file descriptor, which a child may inherit to hold the lock as well.
    Raises: OutputError when the lock's file cannot be written, or its file system knows no locks.
    """
    deadline = time.monotonic() + patience_s
    with explain_os_error(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with explain_os_error(path):
            while not (held := _lock(handle)) and time.monotonic() < deadline:
                time.sleep(_LOCK_WAIT_S)
        yield handle if held else None
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def working_folder(path: Path) -> Path:
    """Return `.lfc` beside `path`: on the same disk, so that a rename out of it is atomic."""
    folder = path.parent / ".lfc"
    with explain_os_error(path):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _replace_file(path: Path, content: bytes) -> None:
    """Write a small file whole: the last of several writers wins, and none leaves half of one."""
    with explain_os_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _open_partial(path, path.with_name(f".{path.name}.{os.getpid()}.partial")) as staged:
        staged.write(content)
        staged.publish()


@contextmanager
def _open_partial(path: Path, partial: Path) -> Iterator[AtomicFile]:
    with explain_os_error(path):
        stream = partial.open("wb")
    staged = AtomicFile(path, stream, partial)
    try:
        yield staged
    finally:
        staged.close()
        partial.unlink(missing_ok=True)


@contextmanager
def explain_os_error(path: Path) -> Iterator[None]:
    """Turn an OSError while writing `path` into an OutputError that says what to do."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "free some disk space or choose an output on another disk",
            errno.EDQUOT: "free some of your disk quota or choose an output on another disk",
            errno.EACCES: "choose an output folder that you may write to",
            errno.EROFS: "choose an output folder that you may write to",
        }
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{path} cannot be written: {reason}", hint=hints.get(error.errno or 0)) from error


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise OutputError when `path` stands already and may not be replaced."""
    if path.exists() and not force:
        raise OutputError(f"{path} exists already", hint="--force to replace it, or another -o")


def hash_file(path: Path, is_unwanted: Callable[[], bool] = lambda: False) -> str:
    """Return the sha256 of a file's bytes as lower-case hex; of what was read when it is no longer wanted.

    Raises: InputError when it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while (block := stream.read(_CHUNK_BYTES)) and not is_unwanted():
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    return digest.hexdigest()


@dataclass(frozen=True)
class Manifest:
    """What made an output file: enough to repeat it, and to check that it is still what was made.

    Shape: `inputs` are {path, bytes, sha256, …} and carry the manifest of an input that had one, so that
    one file tells the whole way from the download. There is no time in it: equal inputs and options give
    equal bytes.
    """

    step: str
    options: dict[str, Any]
    think_policy: str | None
    inputs: list[dict[str, Any]]
    counts: dict[str, Any]
    output: dict[str, Any]
    tool: str = field(default=f"llamafactory-companion {__version__}")


def manifest_path(output: Path) -> Path:
    """Where an output's manifest lies: `data/medical.jsonl` → `data/medical.manifest.json`."""
    return output.with_name(f"{output.stem}.manifest.json")


def write_manifest(output: Path, manifest: Manifest) -> None:
    """Write the manifest beside its output."""
    write_json(manifest_path(output), {"manifest_version": 1, **manifest.__dict__})


def read_manifest(output: Path) -> Manifest | None:
    """Return the manifest of a data file, or None when it has none or the file was changed since.

    A change is seen by the size alone: cheap enough for every use. `hash_file` tells for certain.
    """
    path = manifest_path(output)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint="make the data file again") from error
    if content.pop("manifest_version", None) != 1:
        raise InputError(f"{path} is not a manifest of this version", hint="make the data file again")
    manifest = Manifest(**content)
    unchanged = output.is_file() and output.stat().st_size == manifest.output.get("bytes")
    return manifest if unchanged else None


def describe_input(path: Path) -> dict[str, Any]:
    """Return the manifest entry of an input file: its path, size and sha256, and what made it."""
    sha256 = hash_file(path)
    return {
        "path": path.as_posix(),
        "bytes": path.stat().st_size,
        "sha256": sha256,
        **describe_making(path, sha256),
    }


def describe_making(path: Path, sha256: str) -> dict[str, Any]:
    """Return what made a data file, for the manifest of what is made from it.

    Shape: `manifest` is its own, `download` says which repository and commit it came from, and whether it was
    changed since; each only where the file has one.
    """
    making: dict[str, Any] = {}
    manifest = read_manifest(path)
    if manifest is not None:
        making["manifest"] = manifest.__dict__
    origin = find_download_manifest(path)
    if origin is not None:
        making["download"] = {**origin, "changed_since": origin["sha256"] != sha256}
    return making


def find_download_manifest(path: Path) -> dict[str, Any] | None:
    """Return where a data file was downloaded from, or None when no download put it there.

    Shape: {endpoint, repository, type, revision, commit, file, bytes, sha256}; `file` is the path inside the
    repository. Size and sha256 are those recorded at the download: the caller, who hashes the file anyway,
    sees from them whether it was changed since.
    Raises: InputError when the folder's manifest is broken.
    """
    path = path.absolute()
    for folder in path.parents:
        manifest = folder / DOWNLOAD_MANIFEST_NAME
        if not manifest.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        try:
            return _read_origin(manifest, name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = str(error)[:200] or type(error).__name__
            raise InputError(f"{manifest} cannot be read: {reason}", hint="download the folder again") from error
    return None


def _read_origin(manifest: Path, name: str) -> dict[str, Any] | None:
    """Return what a download's manifest says of one of its files; raises ValueError for anything odd."""
    if manifest.stat().st_size > _MAX_DOWNLOAD_MANIFEST_BYTES:
        raise ValueError("it is too large")
    data = manifest.read_bytes()
    # What JSON becomes in memory is bounded by its values, not by its bytes.
    if sum(data.count(mark) for mark in (b",", b"{", b"[")) > _MAX_DOWNLOAD_MANIFEST_VALUES:
        raise ValueError("it holds more than any download")
    content = json.loads(data)
    recorded = content["files"].get(name)
    if recorded is None:
        return None
    origin = {key: content[key] for key in ("endpoint", "repository", "type", "revision", "commit")}
    size, sha256 = recorded["bytes"], recorded["sha256"]
    texts = [value for key, value in origin.items() if key != "commit" or value is not None]
    if not all(isinstance(value, str) for value in (*texts, sha256)) or not isinstance(size, int):
        raise ValueError(f"{name!r} has fields of wrong types")
    return {**origin, "endpoint": mask_urls(origin["endpoint"]), "file": name, "bytes": size, "sha256": sha256}
