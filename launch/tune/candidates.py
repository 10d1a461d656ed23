"""What may be changed of a training without changing what is trained, and in which order that is tried."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# These only schedule the work; every other key of a config defines the training and stays as it is.
_DEFAULT_BATCH, _DEFAULT_ACCUMULATION = 8, 1


@dataclass(frozen=True)
class Candidate:
    """One way to schedule a training: the keys that differ from the config, and how it is boosted.

    `boost` is "", "off" or "keep": batches without padding, with gradient checkpointing off or kept.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    boost: str = ""
    compiles: bool = False

    def apply(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the config with the candidate's keys; None takes a key out."""
        merged = {**values, **self.changes}
        return {key: value for key, value in merged.items() if value is not None or key not in self.changes}

    def is_like(self, other: "Candidate") -> bool:
        """Tell whether both schedule alike, whatever they are called."""
        mine, theirs = ((dict(each.changes), each.boost, each.compiles) for each in (self, other))
        return mine == theirs


@dataclass(frozen=True)
class Way:
    """One way of training a batch, whatever its size: a row of the table below."""

    name: str
    changes: Mapping[str, Any]
    boost: str = ""
    compiles: bool = False


_PLAIN = {"use_unsloth": None, "enable_liger_kernel": None, "use_unsloth_gc": None}
_OFF = {"disable_gradient_checkpointing": True}
_ON = {"disable_gradient_checkpointing": None}
# The fastest first, as they were on one card (benchmarks/results/train_speed.json).
_COMPILED_WAYS = (Way("compiled, boosted, no checkpointing", {**_PLAIN, **_ON}, boost="off", compiles=True),)
_UNSLOTH_WAYS = (
    Way("Unsloth, boosted, no checkpointing", {"use_unsloth": True, **_ON}, boost="off"),
    Way("Unsloth, boosted", {"use_unsloth": True, **_ON}, boost="keep"),
    Way("Unsloth", {"use_unsloth": True, **_ON}),
)
_OWN_WAYS = (
    Way("boosted, no checkpointing", {**_PLAIN, **_ON}, boost="off"),
    Way("boosted", {**_PLAIN, **_ON}, boost="keep"),
    Way("Liger, no checkpointing", {**_PLAIN, **_OFF, "enable_liger_kernel": True}),
    Way("no checkpointing", {**_PLAIN, **_OFF}),
    Way("Liger", {**_PLAIN, **_ON, "enable_liger_kernel": True}),
    Way("Unsloth's checkpointing", {**_PLAIN, **_ON, "use_unsloth_gc": True}),
    Way("plain", {**_PLAIN, **_ON}),
)


def list_ways(values: Mapping[str, Any], *, has_gpu: bool, any_backend: bool, compiles: bool) -> list[Way]:
    """Return the ways that may be tried: with Unsloth or without, as the config says, unless any is allowed."""
    unsloth = bool(values.get("use_unsloth"))
    ways: list[Way] = []
    if has_gpu and compiles and (not unsloth or any_backend):
        ways += _COMPILED_WAYS
    if has_gpu and (unsloth or any_backend):
        ways += _UNSLOTH_WAYS
    if not unsloth or any_backend:
        ways += _OWN_WAYS
    if not has_gpu:
        # Liger and Unsloth's checkpointing are for GPUs.
        ways = [
            way
            for way in ways
            if not way.changes.get("enable_liger_kernel") and not way.changes.get("use_unsloth_gc")
        ]
    return ways


def read_batch(values: Mapping[str, Any]) -> tuple[int, int]:
    """Return (rows at once, accumulation) of a config; LLaMA-Factory's defaults where it says nothing."""
    rows = values.get("per_device_train_batch_size")
    steps = values.get("gradient_accumulation_steps")
    return (
        rows if isinstance(rows, int) and rows > 0 else _DEFAULT_BATCH,
        steps if isinstance(steps, int) and steps > 0 else _DEFAULT_ACCUMULATION,
    )


def list_batches(values: Mapping[str, Any]) -> list[dict[str, int]]:
    """Return the keys of every batch of the config's own global size, the most rows at once first."""
    rows, steps = read_batch(values)
    whole = rows * steps
    return [
        {"per_device_train_batch_size": size, "gradient_accumulation_steps": whole // size}
        for size in range(whole, 0, -1)
        if whole % size == 0
    ]


def make_candidate(way: Way, batch: Mapping[str, int], values: Mapping[str, Any]) -> Candidate:
    """Return one way with one batch, as changes of a config."""
    wanted = {**way.changes, **batch}
    changes = {key: value for key, value in wanted.items() if values.get(key) != value}
    size = batch["per_device_train_batch_size"], batch["gradient_accumulation_steps"]
    return Candidate(f"{way.name}, {size[0]} × {size[1]}", changes, way.boost, way.compiles)


def choose_preprocessing_workers(rows: int, cores: int) -> int | None:
    """Return how many processes tokenise a set of so many rows fastest; None for LLaMA-Factory's own one.

    Each takes about 4 s to start, in which one process tokenises some 4,000 rows (2,100 rows: 6 to 8 s with one,
    22 with four; 10,500 rows: 27 s with one, 19 with two).
    """
    workers = min(cores, rows // 5_000)
    return workers if workers > 1 else None
