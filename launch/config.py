"""Preset + overrides + dataset → a YAML that LLaMA-Factory runs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.document import format_value, load_document, parse_value
from launch.presets import Preset, find_template
from prep.errors import ConfigError
from prep.files import Manifest, read_manifest, refuse_existing, write_text
from prep.registry import find_dataset_file, read_registry
from prep.thinking import ThinkPolicy

SCHEMA_NAMES = {
    "train": "llamafactory-0.9.5-train.schema.json",
    "infer": "llamafactory-0.9.5-infer.schema.json",
}


@dataclass(frozen=True)
class NewConfig:
    """A config that was written: what it says, and what followed from the dataset and the model."""

    path: Path
    values: dict[str, Any]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunConfig:
    """A config as one run gets it: the values, and the exact YAML text that says them."""

    values: dict[str, Any]
    text: str


def read_run_config(path: Path, pairs: Iterable[str] = ()) -> RunConfig:
    """Return a config with `key=value` overrides; without any the file's own text stays as it is.

    Raises: ConfigError as `read_config` and `parse_overrides` do.
    """
    overrides = parse_overrides(pairs)
    values = {**read_config(path), **overrides}
    if not overrides:
        return RunConfig(values, path.read_text(encoding="utf-8"))
    header = f"{path.as_posix()} with {', '.join(f'{key}={format_value(overrides[key])}' for key in overrides)}"
    return RunConfig(values, format_config(values, header=header))


def read_config(path: Path) -> dict[str, Any]:
    """Return a YAML config's values as LLaMA-Factory gets them.

    Raises: ConfigError when it is missing, is not one YAML mapping, or gives a key twice.
    """
    document = load_document(path)
    for fault in document.faults:
        place = document.places[fault.key]
        raise ConfigError(f"{path} line {place.line}: `{fault.key}` is {fault.message}", hint=fault.mend)
    return document.values


def write_config(path: Path, values: Mapping[str, Any], *, header: str, preset: Preset | None = None) -> None:
    """Write a YAML config atomically; raises OutputError when the file cannot be written."""
    write_text(path, format_config(values, header=header, preset=preset))


def format_config(values: Mapping[str, Any], *, header: str, preset: Preset | None = None) -> str:
    """Return a YAML config: the header as comments, then one line a key.

    A preset lends its section headings and its comments.
    """
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    sections = preset.sections if preset else {}
    for key, value in values.items():
        if key in sections:
            lines += ["", f"# {sections[key]}"]
        comment = preset.comments.get(key, "") if preset else ""
        lines.append(f"{key}: {format_value(value)}" + (f"  # {comment}" if comment else ""))
    return "\n".join(lines) + "\n"


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Parse `key=value` with the value typed as in YAML: `bf16=false`, `max_steps=30`, `key=null`.

    Raises: ConfigError when a pair has no `=` or its value is not YAML.
    """
    overrides = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise ConfigError(f"'{pair}' is not key=value", hint=f"{pair or 'key'}=VALUE")
        overrides[key] = parse_value(text)
    return overrides


def new_config(
    preset: Preset,
    path: Path,
    overrides: Mapping[str, Any],
    *,
    dataset_dir: Path | None = None,
    force: bool = False,
) -> NewConfig:
    """Write a config from a preset: what the dataset and the model decide, then the overrides, win over it.

    `enable_thinking`, `mask_history` and `template` follow the think policy in the dataset's manifest and the
    model's name; an override of the same key stays as it is.
    Raises: ConfigError, RegistryError when a dataset is unknown, OutputError when the file stands already.
    """
    refuse_existing(path, force=force)
    values = preset.values
    notes: list[str] = []
    derived = dict(overrides)
    if dataset_dir is not None:
        derived["dataset_dir"] = dataset_dir.as_posix()
    merged = {**values, **derived}
    for key, value in {**_follow_model(merged), **_follow_dataset(merged, notes)}.items():
        derived.setdefault(key, value)
    if "output_dir" in values:
        derived.setdefault("output_dir", _name_output_dir({**values, **derived}, path.stem))
    values = {**values, **derived}
    write_config(path, values, header=_write_header(preset, path), preset=preset)
    return NewConfig(path, values, notes)


def _follow_model(values: Mapping[str, Any]) -> dict[str, Any]:
    template = find_template(str(values.get("model_name_or_path", "")))
    return {"template": template} if template else {}


def _follow_dataset(values: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return what the datasets' manifests decide; says in `notes` where there is none to follow."""
    folder = Path(str(values.get("dataset_dir") or "data"))
    manifests = {}
    policies: dict[str, ThinkPolicy] = {}
    for name in split_names(values.get("dataset")) + split_names(values.get("eval_dataset")):
        manifest = read_dataset_manifest(name, folder)
        if manifest is None or manifest.think_policy is None:
            notes.append(f"dataset '{name}' has no manifest: `enable_thinking` is left as it is")
        else:
            manifests[name] = manifest
            policies[name] = ThinkPolicy(manifest.think_policy)
    if len(set(policies.values())) > 1:
        seen = ", ".join(f"{name} is {policy}" for name, policy in policies.items())
        raise ConfigError(
            f"the datasets were written under different think policies: {seen}",
            hint="convert them again with one --think-policy",
        )
    decided: dict[str, Any] = {}
    for policy in set(policies.values()):
        decided["enable_thinking"] = policy.enable_thinking
    if any(manifest.counts.get("with_history", 0) > 0 for manifest in manifests.values()):
        # Qwen3's own template drops the thoughts of earlier turns; so does LLaMA-Factory, with this alone.
        decided["mask_history"] = True
    return decided


def read_dataset_manifest(name: str, dataset_dir: Path) -> Manifest | None:
    """Return the manifest of a registered dataset's file, None when it has none or is not a file here.

    Raises: RegistryError when the dataset is unknown or its file is missing.
    """
    entry = read_registry(dataset_dir).get(name)
    if entry is not None and "file_name" not in entry:
        return None
    return read_manifest(find_dataset_file(name, dataset_dir))


def split_names(value: Any) -> list[str]:
    """Return the names in `dataset: a,b`; a list is taken as it is, null is none."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",")]
    return [str(name) for name in value] if isinstance(value, list) else []


def _name_output_dir(values: Mapping[str, Any], name: str) -> str:
    # LlamaBoard lists saves/<model>/<finetuning_type>/<run>, and strips spaces.
    model = Path(str(values.get("model_name_or_path", "model"))).name.replace(" ", "-")
    return f"saves/{model}/{values.get('finetuning_type', 'lora')}/{name.replace(' ', '-')}"


def _write_header(preset: Preset, path: Path) -> str:
    kind = "train" if "output_dir" in preset.values else "infer"
    run = next(line for line in preset.opening if line.startswith("Run:")).replace(
        f"configs/{preset.name}.yaml", path.as_posix()
    )
    return "\n".join(
        (
            f"yaml-language-server: $schema={SCHEMA_NAMES[kind]}",
            f"{preset.title} (preset {preset.name})",
            f"Needs: {preset.needs}",
            run,
        )
    )
