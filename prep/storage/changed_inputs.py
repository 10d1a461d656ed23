"""Whether what a file was made from has changed since, and the command that makes it anew."""

import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from prep.errors import InputError
from prep.storage.fingerprints import hash_unchanged_file
from prep.storage.manifests import Manifest, manifest_path, read_manifest

# {a manifest's option: the option of lfc prep convert}; those that stand for themselves.
_PLAIN_OPTIONS = (
    *("system", "turns", "where", "limit", "sample", "seed", "dedup", "max_tokens", "on_long", "drop"),
    "think_open",
)
_READING_OPTIONS = ("encoding", "delimiter", "sheet", "split", "subset", "split_text")
_PAIRED_OPTIONS = {"column_map": "--map", "roles": "--role"}
_USUAL = {"turns": "expand", "on_long": "reject"}


class ChangedInput(NamedTuple):
    """An input that is no longer what it was, the file that was made from it, and what makes that anew."""

    path: str
    made: str
    command: str


def find_changed_inputs(output: Path, manifest: Manifest | None = None) -> Iterator[ChangedInput]:
    """Yield the inputs on a file's whole way that have changed since they were read.

    An input that is not where it was is none: it may have been moved, and the file is still what it was.
    Raises: InputError when a manifest is broken.
    """
    made = manifest or read_manifest(output)
    if made is None:
        return
    for entry in made.read_inputs():
        path = Path(entry.path)
        if _is_changed(path, entry.bytes, entry.sha256, output):
            yield ChangedInput(entry.path, output.as_posix(), describe_command(output, made))
        elif entry.manifest is not None:
            yield from find_changed_inputs(path, entry.manifest)


def describe_command(output: Path, manifest: Manifest) -> str:
    """Return the command that makes a file anew; of a step that is none of ours, where its options stand."""
    describe = _STEPS.get(manifest.step)
    if describe is None:
        return f"lfc prep {manifest.step} once more, with the options that stand in {manifest_path(output)}"
    command = _COMMANDS.get(manifest.step, manifest.step)
    return " ".join(map(shlex.quote, ["lfc", "prep", command, *describe(output, manifest), "--force"]))


def _describe_mix(output: Path, manifest: Manifest) -> Iterator[str]:
    options = manifest.options
    for entry in manifest.inputs:
        yield f"{entry.get('name')}={entry.get('path')}"
    if ratio := _as_dict(options.get("ratio")):
        yield from ("--ratio", ",".join(f"{name}={share}" for name, share in ratio.items()))
    for name in ("by", "model", "tolerance", "dedup", "seed"):
        if options.get(name) is not None:
            yield from (f"--{name}", str(options[name]))
    yield from ["--oversample"] * bool(options.get("oversample"))
    yield from _describe_benchmarks(options)
    yield from ("-o", output.as_posix())


def _describe_split(output: Path, manifest: Manifest) -> Iterator[str]:
    options = manifest.options
    yield from (entry.path for entry in manifest.read_inputs())
    for name in ("test", "val", "seed"):
        if options.get(name):
            yield from (f"--{name}", str(options[name]))
    yield from ["--drop-overlap"] * bool(options.get("drop_overlap"))
    yield from ("-o", output.as_posix().removesuffix(f"_{options.get('side')}{output.suffix}"))


def _describe_repair(output: Path, manifest: Manifest) -> Iterator[str]:
    yield from (entry.path for entry in manifest.read_inputs())
    yield from ("-o", output.as_posix())
    if manifest.think_policy:
        yield from ("--think-policy", manifest.think_policy)


def _describe_benchmarks(options: dict[str, Any]) -> Iterator[str]:
    for benchmark in options.get("decontaminate", []):
        yield from ("--decontaminate", benchmark["path"])


def _describe_convert(output: Path, manifest: Manifest) -> list[str]:
    words = [*(entry.path for entry in manifest.read_inputs()), "-o", output.as_posix()]
    options = manifest.options
    words += ["--format", str(options.get("format", ""))] if options.get("format") else []
    words += ["--think-policy", manifest.think_policy] if manifest.think_policy else []
    for name, option in _PAIRED_OPTIONS.items():
        for ours, theirs in _as_dict(options.get(name)).items():
            words += [option, f"{ours}={theirs}"]
    if fixes := options.get("fix_turns"):
        words += ["--fix-turns", ",".join(fixes)]
    if "label_is" in options:
        words += ["--label-is", str(options["label_is"]).lower()]
    words += _describe_benchmarks(options)
    for name in (*_PLAIN_OPTIONS, *_READING_OPTIONS):
        value = options.get(name)
        if value in (None, "", [], _USUAL.get(name)):
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name.replace('_', '-')}", str(one)]
    return words


_STEPS: dict[str, Callable[[Path, Manifest], Iterable[str]]] = {
    "convert": _describe_convert,
    "mix": _describe_mix,
    "split": _describe_split,
    "lint-fix": _describe_repair,
}
# Where a step is called otherwise than its command.
_COMMANDS = {"lint-fix": "repair"}


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_changed(path: Path, size: int, sha256: str, output: Path) -> bool:
    try:
        if not path.is_file():
            return False
        seen, made = path.stat(), output.stat() if output.is_file() else None
        if size >= 0 and seen.st_size != size:
            return True
        if made is not None and seen.st_mtime_ns < made.st_mtime_ns:
            return False
        return hash_unchanged_file(path) != sha256
    except (OSError, ValueError, InputError):
        return False
