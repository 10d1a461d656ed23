"""Rules of numbers: for each, the values with which a run ends well, and when it is looked at."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from launch.configs.document import format_value
from launch.configs.rules.base import Setting, any_rule, drop
from launch.configs.rules.data.rows import reads_datasets
from prep.quality.findings import Finding, at_key


@dataclass(frozen=True)
class Bound:
    """A key's numbers: `low` and `high` are allowed themselves, unless `open_low` or `open_high`."""

    key: str
    low: float
    when: Callable[[Setting], bool]
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def allows(self, value: float) -> bool:
        """Whether a number lies within."""
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def describe(self) -> str:
        """Say in words what is allowed."""
        low = f"above {self.low:g}" if self.open_low else f"{self.low:g} or more"
        if math.isinf(self.high):
            return low
        return f"{low}, and {'below' if self.open_high else 'at most'} {self.high:g}"


def _trains(setting: Setting) -> bool:
    return setting.trains and bool(setting["do_train"])


def _evaluates(setting: Setting) -> bool:
    return setting.trains and (setting["eval_strategy"] != "no" or any(map(setting.__getitem__, _EVALUATIONS)))


_EVALUATIONS = ("do_eval", "do_predict", "predict_with_generate")


def _generates(setting: Setting) -> bool:
    return setting.trains and bool(setting["predict_with_generate"])


def _samples(setting: Setting) -> bool:
    return _generates(setting) and bool(setting["do_sample"])


def _uses_adam(setting: Setting) -> bool:
    return _trains(setting) and "adam" in str(setting["optim"])


def _counts_rows(setting: Setting) -> bool:
    return reads_datasets(setting) and not setting["streaming"]


def _makes_adapter(setting: Setting) -> bool:
    is_new = setting["adapter_name_or_path"] is None or setting["create_new_adapter"]
    return _trains(setting) and setting["finetuning_type"] == "lora" and bool(is_new)


def _chooses_by_ratio(setting: Setting) -> bool:
    return _trains(setting) and bool(setting["use_badam"]) and setting["badam_mode"] == "ratio"


# In the order in which a run comes upon them: datasets, torch's DataLoader, the model, its optimizer, generation.
BOUNDS = (
    Bound("max_samples", 1, _counts_rows),
    Bound("preprocessing_num_workers", 1, _counts_rows),
    Bound("cutoff_len", 1, reads_datasets),
    Bound("per_device_train_batch_size", 1, _trains),
    Bound("gradient_accumulation_steps", 1, _trains),
    Bound("per_device_eval_batch_size", 1, _evaluates),
    Bound("eval_accumulation_steps", 1, _evaluates),
    Bound("buffer_size", 1, lambda setting: reads_datasets(setting) and bool(setting["streaming"])),
    Bound("dataloader_num_workers", 0, lambda setting: setting.trains),
    Bound(
        "dataloader_prefetch_factor", 1, lambda setting: _trains(setting) and setting["dataloader_num_workers"] > 0
    ),
    Bound("lora_rank", 1, _makes_adapter),
    Bound("lora_dropout", 0, _makes_adapter, high=1),
    Bound("learning_rate", 0, _trains),
    Bound("neftune_noise_alpha", 0, _trains),
    Bound("adam_beta1", 0, _uses_adam, high=1, open_high=True),
    Bound("adam_beta2", 0, _uses_adam, high=1, open_high=True),
    Bound("adam_epsilon", 0, _uses_adam),
    Bound("badam_update_ratio", 1e-6, _chooses_by_ratio, open_low=True),
    Bound("temperature", 0, _samples, open_low=True),
    Bound("top_p", 0, _samples),
    Bound("top_k", 0, _samples),
    Bound("repetition_penalty", 0, _generates, open_low=True),
    Bound("num_beams", 1, _generates),
    Bound("eval_num_beams", 1, _generates),
    Bound("export_size", 1, lambda setting: not setting.trains and setting["export_dir"] is not None),
)


@any_rule
def numbers_are_in_range(setting: Setting) -> Iterator[Finding]:
    """Run: datasets (`num_proc must be > 0`), torch (`Invalid learning rate`), peft (`r should be positive`)."""
    for bound in BOUNDS:
        if bound.key not in setting.defaults or bound.key in setting.unreadable or not bound.when(setting):
            continue
        value, default = setting[bound.key], setting.defaults[bound.key]
        if value is not None and not bound.allows(value):
            fix = drop(bound.key) if default is None else f"{bound.key}: {format_value(default)}, the default"
            yield at_key(bound.key, f"is {format_value(value)}, allowed is {bound.describe()}", fix)
