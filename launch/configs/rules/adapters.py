"""Rules of trained adapters: they are there, whole, and of the model that they are put on."""

from collections.abc import Iterator
from pathlib import Path

from launch.configs.document import show_value
from launch.configs.rules.base import Setting, any_rule, drop, local_path
from launch.configs.weights import find_misfit, read_json_file
from prep.errors import InputError
from prep.quality.findings import Finding, Severity, at_key

_ADAPTER_KEYS = ("adapter_name_or_path", "ref_model_adapters", "reward_model_adapters", "reward_model")
# Source: peft 0.18, utils/peft_types.py.
_KINDS = frozenset(
    {"LORA", "ADALORA", "OFT", "BOFT", "IA3", "LOHA", "LOKR", "VERA", "FOURIERFT", "XLORA", "HRA", "VBLORA", "CPT"}
    | {"BONE", "MISS", "RANDLORA", "ROAD", "TRAINABLE_TOKENS", "SHIRA", "C3A", "WAVEFT", "OSF", "DELORA", "POLY"}
    | {"LN_TUNING", "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT"}
)
_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")


@any_rule
def adapters_are_there(setting: Setting) -> Iterator[Finding]:
    """Source: PeftModel.from_pretrained: `Can't find 'adapter_config.json'`, after the model was loaded."""
    for key in _ADAPTER_KEYS:
        if not _is_read(key, setting):
            continue
        for name in setting.names(key):
            yield from _judge_folder(setting, key, name)


def _is_read(key: str, setting: Setting) -> bool:
    """Whether a run loads what a key names as adapters."""
    if key == "reward_model":
        return setting["stage"] == "ppo" and setting["reward_model_type"] in ("lora", "oft")
    return key == "adapter_name_or_path" or setting[key.removesuffix("_adapters")] is not None


def _judge_folder(setting: Setting, key: str, name: str) -> Iterator[Finding]:
    folder = local_path(name) / (str(setting["adapter_folder"] or "") if key == "adapter_name_or_path" else "")
    if not name:
        yield at_key(key, "holds an empty name", drop(key))
    elif not folder.is_dir():
        # A hub's name is an owner and a name.
        if name.startswith((".", "/", "~")) or len(folder.parts) != 2 or Path(folder.parts[0]).is_dir():
            severity = Severity.ERROR if setting.machine.is_here else Severity.WARNING
            fix = "the output_dir of a finished training, or a hub's name"
            yield at_key(key, f"{name} does not exist", fix, severity=severity)
    elif not (folder / "adapter_config.json").is_file():
        is_model = (folder / "config.json").is_file()
        told = f"{name} holds no adapter_config.json" + (": it is a whole model" if is_model else "")
        other = "reward_model_type: full" if key == "reward_model" else f"model_name_or_path: {name}"
        yield at_key(key, told, other if is_model else "the output_dir of a finished training")
    elif not any((folder / file).is_file() for file in _ADAPTER_FILES):
        yield at_key(key, f"{name} holds no weights", "the output_dir of a finished training")
    elif (kind := _read_kind(folder)) and kind not in _KINDS:
        told = f"{name} is an adapter of kind {show_value(kind)}"
        yield at_key(key, f"{told}, which peft does not know", "the output_dir of a finished training")


def _read_kind(folder: Path) -> str:
    """Return an adapter's kind, "" where its config says none or cannot be read."""
    config = read_json_file(folder / "adapter_config.json")
    return str(config.get("peft_type") or "") if isinstance(config, dict) else ""


@any_rule
def several_adapters_can_be_merged(setting: Setting) -> Iterator[Finding]:
    """Source: model/adapter.py: with Unsloth, KTransformers and ZeRO-3, `only accepts a single adapter`."""
    if len(setting.names("adapter_name_or_path")) < 2:
        return
    for key in ("use_unsloth", "use_kt"):
        if setting[key]:
            yield at_key(
                "adapter_name_or_path", f"names several, and {key} takes one", f"merge them first, or {key}: false"
            )
    if setting.trains and setting.zero_stage == 3:
        yield at_key(
            "adapter_name_or_path", "names several, and ZeRO-3 takes one", "merge them first, or a ZeRO-2 config"
        )


@any_rule
def adapters_fit_the_model(setting: Setting) -> Iterator[Finding]:
    """Source: PeftModel.from_pretrained: `size mismatch for …`; weights of layers beyond the last are dropped."""
    model = local_path(setting["model_name_or_path"] or "")
    if not model.is_dir():
        return
    adds_tokens = any(
        setting[key] for key in ("add_tokens", "add_special_tokens", "new_special_tokens_config", "resize_vocab")
    )
    for folder, name in _list_folders(setting):
        try:
            misfit = find_misfit(folder, model, adds_tokens=adds_tokens)
        except InputError as error:
            misfit = str(error)
        if misfit:
            yield at_key(
                "adapter_name_or_path",
                f"{name} is not an adapter of {setting['model_name_or_path']}: {misfit}",
                "the model and the added tokens that the adapter was trained with",
            )


def _list_folders(setting: Setting) -> list[tuple[Path, str]]:
    """Return each adapter's folder, and its name as the config says it."""
    inner = str(setting["adapter_folder"] or "")
    return [(local_path(name) / inner, name) for name in setting.names("adapter_name_or_path") if name]
