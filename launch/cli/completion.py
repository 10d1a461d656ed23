"""What a shell offers on Tab: names of runs, batches, presets, recipes and steps, keys and their values."""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from launch.choices import Kind
from prep.cli.completion import Complete, complete_from, list_dataset_names, list_template_names, offer

_MOST_FOLDERS = 2_000


def _list_folders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        return sorted(Path(entry.path) for entry in islice(entries, _MOST_FOLDERS) if entry.is_dir())


def list_run_names(_: click.Context) -> Iterator[str]:
    """Yield the names of runs, those of a batch as BATCH/NAME."""
    from launch.runs.folder import RUNS, is_run

    for folder in _list_folders(RUNS):
        if is_run(folder):
            yield folder.name
        else:
            yield from (f"{folder.name}/{inner.name}" for inner in _list_folders(folder) if is_run(inner))


def list_batch_names(_: click.Context) -> Iterator[str]:
    """Yield the names of batches."""
    from launch.runs.batch_plan import is_batch
    from launch.runs.folder import RUNS

    return (folder.name for folder in _list_folders(RUNS) if is_batch(folder.name))


def list_run_and_batch_names(ctx: click.Context) -> Iterator[str]:
    """Yield the names of batches, and of all runs."""
    yield from list_batch_names(ctx)
    yield from list_run_names(ctx)


def list_preset_names(_: click.Context) -> Iterable[str]:
    """Return the names of the presets."""
    from launch.configs.presets import list_presets

    return [preset.name for preset in list_presets()]


def list_recipe_names(_: click.Context) -> Iterable[str]:
    """Return the names of the shipped recipes."""
    from launch.recipes.recipe import list_recipes

    return list_recipes()


def list_step_names(ctx: click.Context) -> Iterable[str]:
    """Return the steps of the recipe that the call names."""
    from launch.recipes.recipe import plan_recipe, read_recipe

    # click leaves the words before an option that still lacks its value in `args`.
    name = ctx.params.get("recipe_name") or next(iter(ctx.args), "")
    return [step.name for step in plan_recipe(read_recipe(name))]


def list_version_names(_: click.Context) -> Iterable[str]:
    """Return the versions of LLaMA-Factory whose facts are here."""
    from prep.llamafactory import list_versions

    return list_versions()


def list_keys(kind: Kind) -> Callable[[click.Context], Iterable[str]]:
    """Return what lists LLaMA-Factory's keys for a YAML that trains, or infers, each with its `=`."""

    def list_them(_: click.Context) -> Iterable[str]:
        from launch.configs.schema import read_schema

        return [f"{key}=" for key in read_schema(kind)["properties"]]

    return list_them


def list_values(key: str, kind: Kind, ctx: click.Context) -> Iterable[str]:
    """Return what a key may be where that is a list: names of datasets and templates, choices, true and false."""
    if key in ("dataset", "eval_dataset"):
        return list_dataset_names(ctx)
    if key == "template":
        return list_template_names(ctx)
    from launch.configs.schema import read_schema

    item = read_schema(kind)["properties"].get(key, {})
    if any(option.get("type") == "boolean" for option in (item, *item.get("anyOf", ()))):
        return ["true", "false"]
    return [str(choice) for choice in item.get("enum", ()) if choice is not None]


def complete_pairs(kind: Kind = "train", *, or_file: bool = False) -> Complete:
    """Return what offers KEY= of a YAML, and the values of a key; with `or_file` files, where nothing fits.

    bash hands over `key=value` in three words, and zsh in one.
    """

    def complete(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
        words = [str(word) for word in ctx.params.get(param.name or "") or ()]
        key, equals, begun = typed.partition("=")
        if equals:
            values = offer(lambda ctx: list_values(key, kind, ctx), ctx, begun)
            return [CompletionItem(f"{key}={item.value}") for item in values]
        if words[-1:] == ["="] and len(words) > 1:
            return offer(lambda ctx: list_values(words[-2], kind, ctx), ctx, typed)
        if words and not typed and f"{words[-1]}=" in list_keys(kind)(ctx):
            return offer(lambda ctx: list_values(words[-1], kind, ctx), ctx, typed)
        items = offer(list_keys(kind), ctx, typed)
        return items if items or not or_file else [CompletionItem(typed, type="file")]

    return complete


complete_run = complete_from(list_run_names)
complete_batch = complete_from(list_batch_names)
complete_run_or_batch = complete_from(list_run_and_batch_names)
complete_preset = complete_from(list_preset_names)
complete_preset_or_file = complete_from(list_preset_names, or_file=True)
complete_recipe_or_file = complete_from(list_recipe_names, or_file=True)
complete_step = complete_from(list_step_names)
complete_version = complete_from(list_version_names)
