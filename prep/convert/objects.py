"""Inputs in an object store or on a web server: copied here while they are read, by fsspec.

Who may read them is told as each store's own client is told: AWS_…, OSS_…, HF_TOKEN in the environment.
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from prep.errors import InputError, OutputError, StackError, UserError
from prep.inputs.formats import find_suffix, require_suffix
from prep.secrets import mask_text
from prep.storage.os_errors import explain_os_error
from prep.wording import count_of

# The name of a store in an address → the package that speaks to it, "" where that is here already.
STORES = {
    "s3": "s3fs", "s3a": "s3fs", "oss": "ossfs", "hf": "huggingface-hub", "gs": "gcsfs", "gcs": "gcsfs",
    "az": "adlfs", "abfs": "adlfs", "tos": "tosfs", "hdfs": "pyarrow", "webhdfs": "requests", "sftp": "paramiko",
    "http": "aiohttp", "https": "aiohttp", "memory": "",
}  # fmt: skip
# A path takes one of two slashes away.
_ADDRESS = re.compile(rf"({'|'.join(STORES)}):/{{1,2}}(?=[^/])", re.IGNORECASE)
_GLOB = re.compile(r"[*?\[]")
_WEB = ("http", "https")
_CARD = "README.md"
_MOST_FILES = 10_000
_BLOCK_BYTES = 4 << 20
# Of the disk that holds the copy, what stays free.
_SPARE_BYTES = 256 << 20


@dataclass(frozen=True)
class FetchedInput:
    """What an address named, as a file or folder here; `names` tells the address of each, secrets masked."""

    path: Path
    names: Mapping[Path, str]
    note: str

    def rename(self, text: str) -> str:
        """Return a message that tells addresses where it told of the copies."""
        for path in sorted(self.names, key=lambda path: -len(path.parts)):
            text = text.replace(path.as_posix(), self.names[path])
        return text


def read_address(path: Path) -> str | None:
    """Return the address in a store that a path spells, None for a path of this machine."""
    found = _ADDRESS.match(path.as_posix())
    return None if found is None or path.exists() else f"{found[1].lower()}://{path.as_posix()[found.end() :]}"


def refuse_addresses(paths: Sequence[Path]) -> None:
    """Raise UserError when one of them is an address: copies of it here are not seen by a cluster's machines."""
    for path in paths:
        if address := read_address(path):
            raise UserError(
                f"a cluster reads storage that its machines share, and {mask_text(address)} would be copied here",
                hint="copy it to that storage first, or leave --engine ray out",
            )


def fetch_input(address: str, folder: Path) -> FetchedInput:
    """Copy the object, the folder's data files or those of a glob into a folder of one's own.

    Raises: StackError without the store's package; InputError when nothing is there, it cannot be read, or changed
    while it was; OutputError when the disk has no room for it.
    """
    shown = mask_text(address)
    scheme = address.partition(":")[0]
    try:
        store, place = _open_store(address)
        found = _list_objects(store, place, is_web=scheme in _WEB)
    except ImportError as error:
        package = STORES[scheme] or "fsspec"
        raise StackError(f"{shown} needs the package {package}: {error}", hint=f"pip install {package}") from error
    except Exception as error:
        # Each store's client has errors of its own.
        raise _explain(address, shown, error) from error
    if not found:
        raise InputError(f"{shown} holds no data files")
    _require_room(shown, found, folder)
    is_web = scheme in _WEB
    root = PurePosixPath(_find_root(place, list(found)))
    names = {folder: shown}
    for remote, size in found.items():
        inner = [name_last(remote)] if is_web else _find_inner(PurePosixPath(remote), root)
        target = folder.joinpath(*inner)
        with explain_os_error(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        named = shown if is_web else mask_text(str(store.unstrip_protocol(remote)))
        try:
            _copy(store, remote, size, target, named)
        except UserError:
            raise
        except Exception as error:
            raise _explain(address, named, error) from error
        names[target] = named
    files = list(names)[1:]
    whole = sum(path.stat().st_size for path in files)
    path = files[0] if list(found) == [place] else folder
    return FetchedInput(path, names, f"{shown}: {count_of(len(files), 'file')}, {whole:,} bytes, copied")


def name_last(address: str) -> str:
    """Return the last name in an address, without what a web server is asked."""
    name = PurePosixPath(urlsplit(address).path).name
    return re.sub(r"[^\w.-]", "_", name).lstrip(".") or "files"


def _open_store(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    if "::" in address:
        raise InputError("addresses inside addresses are not read", hint="name the file itself")
    store, place = url_to_fs(address)
    return store, str(place)


def _list_objects(store: Any, place: str, *, is_web: bool) -> dict[str, int | None]:
    """Return the sizes of what an address names; of a folder its data files and its card, none for an empty one."""
    if is_web:
        require_suffix(Path(name_last(place)))
        return {place: store.info(place).get("size")}
    if _GLOB.search(place):
        told = store.glob(place, detail=True)
    elif store.isfile(place):
        require_suffix(Path(PurePosixPath(place).name))
        return {place: store.info(place).get("size")}
    else:
        told = store.find(place, detail=True)
    listed = {name: info for name, info in told.items() if info.get("type") == "file"}
    if not listed:
        raise FileNotFoundError(place)
    chosen = {
        name: info.get("size")
        for name, info in sorted(listed.items())
        if PurePosixPath(name).name == _CARD or find_suffix(Path(PurePosixPath(name).name)) is not None
    }
    if len(chosen) > _MOST_FILES:
        raise InputError(f"it holds {len(chosen):,} files, at most {_MOST_FILES:,} are read", hint="name fewer")
    return chosen


def _find_root(place: str, found: Sequence[str]) -> str:
    """Return the folder below which the files' own folders are kept."""
    fixed = _GLOB.split(place, maxsplit=1)[0] if _GLOB.search(place) else place
    if fixed == place and found == [place]:
        return place.rpartition("/")[0]
    return fixed if fixed == place else fixed.rpartition("/")[0]


def _find_inner(name: PurePosixPath, root: PurePosixPath) -> Iterator[str]:
    """Yield the parts of a file's place below the root; what would lead out of it is left out."""
    parts = name.relative_to(root).parts if name.is_relative_to(root) else (name.name,)
    yield from (part for part in parts if part not in ("..", "/", ""))


def _require_room(shown: str, found: Mapping[str, int | None], folder: Path) -> None:
    wanted = sum(size or 0 for size in found.values())
    free = shutil.disk_usage(folder).free
    if wanted > free - _SPARE_BYTES:
        raise OutputError(
            f"{shown} is {wanted:,} bytes, and {folder} has {free:,} free",
            hint="TMPDIR=FOLDER of a larger disk before the command",
        )


def _copy(store: Any, remote: str, size: int | None, target: Path, named: str) -> None:
    taken, room = 0, shutil.disk_usage(target.parent).free - _SPARE_BYTES
    with store.open(remote, "rb") as source, target.open("wb") as stream:
        while block := source.read(_BLOCK_BYTES):
            taken += len(block)
            if taken > room:
                raise OutputError(
                    f"{named} does not fit on the disk of {target.parent}",
                    hint="TMPDIR=FOLDER of a larger disk before the command",
                )
            with explain_os_error(target):
                stream.write(block)
    if size is not None and taken != size:
        raise InputError(
            f"{named} broke off, or changed while it was read: {taken:,} of {size:,} bytes", hint="run it again"
        )


def _explain(address: str, shown: str, error: Exception) -> InputError:
    """Return what went wrong in a store, without what in the address is a secret."""
    if isinstance(error, InputError):
        return InputError(f"{shown}: {error}", hint=error.hint)
    # fsspec calls whatever goes wrong on the web a file that is missing.
    cause = error.__cause__ if isinstance(error, FileNotFoundError) and address.startswith(_WEB) else None
    told = cause or error
    status = getattr(told, "status", None)
    if isinstance(told, PermissionError) or status in (401, 403):
        hint = "the store's keys, in the environment (AWS_…, OSS_…, HF_TOKEN)"
        return InputError(f"{shown} may not be read", hint=hint)
    if isinstance(told, FileNotFoundError) or status == 404:
        return InputError(f"{shown} is not there", hint="see its name in the store; keys tell capitals apart")
    parts = urlsplit(address)
    text = mask_text(" ".join(str(told).split()), filter(None, (parts.netloc.rpartition("@")[0], parts.query)))
    return InputError(f"{shown} cannot be read: {type(told).__name__}: {text[:300]}")
