"""Rules of what a run finds: options of its packages, the packages, the model's folder, its own path."""

import logging
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from launch.configs.document import load_document, show_value, suggest_names
from launch.configs.rules.base import (
    Setting,
    any_rule,
    drop,
    list_reporters,
    local_path,
    read_json_value,
    train_rule,
)
from launch.configs.rules.machine import find_version, is_installed
from launch.configs.weights import is_cut
from launch.machine.variables import is_enabled
from prep.errors import ConfigError
from prep.quality.findings import Finding, Severity, at_key

_WEIGHTS_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# Some of these every tokenizer has; a model's own code names its file as it likes.
_TOKENIZERS = (
    *("tokenizer.json", "*.model", "vocab.*", "*.tiktoken", "tokenization_*.py", "tokenizer_config.json"),
    *("tekken.json", "*spm*", "bpe.*", "*.vocab"),
)
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")


@train_rule
def debug_options_exist(setting: Setting) -> Iterator[Finding]:
    """Parser, transformers 5.6, DebugOption."""
    options = setting["debug"]
    for option in options.split() if isinstance(options, str) else []:
        if option not in ("underflow_overflow", "tpu_metrics_debug"):
            yield at_key("debug", f"{option} is none of underflow_overflow, tpu_metrics_debug", drop("debug"))


@any_rule
def nested_configs_are_readable(setting: Setting) -> Iterator[Finding]:
    """Parser: a string that opens with `{` is read as JSON; other strings of two keys are opened as files."""
    keys = ["vllm_config", "sglang_config"]
    if setting.trains:
        keys += ["accelerator_config", "fsdp_config", "gradient_checkpointing_kwargs", "lr_scheduler_kwargs"]
        keys += ["ray_init_kwargs"]
    for key in keys:
        value = setting[key]
        is_file = key in ("accelerator_config", "fsdp_config")
        if isinstance(value, str) and (value.startswith("{") or is_file) and read_json_value(value) is None:
            yield at_key(key, f"{value[:60]} is not readable JSON", "write the mapping as YAML")
    special = setting["new_special_tokens_config"]
    if special is not None and not Path(special).is_file():
        yield at_key("new_special_tokens_config", f"{special} does not exist", "the path of a YAML file")
    elif special is not None:
        try:
            faults = [fault.message for fault in load_document(Path(special)).faults]
        except ConfigError as error:
            faults = [str(error)]
        for fault in faults[:1]:
            yield at_key("new_special_tokens_config", fault, "a YAML file of `token: what it means`")


# Source: torch 2.11, utils/checkpoint.py.
_CHECKPOINTING = frozenset(
    {"use_reentrant", "preserve_rng_state", "determinism_check", "debug", "early_stop", "context_fn"}
    | {"respect_saved_tensors_hooks"}
)


@train_rule
def checkpointing_takes_its_arguments(setting: Setting) -> Iterator[Finding]:
    """Run: `functools.partial() argument after ** must be a mapping`; torch: `Unexpected keyword arguments`."""
    key = "gradient_checkpointing_kwargs"
    given = setting[key]
    if not given or not setting["gradient_checkpointing"] or not setting["do_train"]:
        return
    content = read_json_value(given)
    if isinstance(given, str) and not given.startswith("{"):
        yield at_key(key, f"is {show_value(given)}, and must be a mapping", drop(key))
    elif isinstance(content, dict) and (unknown := sorted(set(map(str, content)) - _CHECKPOINTING)):
        yield at_key(key, f"holds {unknown[0]}, which torch does not take", f"{key}: {{use_reentrant: false}}")


@train_rule
def accelerator_keys_exist(setting: Setting) -> Iterator[Finding]:
    """Parser, transformers 5.6, AcceleratorConfig."""
    known = {
        *("split_batches", "dispatch_batches", "even_batches", "use_seedable_sampler", "non_blocking"),
        *("gradient_accumulation_kwargs", "use_configured_state"),
    }
    content = read_json_value(setting["accelerator_config"])
    for key in sorted(set(content) - known) if isinstance(content, dict) else []:
        yield at_key("accelerator_config", f"has no key {key}", f"one of {', '.join(sorted(known))}")


@train_rule
def trackio_has_a_project(setting: Setting) -> Iterator[Finding]:
    """Parser: `--project must be specified when using Trackio`."""
    if "trackio" in list_reporters(setting) and not setting["project"]:
        yield at_key("project", "is empty, and report_to holds trackio", "project: NAME")


_PACKAGES = {
    "use_kt": ("kt-kernel", "transformers-kt", "accelerate-kt"),
    "use_unsloth": ("unsloth",),
    "enable_liger_kernel": ("liger-kernel",),
    "use_liger_kernel": ("liger-kernel",),
    "mixture_of_depths": ("mixture-of-depth",),
    "use_galore": ("galore_torch",),
    "use_apollo": ("apollo_torch",),
    "use_badam": ("badam",),
    "use_adam_mini": ("adam-mini",),
    "use_swanlab": ("swanlab",),
    "plot_loss": ("matplotlib",),
    "deepspeed": ("deepspeed",),
    "predict_with_generate": ("jieba", "nltk", "rouge_chinese"),
    "quantization_bit": ("bitsandbytes",),
}
_BROKEN_FA2 = "5.6.0"
_OTHER_TRAINERS = {
    "USE_V1": "LLaMA-Factory would start its new trainer, which takes other keys",
    "USE_MCA": "LLaMA-Factory would start Megatron's trainer, which takes other keys",
}
# Of later versions, whose YAML has a key of the same name.
_LATER_TRAINERS = {"USE_MEGATRON_BRIDGE": "LLaMA-Factory would start Megatron Bridge, which takes other keys"}
_VERBOSITY = "LLAMAFACTORY_VERBOSITY"
_ENGINES = ("vllm", "sglang")
# Source: transformers 5.6, integrations/integration_utils.py; the package of each, "" where another name brings it.
_REPORTERS = {
    **{name: name for name in ("wandb", "tensorboard", "trackio", "mlflow", "swanlab", "clearml", "neptune")},
    **{"comet_ml": "comet_ml", "codecarbon": "codecarbon", "dvclive": "dvclive", "dagshub": "dagshub"},
    **{"azure_ml": "azureml-core", "flyte": "flytekit", "kubeflow": ""},
}
_TOGETHER = ("none", "all")


@any_rule
def packages_are_installed(setting: Setting) -> Iterator[Finding]:
    """Parser (`_check_extra_dependencies`), and transformers' reporters when the trainer is built."""
    if not setting.machine.has_stack:
        return
    for key, packages in _PACKAGES.items():
        if key in setting.defaults and setting[key]:
            missing = [package for package in packages if not is_installed(package)]
            if missing and (key != "quantization_bit" or setting["quantization_method"] == "bnb"):
                yield at_key(
                    key, f"needs {', '.join(missing)}, not installed here", f"pip install {' '.join(missing)}"
                )
    if setting.trains:
        for name in list_reporters(setting):
            if _REPORTERS.get(name) and not is_installed(_REPORTERS[name]):
                yield at_key(
                    "report_to", f"{name} is not installed here", f"pip install {name}, or report_to: none"
                )

    engine = setting["infer_backend"]
    if not setting.trains and engine in _ENGINES and not is_installed(engine):
        yield at_key(
            "infer_backend",
            f"{engine} is not installed here",
            f"infer_backend: huggingface, or pip install {engine}",
        )


@train_rule
def reporters_exist(setting: Setting) -> Iterator[Finding]:
    """Source: transformers 5.6, get_reporting_integration_callbacks: `… is not supported`."""
    value = setting["report_to"]
    names = value if isinstance(value, list) else [] if value is None else [value]
    for name in names:
        if name in _TOGETHER and len(names) == 1:
            continue
        if name not in _REPORTERS:
            near = suggest_names(str(name), _REPORTERS)
            message = f"{name} stands alone or not at all" if name in _TOGETHER else f"{name} is no such program"
            yield at_key("report_to", message, f"report_to: {near[0] if near else 'none'}")


@train_rule
def swanlab_is_begun_by_its_own_switch(setting: Setting) -> Iterator[Finding]:
    """Run: transformers 5.6 asks SwanLab for its run before there is one; use_swanlab begins it."""
    value = setting["report_to"]
    names = value if isinstance(value, list) else [value]
    if setting.machine.has_stack and ("swanlab" in names or names == ["all"]) and _begins_its_runs():
        message = "swanlab is not begun by report_to, which ends in an error"
        yield at_key("report_to", message, "report_to: none and use_swanlab: true")


def _begins_its_runs() -> bool:
    """Whether the installed SwanLab is one that raises where it has no run: those that have the new `sdk`."""
    try:
        return Path(str(metadata.distribution("swanlab").locate_file("swanlab/sdk/__init__.py"))).is_file()
    except metadata.PackageNotFoundError:
        return False


@any_rule
def attention_works_with_transformers(setting: Setting) -> Iterator[Finding]:
    """Source: transformers 5.6.0, which LLaMA-Factory's main excludes: fa2 ends in `s_aux.to(query.dtype)`.

    Source: model/model_utils/attention.py: `Unknown attention type: fa3`; fa2 that is not installed is left out.
    """
    if setting["flash_attn"] == "fa3":
        yield at_key("flash_attn", "fa3 is for LLaMA-Factory's new trainer alone", "flash_attn: fa2, or auto")
    if setting["flash_attn"] != "fa2" or not setting.machine.has_stack:
        return
    version = find_version("transformers")
    if not find_version("flash_attn"):
        message = "fa2 needs flash-attn, not installed here, and is left out"
        yield at_key("flash_attn", message, "flash_attn: sdpa", severity=Severity.WARNING)
    elif version == _BROKEN_FA2:
        fix = "flash_attn: sdpa, or another transformers"
        yield at_key("flash_attn", f"fa2 fails with transformers {version}", fix)


@any_rule
def trainer_reads_these_keys(setting: Setting) -> Iterator[Finding]:
    """Source: launcher.py: these variables start another trainer, whose keys are others."""
    later = {name: what for name, what in _LATER_TRAINERS.items() if name.lower() in setting.defaults}
    for variable, what in (_OTHER_TRAINERS | later).items():
        if setting.trains and is_enabled(variable, setting.machine.env):
            yield at_key("", f"{variable} is set: {what}", f"unset {variable}")


@any_rule
def verbosity_is_a_level(setting: Setting) -> Iterator[Finding]:
    """Source: extras/logging.py: `Unknown logging level`, when LLaMA-Factory is imported."""
    level = setting.machine.env.get(_VERBOSITY, "")
    if level and level.upper() not in logging.getLevelNamesMapping():
        yield at_key(
            "", f"{_VERBOSITY} is {show_value(level)}, which is no level", f"{_VERBOSITY}=INFO, or unset it"
        )


@any_rule
def model_folder_is_complete(setting: Setting) -> Iterator[Finding]:
    """Run: a half-downloaded model fails after minutes, in the tokenizer or in the last shard."""
    for key in ("model_name_or_path", "ref_model", "reward_model"):
        if _is_model(key, setting):
            yield from _judge_model(key, str(setting[key]))


def _is_model(key: str, setting: Setting) -> bool:
    """Whether a run loads what a key names as a whole model."""
    if not setting[key]:
        return False
    if key == "reward_model":
        return bool(setting["stage"] == "ppo" and setting["reward_model_type"] == "full")
    compares = setting["stage"] in ("dpo", "kto", "ppo") or setting["use_asft_loss"]
    return bool(key == "model_name_or_path" or compares)


def _judge_model(key: str, name: str) -> Iterator[Finding]:
    folder = local_path(name)
    if folder.is_dir():
        if missing := _find_missing_files(folder):
            fix = "download it again, with the same command: what is there is kept"
            yield at_key(key, f"{name} is not complete: {missing}", fix)
    elif name.startswith((".", "/", "~")) or folder.is_absolute() or len(folder.parts) > 2:
        yield at_key(key, f"{name} does not exist", "lfc prep download, or a hub's name")
    elif Path(folder.parts[0]).is_dir():
        message = f"{name} does not exist, though {folder.parts[0]} does: it would be looked for on a hub"
        yield at_key(key, message, "the model's folder, or a hub's name", severity=Severity.WARNING)


@train_rule
def reward_server_has_an_address(setting: Setting) -> Iterator[Finding]:
    """Source: train/trainer_utils.py: `Please provide full url`."""
    asks_server = setting["stage"] == "ppo" and setting["reward_model_type"] == "api"
    if asks_server and setting["reward_model"] and not str(setting["reward_model"]).startswith("http"):
        message = f"is {show_value(setting['reward_model'])}, and reward_model_type api needs an address"
        yield at_key("reward_model", message, "reward_model: http://HOST:PORT/…")


@train_rule
def torchrun_paths_have_no_spaces(setting: Setting) -> Iterator[Finding]:
    """Source: launcher.py builds torchrun's command as a string and splits it at spaces."""
    if setting.machine.starts_torchrun and setting.path is not None and " " in str(setting.path):
        yield at_key(
            "", f"its path has a space, where torchrun would be split: {setting.path}", "a path without spaces"
        )


def _find_missing_files(folder: Path) -> str:
    """Say what a model folder lacks, "" when nothing."""
    partial = next((path for pattern in ("*.incomplete", "*.partial") for path in folder.glob(pattern)), None)
    if partial is not None:
        return f"{partial.name} is a download under way"
    if not (folder / "config.json").is_file():
        return "config.json is missing"
    if not isinstance(read_json_value(str(folder / "config.json")), dict):
        return "config.json is no JSON object"
    for name in _WEIGHTS_INDEX:
        index = read_json_value(str(folder / name)) if (folder / name).is_file() else None
        shards = sorted(set(index.get("weight_map", {}).values())) if isinstance(index, dict) else []
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            return f"{len(missing)} of {len(shards)} weight files are missing, {missing[0]} first"
    if not any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        return "there are no weight files"
    cut = next((path for path in sorted(folder.glob("*.safetensors")) if is_cut(path)), None)
    if cut is not None:
        return f"{cut.name} is cut off"
    if not any(next(folder.glob(pattern), None) for pattern in _TOKENIZERS):
        return "there is no tokenizer"
    return ""
