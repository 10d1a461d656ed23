"""What made a data file, beside it: `data/medical.jsonl` → `data/medical.manifest.json`; and where it came from."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from prep import __version__
from prep.errors import InputError
from prep.secrets import mask_urls
from prep.storage.atomic import AtomicFile, encode_json, stage_file, write_json
from prep.storage.fingerprints import hash_file, hash_unchanged_file
from prep.storage.os_errors import describe_os_error, explain_os_error, explain_read_error

DOWNLOAD_MANIFEST_NAME = ".lfc-download.json"
_VERSION = 1
_MAX_MANIFEST_BYTES = 64 << 20
_MAX_CHAIN = 50
_POLICIES = ("tagged", "masked", "strip", None)
_BROKEN_HINT = "make the data file again, or move the manifest away"
_DOWNLOADED = ("endpoint", "repository", "type", "revision", "commit")


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

    def read_inputs(self) -> "list[ManifestInput]":
        """Return the inputs as typed values; raises as a wrong entry does, see `explain_broken_way`."""
        return [ManifestInput.read(entry) for entry in self.inputs]

    def lineage(self) -> "Iterator[tuple[LineageStep, ...]]":
        """Yield every way by which rows came here, each from a conversion to this file, the nearest ones first.

        Raises: as `read_inputs`.
        """
        if self.step == "convert":
            yield (LineageStep(self, ""),)
        for entry in self.read_inputs():
            if entry.manifest:
                yield from ((*way, LineageStep(self, entry.name)) for way in entry.manifest.lineage())


class ManifestInput(NamedTuple):
    """One input in a manifest: `label` is its name in origins, `name` that of a mix's part; "" without one."""

    path: str
    sha256: str
    bytes: int
    label: str
    name: str
    manifest: Manifest | None

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Self:
        """Read the entry that `describe_input` wrote; `bytes` is -1 when it does not say."""
        made = {name: value for name, value in entry.get("manifest", {}).items() if name != "manifest_version"}
        return cls(
            path=entry["path"],
            sha256=entry["sha256"],
            bytes=entry.get("bytes", -1),
            label=entry.get("label", ""),
            name=entry.get("name", ""),
            manifest=Manifest(**{"tool": "", "think_policy": None, **made}) if made else None,
        )


class LineageStep(NamedTuple):
    """One step on a way: its manifest, and the name of the input by which the rows came, "" in the first."""

    manifest: Manifest
    part: str


def manifest_path(output: Path) -> Path:
    """Where an output's manifest lies: `data/medical.jsonl` → `data/medical.manifest.json`."""
    return output.with_name(f"{output.stem}.manifest.json")


def write_manifest(output: Path, manifest: Manifest) -> None:
    """Write the manifest beside its output, which stands already."""
    path = manifest_path(output)
    write_json(path, {"manifest_version": _VERSION, **manifest.__dict__})
    _set_later(path, output)


@contextmanager
def stage_manifest(output: AtomicFile, manifest: Manifest) -> Iterator[AtomicFile]:
    """Open the manifest of an output under way; the caller publishes the output first, then this."""
    with stage_file(manifest_path(output.path)) as staged:
        staged.write(encode_json({"manifest_version": _VERSION, **manifest.__dict__}))
        staged.flush()
        _set_later(staged.partial, output.partial)
        yield staged


def read_manifest(output: Path, sha256: str | None = None) -> Manifest | None:
    """Return the manifest of a data file, or None when it has none or is not of this very file.

    It is of it when the size is right and the file is older than its manifest; else, as after a process that died
    between the two, the sha256 decides: `sha256` is the file's, for who knows it.
    Raises: InputError when it is broken, or no manifest.
    """
    path = manifest_path(output)
    content = read_json_object(path)
    if content is None:
        return None
    if content.pop("manifest_version", None) != _VERSION:
        raise InputError(f"{path} is not a manifest of this version", hint=_BROKEN_HINT)
    fault = _find_fault(content, 0)
    if fault:
        raise InputError(f"{path} is not a manifest: {fault}", hint=_BROKEN_HINT)
    content["output"].setdefault("path", output.name)
    manifest = Manifest(**{"tool": "", "think_policy": None, **content})
    return manifest if _belongs(manifest, output, sha256) else None


def find_owner(path: Path) -> str | None:
    """Return the name of the data file that a manifest says it is of; None when it says none, or is not there."""
    try:
        content = read_json_object(path) or {}
    except InputError:
        return None
    output = content.get("output")
    name = output.get("path") if isinstance(output, dict) else None
    return name if isinstance(name, str) else None


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
    manifest = read_manifest(path, sha256)
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
    with explain_read_error(path):
        path = path.absolute()
    for folder in path.parents:
        manifest = folder / DOWNLOAD_MANIFEST_NAME
        if not manifest.is_file():
            continue
        content = read_json_object(manifest) or {}
        name = path.relative_to(folder).as_posix()
        files = content.get("files")
        recorded = files.get(name) if isinstance(files, dict) else None
        if isinstance(files, dict) and name not in files:
            return None
        origin = {key: content.get(key) for key in _DOWNLOADED}
        is_sound = all(isinstance(origin[key], str) for key in _DOWNLOADED[:-1])
        fields: dict[str, Any] = recorded if isinstance(recorded, dict) else {}
        has_both = "bytes" in fields and "sha256" in fields
        if not is_sound or not has_both or _find_entry_fault(fields, {"bytes": int, "sha256": str}):
            raise InputError(f"{manifest} cannot be read: it is malformed", hint="download the folder again")
        origin["endpoint"] = mask_urls(str(origin["endpoint"]))
        return {**origin, "file": name, "bytes": fields["bytes"], "sha256": fields["sha256"]}
    return None


def read_json_object(path: Path) -> dict[str, Any] | None:
    """Return the object that a small JSON file of ours holds, None when there is no such file.

    Raises: InputError when it is no file, too large, not JSON, nested too deeply, or no object.
    """
    with explain_read_error(path):
        if not path.exists():
            return None
        seen = path.stat()
    if not path.is_file() or seen.st_size > _MAX_MANIFEST_BYTES:
        raise InputError(f"{path} cannot be read: it is no file of at most {_MAX_MANIFEST_BYTES >> 20} MiB")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {describe_os_error(error)}") from error
    except RecursionError as error:
        raise InputError(f"{path} cannot be read: it is nested too deeply", hint=_BROKEN_HINT) from error
    except ValueError as error:
        raise InputError(f"{path} cannot be read: {error}", hint=_BROKEN_HINT) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a manifest: it holds no object", hint=_BROKEN_HINT)
    return content


def _belongs(manifest: Manifest, output: Path, sha256: str | None) -> bool:
    recorded = manifest.output
    try:
        seen, of_manifest = output.stat(), manifest_path(output).stat()
    except OSError:
        return False
    if seen.st_size != recorded.get("bytes") or not recorded.get("sha256"):
        # A size alone tells no file from another.
        return False
    # A change can leave the time of the last change as it was; but not, on POSIX, when that was set.
    is_older = seen.st_mtime_ns < of_manifest.st_mtime_ns and seen.st_ctime_ns <= of_manifest.st_ctime_ns
    if sha256 is None and recorded["path"] == output.name and is_older:
        return True
    return recorded.get("sha256") == (sha256 or hash_unchanged_file(output))


def _set_later(manifest: Path, output: Path) -> None:
    """Let a manifest be younger than its output, on file systems too whose clock stands still for a while."""
    with explain_os_error(manifest):
        of_output, of_manifest = output.stat().st_mtime_ns, manifest.stat().st_mtime_ns
        if of_manifest <= of_output:
            os.utime(manifest, ns=(of_output + 1_000, of_output + 1_000))


_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "step": str,
    "options": dict,
    "inputs": list,
    "counts": dict,
    "output": dict,
}
_OPTIONAL: Mapping[str, type | tuple[type, ...]] = {"tool": str, "think_policy": (str, type(None))}
_OUTPUT_FIELDS: Mapping[str, type] = {
    "path": str,
    "bytes": int,
    "sha256": str,
    "formatting": str,
    "index_sha256": str,
}
_INPUT_FIELDS: Mapping[str, type] = {**_OUTPUT_FIELDS, "label": str, "name": str, "rows": int, "manifest": dict}


def _find_fault(content: dict[str, Any], depth: int) -> str | None:
    """Return what is wrong with a manifest's content, None when every part that is read is what it should be."""
    if depth > _MAX_CHAIN:
        return "its inputs' manifests are nested too deeply"
    unknown = sorted(set(content) - set(_FIELDS) - set(_OPTIONAL) - {"manifest_version"})
    if unknown:
        return f"it has the unknown field '{unknown[0][:40]}'"
    missing = [name for name in _FIELDS if name not in content]
    if missing:
        return f"it has no '{missing[0]}'"
    if fault := _find_entry_fault(content, {**_FIELDS, **_OPTIONAL}):
        return fault
    if content.get("think_policy") not in _POLICIES:
        return f"its think policy is {content['think_policy'][:40]!r}"
    if fault := _find_entry_fault(content["output"], _OUTPUT_FIELDS) or _find_count_fault(content["counts"]):
        return fault
    return next(filter(None, (_find_input_fault(entry, depth) for entry in content["inputs"])), None)


def _find_input_fault(entry: object, depth: int) -> str | None:
    if not isinstance(entry, dict):
        return "one of its inputs is no object"
    missing = [name for name in ("path", "sha256") if name not in entry]
    if missing:
        return f"one of its inputs has no '{missing[0]}'"
    if fault := _find_entry_fault(entry, _INPUT_FIELDS):
        return f"one of its inputs: {fault}"
    if "manifest" not in entry:
        return None
    fault = _find_fault(entry["manifest"], depth + 1)
    if not fault:
        # Whoever asks for these finds them.
        entry["manifest"].setdefault("think_policy", None)
        entry["manifest"]["output"].setdefault("path", Path(entry["path"]).name)
    return fault


def _find_count_fault(counts: Mapping[str, Any]) -> str | None:
    for name, value in counts.items():
        numbers = value.values() if isinstance(value, dict) else (value,)
        if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
            return f"its count '{name[:40]}' is no number"
    return None


def _find_entry_fault(entry: Mapping[str, Any], fields: Mapping[str, type | tuple[type, ...]]) -> str | None:
    for name, kind in fields.items():
        value = entry.get(name)
        if name in entry and (not isinstance(value, kind) or isinstance(value, bool)):
            return f"'{name}' is {type(value).__name__}"
        if name == "bytes" and isinstance(value, int) and value < 0:
            return "'bytes' is below zero"
        if name == "path" and isinstance(value, str) and (not value or "\0" in value):
            return "'path' is no path"
    return None
