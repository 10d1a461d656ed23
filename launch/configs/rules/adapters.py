"""Rules of trained adapters: they are there, whole, and of the model that they are put on."""

from collections.abc import Iterator
from pathlib import Path

from launch.configs.rules.base import Setting, any_rule, local_path
from launch.configs.weights import find_misfit
from prep.errors import InputError
from prep.quality.findings import Finding, Severity, at_key

_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")


@any_rule
def adapters_are_there(setting: Setting) -> Iterator[Finding]:
    """Source: PeftModel.from_pretrained: `Can't find 'adapter_config.json'`, after the model was loaded."""
    for folder, name in _list_folders(setting):
        if not folder.is_dir():
            # A hub's name is an owner and a name.
            if name.startswith((".", "/", "~")) or len(folder.parts) != 2 or Path(folder.parts[0]).is_dir():
                yield at_key(
                    "adapter_name_or_path",
                    f"{name} does not exist",
                    "the output_dir of a finished training, or a hub's name",
                    severity=Severity.ERROR if setting.machine.is_here else Severity.WARNING,
                )
        elif not (folder / "adapter_config.json").is_file():
            is_model = (folder / "config.json").is_file()
            yield at_key(
                "adapter_name_or_path",
                f"{name} holds no adapter_config.json" + (": it is a whole model" if is_model else ""),
                f"model_name_or_path: {name}" if is_model else "the output_dir of a finished training",
            )
        elif not any((folder / file).is_file() for file in _ADAPTER_FILES):
            yield at_key(
                "adapter_name_or_path", f"{name} holds no weights", "the output_dir of a finished training"
            )


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
