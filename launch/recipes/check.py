"""What a recipe may say: its keys and types by its JSON Schema, then names, shares, settings and paths."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from launch.configs.document import suggest_names
from launch.configs.presets import find_preset
from launch.configs.schema import find_schema_faults, read_schema
from prep.errors import ConfigError, InputError, UserError
from prep.names import check_dataset_name, check_name, find_name_fault, fold_name, make_name
from prep.quality.findings import Finding
from prep.storage.os_errors import describe_os_error, is_folder

SOURCE_PLACES = ("sample", "download", "path")
TINY = "tiny"
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_MAX_DEPTH, _MAX_VALUES = 20, 20_000
_MAX_BITS = 63
_MAX_SHOWN = 60
# What the steps themselves decide.
_DECIDED = {
    "config": {"model_name_or_path", "dataset", "eval_dataset", "dataset_dir", "do_train", "do_eval", "do_predict"},
    "eval": {
        "model_name_or_path", "adapter_name_or_path", "dataset", "eval_dataset", "dataset_dir", "output_dir",
        "do_train", "do_eval", "do_predict", "predict_with_generate",
    },
}  # fmt: skip
# LLaMA-Factory's keys that name a place where it writes.
_WRITTEN = (
    "output_dir", "logging_dir", "tokenized_path", "export_dir", "cache_dir", "offload_folder",
    "profiler_output_dir", "swanlab_logdir",
)  # fmt: skip
_WORDS = {
    "object": "keys with values",
    "array": "a list",
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}


_BOUNDS = {
    "minimum": "from {} on",
    "exclusiveMinimum": "above {}",
    "maximum": "up to {}",
    "minProperties": "at least {}",
    "maxProperties": "at most {}",
    "minLength": "at least {} long",
    "maxLength": "at most {} long",
}


def check_recipe(recipe: Mapping[str, Any], stem: str) -> None:
    """Check a recipe with its overrides; `stem` names it where it has no name that can be shown.

    Raises: ConfigError, InputError or DownloadError that says which key, what was seen, and what is allowed.
    """
    name = recipe.get("name")
    where = f"recipe {stem if find_name_fault(name) else name}"
    fault = next(_find_odd_values(recipe, "", [0]), None)
    if fault:
        raise ConfigError(f"{where}: {fault}")
    _check_schema(recipe, where)
    check_dataset_name(name, "recipe name")
    labels: dict[str, str] = {}
    for label, source in recipe["sources"].items():
        check_dataset_name(label, f"{where}: the source label")
        other = labels.setdefault(fold_name(label), label)
        if other != label:
            raise ConfigError(f"{where}: the source labels {other} and {label} are one name on some file systems")
        _check_source(label, source, where)
    _check_shares(recipe, where)
    check_model(recipe["model"], where)
    _check_config(recipe, where)


def check_model(model: str, where: str) -> None:
    """Raise when a model is neither `tiny`, nor a folder, nor OWNER/NAME."""
    from prep.hub.catalog import resolve_names

    if model == TINY or is_folder(model):
        return
    try:
        check_name(resolve_names([model], "model")[0].folder_name, "model")
    except UserError as error:
        allowed = "`tiny`, a folder that is there, or OWNER/NAME on ModelScope, hf:OWNER/NAME on Hugging Face"
        raise ConfigError(
            f"{where}: model {_shorten(model)!r} is none of {allowed}", hint="model=Qwen/Qwen3-4B"
        ) from error


def _find_odd_values(value: Any, key: str, count: list[int]) -> Iterator[str]:
    """Yield what cannot stand in a recipe: keys that are no text, numbers without end, control characters."""
    count[0] += 1
    if count[0] > _MAX_VALUES or key.count(".") > _MAX_DEPTH:
        yield f"holds more than {_MAX_VALUES:,} values, or is nested more than {_MAX_DEPTH} deep"
    elif isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                yield f"`{key or 'the top'}` holds a key that is no text: put quotes around it"
            else:
                yield from _find_odd_values(inner, f"{key}.{_shorten(name)}" if key else _shorten(name), count)
    elif isinstance(value, list):
        for number, inner in enumerate(value, 1):
            yield from _find_odd_values(inner, f"{key}.{number}", count)
    elif isinstance(value, str):
        if any((letter < " " and letter not in "\n\t") or "\ud800" <= letter <= "\udfff" for letter in value):
            yield f"`{key}` holds a control character"
    elif isinstance(value, int):
        if value.bit_length() > _MAX_BITS:
            yield f"`{key}` is a number of more than {_MAX_BITS} bits"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"`{key}` is {value}, allowed is a finite number"
    elif value is not None:
        yield f"`{key}` is a {type(value).__name__}, allowed are texts, numbers, true, false, null, lists and keys"


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _check_schema(recipe: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError for the first fault that recipe.schema.json finds, unknown keys first."""
    import json

    import jsonschema

    schema = json.loads((files("llamafactory_configs") / "schemas" / "recipe.schema.json").read_text("utf-8"))
    faults = list(jsonschema.Draft202012Validator(schema).iter_errors(recipe))
    if faults:
        # A key that is not known may be the one that is missing; what lies nearer to the top explains the rest.
        order = {"additionalProperties": 0, "required": 2}
        fault = min(faults, key=lambda fault: (order.get(fault.validator, 1), len(fault.path)))
        message, hint = _describe_schema_fault(fault)
        raise ConfigError(f"{where}: {message}", hint=hint)


def _describe_schema_fault(fault: Any) -> tuple[str, str | None]:
    """Return what a fault of the schema says, and what to write instead."""
    path = [_shorten(str(part)) for part in fault.path]
    key = ".".join(path)
    place = f"source {path[1]}: " if len(path) == 2 and path[0] == "sources" else f"`{key}` has an " if key else ""
    if fault.validator == "additionalProperties":
        known = list(fault.schema["properties"])
        strange = _shorten(min(set(fault.instance) - set(known)))
        near = suggest_names(strange, known)
        return f"{place}unknown key {strange}", near[0] if near else f"the keys are {', '.join(known)}"
    if fault.validator == "required":
        missing = next(name for name in fault.validator_value if name not in fault.instance)
        return f"`{f'{key}.' if key else ''}{missing}` is missing", _EXAMPLES.get(missing)
    near = suggest_names(str(fault.instance), map(str, fault.schema.get("enum", ())))
    hint = near[0] if near else _EXAMPLES.get(path[0] if path else "")
    return f"`{key}` is {_show_value(fault.instance)}, allowed is {_describe_allowed(fault)}", hint


_EXAMPLES = {
    "sources": "sources.mine.path=FILE",
    "split": "split.test=0.1",
    "test": "split.test=0.1",
    "model": "model=tiny, or model=Qwen/Qwen3-4B",
    "config": "config.preset=cpu-smoke",
    "preset": "config.preset=cpu-smoke",
}


def _show_value(value: Any) -> str:
    if isinstance(value, dict | list):
        what = "keys with values" if isinstance(value, dict) else "a list"
        return f"{what}" if value else f"empty ({what})"
    if isinstance(value, str):
        return repr(_shorten(value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _describe_allowed(fault: Any) -> str:
    """Say in words what a schema allows where a fault was found."""
    schema = fault.schema
    if "enum" in schema:
        return ", ".join(_show_value(choice) for choice in schema["enum"])
    if "anyOf" in schema:
        return "a text or a list of texts, none of them empty"
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    words = " or ".join(_WORDS[kind] for kind in kinds)
    told = [text.format(schema[name]) for name, text in _BOUNDS.items() if name in schema]
    return f"{words}, {' and '.join(told)}" if told else words


def _check_source(label: str, source: Mapping[str, Any], where: str) -> None:
    places = [place for place in SOURCE_PLACES if source.get(place)]
    if len(places) != 1:
        given = f"sources.{label}.path=YOUR_FILE"
        raise ConfigError(f"{where}: source {label} needs one of {', '.join(SOURCE_PLACES)}", hint=given)
    if source.get("path") and (fault := _find_path_fault(source["path"])):
        raise InputError(f"{where}: source {label}: {_shorten(source['path'])} {fault}")
    for key in ("revision", "files"):
        if key in source and places != ["download"]:
            raise ConfigError(f"{where}: source {label}: `{key}` goes with `download`")
    if source.get("download"):
        _check_download(label, source, where)
    for ours in source.get("map") or {}:
        if not KEY.fullmatch(ours):
            raise ConfigError(
                f"{where}: source {label}: map: {ours!r} is no column of ours", hint="map: {question: 问题}"
            )
    _check_convert_options(label, source, where)


def _check_convert_options(label: str, source: Mapping[str, Any], where: str) -> None:
    """Raise when a format is unknown or a condition is none: convert would say so after the download."""
    from prep.convert.where import parse_condition
    from prep.formats import SOURCES

    where_texts = source.get("where") or []
    try:
        for text in [where_texts] if isinstance(where_texts, str) else where_texts:
            parse_condition(text)
    except UserError as error:
        raise ConfigError(f"{where}: source {label}: {error}", hint=error.hint) from error
    name = source.get("format")
    if name is not None and name not in SOURCES:
        known = ", ".join(SOURCES)
        raise ConfigError(f"{where}: source {label}: format is {_show_value(name)}, allowed is {known}")


def _check_download(label: str, source: Mapping[str, Any], where: str) -> None:
    from prep.hub.catalog import resolve_names

    try:
        check_name(resolve_names([source["download"]], "dataset")[0].folder_name, "repository")
    except UserError as error:
        raise ConfigError(f"{where}: source {label}: {error}", hint=error.hint) from error
    pattern = source.get("files", "x")
    if pattern.startswith(("/", "-", "~", "\\")) or ".." in PurePosixPath(pattern.replace("\\", "/")).parts:
        raise ConfigError(
            f"{where}: source {label}: files: {pattern!r} leads out of the download", hint="files: data/*.parquet"
        )


def _find_path_fault(path: str) -> str | None:
    """Return why a source cannot be read: it is missing, or a pipe or device that has no end."""
    try:
        if Path(path).is_file() or Path(path).is_dir():
            return None
        return "is neither a file nor a folder" if Path(path).exists() else "does not exist"
    except (OSError, ValueError) as error:  # Longer than the system takes.
        return f"does not exist: {describe_os_error(error)}"


def _check_shares(recipe: Mapping[str, Any], where: str) -> None:
    shares, labels = recipe.get("mix") or {}, recipe["sources"]
    for strange in shares:
        if strange not in labels:
            raise ConfigError(
                f"{where}: mix names {strange}, which is no source", hint=f"the sources are {', '.join(labels)}"
            )
    for label in labels if shares else ():
        if label not in shares:
            raise ConfigError(f"{where}: mix names no share of {label}", hint=f"mix.{label}=0.5")
    for side, size in recipe["split"].items():
        if size >= 1 and size != int(size):
            raise ConfigError(
                f"{where}: split.{side} is {size}, allowed is a share below 1 or a whole number of rows",
                hint=f"split.{side}={int(size)}",
            )
    share = sum(size for size in recipe["split"].values() if size < 1)
    if share >= 1:
        raise ConfigError(f"{where}: split holds out {share:.0%} of the rows: none is left to train on")


def _check_config(recipe: Mapping[str, Any], where: str) -> None:
    preset = find_preset(recipe["config"]["preset"])
    if not preset.values.get("do_train"):
        raise ConfigError(f"{where}: preset {preset.name} does not train", hint="lfc launch config ls")
    settings = recipe["config"].get("set") or {}
    _check_settings(settings, f"{where}: config.set", _DECIDED["config"])
    _check_settings((recipe.get("eval") or {}).get("set") or {}, f"{where}: eval.set", _DECIDED["eval"])
    for key in _WRITTEN:
        if settings.get(key) is not None:
            check_inner_path(settings[key], f"{where}: config.set.{key}")


def _check_settings(settings: Mapping[str, Any], where: str, decided: set[str]) -> None:
    """Raise ConfigError for a key that is no key of LLaMA-Factory, or a value that is not of its type."""
    for key in settings:
        if not KEY.fullmatch(key):
            raise ConfigError(
                f"{where}: {_shorten(key)!r} is no key of LLaMA-Factory", hint="letters, digits and _"
            )
        if key in decided:
            raise ConfigError(f"{where}: `{key}` is decided by the recipe's steps", hint=_DECIDERS.get(key))
    for fault in find_schema_faults(settings, read_schema("train")):
        if fault.key in settings:
            place = where.rpartition(": ")[2]
            raise ConfigError(f"{where}: `{fault.key}` {fault.message}", hint=as_override(fault, place))


def as_override(fault: Finding, place: str) -> str:
    """Return a fault's fix as a recipe takes it: `config.set.bf16=false` for `bf16: false`."""
    return fault.fix.replace(f"{fault.key}: ", f"{place}.{fault.key}=", 1)


_DECIDERS = {"model_name_or_path": "model=OWNER/NAME", "dataset": "sources.LABEL.path=FILE"}


def check_inner_path(path: str, where: str) -> PurePosixPath:
    """Return a path inside a recipe's folder; raises ConfigError when it leads, or could lead, out of it."""
    inner = PurePosixPath(path)
    faults = [fault for part in inner.parts if (fault := find_name_fault(part))]
    if inner.is_absolute() or ".." in inner.parts:
        raise ConfigError(f"{where}: {_shorten(path)} lies outside the recipe's folder", hint="such as saves/mine")
    if faults or not inner.parts:
        raise ConfigError(
            f"{where}: {_shorten(path)!r} {faults[0] if faults else 'is the whole folder'}",
            hint="such as saves/mine",
        )
    return inner


def name_model(model: str) -> str:
    """Return the part of an output's path that names its model."""
    return make_name(Path(model).name)


def find_collision(claims: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """Return the first two claims, (who, path), on one place or one inside the other; None when all are apart."""
    seen: dict[tuple[str, ...], tuple[str, str]] = {}
    inner: dict[tuple[str, ...], tuple[str, str]] = {}
    for who, path in claims:
        parts = tuple(map(fold_name, PurePosixPath(path).parts))
        ancestors = [parts[:length] for length in range(1, len(parts) + 1)]
        other = next((seen[part] for part in ancestors if part in seen), None) or inner.get(parts)
        if other:
            return other, (who, path)
        seen[parts] = (who, path)
        for part in ancestors:
            inner.setdefault(part, (who, path))
    return None
