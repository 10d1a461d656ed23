"""What of an output folder is one run's own: the losses that it logged, and which weights it left."""

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from launch.runs.folder import Run, RunFolder, RunState
from prep.storage.atomic import write_json
from prep.storage.os_errors import explain_os_error

# Of a log that is larger, a hundred thousand lines, its end is kept and read.
MAX_LOG_BYTES = 16 << 20
_MARK_BYTES = 1 << 16
_SAMPLE_BYTES = 1 << 16
_SAMPLES = 16
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


def mark_log(path: Path) -> dict[str, Any]:
    """Return where a log ends now: what is written behind it belongs to the run that begins.

    Shape: its size, and the hash of what stands before the mark, by which a new file is told from a longer one.
    """
    size = path.stat().st_size if path.is_file() else 0
    return {"bytes": size, "sha256": _hash_before(path, size)}


def read_own_log(path: Path, mark: object) -> bytes:
    """Return what was written behind a mark; all of a file that is another one by now, or without a mark."""
    try:
        with path.open("rb") as stream:
            start = _find_start(path, mark)
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(start, size - MAX_LOG_BYTES))
            content = stream.read(MAX_LOG_BYTES)
    except FileNotFoundError:
        return b""
    # Of a line that was cut at its beginning nothing can be read.
    return content.partition(b"\n")[2] if size - MAX_LOG_BYTES > start else content


def keep_losses(run: RunFolder, trainer_log: Path, mark: object) -> None:
    """Copy the lines of a trainer's log that are the run's own into its folder.

    Raises: OutputError when they cannot be written.
    """
    with explain_os_error(run.losses):
        content = read_own_log(trainer_log, mark)
        partial = run.losses.with_name(f".{run.losses.name}.partial")
        partial.write_bytes(content)
        partial.replace(run.losses)


def find_own_log(run: Run, others: Iterable[Run]) -> tuple[Path, object] | None:
    """Return the log that holds a run's losses and the mark behind which they stand; None when none is its own.

    The copy in its folder where there is one. Of runs without one, older ones and those that were killed, the one
    that started last in an output folder owns what stands there.
    """
    if run.folder.losses.is_file():
        return run.folder.losses, None
    if run.state is RunState.QUEUED or (run.path.name and _is_overtaken(run, others)):
        return None
    return run.trainer_log, run.process.get("log")


def seal_earlier(output_dir: Path, runs: Iterable[Run]) -> None:
    """Keep the losses of runs that ended without keeping theirs, before another run writes into their folder."""
    runs = list(runs)
    for run in runs:
        if run.state not in (RunState.FINISHED, RunState.FAILED, RunState.STOPPED, RunState.LOST):
            continue
        if not run.values.get("output_dir") or not is_same_place(run.place, output_dir):
            continue
        own = find_own_log(run, runs)
        if own is not None and own[0] != run.folder.losses:
            keep_losses(run.folder, *own)


def note_moved(old: Path, new: Path, runs: Iterable[Run]) -> None:
    """Write down in the folders of its runs that an output folder was set aside."""
    for run in runs:
        if run.values.get("output_dir") and is_inside(run.place, old):
            place = new / normalise(run.place).relative_to(normalise(old))
            write_json(run.folder.moved, {"output_dir": place.as_posix(), "at": time.time()})


def find_owner(source: Path, asked_at: float, runs: Iterable[Run], fingerprint: str = "") -> Run | None:
    """Return the run whose output stood in a folder at a time; None when its weights tell that it was another's."""
    found = [run for run in runs if _stood_in(run, source, asked_at)]
    owner = max(found, key=lambda run: _read_time(run.started_at), default=None)
    if owner is None:
        return None
    own = owner.result.get("fingerprint")
    return None if fingerprint and own and fingerprint != own else owner


def fingerprint_weights(folder: Path) -> str:
    """Return what tells the weights in a folder from others: a hash of their sizes and of samples of each file.

    "" when there are none. Samples, because a model has gigabytes and every training changes all of them.
    """
    digest = hashlib.sha256()
    found = False
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in _WEIGHTS and path.is_file())
        for path in paths:
            found = True
            digest.update(f"{path.name}\n{path.stat().st_size}\n".encode("utf-8", errors="surrogateescape"))
            for block in _sample(path):
                digest.update(block)
    except OSError:
        # Not there, or not to be looked at: then it is not known.
        return ""
    return digest.hexdigest() if found else ""


def is_same_place(one: Path, other: Path) -> bool:
    """Tell whether two paths are one folder, however they are spelled."""
    return normalise(one) == normalise(other) or _is_same_file(one, other)


def is_inside(inner: Path, outer: Path) -> bool:
    """Tell whether a path is a folder or lies in it, however they are spelled."""
    parts, limit = normalise(inner).parts, normalise(outer).parts
    return parts[: len(limit)] == limit


def normalise(path: Path) -> Path:
    """Return a path without links, dots and, on Windows, differences of case."""
    return Path(os.path.normcase(os.path.realpath(path)))


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _is_overtaken(run: Run, others: Iterable[Run]) -> bool:
    return any(
        other.path != run.path
        and other.action == run.action
        and other.state is not RunState.QUEUED
        and other.values.get("output_dir")
        and is_same_place(other.place, run.place)
        and _read_time(other.started_at) >= _read_time(run.started_at)
        and (other.started_at, other.path.as_posix()) > (run.started_at, run.path.as_posix())
        for other in others
    )


def _stood_in(run: Run, source: Path, asked_at: float) -> bool:
    if not run.values.get("output_dir") or run.values.get("do_predict") or run.action != "train":
        return False
    if _read_time(run.started_at) > asked_at:
        return False
    if run.moved and is_same_place(run.place, source):
        return True
    return is_same_place(run.output_dir, source) and float(run.moved.get("at", asked_at + 1)) > asked_at


def _read_time(text: str | None) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _find_start(path: Path, mark: object) -> int:
    size = mark.get("bytes") if isinstance(mark, Mapping) else None
    if not isinstance(mark, Mapping) or not isinstance(size, int) or not 0 < size <= path.stat().st_size:
        return 0
    return size if _hash_before(path, size) == mark.get("sha256") else 0


def _hash_before(path: Path, size: int) -> str:
    if not size:
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, size - _MARK_BYTES))
        return hashlib.sha256(stream.read(min(size, _MARK_BYTES))).hexdigest()


def _sample(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as stream:
        for number in range(_SAMPLES):
            stream.seek((size - _SAMPLE_BYTES) * number // (_SAMPLES - 1) if size > _SAMPLE_BYTES else 0)
            yield stream.read(_SAMPLE_BYTES)
            if size <= _SAMPLE_BYTES:
                return
