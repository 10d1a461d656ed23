"""What a search found, in words: the table, the comments behind the winning keys, and tune.json."""

from pathlib import Path
from typing import Any

from launch.tune.search import Search, find_workers
from launch.tune.trials import Outcome
from prep.storage.atomic import write_json
from prep.wording import in_shell

_GIB = 1 << 30
_SHOWN_LOSSES = 4


def write_report(found: Search, folder: Path) -> None:
    """Write `tune.json`: each trial, the best, and what both would take."""
    write_json(
        folder / "tune.json",
        {
            "trials": [
                {
                    **outcome.as_dict(),
                    "is_same": found.is_same(outcome),
                    "loss_difference": found.differ(outcome),
                    "expected_s": round(found.expect_seconds(outcome), 1),
                }
                for outcome in found.outcomes
            ],
            "best": found.best.candidate.name,
            "total_tokens": found.total_tokens,
            "steps": found.steps,
        },
    )


def list_lines(found: Search) -> list[tuple[str, ...]]:
    """Return the table of what was tried, its head first, then the fastest first."""
    head = ("", "tokens/s", "× as it is", "memory", "whole training", "losses of the first steps", "")
    before = found.baseline.tokens_per_s
    ranked = sorted(found.outcomes, key=lambda outcome: -outcome.tokens_per_s)
    return [head, *(_describe(found, outcome, before) for outcome in ranked)]


def _describe(found: Search, outcome: Outcome, before: float) -> tuple[str, ...]:
    seconds = found.expect_seconds(outcome)
    losses = " ".join(f"{loss:.4f}" for _, loss in outcome.losses[:_SHOWN_LOSSES])
    said = outcome.reason or ("" if outcome.tokens_per_s else str(outcome.end))
    if outcome.losses and not found.is_same(outcome):
        said = f"not the same training: a loss differs by {found.differ(outcome):.1e}"
    return (
        f"{'→ ' if outcome is found.best else ''}{outcome.candidate.name}",
        f"{outcome.tokens_per_s:,.0f}" if outcome.tokens_per_s else "",
        f"{outcome.tokens_per_s / before:.2f}" if before and outcome.tokens_per_s else "",
        f"{outcome.peak_bytes / _GIB:.1f} GiB" if outcome.peak_bytes else "",
        describe_seconds(seconds) if seconds else "",
        losses,
        said,
    )


def describe_head(found: Search, target: Path) -> list[str]:
    """Return what the tuned config and the terminal say of it: the time before and now, and the command."""
    best, before = found.best, found.baseline
    boost = " --boost" if best.candidate.boost else ""
    lines = []
    if best is not before and before.tokens_per_s:
        now, then = (describe_seconds(found.expect_seconds(outcome)) for outcome in (best, before))
        speed = f"{best.tokens_per_s:,.0f} real tokens/s instead of {before.tokens_per_s:,.0f}"
        lines.append(f"{speed}: {now} instead of {then}")
    elif best is before:
        lines.append(f"{best.tokens_per_s:,.0f} real tokens/s as it is, and nothing that was tried is faster")
    else:
        lines.append(f"{best.tokens_per_s:,.0f} real tokens/s; as it is: {before.end}")
    lines.append(
        f"the same training: losses differ by {found.differ(best):.0e} at most in {len(best.losses)} steps; "
        f"peak memory {best.peak_bytes / _GIB:.1f} GiB"
    )
    return [*lines, f"lfc launch train {in_shell(target)}{boost}"]


def describe_changes(found: Search, cores: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the keys that the tuned config changes, and the comment of each."""
    best = found.best
    changes = dict(best.candidate.changes)
    share = best.tokens_per_s / found.baseline.tokens_per_s if found.baseline.tokens_per_s else 0.0
    brought = f"{share:.1f} times as fast with it all" if share else f"measured: {best.tokens_per_s:,.0f} tokens/s"
    comments = {key: f"{brought}; was {_show(found.values.get(key))}" for key in changes}
    for key, value in find_workers(found.values, best.rows, cores).items():
        rows = best.rows.count if best.rows else 0
        changes[key], comments[key] = value, f"suits {rows:,} rows; was {_show(found.values.get(key))}"
    return changes, comments


def _show(value: object) -> str:
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def describe_seconds(seconds: float) -> str:
    """Return a duration in words: `42 s`, `3 min`, `2 h 10 min`.

    >>> describe_seconds(7_800)
    '2 h 10 min'
    """
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{minutes} min"
