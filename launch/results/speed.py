"""How fast a training ran and what it took: its weights, real tokens, time to the first step, memory, GPU hours."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from launch.configs.weights import read_json_file
from launch.runs.folder import Run
from launch.runs.progress import is_finite
from launch.tune.model_shape import read_model_shape

_HEAD_BYTES = 8 << 20
# What transformers logs before the first step, in the machine's own time.
_BEGIN = re.compile(rb"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ >> \*+ Running training")
# What LLaMA-Factory logs once it has its model.
_WEIGHTS = re.compile(rb"trainable params: ([\d,]{1,30}) \|\| all params: ([\d,]{1,30}) ")
# Dense bf16 of each card, in TFLOP/s, as its maker's data sheet says; fp16 where it has no bf16.
_PEAK_TFLOPS = {
    "B200": 2_250, "H200": 989, "H100": 989, "H800": 989, "H20": 148, "A100": 312, "A800": 312, "L40S": 362,
    "L40": 181, "L20": 119, "L4": 121, "A40": 150, "A10": 125, "A6000": 155, "RTX 4090": 165, "RTX 3090": 71,
    "V100": 125, "T4": 65,
}  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """A training's figures; None where its logs do not tell.

    Shape: `tokens_per_s` are real tokens, or with padding where `counts_padding`; `first_step_s` lasts from the
    process's start to the beginning of the first step; `peak_share` is the share of the card's peak, from 0 to 1.
    `trained_weights` of `all_weights` were trained; a 4-bit model counts its packed weights as LLaMA-Factory does.
    """

    tokens_per_s: float | None = None
    counts_padding: bool = False
    first_step_s: float | None = None
    peak_gib: float | None = None
    peak_share: float | None = None
    gpu_hours: float | None = None
    trained_weights: int | None = None
    all_weights: int | None = None

    def list_figures(self) -> list[tuple[str, str]]:
        """Return (name, value) of each figure that is there, for a table or a page."""
        name = "tokens/s with padding" if self.counts_padding else "real tokens/s"
        figures = [
            (name, self.tokens_per_s, "{:,.0f}"),
            ("share of the card's peak", self.peak_share, "{:.1%}"),
            ("to the first step", self.first_step_s, "{:.0f} s"),
            ("peak memory", self.peak_gib, "{:.1f} GiB"),
            ("GPU hours", self.gpu_hours, "{:.2f}"),
        ]
        told = [(label, form.format(value)) for label, value, form in figures if value is not None]
        if self.trained_weights is None or not self.all_weights:
            return told
        share = f"{self.trained_weights:,} ({self.trained_weights / self.all_weights:.2%})"
        return [(f"trained of {self.all_weights:,} weights", share), *told]


NO_SPEED = Speed()


def read_speed(run: Run, entries: Iterable[Mapping[str, Any]]) -> Speed:
    """Return a training run's figures by the entries of its own trainer's log."""
    logged = list(entries)
    rates = [entry["throughput"] for entry in logged if is_finite(entry.get("throughput"))]
    peaks = [entry["vram_reserved"] for entry in logged if is_finite(entry.get("vram_reserved"))]
    counts_padding = run.values.get("include_num_input_tokens_seen") != "non_padding"
    rate = float(rates[-1]) if rates and rates[-1] > 0 else None
    cards = _list_cards(run) if peaks else []
    head = _read_head(run)
    return Speed(
        rate,
        counts_padding and rate is not None,
        _read_first_step(run, head),
        max(peaks, default=None),
        _find_share(run, rate, cards) if not counts_padding else None,
        round(run.seconds * len(cards) / 3600, 4) if run.seconds and cards else None,
        *_read_weights(head),
    )


def _list_cards(run: Run) -> list[str]:
    """Return the name of each GPU that the run had; one of no name where nothing tells."""
    names = run.plan.get("cards")
    known = [str(name) for name in names] if isinstance(names, list) else []
    visible = run.plan.get("env", {}).get("CUDA_VISIBLE_DEVICES") if isinstance(run.plan.get("env"), dict) else None
    count = len(str(visible).split(",")) if visible else len(known) or 1
    return [*known, *[known[0] if known else ""] * count][:count]


def _find_share(run: Run, rate: float | None, cards: list[str]) -> float | None:
    """Return the share of the cards' peak: tokens a second × 4 × weights (6 × where all are trained) ÷ peak.

    What attention computes is left out: it is some hundredths for rows of a thousand tokens.
    """
    shape = read_model_shape(run.values.get("model_name_or_path"))
    peak = sum(next((tflops for name, tflops in _PEAK_TFLOPS.items() if name in card), 0) for card in cards)
    if rate is None or shape is None or not peak:
        return None
    # The head is computed, the embeddings are looked up.
    weights = shape.layer_weights + shape.hidden * shape.vocabulary
    each = 6 if run.values.get("finetuning_type") == "full" else 4
    return round(rate * each * weights / (peak * 1e12), 4)


def _read_head(run: Run) -> bytes:
    try:
        with run.folder.log.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError:
        return b""


def _read_weights(head: bytes) -> tuple[int | None, int | None]:
    """Return how many weights were trained, and of how many."""
    found = _WEIGHTS.search(head)
    trained, everything = (int(text.replace(b",", b"") or 0) for text in found.groups()) if found else (0, 0)
    return (trained, everything) if 0 < trained <= everything else (None, None)


def _read_first_step(run: Run, head: bytes) -> float | None:
    note = read_json_file(run.folder.process)
    found = _BEGIN.search(head)
    try:
        if found is None:
            return None
        started = datetime.fromisoformat(note["started_at"])
        began = datetime.strptime(found[1].decode(), "%Y-%m-%d %H:%M:%S").astimezone()
        seconds = (began - started).total_seconds()
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return seconds if 0 <= seconds < 7 * 86_400 else None
