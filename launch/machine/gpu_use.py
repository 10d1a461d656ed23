"""Which of the machine's GPUs an action works on, named or not, as the driver numbers them."""

from collections.abc import Mapping, Sequence
from typing import Any

from launch.machine.gpus import Gpu
from launch.machine.variables import is_enabled

VARIABLE = "CUDA_VISIBLE_DEVICES"
HARNESS = "lm_eval"


def find_gpus(
    action: str, values: Mapping[str, Any], environ: Mapping[str, str], gpus: Sequence[Gpu]
) -> tuple[str, ...]:
    """Return the GPUs that an action on a config works on when it starts with these variables.

    Shape: `gpus` are all of the machine; the answer holds their numbers, and as text what none of them is called.
    Nothing for an action that stays on the CPU, or whose workers Ray places.
    """
    if is_enabled("USE_RAY", environ) or _stays_on_cpu(action, values):
        return ()
    visible = environ.get(VARIABLE)
    found = tuple(map(str, range(len(gpus)))) if visible is None else number_visible(visible, gpus)
    if action != HARNESS:
        # LLaMA-Factory starts one process on each that it sees.
        return found
    _, _, number = str(values.get("device") or "").partition(":")
    chosen = int(number) if number.isascii() and number.isdecimal() else 0
    return found[chosen : chosen + 1]


def number_visible(visible: str, gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names, as numbers; one that is not known here stays as it is."""
    found: list[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        if not entry or entry.startswith("-"):
            # CUDA takes none from here on.
            break
        uuids = (str(n) for n, gpu in enumerate(gpus) if entry.startswith("GPU-") and gpu.uuid.startswith(entry))
        number = str(int(entry[:9])) if entry.isascii() and entry.isdecimal() else entry
        found.append(next(uuids, number))
    return tuple(dict.fromkeys(found))


def _stays_on_cpu(action: str, values: Mapping[str, Any]) -> bool:
    if action == "export":
        # LLaMA-Factory merges on the CPU unless it is told to choose.
        return bool(values.get("export_device", "cpu") == "cpu")
    if action == HARNESS:
        return bool(values.get("device") == "cpu")
    return values.get("use_cpu") is True
