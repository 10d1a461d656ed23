"""A sweep file, or several configs → the runs of a batch, each with a name and an output folder of its own."""

import itertools
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePath
from typing import Any

from launch.configs.config import read_config
from launch.configs.document import format_value, load_document, parse_value, suggest_names
from prep.errors import ConfigError
from prep.names import MAX_NAME_BYTES, check_name, make_name
from prep.secrets import holds_secret
from prep.storage.os_errors import is_file

_ATTEMPT = re.compile(r"\.\d+$")
_SCHEMA = "schemas/sweep.schema.json"
_MAX_RUNS = 10_000
_EXAMPLES = {
    "config": "config: configs/base.yaml",
    "set": "set: {max_steps: 100}",
    "grid": "grid: {learning_rate: [1.0e-4, 2.0e-4]}",
    "zip": "zip: {lora_rank: [8, 16], lora_alpha: [16, 32]}",
    "runs": "runs: {slow: {learning_rate: 1.0e-5}}",
    "boost": "boost: true",
    "tokenize": "tokenize: false",
}


def read_sweep(paths: Sequence[Path], batch: str) -> dict[str, dict[str, Any]]:
    """Return {run name: config values} of one sweep file, or of several configs.

    Shape of a sweep: `config` is the YAML that all share; `set` changes it for all; `grid` makes every
    combination of its lists, `zip` pairs its lists by position, `runs` names single ones; `boost: true` boosts all,
    `tokenize: false` lets each run make its tokens.
    Each run without an `output_dir` of its own gets one beside the shared one.
    Raises: ConfigError when the file is not of this shape, two runs are one, or share a name or an output folder.
    """
    first = load_document(paths[0])
    if len(paths) == 1 and "config" in first.values:
        for fault in first.faults:
            line = first.places[fault.key].line
            raise ConfigError(f"{paths[0]} line {line}: `{fault.key}` is {fault.message}", hint=fault.fix)
        configs = _expand_sweep(paths[0], first.values, batch)
    else:
        configs = _read_configs(paths)
    check_run_names(configs)
    check_output_folders(configs)
    return configs


def wants_boost(paths: Sequence[Path]) -> bool:
    """Whether a sweep file asks that its runs are boosted; the file was read by `read_sweep` before."""
    values = load_document(paths[0]).values
    return len(paths) == 1 and "config" in values and values.get("boost") is True


def wants_tokens(paths: Sequence[Path]) -> bool:
    """Whether the runs' tokens are made once: unless a sweep file says `tokenize: false`."""
    values = load_document(paths[0]).values
    return len(paths) != 1 or "config" not in values or values.get("tokenize") is not False


def _read_configs(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    places = [os.path.realpath(path) for path in paths]
    for number, path in enumerate(paths):
        if places[number] in places[:number]:
            raise ConfigError(f"{path} is given twice", hint="name each config once")
    labels = _shorten([PurePath(place).with_suffix("").parts for place in places])
    return {name: read_config(path) for name, path in zip(labels, paths, strict=True)}


def _expand_sweep(path: Path, sweep: Mapping[str, Any], batch: str) -> dict[str, dict[str, Any]]:
    check_sweep(sweep, str(path))
    config = Path(sweep["config"])
    base = {**read_config(config if is_file(config) else path.parent / config), **(sweep.get("set") or {})}
    grid, pairs = sweep.get("grid") or {}, sweep.get("zip") or {}
    named = {str(name): dict(values or {}) for name, values in (sweep.get("runs") or {}).items()}
    combinations = list(_combine(path, grid, pairs))
    if len(combinations) + len(named) == 0:
        raise ConfigError(f"{path}: grid, zip and runs are all empty", hint=_EXAMPLES["grid"])
    for name in named:
        check_name(name, f"{path}: run name")
    changes = {**dict(zip(_name_combinations(combinations, list(named)), combinations, strict=True)), **named}
    shared = Path(str(base.get("output_dir") or f"saves/{batch}"))
    return {
        name: {**base, "output_dir": (shared.parent / f"{shared.name}-{name}").as_posix(), **change}
        for name, change in changes.items()
    }


def check_sweep(sweep: Mapping[str, Any], name: str) -> None:
    """Raise ConfigError when a sweep's content is not what sweep.schema.json allows; `name` stands before it."""
    import jsonschema

    texts = {key: _with_text_keys(value) for key, value in sweep.items()}
    errors = jsonschema.Draft202012Validator(_read_schema()).iter_errors(texts)
    error = min(errors, key=lambda error: [str(part) for part in error.absolute_path], default=None)
    if error is None:
        return
    if error.validator == "additionalProperties" and not error.absolute_path:
        raise _refuse_keys(name, sorted(set(texts) - set(_EXAMPLES)))
    where = ".".join(str(part) for part in error.absolute_path)
    allowed = error.schema.get("description", "what the schema says")
    seen = str(format_value(error.instance))[:60] if not isinstance(error.instance, bytes) else "bytes"
    top = str(next(iter(error.absolute_path), "config"))
    raise ConfigError(f"{name}: `{where}` must be {allowed}, not {seen}", hint=_EXAMPLES.get(top))


def _refuse_keys(name: str, unknown: list[str]) -> ConfigError:
    """Return the error of keys that a sweep does not have; one that a training has belongs under `set`."""
    from launch.configs.schema import read_schema

    first = unknown[0]
    near = suggest_names(first, _EXAMPLES)
    if first in read_schema("train")["properties"]:
        hint = f"set: {{{first}: …}} for all runs, or grid: {{{first}: […, …]}}"
    elif near:
        hint = _EXAMPLES[near[0]]
    else:
        hint = "lfc launch batch --help shows a whole sweep file"
    what = f"unknown key {first}" if len(unknown) == 1 else f"unknown keys {', '.join(unknown)}"
    return ConfigError(f"{name}: {what}; a sweep has {', '.join(_EXAMPLES)}", hint=hint)


@cache
def _read_schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((files("llamafactory_configs") / _SCHEMA).read_text(encoding="utf-8"))
    return schema


def _with_text_keys(value: Any) -> Any:
    """Return a value whose mappings have texts as keys, as JSON has; YAML allows numbers and more."""
    if isinstance(value, dict):
        return {str(key): inner for key, inner in value.items()}
    return value


def _combine(path: Path, grid: Mapping[str, Any], pairs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    both = sorted(set(map(str, grid)) & set(map(str, pairs)))
    if both:
        raise ConfigError(f"{path}: `{both[0]}` stands in both grid and zip", hint="keep one of the two")
    if len({len(values) for values in pairs.values()}) > 1:
        raise ConfigError(f"{path}: the lists under `zip` must be equally long")
    rows = [dict(zip(pairs, row, strict=True)) for row in zip(*pairs.values(), strict=True)]
    for key, values in grid.items():
        _refuse_equal(f"{path}: `grid.{key}`", values)
    _refuse_equal(f"{path}: `zip`", rows)
    count = max(len(rows), 1)
    for values in grid.values():
        count *= len(values)
    if count > _MAX_RUNS:
        raise ConfigError(f"{path}: the grid makes {count:,} runs, at most {_MAX_RUNS:,} are allowed")
    for row in rows or [{}]:
        for values in itertools.product(*grid.values()):
            combination = {str(key): value for key, value in zip(grid, values, strict=True)}
            combination |= {str(key): value for key, value in row.items()}
            if combination:
                yield combination


def _refuse_equal(where: str, values: Sequence[Any]) -> None:
    """Raise ConfigError when two values are one, however they are spelled: 1.0e-4 and 0.0001."""
    seen: dict[str, Any] = {}
    for value in values:
        key = _spell(value)
        if key in seen:
            spelled = f"{format_value(seen[key])} and {format_value(value)}"
            raise ConfigError(f"{where} holds {spelled}: two runs would be one", hint="name each value once")
        seen[key] = value


def _spell(value: Any) -> str:
    """Return one spelling for all values that LLaMA-Factory takes for the same."""
    if isinstance(value, Mapping):
        return repr(sorted((str(key), _spell(inner)) for key, inner in value.items()))
    if isinstance(value, list):
        return repr([_spell(inner) for inner in value])
    if isinstance(value, str):
        try:
            read = parse_value(value)
        except ConfigError:
            read = value
        if isinstance(read, int | float) and not isinstance(read, bool):
            return _spell(read)
        return f"text {value}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return f"number {float(value)!r}"
        except OverflowError:
            return f"number {value}"
    return repr(value)


def _name_combinations(combinations: Sequence[Mapping[str, Any]], taken: Sequence[str]) -> list[str]:
    """Return a name for each combination: its keys and values, of paths as much as tells them apart."""
    keys = list(dict.fromkeys(key for combination in combinations for key in combination))
    labels: dict[str, dict[str, str]] = {}
    for key in keys:
        spelled = {_spell(change[key]): change[key] for change in combinations}
        if any(holds_secret(value, key) for value in spelled.values()):
            # A name is shown everywhere: values that must not be shown are told apart by their number.
            labels[key] = {text: str(number) for number, text in enumerate(spelled, 1)}
            continue
        parts = [PurePath(str(value)).parts or (str(value),) for value in spelled.values()]
        labels[key] = dict(zip(spelled, _shorten(parts), strict=True))
    names = ["_".join(f"{key}-{labels[key][_spell(change[key])]}" for key in change) for change in combinations]
    return _make_unique([make_name(name) for name in names], taken)


def _shorten(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """Return a name for each path: its last part, or as many as tell it from the others."""
    longest = max(map(len, paths))
    for count in range(1, longest + 1):
        names = [make_name("_".join(part.strip("/\\") for part in path[-count:])) for path in paths]
        if len(set(map(_fold, names))) == len(names):
            return names
    last = [make_name(path[-1]) for path in paths]
    return _make_unique(last, ())


def _make_unique(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Return names of which no two are one on any system, and none is an attempt of another."""
    used = {_fold(name) for name in taken}
    first = {_fold(name) for name in (*names, *taken)}
    unique = []
    for number, name in enumerate(names, 1):
        choice, again = name, number
        while _fold(choice) in used or _is_attempt(choice, first) or _has_attempt(choice, used):
            choice, again = _append(name, f"-r{again}"), again + len(names)
        used.add(_fold(choice))
        unique.append(choice)
    return unique


def _append(name: str, ending: str) -> str:
    while len(f"{name}{ending}".encode()) > MAX_NAME_BYTES:
        name = name[:-1]
    return f"{name}{ending}"


def _fold(name: str) -> str:
    """Return what a file system that ignores case and composition takes a name for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _is_attempt(name: str, others: set[str]) -> bool:
    folded = _fold(name)
    return bool(_ATTEMPT.search(folded)) and _ATTEMPT.sub("", folded) in others


def _has_attempt(name: str, used: set[str]) -> bool:
    return any(_ATTEMPT.sub("", other) == _fold(name) and _ATTEMPT.search(other) for other in used)


def check_run_names(names: Iterator[str] | Mapping[str, Any]) -> None:
    """Raise ConfigError when two run names are one folder on some system, or one is another's second attempt."""
    seen: dict[str, str] = {}
    for name in names:
        check_name(name, "run name")
        other = seen.setdefault(_fold(name), name)
        if other != name:
            raise ConfigError(
                f"runs '{other}' and '{name}' are one name where case is ignored", hint="rename one of them"
            )
    for folded, name in seen.items():
        first = _ATTEMPT.sub("", folded)
        if first != folded and first in seen:
            raise ConfigError(
                f"run '{name}' has the name of an attempt of run '{seen[first]}'",
                hint="rename one of them: attempts are NAME.2, NAME.3, …",
            )


def check_output_folders(configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ConfigError when two runs write into one folder, however it is spelled, or one into another's."""
    folders: list[tuple[tuple[str, ...], str, str]] = []
    for run, values in configs.items():
        spelled = values.get("output_dir")
        if not isinstance(spelled, str) or not spelled.strip() or "\0" in spelled:
            raise ConfigError(f"run '{run}': `output_dir` is {spelled!r:.60}, allowed is the path of a folder")
        parts = tuple(map(_fold, Path(os.path.realpath(spelled)).parts))
        if parts == tuple(map(_fold, Path(os.path.realpath(os.curdir)).parts)):
            raise ConfigError(f"run '{run}': `output_dir` {spelled} is the working folder itself")
        folders.append((parts, run, spelled))
    folders.sort()
    # Sorted, what lies in a folder stands right behind it.
    outer: list[tuple[tuple[str, ...], str, str]] = []
    for parts, run, spelled in folders:
        while outer and parts[: len(outer[-1][0])] != outer[-1][0]:
            outer.pop()
        if outer:
            _refuse_shared(outer[-1], (parts, run, spelled))
        outer.append((parts, run, spelled))


def _refuse_shared(one: tuple[tuple[str, ...], str, str], other: tuple[tuple[str, ...], str, str]) -> None:
    spelled = one[2] if one[2] == other[2] else f"{one[2]}, also spelled {other[2]}"
    if one[0] == other[0]:
        message = f"runs '{one[1]}' and '{other[1]}' share the output_dir {spelled}"
        raise ConfigError(message, hint="one for each run")
    raise ConfigError(
        f"the output_dir {other[2]} of run '{other[1]}' lies inside {one[2]}, that of run '{one[1]}'",
        hint="folders beside each other",
    )
