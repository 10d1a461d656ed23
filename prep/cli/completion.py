"""What a shell offers on Tab: names of datasets, templates and public sets, and how a list is offered."""

import re
from collections.abc import Callable, Iterable
from functools import wraps
from itertools import islice
from pathlib import Path

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from prep.errors import UserError

# A shell takes a name as it is offered, unquoted: what it would read in another way is not offered.
_SAFE = re.compile(r"[\w.+,@%/:=-]+")
_MOST_NAMES = 500

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
NameSource = Callable[[click.Context], Iterable[str]]


def complete_from(source: NameSource, *, or_file: bool = False) -> Complete:
    """Return what offers a source's names that begin as typed; with `or_file` files, where none does.

    What cannot be read offers nothing: a message would be written over the line that is being typed.
    """

    @wraps(source)
    def complete(ctx: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
        items = offer(source, ctx, typed)
        return items if items or not or_file else [CompletionItem(typed, type="file")]

    return complete


def offer(source: NameSource, ctx: click.Context, typed: str) -> list[CompletionItem]:
    """Return the first names of a source that begin as typed, none when it cannot be read."""
    try:
        fitting = (name for name in source(ctx) if name.startswith(typed) and _SAFE.fullmatch(name))
        return [CompletionItem(name) for name in islice(fitting, _MOST_NAMES)]
    except (UserError, OSError, ValueError, TypeError, LookupError, RecursionError):
        return []


def list_dataset_names(ctx: click.Context) -> Iterable[str]:
    """Return the names in the dataset_info.json of the call's --dataset-dir."""
    from prep.registry.dataset_info import read_registry

    return list(read_registry(Path(ctx.params.get("dataset_dir") or "data"), missing_ok=True))


def list_template_names(_: click.Context) -> Iterable[str]:
    """Return the names of LLaMA-Factory's templates that are known here."""
    from prep.tokens.templates import list_templates

    return list_templates()


def list_format_names(_: click.Context) -> Iterable[str]:
    """Return the names of the row formats."""
    from prep.formats import SOURCES

    return list(SOURCES)


def list_catalog_names(_: click.Context) -> Iterable[str]:
    """Return the names of the public sets that `lfc prep download` knows."""
    from prep.hub.catalog import read_catalog

    return list(read_catalog())


def list_lint_rules(_: click.Context) -> Iterable[str]:
    """Return the names of lint's rules."""
    from prep.quality.findings import LintRule

    return [rule.value for rule in LintRule]


complete_dataset = complete_from(list_dataset_names)
complete_dataset_or_file = complete_from(list_dataset_names, or_file=True)
complete_template = complete_from(list_template_names)
complete_format = complete_from(list_format_names)
complete_public_set = complete_from(list_catalog_names)
complete_lint_rule = complete_from(list_lint_rules)


class KeyedBashComplete(BashComplete):
    """click's completion for bash, which sets no space behind `key=`."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", "COMPREPLY+=($value)\n            [[ $value == *= ]] && compopt -o nospace"
    )


def install_completion() -> None:
    """Let click use what stands here; called only where a shell asks."""
    add_completion_class(KeyedBashComplete)
