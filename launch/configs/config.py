"""Preset + overrides + dataset → a YAML that LLaMA-Factory runs; all faults of a YAML at once."""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.choices import Kind
from launch.configs.document import (
    Document,
    Place,
    format_entry,
    format_value,
    load_document,
    parse_document,
    parse_value,
    show_value,
)
from launch.configs.models import find_model_template
from launch.configs.presets import Preset, find_preset, list_presets
from launch.configs.private import write_config_text
from launch.configs.rules import Machine, Setting, find_rule_faults, read_dataset_manifest, split_names
from launch.configs.rules.data.mixing import SFT_ONLY
from launch.configs.schema import (
    find_foreign_fault,
    find_schema_faults,
    guess_kind,
    read_schema,
    read_schema_text,
    schema_name,
)
from launch.machine.variables import is_enabled
from prep.choices import ThinkPolicy
from prep.errors import ConfigError
from prep.frames import make_frame
from prep.llamafactory import find_version_facts
from prep.quality.findings import Finding
from prep.secrets import list_secrets, mask_known, mask_values
from prep.storage.atomic import refuse_existing, write_text
from prep.storage.bounded_yaml import read_text
from prep.terminal import neutralise_line

if TYPE_CHECKING:
    import pandas as pd

    from prep.tokens.cutoff import CutoffAdvice

# A fault of a key that is not in the file is shown at its start.
_NO_PLACE = Place(1, 1)
_NEW = "lfc launch config new PRESET -o FILE"
# A key of LLaMA-Factory or of the harness: what else stands before a `=` never reaches a file or a command line.
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True)
class Check:
    """What was found in a config, in the order of its lines, and what it was judged as."""

    path: Path
    kind: Kind
    findings: list[Finding]

    @property
    def has_errors(self) -> bool:
        """Whether one of them stops the run or loses data."""
        return any(finding.is_error for finding in self.findings)

    def to_pandas(self) -> "pd.DataFrame":
        """Return what was found, a row each."""
        return make_frame(
            {
                "severity": finding.severity.value,
                "line": finding.where.line,
                "key": finding.where.key,
                "message": finding.message,
                "fix": finding.fix,
                "rule": finding.rule,
            }
            for finding in self.findings
        )


@dataclass(frozen=True)
class NewConfig:
    """A config that was written: what it says, what could not be followed, and what is wrong with it."""

    path: Path
    values: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


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
    # Read once: what is checked is what runs, also when somebody edits the file meanwhile.
    text = read_text(path, _NEW)
    values = {**_refuse_document_faults(parse_document(text, str(path)), path), **overrides}
    if not overrides:
        return RunConfig(values, text)
    shown = mask_values(overrides)
    header = f"{path.as_posix()} with {', '.join(f'{key}={format_value(shown[key])}' for key in shown)}"
    return RunConfig(values, format_config(values, header=header))


def read_config(path: Path) -> dict[str, Any]:
    """Return a YAML config's values as LLaMA-Factory gets them.

    Raises: ConfigError when it is missing, is not one YAML mapping, or gives a key twice.
    """
    return _refuse_document_faults(load_document(path), path)


def _refuse_document_faults(document: Document, path: Path) -> dict[str, Any]:
    for fault in document.faults:
        place = document.places.get(fault.key, _NO_PLACE)
        raise ConfigError(f"{path} line {place.line}: {fault.describe()}", hint=fault.fix)
    return document.values


def write_config(path: Path, values: Mapping[str, Any], *, header: str, preset: Preset | None = None) -> None:
    """Write a YAML config atomically, for its owner alone when it holds a secret.

    Raises: OutputError when the file cannot be written.
    """
    write_config_text(path, format_config(values, header=header, preset=preset), values)


def format_config(values: Mapping[str, Any], *, header: str, preset: Preset | None = None) -> str:
    """Return a YAML config: the header as comments, then one line a key.

    A preset lends its section headings and its comments.
    """
    lines = [f"# {neutralise_line(line)}".rstrip() for line in header.splitlines()]
    sections = preset.sections if preset else {}
    for key, value in values.items():
        if key in sections:
            lines += ["", f"# {sections[key]}"]
        comment = preset.comments.get(key, "") if preset else ""
        lines.append(format_entry(key, value) + (f"  # {comment}" if comment else ""))
    return "\n".join(lines) + "\n"


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Parse `key=value` with the value typed as in YAML: `bf16=false`, `max_steps=30`, `key=null`.

    Raises: ConfigError when a pair has no `=` or its value is not YAML.
    """
    overrides = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise ConfigError(f"'{show_value(pair)}' is not key=value", hint=f"{show_value(pair or 'key')}=VALUE")
        if not _KEY.fullmatch(key):
            raise ConfigError(f"{show_value(key)} is no key: a key is of letters, digits and _", hint="KEY=VALUE")
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
    model's name, `cutoff_len` the rows' lengths; an override of the same key stays as it is. The result is
    checked for any machine; the schema lies beside it, so that editors find it wherever the folder goes.
    Raises: ConfigError for a key or type that LLaMA-Factory does not take, RegistryError when a dataset is
    unknown, OutputError when the file stands already.
    """
    refuse_existing(path, force=force)
    values = preset.values
    kind = guess_kind(values)
    refuse_wrong_types(path, {**values, **overrides}, kind)
    notes: list[str] = []
    derived = dict(overrides)
    if dataset_dir is not None:
        derived["dataset_dir"] = dataset_dir.as_posix()
    merged = {**values, **derived}
    followed = {**_follow_model(merged, preset, overrides), **_follow_dataset(merged, notes)}
    for key, value in {**followed, **_follow_stage({**merged, **followed})}.items():
        derived.setdefault(key, value)
    cutoffs = _follow_lengths(values, derived, notes) if kind == "train" else {}
    if "output_dir" in values:
        derived.setdefault("output_dir", _name_output_dir({**values, **derived}, path.stem))
    values = {**values, **derived}
    # Measuring took its time: somebody may have written there meanwhile.
    refuse_existing(path, force=force)
    write_config(path, values, header=_write_header(preset, path, kind), preset=preset)
    schema = path.with_name(schema_name(kind))
    if not os.path.lexists(schema):
        write_text(schema, read_schema_text(kind))
    return NewConfig(path, values, notes, check_values(values, kind, Machine(), path, cutoffs))


def refuse_wrong_types(path: Path, values: Mapping[str, Any], kind: Kind) -> None:
    """Raise ConfigError for the first key that LLaMA-Factory does not know, or whose value it does not take."""
    for fault in find_schema_faults(values, read_schema(kind)):
        raise ConfigError(f"{path}: {fault.describe()}", hint=fault.fix)


def check_config(path: Path, machine: Machine, kind: Kind | None = None, *, measure: bool = False) -> Check:
    """Find everything that is wrong with a YAML config: keys, types, combinations, data, model and machine.

    Shape: faults are in the order of the file's lines. Without a `kind` the keys tell whether it trains. To
    `measure` is to read the datasets in the model's tokens, which takes seconds.
    Raises: ConfigError when the file is missing or is not one YAML mapping.
    """
    document = load_document(path)
    kind = kind or guess_kind(document.values)
    cutoffs: dict[str, CutoffAdvice] = {}
    if measure and kind == "train":
        from launch.configs.cutoff import measure_datasets

        cutoffs = measure_datasets(document.values, [])
    findings = [
        fault.at(str(path), *document.places.get(fault.key, _NO_PLACE))
        for fault in (*document.faults, *check_values(document.values, kind, machine, path, cutoffs))
    ]
    findings.sort(key=lambda finding: (not finding.is_error, finding.where.line, finding.where.column))
    return Check(path, kind, findings)


def check_values(
    values: Mapping[str, Any],
    kind: Kind,
    machine: Machine,
    path: Path | None = None,
    cutoffs: "Mapping[str, CutoffAdvice] | None" = None,
) -> list[Finding]:
    """Find everything that is wrong with a config's values; `path` is where it stands or will stand."""
    if foreign := find_foreign_fault(values):
        return [foreign.at(str(path or ""))]
    schema = read_schema(kind)
    extra_allowed = is_enabled("ALLOW_EXTRA_ARGS", os.environ)
    known = {key: value for key, value in values.items() if key in schema["properties"] or not extra_allowed}
    faults = list(find_schema_faults(known, schema))
    defaults = {key: item["default"] for key, item in schema["properties"].items()}
    wrong = frozenset(fault.key for fault in faults if fault.is_error)
    faults += find_rule_faults(Setting(values, defaults, machine, path, wrong, cutoffs or {}))
    secrets = set(list_secrets(dict(values)))
    return [_mask_fault(fault, secrets).at(str(path or "")) for fault in faults]


def _mask_fault(fault: Finding, secrets: Collection[str]) -> Finding:
    return replace(fault, message=mask_known(fault.message, secrets), fix=mask_known(fault.fix, secrets))


def diff_configs(first: str, second: str) -> dict[str, tuple[Any, Any]]:
    """Return the keys on which two configs differ, each a preset's name or a file, with both values.

    Shape: a key that one side lacks has the value `...` there.
    """
    return diff_values(_read_either(first).values, _read_either(second).values)


def diff_values(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys on which two configs' values differ, as `diff_configs` does; secrets are masked."""
    keys = [*left, *(key for key in right if key not in left)]
    pairs = {key: (left.get(key, ...), right.get(key, ...)) for key in keys}
    differing = {
        key: pair for key, pair in pairs.items() if pair[0] != pair[1] or type(pair[0]) is not type(pair[1])
    }
    return {
        key: (
            pair[0] if pair[0] is ... else mask_values(pair[0], key),
            pair[1] if pair[1] is ... else mask_values(pair[1], key),
        )
        for key, pair in differing.items()
    }


def _read_either(name: str) -> Document:
    path = Path(name)
    if path.is_file() or name not in {preset.name for preset in list_presets()}:
        return load_document(path) if path.suffix in (".yaml", ".yml") else find_preset(name).document
    return find_preset(name).document


def _follow_model(values: Mapping[str, Any], preset: Preset, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's template; the preset's stays where its model stays, or where the model's family has it.

    Raises: ConfigError when the template is not known: a wrong one trains without a word.
    """
    model = str(values.get("model_name_or_path") or "")
    found = find_model_template(model)
    if found.template:
        return {"template": found.template}
    kept = values.get("template")
    is_presets = model == str(preset.values.get("model_name_or_path") or "")
    if "template" in overrides or kept is None or is_presets or kept in found.candidates:
        return {}
    told = f"; it may be {' or '.join(found.candidates)}" if found.candidates else ""
    raise ConfigError(
        f"LLaMA-Factory {find_version_facts().version} names no template for {show_value(model)}{told}",
        hint=f"template={found.candidates[0] if found.candidates else 'NAME'}",
    )


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


def _follow_stage(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what another stage than sft turns off."""
    if values.get("stage", "sft") == "sft":
        return {}
    return {key: False for key in SFT_ONLY if values.get(key)}


def _follow_lengths(
    values: Mapping[str, Any], derived: dict[str, Any], notes: list[str]
) -> "dict[str, CutoffAdvice]":
    """Measure the rows and set the `cutoff_len` that they need, unless an override did."""
    from launch.configs.cutoff import choose_cutoff, measure_datasets

    measured = measure_datasets({**values, **derived}, notes)
    advised = choose_cutoff(measured)
    if advised is not None and "cutoff_len" not in derived:
        derived["cutoff_len"] = advised
        notes.append(f"cutoff_len {advised} follows from the rows, in the model's own tokens")
    return measured


def _name_output_dir(values: Mapping[str, Any], name: str) -> str:
    # LlamaBoard lists saves/<model>/<finetuning_type>/<run>, and strips spaces.
    model = Path(str(values.get("model_name_or_path", "model"))).name.replace(" ", "-")
    return f"saves/{model}/{values.get('finetuning_type', 'lora')}/{name.replace(' ', '-')}"


def _write_header(preset: Preset, path: Path, kind: Kind) -> str:
    run = next(line for line in preset.opening if line.startswith("Run:")).replace(
        f"configs/{preset.name}.yaml", path.as_posix()
    )
    return "\n".join(
        (
            f"yaml-language-server: $schema={schema_name(kind)}",
            f"{preset.title} (preset {preset.name})",
            f"Needs: {preset.needs}",
            run,
        )
    )
