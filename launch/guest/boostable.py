"""What can be boosted: each engine, version, config and model that was seen to train the same, and no other.

boost.py loads this file. A new version is added to the tables here once tests/guest passes with it.

Source: LLaMA-Factory 0.9.5, hparams/*.py (the keys) and launcher.py (the variables).
"""

import contextlib
import importlib
import importlib.metadata
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

# Each of these was seen to give the same losses and weights (tests/guest).
KNOWN_VERSIONS = {"llamafactory": ("0.9.5",), "transformers": ("5.6.0",), "unsloth": ("2026.10.7",)}
KNOWN_MODELS = ("llama", "qwen2", "qwen3")
_OTHER_LAUNCHERS = ("USE_V1", "USE_MCA", "USE_RAY", "USE_KT", "FORCE_TORCHRUN")
TRAINERS = {
    "sft": ("llamafactory.train.sft.trainer", "CustomSeq2SeqTrainer"),
    "pt": ("llamafactory.train.pt.trainer", "CustomTrainer"),
}


class RefusedError(Exception):
    """This run cannot be boosted."""


def check_surroundings(environ: Mapping[str, str]) -> None:
    """Refuse other engines and several processes; raises RefusedError."""
    for name in _OTHER_LAUNCHERS:
        if environ.get(name, "").lower() in ("true", "y", "1"):
            raise RefusedError(f"{name} is set; only LLaMA-Factory's own engine in one process can be boosted")
    if int(environ.get("WORLD_SIZE", "1") or 1) > 1:
        raise RefusedError("WORLD_SIZE is above 1; only one process can be boosted")


def read_versions() -> dict[str, str]:
    """Return the versions that matter; raises RefusedError for one that was never seen."""
    versions: dict[str, str] = {}
    for name in (*KNOWN_VERSIONS, "torch", "peft", "accelerate"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    for name, known in KNOWN_VERSIONS.items():
        if name == "unsloth":  # checked when it is used
            continue
        if versions.get(name) not in known:
            raise RefusedError(f"{name} {versions.get(name)} was never seen boosted, {' and '.join(known)} were")
    return versions


def check_devices() -> None:
    """Refuse several GPUs, and one that torch's varlen attention does not run on; raises RefusedError."""
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return
    if (count := torch.cuda.device_count()) > 1:
        raise RefusedError(f"{count} GPUs are visible; choose one with CUDA_VISIBLE_DEVICES")
    if torch.cuda.get_device_capability()[0] < 8:
        raise RefusedError("this GPU is older than Ampere; torch's varlen attention needs compute capability 8.0")
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 11):
        raise RefusedError(f"torch {torch.__version__} has no varlen attention with a window, 2.11 has")


def check_arguments(model: Any, data: Any, training: Any, finetuning: Any, *, compiled: bool) -> None:
    """Refuse a config whose training would not be the same or was never seen; raises RefusedError."""
    obstacles = itertools.chain(
        _find_method_obstacles(model, finetuning),
        _find_data_obstacles(data, training, finetuning),
        _find_option_obstacles(compiled=compiled, model=model),
        _find_model_obstacles(model),
    )
    for reason in obstacles:
        raise RefusedError(reason)


def _find_method_obstacles(model: Any, finetuning: Any) -> Iterator[str]:
    if finetuning.stage not in TRAINERS:
        yield f"stage: {finetuning.stage} pairs its rows; only sft and pt can be boosted"
    if finetuning.finetuning_type not in ("lora", "full", "freeze"):
        yield f"finetuning_type: {finetuning.finetuning_type} was never seen boosted"
    for key in ("use_dft_loss", "use_eaft_loss", "use_asft_loss", "use_badam", "use_hyper_parallel"):
        if getattr(finetuning, key, None):
            yield f"{key}: true was never seen boosted"
    for key in ("use_kt", "enable_liger_kernel", "use_v1_kernels", "shift_attn"):
        if getattr(model, key, None):
            yield f"{key} was never seen boosted"
    for key in ("mixture_of_depths", "rope_scaling"):
        if getattr(model, key, None) is not None:
            yield f"{key} depends on how long a padded row is"
    if str(getattr(model.flash_attn, "value", model.flash_attn)) not in ("auto", "sdpa"):
        yield "flash_attn asks for another attention; leave it out, or set auto or sdpa"


def _find_data_obstacles(data: Any, training: Any, finetuning: Any) -> Iterator[str]:
    if not training.do_train:
        yield "do_train is not set: there is nothing to boost"
    for key in ("packing", "neat_packing"):
        if getattr(data, key):
            by_default = " (the default of stage pt)" if key == "packing" and finetuning.stage == "pt" else ""
            yield f"{key}: true{by_default} leaves no padding to save, and is another training than {key}: false"
    if training.neftune_noise_alpha is not None:
        yield "neftune_noise_alpha scales its noise by the padded length: without padding it is another training"
    if training.label_smoothing_factor:
        yield "label_smoothing_factor was never seen boosted"
    for key in ("deepspeed", "fsdp", "fp8"):
        if getattr(training, key, None):
            yield f"{key} was never seen boosted"
    if training.auto_find_batch_size:
        yield "auto_find_batch_size changes the training; set per_device_train_batch_size"


def _find_option_obstacles(*, compiled: bool, model: Any) -> Iterator[str]:
    torch = importlib.import_module("torch")
    if compiled and model.use_unsloth:
        yield "--compile is for layers of transformers; use_unsloth: true brings its own"
    if compiled and model.quantization_bit is not None:
        yield "--compile was never seen with quantization_bit"
    if torch.cuda.is_available() and model.compute_dtype not in (torch.bfloat16, torch.float16):
        yield "without bf16 or fp16 there is no fast attention for batches without padding; set bf16: true"
    version = importlib.metadata.version("unsloth") if model.use_unsloth else ""
    if version and version not in KNOWN_VERSIONS["unsloth"]:
        yield f"unsloth {version} was never seen boosted, {' and '.join(KNOWN_VERSIONS['unsloth'])} were"


def _find_model_obstacles(model: Any) -> Iterator[str]:
    config = importlib.import_module("llamafactory.model.loader").load_config(model)
    kind = getattr(config, "model_type", None)
    if kind not in KNOWN_MODELS:
        yield f"a model of type {kind} was never seen boosted, {', '.join(KNOWN_MODELS)} were"
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        yield "some layers attend within a sliding window"
    if getattr(config, "attention_dropout", 0):
        yield f"attention_dropout is {config.attention_dropout}; attention over rows of unequal length has none"
