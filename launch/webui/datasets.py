"""Datasets as the WebUI needs them: what empties its list, breaks its preview, or stops the training."""

from collections.abc import Collection, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

from launch.configs.rules import split_names
from prep.errors import RegistryError, UserError
from prep.quality.findings import Finding, LintRule, format_finding
from prep.quality.lint import lint_dataset
from prep.quality.lint_registry import lint_registry
from prep.registry.dataset import Dataset, list_entry_files, read_entry
from prep.registry.dataset_info import FILE_NAME, read_registry, unknown_name
from prep.wording import in_shell

# What the page's preview, or LLaMA-Factory's loader, cannot read at all.
_UNREADABLE = {
    LintRule.BOM,
    LintRule.ENCODING,
    LintRule.BLANK_LINE,
    LintRule.JSON,
    LintRule.FILE_NAME,
    LintRule.NOT_OBJECT,
    LintRule.REPEATED_KEY,
    LintRule.NO_ROWS,
}
# What stops the training too, once the rows are read.
_UNTRAINABLE = _UNREADABLE | {LintRule.COLUMNS, LintRule.TYPE}
_LINTED = (".json", ".jsonl")
# Files that the config does not name are read through up to this size.
_MAX_OTHER_BYTES = 64 << 20
_SHOWN = 5


def check_datasets(values: Mapping[str, Any]) -> list[str]:
    """Check dataset_info.json and every file that it names; return what is worth knowing of other datasets.

    Raises: RegistryError with line and column when the list would be empty, or a dataset of the config is broken.
    """
    folder = Path(str(values.get("dataset_dir") or "data"))
    if str(folder).startswith(("ONLINE", "REMOTE:")):
        return []
    registry = folder / FILE_NAME
    chosen = split_names(values.get("dataset")) + split_names(values.get("eval_dataset"))
    if not registry.is_file():
        read_registry(folder)
    found = lint_registry(registry)
    fatal = [finding for finding in found if _is_fatal(finding, chosen)]
    if fatal:
        raise RegistryError(_describe(fatal, "the WebUI would show an empty or a wrong list of datasets"))
    entries = read_registry(folder)
    notes = [_name(finding) for finding in found]
    for name in chosen:
        if name not in entries:
            raise unknown_name(name, entries, registry)
        if list_entry_files(entries[name], folder):
            faults = _lint(read_entry(name, entries[name], folder), _choose_kinds(entries[name]))
            if faults:
                raise RegistryError(
                    _describe(faults, f"dataset '{name}' cannot be trained on"),
                    hint=f"lfc prep lint {in_shell(name)} --dataset-dir {in_shell(folder)} tells all",
                )
    others = {name: entry for name, entry in entries.items() if name not in chosen}
    for name, entry in others.items():
        if list_entry_files(entry, folder):
            notes += _check_other(name, entry, folder)
    return notes


def _check_other(name: str, entry: dict[str, Any], folder: Path) -> list[str]:
    try:
        dataset = read_entry(name, entry, folder)
    except UserError as error:
        # Its entry or its manifest is broken: that stops nobody who trains on another one.
        return [str(error)]
    size = sum(path.stat().st_size for path in dataset.paths)
    if size > _MAX_OTHER_BYTES:
        return [f"dataset '{name}' was not read through, it has {size >> 20:,} MiB: lfc prep lint {in_shell(name)}"]
    faults = _lint(dataset, _UNREADABLE)
    return [f"dataset '{name}': {_name(faults[0])}"] if faults else []


def _choose_kinds(entry: Mapping[str, Any]) -> Collection[LintRule]:
    """Return the faults that count: the rows of preference data have shapes that lint does not judge."""
    columns = entry.get("columns")
    is_plain = not entry.get("ranking") and entry.get("formatting", "alpaca") in ("alpaca", "sharegpt")
    has_labels = isinstance(columns, dict) and {"chosen", "rejected", "kto_tag"} & set(columns)
    return _UNTRAINABLE if is_plain and not has_labels else _UNREADABLE


def _lint(dataset: Dataset, kinds: Collection[LintRule]) -> list[Finding]:
    if not all(path.suffix.lower() in _LINTED for path in dataset.paths):
        return []
    found: list[Finding] = []
    lint_dataset(dataset, found.append, ignore=[kind for kind in LintRule if kind not in kinds])
    return found


def _is_fatal(finding: Finding, chosen: Collection[str]) -> bool:
    """Whether a finding empties the list of datasets, or is about one that the config names."""
    name = finding.message.partition("'")[2].partition("': ")[0] if finding.message.startswith("'") else None
    if name is not None:
        return finding.rule is LintRule.NOT_OBJECT or name in chosen
    # The WebUI reads UTF-8, and our environment makes the trainer do so too: letters beyond ASCII are fine.
    return finding.rule is not LintRule.ENCODING or "not ASCII" not in finding.message


def _describe(findings: list[Finding], title: str) -> str:
    lines = [indent(format_finding(finding), "  ") for finding in findings[:_SHOWN]]
    more = [f"  and {len(findings) - _SHOWN} more"] if len(findings) > _SHOWN else []
    return "\n".join([f"{title}:", *lines, *more])


def _name(finding: Finding) -> str:
    return f"{finding.where}: {finding.message}; {finding.fix}"
