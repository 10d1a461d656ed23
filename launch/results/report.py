"""One self-contained HTML page of a run or a batch: no script, nothing loaded from elsewhere, safe to mail.

All text passes through prep/html.py, so that what a model wrote cannot become part of the page.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from launch.batches.batch import read_queue
from launch.configs.document import format_value
from launch.configs.proofs import find_proof
from launch.configs.tracking import list_tracking
from launch.results.changed_rows import CHANGED_ROWS_TO_READ, read_changed_rows
from launch.results.chart import Curve, draw_chart
from launch.results.comparison import Side
from launch.results.scores import FIGURES, Figure
from launch.results.summary import (
    DataSummary,
    RunSummary,
    Score,
    compare_to_preset,
    describe_end,
    find_run_preset,
    find_varied_keys,
    format_seconds,
    list_figures,
    summarise_runs,
)
from launch.runs.batch_plan import PLAN_FILE, read_batch
from launch.runs.folder import RUNS, Run, RunState, find_run, list_runs
from launch.serving.section import build_serving
from prep.errors import InputError
from prep.html import Html, build_page, join, tag
from prep.secrets import mask_text
from prep.storage.atomic import write_text
from prep.storage.bounded import read_bounded
from prep.wording import count_of, in_shell

_EXAMPLES_OPEN = 3
_MOST_COMMAND_BYTES = 1 << 20


def write_report(name: str, output: Path | None = None, root: Path = RUNS) -> Path:
    """Write the page of a run or a batch and return its path, `NAME.html` beside its folder if none is given.

    Never inside: a recipe would take a run that holds a new file for a changed one.
    Raises: InputError when nothing is called so.
    """
    batch = next((path for path in (root / name, Path(name)) if os.path.isfile(path / PLAN_FILE)), None)  # noqa: PTH113 - pathlib may raise
    if batch:
        folder, page = batch, build_batch_page(batch.name, summarise_runs(_list_batch(batch, root), root))
    else:
        run = find_run(name, root)
        folder, page = run.path, build_run_page(summarise_runs([run], root)[0])
    path = output or folder.with_name(f"{folder.name}.html")
    write_text(path, page)
    return path


def _list_batch(folder: Path, root: Path) -> list[Run]:
    """Return a batch's runs, each as its latest attempt; all that stands in a folder whose plan is not whole."""
    try:
        runs = [run.last for run in read_queue(read_batch(folder.name, folder.parent)) if run.last]
    except InputError:
        runs = []
    runs = runs or [run for run in list_runs(root) if run.path.is_relative_to(folder)]
    if not runs:
        raise InputError(f"{folder} holds no run yet", hint=f"lfc launch batch --continue {in_shell(folder.name)}")
    return runs


def build_run_page(summary: RunSummary) -> str:
    """Return the page of one run."""
    run = summary.run
    return _build_page(
        run.name,
        _build_heading(summary),
        _build_tiles(summary),
        _build_flags(summary.flags),
        _build_end(summary),
        _build_losses(summary),
        _build_tracking(summary),
        _build_scores(summary.score),
        _build_config(summary),
        _build_proof(summary),
        _build_serving(summary),
        _build_data(summary.data),
        _build_examples(summary.score),
        _build_repeat(summary),
    )


def build_batch_page(name: str, summaries: Sequence[RunSummary]) -> str:
    """Return the page of a batch: the table of its runs, and all their loss curves."""
    done = sum(summary.run.state is RunState.FINISHED for summary in summaries)
    curves = [Curve(summary.run.path.name, summary.losses) for summary in summaries]
    flags = [f"{summary.run.path.name}: {flag}" for summary in summaries for flag in summary.flags]
    return _build_page(
        name,
        tag("h1", name),
        tag("p", f"{done} of {count_of(len(summaries), 'run')} finished", class_="quiet"),
        _build_flags(flags),
        _section("Runs", _build_batch_table(summaries)),
        _section("Training loss", draw_chart(curves, f"Training loss of the runs of {name}")),
        _build_batch_scores(summaries),
        _build_data(summaries[0].data),
    )


def _build_page(title: str, *parts: Html) -> str:
    style = (files("launch") / "results" / "report.css").read_text(encoding="utf-8")
    return build_page(f"{title} · lfc", style, *parts)


def _section(title: str, *parts: str, class_: str | None = None) -> Html:
    return tag("section", tag("h2", title), *parts, class_=class_)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """Return a table that scrolls sideways on a small screen; each row's first cell names it."""
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    heads = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    return tag("div", tag("table", tag("thead", heads), tag("tbody", *body)), class_="scroll")


def _build_heading(summary: RunSummary) -> Html:
    run = summary.run
    facts = [
        str(run.values.get("model_name_or_path", "")),
        str(run.values.get("finetuning_type", "")),
        summary.kind,
    ]
    if run.started_at:
        facts.append(f"started {_format_time(run.started_at)}")
    return join(
        [
            tag("h1", run.name),
            tag("p", _show_state(run.state), " · ".join(filter(None, facts)), class_="quiet"),
        ]
    )


def _format_time(written: str) -> str:
    """Return a time of a run's files for people: `2026-11-22T08:00:05+00:00` → `2026-11-22 08:00 UTC`."""
    try:
        return datetime.fromisoformat(written).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (TypeError, ValueError, OverflowError):
        return str(written)


def _show_state(state: RunState) -> Html:
    return tag("span", str(state), class_=f"state {state}")


def _build_tiles(summary: RunSummary) -> Html:
    rows = sum(data.rows or 0 for data in summary.data)
    tiles = [
        ("last loss", _format_loss(summary.last_loss)),
        ("best eval loss" if summary.eval_losses else "best loss", _format_loss(summary.best_loss)),
        ("time", format_seconds(summary.run.seconds)),
        ("training rows", f"{rows:,}" if rows else ""),
        *summary.speed.list_figures(),
    ]
    if summary.score:
        tiles.append((summary.score.headline, f"{summary.score.side.figures[summary.score.headline]:.2f}"))
    return tag("ul", *(tag("li", name, tag("b", value)) for name, value in tiles if value), class_="tiles")


def _format_loss(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.4g}"


def _build_flags(flags: Sequence[str]) -> Html:
    if not flags:
        return Html()
    return _section("To look at", tag("ul", *(tag("li", flag) for flag in flags)), class_="flags")


def _build_end(summary: RunSummary) -> Html:
    """Return why a run ended before its time, with the telling lines of its log; nothing for one that did not."""
    if summary.cause is None:
        return Html()
    lines = describe_end(summary.run)
    code = "" if summary.run.exit_code is None else f", exit code {summary.run.exit_code}"
    said = tag("pre", "\n".join(lines)) if lines else Html()
    return _section("Why it ended", tag("p", f"{summary.cause}{code}"), said, class_="flags")


def _build_losses(summary: RunSummary) -> Html:
    if summary.kind != "train":
        return Html()
    curves = [Curve("training loss", summary.losses)]
    if summary.eval_losses:
        curves.append(Curve("evaluation loss", summary.eval_losses))
    numbers = _table(
        ("step", *(curve.name for curve in curves)),
        (
            (f"{step:g}", *(_find_loss(curve, step) for curve in curves))
            for step in dict.fromkeys(step for curve in curves for step, _ in curve.points)
        ),
    )
    details = tag("details", tag("summary", "The numbers"), numbers)
    return _section("Loss", draw_chart(curves, f"Loss of {summary.run.name} by step"), details)


def _find_loss(curve: Curve, step: float) -> str:
    return next((f"{loss:.4g}" for at, loss in curve.points if at == step), "")


def _build_scores(score: Score | None) -> Html:
    if score is None:
        return Html()
    comparison = score.comparison
    rows = [
        (
            join([figure.name, tag("div", figure.meaning, class_="meaning")]),
            *(_show_figure(side, figure) for side in comparison.sides),
        )
        for figure in FIGURES
        if figure.name in comparison.sides[0].figures
    ]
    words = (
        f"{comparison.rows} held-out rows of {comparison.eval_dataset}; what follows </think> is scored, 0 to 100. "
        "Below each figure its change from the base, with the 95 % interval of a paired bootstrap over the rows; "
        "coloured and starred where that excludes 0."
    )
    heads = ("", *(f"{side.name}, this run" if side is score.side else side.name for side in comparison.sides))
    return _section("Scores", tag("p", words, class_="quiet"), _table(heads, rows))


def _show_figure(side: Side, figure: Figure) -> Html:
    value = tag("b", f"{side.figures[figure.name]:.2f}")
    change = side.changes.get(figure.name)
    if change is None:
        return value
    verdict = "same"
    if change.is_clear:
        verdict = "better" if (change.value > 0) == figure.more_is_better else "worse"
    moved = f"{change.value:+.2f}{f'* {verdict}' if change.is_clear else ''}"
    interval = f"[{change.low:+.2f}, {change.high:+.2f}]"
    return join([value, tag("div", moved, class_=verdict), tag("div", interval, class_="meaning")])


def _build_config(summary: RunSummary) -> Html:
    preset = find_run_preset(summary.run)
    everything = tag(
        "details",
        tag("summary", "All of the config"),
        _table(("key", "value"), ((key, _show_value(value)) for key, value in summary.run.values.items())),
    )
    if preset is None:
        return _section("Config", tag("p", "Not written from a preset.", class_="quiet"), everything)
    differing = compare_to_preset(summary.run, preset)
    title = f"Config, against the preset {preset.name}"
    if not differing:
        return _section(title, tag("p", "No key differs but the model, the data and the folders."), everything)
    rows = ((key, *(_show_value(value) for value in pair)) for key, pair in differing.items())
    return _section(title, _table(("key", preset.name, "this run"), rows), everything)


def _build_proof(summary: RunSummary) -> Html:
    proof = find_proof(summary.run.values)
    return _section("What is trained is what is served", tag("p", proof.describe())) if proof else Html()


def _build_serving(summary: RunSummary) -> Html:
    parts = build_serving(summary.run)
    return _section("How it is served", *parts) if parts else Html()


def _build_tracking(summary: RunSummary) -> Html:
    rows = [_show_tracking(entry) for entry in list_tracking(summary.run.result.get("tracking"))]
    return _section("Followed at", _table(("tracker", "id", "where"), rows)) if rows else Html()


def _show_tracking(entry: Mapping[str, str]) -> tuple[str, str, Html]:
    url = mask_text(entry.get("url", ""))
    place = (
        tag("a", url, href=url) if url.startswith(("https://", "http://")) else tag("code", entry.get("folder", ""))
    )
    return entry.get("tool", ""), entry.get("id", ""), place


def _show_value(value: Any) -> Html:
    return tag("span", "not set", class_="quiet") if value is ... else tag("code", format_value(value))


def _build_data(data: Sequence[DataSummary]) -> Html:
    if not data:
        return Html()
    rows = [
        (
            dataset.name,
            "" if dataset.rows is None else f"{dataset.rows:,}",
            _describe_counts(dataset.counts),
            dataset.think_policy or "no manifest",
            join([tag("div", tag("code", source)) for source in dataset.sources]),
        )
        for dataset in data
    ]
    return _section("Data", _table(("dataset", "rows", "of them", "think policy", "made from"), rows))


def _describe_counts(counts: Mapping[str, Any]) -> str:
    told = ("reasoning", "chat", "with_system", "with_history")
    return ", ".join(f"{counts[name]:,} {name.replace('_', ' ')}" for name in told if _is_count(counts.get(name)))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _build_examples(score: Score | None) -> Html:
    rows = read_changed_rows(score.comparison.folder) if score else []
    if not score or not rows:
        return Html()
    examples = [_build_example(row, is_open=place < _EXAMPLES_OPEN) for place, row in enumerate(rows)]
    words = (
        f"The {len(rows)} held-out rows whose answers changed most, as in "
        f"{(score.comparison.folder / CHANGED_ROWS_TO_READ).as_posix()}."
    )
    return _section("Answers side by side", tag("p", words, class_="quiet"), *examples)


def _build_example(row: Mapping[str, Any], *, is_open: bool) -> Html:
    texts = {"held-out row": row["wanted"], **row["outputs"]}
    sides = [
        tag("div", tag("h3", _head_example(name, row["scores"].get(name))), tag("pre", text or "(nothing)"))
        for name, text in texts.items()
    ]
    question = row["question"]
    short = question if len(question) <= 120 else f"{question[:119]}…"
    return tag(
        "details",
        tag("summary", tag("b", f"Row {row['row']}, {row['change']:+.1f} "), short),
        tag("pre", question) if short != question else Html(),
        tag("div", *sides, class_="sides"),
        class_="row",
        open="" if is_open else None,
    )


def _head_example(name: str, scores: Mapping[str, float] | None) -> str:
    if not scores:
        return name
    told = [figure for figure in ("rouge_l", "maths", "think_format") if figure in scores]
    return f"{name}: " + ", ".join(f"{figure} {scores[figure]:.0f}" for figure in told)


def _build_repeat(summary: RunSummary) -> Html:
    run = summary.run
    parts: list[str] = []
    with suppress(OSError, ValueError):
        parts.append(tag("pre", mask_text(read_bounded(run.folder.command, _MOST_COMMAND_BYTES).strip())))
    versions = run.plan.get("versions") or {}
    if isinstance(versions, dict) and versions:
        parts.append(tag("p", ", ".join(f"{name} {version}" for name, version in versions.items()), class_="quiet"))
    return _section("The command that ran", *parts) if parts else Html()


def _build_batch_table(summaries: Sequence[RunSummary]) -> Html:
    varied = find_varied_keys(summary.run for summary in summaries)
    best = min((summary.best_loss for summary in summaries if summary.best_loss is not None), default=None)
    is_scored = any(summary.score for summary in summaries)
    rows = []
    for summary in summaries:
        loss = _format_loss(summary.best_loss)
        cells = [
            summary.run.path.name,
            _show_state(summary.run.state),
            str(summary.cause or ""),
            tag("b", f"{loss} best") if loss and summary.best_loss == best else loss,
            _format_loss(summary.last_loss),
            format_seconds(summary.run.seconds),
            *(_show_value(summary.run.values.get(key, ...)) for key in varied),
        ]
        rows.append([*cells, summary.score.format() if summary.score else ""] if is_scored else cells)
    heads = ("run", "state", "cause", "best loss", "last loss", "time", *varied, *(("score",) if is_scored else ()))
    return _table(heads, rows)


def _build_batch_scores(summaries: Sequence[RunSummary]) -> Html:
    scored = [(summary.run.path.name, summary.score) for summary in summaries if summary.score]
    if not scored:
        return Html()
    figures = list_figures(score.side for _, score in scored)
    rows = (
        (name, *(f"{score.side.figures[figure]:.2f}" if figure in score.side.figures else "" for figure in figures))
        for name, score in scored
    )
    return _section("Scores", _table(("run", *figures), rows))
