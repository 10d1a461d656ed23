"""What can be told about a recipe before its first step: the program, the config, the folder, and the sources."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launch.configs.config import check_values
from launch.configs.presets import find_preset
from launch.configs.rules import read_machine
from launch.machine.command import find_llamafactory_cli
from launch.recipes.check import as_override
from launch.recipes.recipe import name_rows
from launch.recipes.steps import Step
from launch.recipes.steps_folder import check_folder, refuse_own_sources
from prep.errors import ConfigError, UnreachableHubError, UserError

# What the steps decide, or look for in the recipe's folder once it is there.
_LATER = {
    "model_name_or_path", "adapter_name_or_path", "dataset", "eval_dataset", "dataset_dir", "media_dir", "template",
    "enable_thinking", "mask_history", "cutoff_len", "val_size", "eval_strategy", "do_eval", "deepspeed",
    "tokenized_path", "resume_from_checkpoint", "ref_model", "reward_model", "output_dir",
}  # fmt: skip
# Rows of larger sources are tried from the first on, and not mixed.
_WHOLE_BYTES = 64 << 20
_TRIED_ROWS = 1_000


def check_plan(
    recipe: Mapping[str, Any], steps: Sequence[Step], folder: Path, given_cli: str | None
) -> Path | None:
    """Return the llamafactory-cli that steps need, None when they need none; writes nothing.

    Raises: UserError for the first thing because of which they could not run.
    """
    check_folder(folder, steps)
    refuse_own_sources(folder, steps)
    if any(step.name == "train" for step in steps):
        _check_training(recipe, steps, folder)
    if any(step.argv[0] == "launch" for step in steps):
        return find_llamafactory_cli(given_cli)
    return None


def _check_training(recipe: Mapping[str, Any], steps: Sequence[Step], folder: Path) -> None:
    """Raise ConfigError for what `lfc launch train` would refuse once the data is there."""
    output = next(step for step in steps if step.name == "train").outputs[0]
    preset = find_preset(recipe["config"]["preset"])
    values = {
        **preset.values,
        "model_name_or_path": recipe["model"],
        "dataset": f"{recipe['name']}_train",
        **(recipe["config"].get("set") or {}),
        "output_dir": (folder.absolute() / output).as_posix(),
    }
    for fault in check_values(values, "train", read_machine()):
        if fault.is_error and fault.key not in _LATER:
            raise ConfigError(
                f"recipe {recipe['name']}: the config: {fault.describe()}", hint=as_override(fault, "config.set")
            )


def try_downloads(recipe: Mapping[str, Any], steps: Sequence[Step], folder: Path) -> list[str]:
    """Ask the hub for what steps would download, and return what it could not be asked.

    Raises: DownloadError when it has no such repository, or will not give it.
    """
    from prep.hub.catalog import resolve_names
    from prep.hub.client import DownloadOptions
    from prep.hub.download import plan_downloads

    notes = []
    wanted = [
        (source["download"], "dataset", source) for source in recipe["sources"].values() if "download" in source
    ]
    wanted += [(recipe["model"], "model", {})] if any("--model" in step.argv for step in steps) else []
    for name, kind, source in wanted:
        if not name or not any(name in step.argv and step.resumes for step in steps):
            continue
        options = DownloadOptions(repo_type=kind, revision=source.get("revision"))
        try:
            plan_downloads(
                resolve_names([name], kind), folder / ("raw" if kind == "dataset" else "models"), options
            )
        except UnreachableHubError as error:
            notes.append(f"{error}: whether it can be downloaded is not known")
    return notes


def try_sources(recipe: Mapping[str, Any], steps: Sequence[Step]) -> list[str]:
    """Convert, mix and split the sources that are on this machine in a temporary folder; return what was left out.

    Raises: UserError as the steps would.
    """
    from prep.hub.samples import copy_samples

    names = {step.name for step in steps}
    with tempfile.TemporaryDirectory(prefix="lfc-") as scratch:
        work = Path(scratch)
        copy_samples(work / "raw")
        here = {
            label: Path(source["path"]) if source.get("path") else work / "raw" / source["sample"]
            for label, source in recipe["sources"].items()
            if not source.get("download") and f"convert-{label}" in names
        }
        whole = sum(_measure(path) for path in here.values()) <= _WHOLE_BYTES
        for label, path in here.items():
            with _explain(work):
                _convert(recipe, label, path, work, whole=whole)
        if not whole:
            return [f"of the sources the first {_TRIED_ROWS:,} rows were tried: they are large"]
        if len(here) == len(recipe["sources"]) and {"split"} <= names:
            with _explain(work):
                _mix_and_split(recipe, work)
    return []


def _measure(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _convert(recipe: Mapping[str, Any], label: str, path: Path, work: Path, *, whole: bool) -> None:
    from prep.choices import ThinkPolicy
    from prep.convert.convert import convert_files
    from prep.convert.options import ConvertOptions
    from prep.inputs.reader import ReadOptions

    source = recipe["sources"][label]
    conditions = source.get("where") or []
    limit = source.get("limit")
    options = ConvertOptions(
        format=source.get("format"),
        policy=ThinkPolicy(recipe.get("think_policy", "tagged")),
        column_map=dict(source.get("map") or {}),
        turns=source.get("turns", "expand"),
        system=source.get("system", ""),
        where=(conditions,) if isinstance(conditions, str) else tuple(conditions),
        limit=limit if whole else min(limit or _TRIED_ROWS, _TRIED_ROWS),
        sample=source.get("sample_rows") if whole else None,
        dedup=source.get("dedup"),
        max_rejects=source.get("max_rejects", 0),
        reading=ReadOptions(split=source.get("split", "")),
    )
    result = convert_files([path], work / "data" / f"{label}.jsonl", options)
    wanted, other = (result.tools_output, result.output) if source.get("tools") else (result.output, True)
    if wanted is None:
        told = "has no row with tools" if source.get("tools") else "has only rows with tools"
        raise UserError(f"source {label} {told}", hint=f"sources.{label}.tools={not source.get('tools')}".lower())
    if other is not None and source.get("tools"):
        raise UserError(
            f"source {label} has rows without tools too, and takes those with tools alone",
            hint=f"put them into a file of their own, or keep them out with sources.{label}.where",
        )


def _mix_and_split(recipe: Mapping[str, Any], work: Path) -> None:
    from prep.combine.mix import MixOptions, mix_files
    from prep.combine.split import SplitOptions, SplitSizes, split_file

    name, seed = recipe["name"], recipe.get("seed", 42)
    parts = {
        label: work / "data" / f"{name_rows(label, source)}.jsonl" for label, source in recipe["sources"].items()
    }
    mixed = next(iter(parts.values()))
    if len(parts) > 1:
        mixed = work / "data" / f"{name}.jsonl"
        mix_files(parts, mixed, MixOptions(ratio=recipe.get("mix"), seed=seed))
    sizes = SplitSizes(recipe["split"]["test"], recipe["split"].get("val", 0))
    split_file(mixed, work / "data" / name, SplitOptions(sizes, seed=seed))


@contextmanager
def _explain(work: Path) -> Iterator[None]:
    """Let an error name the recipe's places, not those of the folder in which they were tried."""
    try:
        yield
    except UserError as error:
        # What a hint names in that folder is gone by the time that it is read.
        hint = None if error.hint and str(work) in error.hint else error.hint
        message = str(error).replace(f"{work}/", "").replace(f"{work.as_posix()}/", "")
        raise UserError(message, hint=hint) from error
