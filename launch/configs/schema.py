"""The JSON Schema of LLaMA-Factory's YAML: built from its own arguments, shipped, and checked against.

Checking is done here and not by the jsonschema package, which takes 0.3 s to import, most of the time that a
check may take; a test holds the two to the same verdicts.
"""

import json
import math
import subprocess
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from launch.choices import OTHER_SCHEMAS, Kind
from launch.configs.document import format_value, show_value, suggest_names
from prep.errors import StackError
from prep.llamafactory import KEPT, find_release, find_version_facts
from prep.quality.findings import Finding, at_key
from prep.storage.atomic import encode_json, open_atomic

_INTROSPECT_TIMEOUT_S = 300

_LISTS = {"strings": "string", "numbers": "number"}
# Wider than the annotations, as TrainingArguments.__post_init__ of transformers 5.6 handles them.
_WIDER_TYPES = {"fsdp": {"boolean"}, "resume_from_checkpoint": {"boolean"}}
# Nearer than `batch_size` and `val_size`: one or two letters of a long name.
_SLIP = 0.84
# The keys by which another program's YAML is known.
_CONFIG_NEW = "lfc launch config new PRESET -o FILE"
_FOREIGN = (
    (
        {"compute_environment", "distributed_type"},
        "a config of accelerate",
        "accelerate launch --config_file FILE …",
    ),
    ({"zero_optimization"}, "a config of DeepSpeed", "deepspeed: FILE in a training YAML"),
    ({"model", "train_dataset"}, "a config of LLaMA-Factory's new trainer (USE_V1)", _CONFIG_NEW),
    ({"base_model", "datasets"}, "a config of axolotl", _CONFIG_NEW),
)
_INT64 = 1 << 63
# `.inf` there means that nothing is clipped, and the norm is still logged.
_MAY_BE_INFINITE = ("max_grad_norm",)
_LONG_LIST = 12
_SIMILAR = 0.6
_WORDS = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a string",
    "null": "null",
    "object": "a mapping",
    "array": "a list",
}


def schema_name(kind: Kind, version: str = "") -> str:
    """The file name of a kind's schema; "" is the version that is installed, else the oldest known."""
    return f"llamafactory-{version or find_version_facts().version}-{kind}.schema.json"


def read_schema(kind: Kind) -> dict[str, Any]:
    """Return the shipped schema of a training (`train`) or an export, chat or API YAML (`infer`)."""
    schema: dict[str, Any] = json.loads(read_schema_text(kind))
    return schema


def guess_kind(values: Mapping[str, Any]) -> Kind:
    """Tell a training config by its keys: an inference or export config has no training argument."""
    training = {key for key, item in read_schema("train")["properties"].items() if item["x-group"] == "training"}
    return "train" if training & set(values) else "infer"


def read_schema_text(kind: str) -> str:
    """Return a schema as it stands: `train`, `infer`, or one of OTHER_SCHEMAS."""
    if kind in OTHER_SCHEMAS:
        return (files("llamafactory_configs") / "schemas" / OTHER_SCHEMAS[kind]).read_text(encoding="utf-8")
    return find_version_facts().read_schema_text(kind)


def install_schemas(folder: Path) -> list[Path]:
    """Write every shipped schema into a folder, for an editor's `yaml.schemas` and `json.schemas`."""
    paths = []
    for kind in ("train", "infer", *OTHER_SCHEMAS):
        path = folder / _file_name(kind)
        with open_atomic(path) as out:
            out.write(read_schema_text(kind).encode())
        paths.append(path)
    return paths


def _file_name(kind: str) -> str:
    return OTHER_SCHEMAS.get(kind) or schema_name("infer" if kind == "infer" else "train")


def introspect_stack(python: Path, unpacked: Path | None = None) -> dict[str, Any]:
    """Ask the LLaMA-Factory of another interpreter for what it knows, in a child process.

    Shape: the answer is that of guest/describe_arguments.py; `unpacked` is a folder that holds another
    llamafactory, to be asked instead of the installed one.
    Raises: StackError when it has none, or it cannot be imported.
    """
    script = files("launch") / "guest" / "describe_arguments.py"
    command = [str(python), "-I", str(script), *([str(unpacked)] if unpacked else [])]
    try:
        result = subprocess.run(command, capture_output=True, timeout=_INTROSPECT_TIMEOUT_S, check=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"{python} could not be asked for LLaMA-Factory's arguments: {error}") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise StackError(f"{python} cannot import LLaMA-Factory: {last}", hint="lfc doctor") from error
    described: dict[str, Any] = json.loads(result.stdout)
    return described


def write_schemas(described: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write both schemas of an introspected LLaMA-Factory into a folder."""
    paths = []
    kinds: tuple[Kind, ...] = ("train", "infer")
    for kind in kinds:
        path = folder / schema_name(kind, find_release(described["versions"]["llamafactory"]))
        with open_atomic(path) as out:
            out.write(encode_json(build_schema(described, kind)))
        paths.append(path)
    return paths


def write_facts(described: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write an introspected LLaMA-Factory's templates and models into the folder of its version."""
    told = folder / find_release(described["versions"]["llamafactory"])
    told.mkdir(parents=True, exist_ok=True)
    contents = {
        "models": described["models"],
        "templates": {
            key: described[key] for key in ("templates", "tool_prompts", "strips_lone_tools", "discards_thoughts")
        },
    }
    paths = []
    for name, content in contents.items():
        with open_atomic(told / f"{name}.json") as out:
            out.write(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        paths.append(told / f"{name}.json")
    return paths


def keep_version(python: Path, unpacked: Path | None = None) -> str:
    """Ask a LLaMA-Factory once for what it knows, keep that in this project, and return its release.

    Shape: `python` and `unpacked` are those of `introspect_stack`. What makes the rest valid is written last.
    Raises: StackError as `introspect_stack` does.
    """
    described = introspect_stack(python, unpacked)
    release = find_release(described["versions"]["llamafactory"])
    (KEPT / release).mkdir(parents=True, exist_ok=True)
    write_schemas(described, KEPT / release)
    write_facts(described, KEPT)
    return release


def build_schema(described: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """Return the JSON Schema of what `introspect_stack` described."""
    versions = described["versions"]
    fields = [item for item in described["fields"] if kind == "train" or item["infer"]]
    properties = {item["name"]: _build_property(item) for item in fields}
    properties["template"]["anyOf"] = [{"enum": sorted(described["templates"])}, {"type": "null"}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"LLaMA-Factory {versions['llamafactory']}: {kind}",
        "$comment": f"Generated from llamafactory {versions['llamafactory']} and transformers "
        f"{versions['transformers']} (Apache-2.0) by `lfc launch config schema --refresh`.",
        "type": "object",
        "required": ["model_name_or_path"],
        "additionalProperties": False,
        "properties": properties,
    }


def _build_property(item: Mapping[str, Any]) -> dict[str, Any]:
    kinds = set(item["types"]) | _WIDER_TYPES.get(item["name"], set())
    if "boolean" in kinds:
        # An empty value is null, and null is no.
        kinds.add("null")
    if item["choices"] and kinds <= {"null"}:
        # Editors complete from an enum; null stands beside it.
        allowed: list[dict[str, Any]] = [{"enum": item["choices"]}]
    else:
        allowed = [{"enum": item["choices"]}] if item["choices"] else []
    allowed += [{"type": "array", "items": {"type": _LISTS[name]}} for name in sorted(kinds & set(_LISTS))]
    allowed += [{"type": name} for name in sorted(kinds - set(_LISTS))]
    built: dict[str, Any] = {"description": item["help"], "default": item["default"], "x-group": item["group"]}
    if "deprecated" in item["help"].lower():
        built["deprecated"] = True
    return {**built, "anyOf": allowed} if len(allowed) > 1 else {**built, **(allowed[0] if allowed else {})}


def find_foreign_fault(values: Mapping[str, Any]) -> Finding | None:
    """Return what is wrong with a YAML that was written for another program, None with one for LLaMA-Factory."""
    for markers, what, fix in _FOREIGN:
        if markers <= values.keys() and "model_name_or_path" not in values:
            return at_key("", f"it is {what}: lfc checks what LLaMA-Factory's trainer reads", fix, rule="foreign")
    return None


def find_schema_faults(values: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield every key that LLaMA-Factory does not know and every value that is not of its key's type."""
    properties = schema["properties"]
    for key, value in values.items():
        if key not in properties:
            yield at_key(key, "is no key of LLaMA-Factory", _find_key(key, properties))
        elif not accepts(value, properties[key]):
            yield _explain_value(key, value, properties[key])
        elif problem := _find_number_problem(key, value):
            yield at_key(key, problem, _find_fix(key, None, properties[key], []))
    for key in schema["required"]:
        if values.get(key) is None:
            yield at_key(key, "is missing", f"add `{key}: …`")


def read_key_names() -> dict[str, str]:
    """Return what other programs call LLaMA-Factory's keys: its key, or `$NAME` of an environment variable."""
    names: dict[str, str] = json.loads((files("llamafactory_configs") / "key_names.json").read_text("utf-8"))
    return names


def _find_key(key: str, properties: Mapping[str, Any]) -> str:
    """Return the fix for an unknown key: what is meant by it, or what it is a slip of, where that is plain."""
    plain = key.lower().replace("-", "_")
    meant = read_key_names().get(plain, plain)
    if meant.startswith("$"):
        return f"remove the line, and set the environment variable {meant[1:]}"
    if meant in properties:
        return f"did you mean `{meant}`?"
    near = suggest_names(key, properties, _SLIP)
    return f"did you mean `{near[0]}`?" if near else "remove the line; `lfc launch config schema` lists all"


def _find_number_problem(key: str, value: Any) -> str:
    """Say what is wrong with a number that no computer's integer or no training can take, "" when nothing is."""
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return next(filter(None, (_find_number_problem(key, part) for part in inner)), "")
    if isinstance(value, float) and not math.isfinite(value) and not (key in _MAY_BE_INFINITE and value > 0):
        return f"is {format_value(value)}, and must be a finite number"
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return f"is {show_value(value)}, more than 64 bits hold"
    return ""


def accepts(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value fits one of our schemas' properties: `anyOf`, `enum`, `type`, `items`.

    Shape: an integer is not a boolean and not `8.0`, which torch refuses as a size.
    """
    if "anyOf" in schema:
        return any(accepts(value, part) for part in schema["anyOf"])
    if "enum" in schema:
        return any(value == choice and type(value) is type(choice) for choice in schema["enum"])
    if "type" not in schema:
        return True
    if schema["type"] == "array":
        return isinstance(value, list) and all(accepts(item, schema["items"]) for item in value)
    return schema["type"] in _name_types(value)


def describe_allowed(schema: Mapping[str, Any]) -> str:
    """Say in words what a property allows: `a whole number or null`."""
    parts = schema.get("anyOf", [schema])
    if isinstance(schema.get("default"), bool):
        # It is taken, and means no: nobody would write it.
        parts = [part for part in parts if part.get("type") != "null"]
    words = []
    for part in parts:
        if "enum" in part:
            words += [format_value(choice) for choice in part["enum"]]
        elif part.get("type") == "array":
            words.append(f"a list of {part['items']['type']}s")
        elif "type" in part:
            words.append(_WORDS[part["type"]])
    if not words:
        return "anything"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _name_types(value: Any) -> set[str]:
    if value is None:
        return {"null"}
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer", "number"}
    if isinstance(value, float):
        return {"number"}
    return {"string"} if isinstance(value, str) else {"object"} if isinstance(value, dict) else {"array"}


def _explain_value(key: str, value: Any, schema: Mapping[str, Any]) -> Finding:
    allowed = describe_allowed(schema)
    choices = [str(choice) for part in schema.get("anyOf", [schema]) for choice in part.get("enum", [])]
    if len(choices) > _LONG_LIST:
        allowed = f"one of {len(choices)} names"
    message = f"is {show_value(value)}, allowed is {allowed}"
    return at_key(key, message, _find_fix(key, value, schema, choices))


def _find_fix(key: str, value: Any, schema: Mapping[str, Any], choices: list[str]) -> str:
    """Return the line to write instead, as near as it can be told."""
    word = {True: "yes", False: "no"}.get(value) if isinstance(value, bool) else None
    if word in choices:
        return f'{key}: "{word}" in quotes: YAML reads a bare {word} as {str(value).lower()}'
    if isinstance(value, str):
        near = suggest_names(value, choices, _SLIP if len(choices) > _LONG_LIST else _SIMILAR)
        if near:
            return f"{key}: {near[0]}"
        bare = _read_bare(value)
        if not isinstance(bare, str) and accepts(bare, schema):
            return f"{key}: {show_value(bare)} without quotes"
    if isinstance(value, float) and value.is_integer() and accepts(int(value), schema):
        return f"{key}: {int(value)}"
    if isinstance(value, int | float) and accepts(str(value), schema):
        return f"{key}: '{str(value).lower() if isinstance(value, bool) else value}'"
    default = schema["default"]
    return f"{key}: {format_value(default)}, the default" if default is not None else f"remove `{key}`"


def _read_bare(text: str) -> Any:
    from launch.configs.document import parse_value
    from prep.errors import ConfigError

    try:
        return parse_value(text)
    except ConfigError:
        return text
