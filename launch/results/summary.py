"""What one run amounts to: its losses, its scores, the data it was trained on, and how its config differs."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launch.configs.config import diff_values
from launch.configs.presets import Preset, list_presets
from launch.configs.private import read_known_secrets
from launch.configs.rules import read_dataset_manifest, split_names
from launch.configs.tracking import format_tracking
from launch.llamaboard.fields import SAVES
from launch.results.comparison import COMPARISON_FILE, Comparison, Side, read_comparison
from launch.results.scores import FIGURES
from launch.results.speed import NO_SPEED, Speed, read_speed
from launch.results.webui_runs import list_webui_runs
from launch.runs.causes import Cause, find_cause, find_telling_lines
from launch.runs.figures import find_own_log, find_owner, read_own_log
from launch.runs.folder import RUNS, Run, RunState, describe_broken, list_runs
from launch.runs.logs import read_tail
from launch.runs.progress import is_finite, parse_trainer_log
from prep.errors import InputError, UserError
from prep.secrets import mask_text
from prep.storage.bounded import read_bounded

# What one number of a table says of an evaluation: the first of these that it has.
_HEADLINES = ("maths", "rouge_l")
_PRESET = re.compile(r"^# .*\(preset ([\w.-]+)\)$", re.MULTILINE)
_OVERRIDDEN = re.compile(r"^# (.+?\.ya?ml) with ", re.MULTILINE)
# Keys that every config sets for itself.
_MAX_DEPTH = 50
_LOSSES = ("loss", "eval_loss")
_OWN_KEYS = {"output_dir", "dataset", "dataset_dir", "model_name_or_path"}

Losses = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class DataSummary:
    """A dataset that a run trained on, as its manifest tells it; `sources` are what it was first made from."""

    name: str
    rows: int | None
    think_policy: str | None
    counts: Mapping[str, Any]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """What an evaluation said of a run: the whole comparison, and which of its sides the run is."""

    comparison: Comparison
    side: Side

    @property
    def headline(self) -> str:
        """The one figure that a table shows."""
        return next((name for name in _HEADLINES if name in self.side.figures), next(iter(self.side.figures), ""))

    def format(self) -> str:
        """Return the headline figure with its change, starred when its interval excludes 0."""
        change = self.side.changes.get(self.headline)
        moved = f" ({change.value:+.2f}{'*' if change.is_clear else ''})" if change else ""
        return f"{self.headline} {self.side.figures[self.headline]:.2f}{moved}"


@dataclass(frozen=True)
class RunSummary:
    """One run with what its output says; `losses` and `eval_losses` are (step, loss) in order.

    `flags` are the run's own, and what of its output cannot be read.
    """

    run: Run
    losses: Losses
    eval_losses: Losses
    data: tuple[DataSummary, ...]
    score: Score | None
    flags: tuple[str, ...]
    cause: Cause | None = None
    speed: Speed = NO_SPEED

    @property
    def kind(self) -> str:
        """What the run did: train, predict, export, …"""
        return "predict" if self.run.values.get("do_predict") else self.run.action

    @property
    def best_loss(self) -> float | None:
        """The lowest loss on validation rows where there are any, else the lowest training loss."""
        return min((loss for _, loss in self.eval_losses or self.losses), default=None)

    @property
    def last_loss(self) -> float | None:
        """The training loss logged last."""
        return self.losses[-1][1] if self.losses else None

    @property
    def tracking(self) -> list[str]:
        """Where SwanLab or W&B shows it: tool, id and link."""
        return format_tracking(self.run.result.get("tracking"))

    def as_dict(self) -> dict[str, Any]:
        """Return what `lfc launch runs --json` shows of it."""
        return {
            "name": self.run.name,
            "kind": self.kind,
            "state": str(self.run.state),
            "cause": self.cause,
            "best_loss": self.best_loss,
            "last_loss": self.last_loss,
            "score": asdict(self.score.side) if self.score else None,
            "started_at": self.run.started_at,
            "seconds": self.run.seconds,
            "exit_code": self.run.exit_code,
            "data": [asdict(data) for data in self.data],
            "flags": list(self.flags),
            "speed": asdict(self.speed),
            "tracking": list(self.tracking),
            "output_dir": self.run.values.get("output_dir"),
        }


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation, and when it was written, in seconds of the epoch."""

    comparison: Comparison
    written_at: float


def summarise_runs(runs: Iterable[Run], root: Path = RUNS) -> list[RunSummary]:
    """Return each run with its own losses, its newest evaluation under `root`, and its data."""
    everyone = list_runs(root)
    evaluations, _ = list_evaluations(root)
    scores = _find_scores(evaluations, everyone)
    return [_summarise(run, everyone, scores.get(run.path)) for run in runs]


def summarise_all(root: Path = RUNS, saves: Path = SAVES) -> list[RunSummary]:
    """Return every run under `root`, and under `saves` those of the WebUI, the newest first.

    Runs that never started, and what cannot be read, come last.
    """
    everyone = list_runs(root)
    evaluations, broken = list_evaluations(root)
    scores = _find_scores(evaluations, everyone)
    runs = [*everyone, *list_webui_runs(saves), *broken]
    summaries = [_summarise(run, everyone, scores.get(run.path)) for run in runs]
    return sorted(summaries, key=lambda summary: summary.run.started_at or "", reverse=True)


def list_evaluations(root: Path = RUNS) -> tuple[list[Evaluation], list[Run]]:
    """Return the finished evaluations under a folder, the newest first, and those that cannot be read."""
    found, broken = [], []
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if COMPARISON_FILE not in names:
            continue
        path = Path(parent) / COMPARISON_FILE
        try:
            comparison = read_comparison(Path(parent))
            _check_figures(comparison)
            found.append(Evaluation(comparison, path.stat().st_mtime))
        except (UserError, OSError, RecursionError, AttributeError) as error:
            broken.append(describe_broken(Path(parent), str(error), root))
    return sorted(found, key=lambda evaluation: -evaluation.written_at), broken


def _check_figures(comparison: Comparison) -> None:
    """Raise InputError when an evaluation's figures are no numbers that can be shown."""
    for side in comparison.sides:
        changes = [number for change in side.changes.values() for number in (change.value, change.low, change.high)]
        if (
            not isinstance(side.source, str)
            or not isinstance(side.fingerprint, str)
            or not all(map(is_finite, [*side.figures.values(), *changes]))
        ):
            raise InputError(f"{comparison.folder / COMPARISON_FILE} cannot be used: a figure is no number")


def _find_scores(evaluations: Iterable[Evaluation], runs: Sequence[Run]) -> dict[Path, Score]:
    """Return the newest score of each run: of those evaluations that asked what this run had made."""
    scores: dict[Path, Score] = {}
    for evaluation in evaluations:
        for side in evaluation.comparison.sides:
            owner = side.source and find_owner(Path(side.source), evaluation.written_at, runs, side.fingerprint)
            if owner and side.figures:
                scores.setdefault(owner.path, Score(evaluation.comparison, side))
    return scores


def _summarise(run: Run, everyone: Sequence[Run], score: Score | None) -> RunSummary:
    predicts = bool(run.values.get("do_predict")) or run.action != "train"
    entries, faults = ([], []) if predicts else _read_entries(run, everyone)
    diverged = next((entry for entry in entries if any(_is_diverged(entry.get(key)) for key in _LOSSES)), None)
    if diverged:
        faults.append(f"the loss is no number from step {diverged['current_steps']:g} on")
    return RunSummary(
        run=run,
        losses=_read_losses(entries, "loss"),
        eval_losses=_read_losses(entries, "eval_loss"),
        data=tuple(summarise_data(run)),
        score=None if predicts else score,
        flags=(*run.flags, *faults),
        cause=find_cause(run),
        speed=NO_SPEED if predicts else read_speed(run, entries),
    )


def read_own_entries(run: Run, everyone: Iterable[Run]) -> list[dict[str, Any]]:
    """Return the entries of the trainer's log that are a run's own; raises ValueError when they are broken."""
    own = find_own_log(run, everyone)
    return parse_trainer_log(read_own_log(*own)) if own else []


def _read_entries(run: Run, everyone: Iterable[Run]) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        return read_own_entries(run, everyone), []
    except (OSError, ValueError) as error:  # Half a line, where a killed run was resumed.
        return [], [f"{run.trainer_log.as_posix()} cannot be read: {error}"]


def _is_diverged(loss: object) -> bool:
    return isinstance(loss, float) and not is_finite(loss)


def _read_losses(entries: Iterable[Mapping[str, Any]], key: str) -> Losses:
    """Return (step, loss) in order; of a step that a resumed run logged again, what it logged last."""
    losses = {float(entry["current_steps"]): float(entry[key]) for entry in entries if is_finite(entry.get(key))}
    return tuple(sorted(losses.items()))


def describe_end(run: Run) -> list[str]:
    """Return the telling lines of a run that did not end well, for a report; none of one that did."""
    if run.state not in (RunState.FAILED, RunState.LOST):
        return []
    return mask_lines(find_telling_lines(read_tail(run.folder.log)), run)


def mask_lines(lines: Sequence[str], run: Run) -> list[str]:
    """Return lines of a run's log without the secrets of its config."""
    secrets = read_known_secrets(run.folder.config)
    return [mask_text(line, secrets) for line in lines]


def summarise_data(run: Run) -> Iterator[DataSummary]:
    """Yield a run's training datasets: by the manifests kept at its start, else by those beside the data now."""
    kept = run.plan.get("datasets") or {}
    folder = Path(str(run.values.get("dataset_dir") or "data"))
    for name in split_names(run.values.get("dataset")):
        manifest = kept[name] if name in kept else _read_manifest_now(name, folder)
        counts = manifest.get("counts", {}) if isinstance(manifest, dict) else None
        if not isinstance(manifest, dict) or not isinstance(counts, dict):
            yield DataSummary(name, None, None, {}, ())
            continue
        rows, policy = counts.get("records"), manifest.get("think_policy")
        yield DataSummary(
            name,
            rows if isinstance(rows, int) else None,
            policy if isinstance(policy, str) else None,
            counts,
            tuple(dict.fromkeys(_trace_sources(manifest))),
        )


def _read_manifest_now(name: str, folder: Path) -> dict[str, Any] | None:
    try:
        manifest = read_dataset_manifest(name, folder)
    except UserError:  # The data may be gone long after the run; the run itself still tells its story.
        return None
    return dict(manifest.__dict__) if manifest else None


def _trace_sources(manifest: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Yield what the data was first made from: `repository@commit`, or a file with the start of its sha256."""
    inputs = manifest.get("inputs")
    for entry in inputs if isinstance(inputs, list) else []:
        if not isinstance(entry, dict):
            continue
        inner, origin = entry.get("manifest"), entry.get("download")
        if isinstance(inner, dict) and inner and depth < _MAX_DEPTH:
            yield from _trace_sources(inner, depth + 1)
        elif isinstance(origin, dict) and origin:
            changed = ", changed since" if origin.get("changed_since") else ""
            version = str(origin.get("commit") or origin.get("revision") or "")
            yield f"{origin.get('repository', '')}@{version[:12]}{changed}"
        else:
            yield f"{entry.get('path', '')} {str(entry.get('sha256', ''))[:12]}"


def find_run_preset(run: Run) -> Preset | None:
    """Return the preset that a run's config was written from, as the config's own header says; None if unknown."""
    try:
        text = read_bounded(run.folder.config)
        overridden = _OVERRIDDEN.search(text)
        if overridden:
            text = read_bounded(Path(overridden[1]))
    except (OSError, ValueError):
        return None
    found = _PRESET.search(text)
    return next((preset for preset in list_presets() if found and preset.name == found[1]), None)


def compare_to_preset(run: Run, preset: Preset) -> dict[str, tuple[Any, Any]]:
    """Return what a run set otherwise than its preset, without the model, the data and the folders."""
    differing = diff_values(preset.values, run.values)
    return {key: pair for key, pair in differing.items() if key not in _OWN_KEYS}


def find_varied_keys(runs: Iterable[Run]) -> list[str]:
    """Return the config keys that are not the same in all of several runs, their own folders apart."""
    configs = [run.values for run in runs]
    keys = {key: None for values in configs for key in values}
    return [
        key
        for key in keys
        if key != "output_dir" and any(values.get(key) != configs[0].get(key) for values in configs)
    ]


def list_figures(sides: Iterable[Side]) -> list[str]:
    """Return the figures that any of some sides has, in their usual order."""
    present = {name for side in sides for name in side.figures}
    return [figure.name for figure in FIGURES if figure.name in present]


def format_seconds(seconds: float | None) -> str:
    """Return a duration: `42 s`, `3 min 5 s`, `2 h 10 min`; nothing for None.

    >>> format_seconds(185)
    '3 min 5 s'
    """
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
