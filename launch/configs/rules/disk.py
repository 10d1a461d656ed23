"""Rules of the disk: what a training or an export will write has room there."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from launch.configs.rules.base import Setting, any_rule, local_path
from launch.configs.rules.data.rows import count_steps
from launch.configs.rules.models import read_shapes_of
from prep.quality.findings import Finding, Severity, at_key

# The least that is written of a weight, of one that LoRA adds, and of what Adam keeps of each that it trains.
_WEIGHT_BYTES, _ADDED_BYTES, _ADAM_BYTES = 2, 4, 8
_GIB = 1 << 30


@dataclass(frozen=True)
class Need:
    """What a run writes at least, in bytes: its result, one checkpoint, and how many of these are kept at once."""

    result: int
    checkpoint: int = 0
    kept: int = 0

    @property
    def least(self) -> int:
        """What is written in any case: a training ends with a checkpoint, where it saves any."""
        return self.result + (self.checkpoint if self.kept else 0)

    @property
    def whole(self) -> int:
        """What lies there in the end."""
        return self.result + self.checkpoint * self.kept


@any_rule
def results_have_room(setting: Setting) -> Iterator[Finding]:
    """Source: torch.save and safetensors: `No space left on device`, at the first checkpoint or at the very end.

    Run: a run on a full disk loses its checkpoint and its log. Told only of models whose weights are here.
    """
    key = "output_dir" if setting.trains else "export_dir"
    if not setting.machine.is_here or not setting[key] or (setting.trains and not setting["do_train"]):
        return
    need = _estimate_training(setting) if setting.trains else _estimate_export(setting)
    folder = local_path(setting[key])
    existing = next((path for path in (folder, *folder.absolute().parents) if path.is_dir()), None)
    if need is None or existing is None:
        return
    free = shutil.disk_usage(existing).free
    fix = f"free some, or {key}: a folder on a larger disk"
    if need.least > free:
        yield at_key(key, f"needs {_show(need.least)} at least, and {_show(free)} are free there", fix)
    elif need.whole > free:
        message = f"will hold {need.kept} checkpoints, {_show(need.whole)} in all, and {_show(free)} are free there"
        yield at_key(key, message, f"save_total_limit: 1, or {fix}", severity=Severity.WARNING)


def _estimate_export(setting: Setting) -> Need | None:
    if setting["export_quantization_bit"] is not None:
        return None
    weights = _count_weights(setting)
    return Need(weights * _WEIGHT_BYTES) if weights else None


def _estimate_training(setting: Setting) -> Need | None:
    weights = _count_weights(setting)
    if not weights:
        return None
    method = setting["finetuning_type"]
    if method in ("full", "freeze"):
        result, trained = weights * _WEIGHT_BYTES, weights if method == "full" else 0
    elif method == "lora":
        trained = _count_added(setting)
        result = trained * _ADDED_BYTES
    else:
        return None
    optimizer = trained * _ADAM_BYTES if setting["optim"] == "adamw_torch" and not setting["save_only_model"] else 0
    return Need(result, result + optimizer, _count_checkpoints(setting))


def _count_checkpoints(setting: Setting) -> int:
    """Return how many checkpoints are kept at the end, 0 where none is saved."""
    if setting["save_strategy"] == "no":
        return 0
    steps, every, limit = count_steps(setting), setting["save_steps"], setting["save_total_limit"]
    if setting["save_strategy"] == "steps" and steps and every:
        made = -(-steps // max(int(every if every >= 1 else every * steps), 1))
    else:
        made = 1
    return max(min(made, limit) if limit else made, 1)


def _count_weights(setting: Setting) -> int:
    return sum(_multiply(shape) for shape in read_shapes_of(setting).values())


def _count_added(setting: Setting) -> int:
    """Return how many weights LoRA adds: rank x (in + out) of each module that it is put on."""
    targets = setting.names("lora_target")
    shapes = [
        shape
        for name, shape in read_shapes_of(setting).items()
        if len(shape) == 2 and ".layers." in name and (targets == ["all"] or name.split(".")[-2] in targets)
    ]
    return sum(int(setting["lora_rank"]) * sum(shape) for shape in shapes)


def _multiply(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _show(count: int) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB // 10 else f"{count / (1 << 20):.0f} MiB"
