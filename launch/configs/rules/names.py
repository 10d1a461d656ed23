"""Rules of names: for each key that takes one of a few, and whose type does not say which, what it may be."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from launch.configs.document import show_value, suggest_names
from launch.configs.rules.base import Setting, drop, train_rule
from prep.quality.findings import Finding, at_key


def _trains(setting: Setting) -> bool:
    return bool(setting["do_train"])


def _compiles(setting: Setting) -> bool:
    return _trains(setting) and setting["torch_compile_backend"] in (None, "inductor")


@dataclass(frozen=True)
class Names:
    """A key, the names that it may be, and when they are looked at."""

    key: str
    known: tuple[str, ...]
    when: Callable[[Setting], bool] = lambda _: True
    case_matters: bool = True


_LEVELS = ("detail", "debug", "info", "warning", "error", "critical", "passive")
# Source: accelerate 1.11, state.py and DynamoBackend; torch 2.14, list_mode_options;
# transformers 5.6, utils/logging.py.
NAMES = (
    Names("ddp_backend", ("nccl", "gloo", "mpi", "ccl", "xccl", "hccl", "cncl", "mccl", "tccl", "qccl")),
    Names(
        "torch_compile_backend",
        (
            *("inductor", "eager", "aot_eager", "cudagraphs", "tensorrt", "onnxrt", "ipex", "tvm"),
            *("hpu_backend", "aot_torchxla_trace_once", "torchxla_trace_once", "no"),
        ),
        _trains,
        case_matters=False,
    ),
    Names(
        "torch_compile_mode",
        ("default", "lite", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
        _compiles,
    ),
    # Of 0.9.6.
    Names("reasoning_effort", ("xhigh", "medium", "low")),
    Names("log_level", _LEVELS),
    Names("log_level_replica", _LEVELS),
)


@train_rule
def names_are_known(setting: Setting) -> Iterator[Finding]:
    """Run: accelerate (`'' is not a valid DynamoBackend`), torch (`Unrecognized mode`)."""
    for names in NAMES:
        if names.key not in setting.defaults or names.key in setting.unreadable or not names.when(setting):
            continue
        value = setting[names.key]
        if not isinstance(value, str) or (value if names.case_matters else value.lower()) in names.known:
            continue
        near = suggest_names(value, names.known)
        message = f"is {show_value(value) if value else 'empty'}, known are {', '.join(names.known)}"
        yield at_key(names.key, message, f"{names.key}: {near[0]}" if near else drop(names.key))
