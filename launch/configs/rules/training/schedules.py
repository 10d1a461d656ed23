"""Rules of the learning rate's schedule: what `lr_scheduler_kwargs` may hold, and what it must."""

from collections.abc import Iterator, Mapping
from typing import Any

from launch.configs.document import show_value
from launch.configs.rules.base import Setting, drop, read_json_value, train_rule
from prep.quality.findings import Finding, at_key

_KEY = "lr_scheduler_kwargs"
# They leave the arguments alone.
_WITHOUT_ARGUMENTS = ("constant", "constant_with_warmup")
_NUMBER, _WHOLE = (int, float), (int,)
_COURSES = ("linear", "cosine", "1-sqrt")
_CYCLES = {"num_cycles": _NUMBER, "last_epoch": _WHOLE}
_LOWEST = {"min_lr": _NUMBER, "min_lr_rate": _NUMBER}
_PLATEAU = {
    **{"mode": ("min", "max"), "threshold_mode": ("rel", "abs"), "factor": _NUMBER, "patience": _NUMBER},
    **{"threshold": _NUMBER, "cooldown": _NUMBER, "min_lr": (int, float, list), "eps": _NUMBER},
}
# Source: transformers 5.6, optimization.py, and torch's ReduceLROnPlateau: schedule → argument → types or words.
_ARGUMENTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "linear": {"last_epoch": _WHOLE},
    "cosine": _CYCLES,
    "cosine_with_restarts": _CYCLES,
    "polynomial": {"lr_end": _NUMBER, "power": _NUMBER, "last_epoch": _WHOLE},
    "inverse_sqrt": {"timescale": _NUMBER, "last_epoch": _WHOLE},
    "cosine_with_min_lr": {**_CYCLES, **_LOWEST},
    "cosine_warmup_with_min_lr": {**_CYCLES, **_LOWEST, "warmup_lr_rate": _NUMBER},
    "warmup_stable_decay": {
        **_CYCLES,
        **{"num_decay_steps": _NUMBER, "num_stable_steps": _NUMBER, "min_lr_ratio": _NUMBER},
        **{"warmup_type": _COURSES, "decay_type": _COURSES},
    },
    "reduce_lr_on_plateau": _PLATEAU,
    "greedy": {
        **_PLATEAU,
        **{"warmup": _NUMBER, "max_lr": (int, float, list), "verbose": (bool,), "smooth": (bool,)},
        **{"window_size": _WHOLE, "reset_start": _NUMBER},
    },
}
# Which of them one, and only one, must be given.
_NEEDED = {
    "cosine_with_min_lr": ("min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate"),
    "warmup_stable_decay": ("num_decay_steps",),
}


@train_rule
def schedule_takes_its_arguments(setting: Setting) -> Iterator[Finding]:
    """Source: transformers 5.6, optimization.py: a TypeError or ValueError when the trainer makes its schedule."""
    name, given = str(setting["lr_scheduler_type"]), setting[_KEY]
    if not setting["do_train"] or name in _WITHOUT_ARGUMENTS:
        return
    if isinstance(given, str) and not given.startswith("{"):
        yield at_key(_KEY, f"is {show_value(given)}, and must be a mapping", drop(_KEY))
        return
    content = read_json_value(given or {})
    if isinstance(content, dict):
        yield from _judge_arguments(name, content)
        yield from _judge_numbers(name, content, setting)


def _judge_arguments(name: str, content: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is missing, what the schedule does not take, and values that are of another type."""
    needed = _NEEDED.get(name, ())
    there = [key for key in needed if content.get(key) is not None]
    if needed and not there:
        value = "1.0e-6" if needed[0] == "min_lr" else "100"
        yield at_key(_KEY, f"needs {' or '.join(needed)} for {name}", f"{_KEY}: {{{needed[0]}: {value}}}")
    if len(there) > 1:
        yield at_key(_KEY, f"holds {' and '.join(there)}, and takes one of them", f"{_KEY} with {there[0]} alone")
    known = _ARGUMENTS.get(name)
    for key, value in content.items() if known is not None else ():
        allowed = (known or {}).get(str(key))
        if allowed is None:
            yield at_key(_KEY, f"holds {key}, which {name} does not take", drop(_KEY))
        elif isinstance(allowed[0], str):
            if value not in allowed:
                message = f"holds {key} {show_value(value)}, allowed is {', '.join(allowed)}"
                yield at_key(_KEY, message, f"{_KEY}: {{{key}: {allowed[0]}}}")
        elif value is not None and not isinstance(value, allowed):
            yield at_key(_KEY, f"holds {key} {show_value(value)}, which is no number", drop(_KEY))


def _judge_numbers(name: str, content: Mapping[str, Any], setting: Setting) -> Iterator[Finding]:
    """Yield numbers that the schedule refuses: polynomial ends below the rate, a plateau's factor is below 1."""
    end, rate, factor = content.get("lr_end"), setting["learning_rate"], content.get("factor")
    # Its own lr_end is 1e-7.
    if name == "polynomial" and isinstance(end or 1e-7, int | float) and not rate > (1e-7 if end is None else end):
        message = f"ends at {1e-7 if end is None else end:g}, and learning_rate {rate:g} is not above that"
        yield at_key(_KEY, message, "a higher learning_rate, or a lower lr_end")
    if name in ("reduce_lr_on_plateau", "greedy") and isinstance(factor, int | float) and factor >= 1:
        yield at_key(_KEY, f"holds factor {factor:g}, and must be below 1", f"{_KEY}: {{factor: 0.5}}")
