"""Several converted files → one shuffled file in true ratios."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prep.errors import InputError, UserError
from prep.files import Manifest, describe_input, open_atomic, read_manifest, refuse_existing, write_manifest

_COUNTED = ("reasoning", "chat", "with_system", "with_history")


@dataclass(frozen=True)
class MixResult:
    """Rows taken from each part, in the order given, and the share of the result that each makes."""

    taken: dict[str, int]
    available: dict[str, int]
    output: Path

    @property
    def rows(self) -> int:
        """Rows in the result."""
        return sum(self.taken.values())


def mix_files(
    parts: Mapping[str, Path], output: Path, *, ratio: Mapping[str, float] | None, seed: int, force: bool = False
) -> MixResult:
    """Mix converted files so that each makes exactly its share of the result, and shuffle.

    Shape: `parts` and `ratio` share their keys; shares need not add up to 1. Without a ratio every row is
    taken. The largest result that keeps the ratio without repeating a row is made.
    Raises: UserError when the ratio does not fit the parts, or they were written under different policies.
    """
    refuse_existing(output, force=force)
    policy = check_same_policy(parts)
    lines = {name: read_lines(path) for name, path in parts.items()}
    available = {name: len(rows) for name, rows in lines.items()}
    taken = plan_rows(available, ratio)
    # random.Random's sample and shuffle are the same on every machine and Python since 3.11.
    rng = random.Random(seed)  # noqa: S311 - a shuffle, not a secret
    rows = [line for name, rows in lines.items() for line in rng.sample(rows, taken[name])]
    rng.shuffle(rows)
    with open_atomic(output) as out:
        for line in rows:
            out.write(line)
    write_manifest(
        output,
        Manifest(
            step="mix",
            options={"ratio": dict(ratio) if ratio else None, "seed": seed},
            think_policy=policy,
            inputs=[{"name": name, **describe_input(path)} for name, path in parts.items()],
            counts={"records": len(rows), "taken": taken, **count_kinds(rows)},
            output={"path": output.name, "bytes": out.bytes_written, "sha256": out.sha256},
        ),
    )
    return MixResult(taken, available, output)


def plan_rows(available: Mapping[str, int], ratio: Mapping[str, float] | None) -> dict[str, int]:
    """Return how many rows of each part make the largest mix of a true ratio without repeats.

    Raises: UserError when the ratio's names are not the parts' names or a share is not above zero.
    """
    if ratio is None:
        return dict(available)
    if set(ratio) != set(available):
        raise UserError(
            f"the ratio names {', '.join(sorted(ratio))}; the parts are {', '.join(sorted(available))}",
            hint="--ratio " + ",".join(f"{name}=1" for name in available),
        )
    if any(share <= 0 for share in ratio.values()):
        raise UserError("every share of a ratio must be above zero")
    scale = min(count / ratio[name] for name, count in available.items())
    # The tiny addition keeps 300 / 0.3 * 0.3 from being rounded down to 299.
    return {name: int(scale * ratio[name] + 1e-9) for name in available}


def check_same_policy(parts: Mapping[str, Path]) -> str | None:
    """Return the think policy that all parts were written under; raises UserError when they differ."""
    policies: dict[str, str | None] = {}
    for name, path in parts.items():
        manifest = read_manifest(path)
        policies[name] = manifest.think_policy if manifest else None
    if len(set(policies.values())) > 1:
        seen = ", ".join(f"{name} is {policy or 'unknown'}" for name, policy in policies.items())
        raise UserError(
            f"the parts were written under different think policies: {seen}",
            hint="convert them again with one --think-policy",
        )
    return next(iter(policies.values()))


def read_lines(path: Path) -> list[bytes]:
    """Return a JSONL's rows as bytes, each with its line end; raises InputError when it cannot be read."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    rows = [line if line.endswith(b"\n") else line + b"\n" for line in lines if line.strip()]
    if not rows:
        raise InputError(f"{path} has no rows")
    return rows


def count_kinds(rows: list[bytes]) -> dict[str, Any]:
    """Count reasoning and chat rows, and rows with a system prompt or a history."""
    import orjson

    from prep.thinking import EMPTY_THOUGHT, OPEN_TAG

    counts = dict.fromkeys(_COUNTED, 0)
    for row in map(orjson.loads, rows):
        thinks = row["output"].startswith(OPEN_TAG) and not row["output"].startswith(EMPTY_THOUGHT)
        counts["reasoning" if thinks else "chat"] += 1
        counts["with_system"] += bool(row["system"])
        counts["with_history"] += bool(row["history"])
    return counts
