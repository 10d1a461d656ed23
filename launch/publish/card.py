"""The card of what is published: base, licence, data, training and scores, without paths of this machine."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from launch.publish.plan import PublishedKind, is_hub_name
from launch.results.scores import FIGURES
from launch.results.summary import DataSummary, Score
from prep.secrets import mask_values
from prep.storage.manifests import Manifest
from prep.terminal import neutralise_line

LICENCE_TO_FILL_IN = "fill in before others use it"
# Where things lie on this machine, and who watched.
_LEFT_OUT = re.compile(
    r"^(?:output_dir|dataset_dir|logging_dir|cache_dir|tokenized_path|resume_from_checkpoint|export_dir"
    r"|overwrite_\w+|swanlab_\w+|hub_\w+|run_name|report_to|use_swanlab)$"
)
_LOCAL = re.compile(r"^(?:[/~.]|[A-Za-z]:[\\/])")
_DRIVE = re.compile(r"[\\/]")


@dataclass(frozen=True)
class Origin:
    """Where something comes from, as far as it is known: its training, that one's data and scores, its manifest."""

    base: str | None = None
    config: Mapping[str, Any] | None = None
    data: Sequence[DataSummary] = ()
    score: Score | None = None
    manifest: Manifest | None = None


def write_card(repository: str, kind: PublishedKind, licence: str | None, origin: Origin) -> str:
    """Return a card in Markdown with a hub's own heading in YAML, without secrets and paths of this machine."""
    heading = yaml.safe_dump(_build_heading(kind, origin.base, licence), allow_unicode=True, sort_keys=False)
    lines = ["---", heading.rstrip(), "---", "", f"# {repository.partition('/')[2]}", ""]
    lines += [_describe(kind, origin.base), "", "## Licence", ""]
    lines += [licence or f"Not chosen yet: {LICENCE_TO_FILL_IN}.", ""]
    data, score, config = origin.data, origin.score, origin.config
    if origin.manifest is not None:
        lines += _describe_manifest(origin.manifest)
    if data:
        lines += ["## Data", "", "| dataset | rows | think policy | made from |", "| --- | --- | --- | --- |"]
        lines += [_format_row(_list_data(entry)) for entry in data] + [""]
    if score is not None:
        lines += list(_describe_score(score))
    if config:
        text = yaml.safe_dump(clean_config(config), allow_unicode=True, sort_keys=False).rstrip()
        lines += ["## Training", "", "LLaMA-Factory, with this config:", "", "```yaml", text, "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def clean_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without what tells of this machine: folders go, a path becomes its last part."""
    masked = mask_values({key: value for key, value in config.items() if not _LEFT_OUT.match(key)})
    return {key: _shorten(value) for key, value in masked.items()}


def _shorten(value: Any) -> Any:
    if isinstance(value, list):
        return [_shorten(part) for part in value]
    if isinstance(value, str) and (_LOCAL.match(value) or (_DRIVE.search(value) and not is_hub_name(value))):
        return _DRIVE.split(value.rstrip("/\\"))[-1]
    return value


def _build_heading(kind: PublishedKind, base: str | None, licence: str | None) -> dict[str, Any]:
    heading: dict[str, Any] = {"license": licence or "other"}
    if not licence:
        heading["license_name"] = "not-chosen-yet"
    if kind is PublishedKind.DATASET:
        return heading
    if base and is_hub_name(base):
        heading["base_model"] = base
    heading["library_name"] = "peft" if kind is PublishedKind.ADAPTER else "transformers"
    return {**heading, "tags": ["llama-factory"]}


def _describe(kind: PublishedKind, base: str | None) -> str:
    if kind is PublishedKind.ADAPTER:
        return f"An adapter of {_shorten(base) if base else 'a model'}, trained with LLaMA-Factory."
    if kind is PublishedKind.MODEL:
        return "A whole model, trained with LLaMA-Factory."
    return "Rows for LLaMA-Factory, made by llamafactory-companion."


def _describe_manifest(manifest: Manifest) -> list[str]:
    rows = [("think policy", str(manifest.think_policy or "none"))]
    rows += [(key, f"{value:,}") for key, value in manifest.counts.items() if type(value) is int]
    made = [str(entry.get("label") or _shorten(str(entry.get("path", "")))) for entry in manifest.inputs]
    if made:
        rows.append(("made from", ", ".join(dict.fromkeys(filter(None, made)))))
    return ["## Rows", "", "| what | |", "| --- | --- |", *(_format_row(row) for row in rows), ""]


def _list_data(entry: DataSummary) -> tuple[str, ...]:
    rows = f"{entry.rows:,}" if entry.rows is not None else "unknown"
    sources = ", ".join(str(_shorten(source)) for source in entry.sources)
    return (entry.name, rows, entry.think_policy or "unknown", sources)


def _describe_score(score: Score) -> Iterator[str]:
    comparison = score.comparison
    base = comparison.sides[0]
    yield from ("## Scores", "")
    asked = f"On {comparison.rows:,} held-out rows of `{comparison.eval_dataset}`, 0 to 100"
    yield f"{asked}, with the 95 % interval of the change."
    yield from ("", f"| | {base.name} | this | change |", "| --- | --- | --- | --- |")
    for figure in FIGURES:
        if figure.name in score.side.figures:
            change = score.side.changes.get(figure.name)
            before = base.figures.get(figure.name)
            yield _format_row(
                (
                    f"{figure.name}: {figure.meaning}",
                    "" if before is None else f"{before:.2f}",
                    f"{score.side.figures[figure.name]:.2f}",
                    change.format() if change else "",
                )
            )
    yield ""


def _format_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(neutralise_line(cell).replace("|", "\\|") for cell in cells) + " |"
