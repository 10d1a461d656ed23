"""Rules of export, chat and API."""

import os
from collections.abc import Iterator
from pathlib import Path

from launch.configs.rules.base import Setting, any_rule, drop, infer_rule, local_path
from prep.quality.findings import Finding, Severity, at_key

# What tells a training's folder, and one that LLaMA-Factory's export has written to its end.
_TRAINED = {
    "adapter_config.json",
    "trainer_state.json",
    "trainer_log.jsonl",
    "training_args.bin",
    "all_results.json",
}
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_EXPORTED = {"Modelfile", "config.json"}


@any_rule
def export_has_what_it_needs(setting: Setting) -> Iterator[Finding]:
    """Parser (ExportArguments), and train/tuner.py export_model."""
    bits = setting["export_quantization_bit"]
    if bits is not None and setting["export_quantization_dataset"] is None:
        yield at_key("export_quantization_bit", "needs rows to calibrate on", "export_quantization_dataset: FILE")
    if setting["export_dir"] is None and not setting.trains:
        for key in setting.values:
            if key.startswith("export_") and setting[key] not in (None, setting.defaults.get(key)):
                yield at_key("export_dir", f"is missing, and {key} is for an export", "export_dir: models/merged")
                break
    if bits is not None and bits not in (2, 3, 4, 8):
        yield at_key(
            "export_quantization_bit", f"is {bits}, allowed are 2, 3, 4 and 8", "export_quantization_bit: 4"
        )
    if setting["export_dir"] is None or setting.trains:
        return
    if setting["adapter_name_or_path"] is not None:
        if bits is not None:
            yield at_key(
                "export_quantization_bit", "cannot quantise before the adapter is merged", "export in two runs"
            )
        if setting["quantization_bit"] is not None:
            yield at_key(
                "quantization_bit", "cannot merge an adapter into a quantised model", drop("quantization_bit")
            )


@any_rule
def uploads_have_a_token(setting: Setting) -> Iterator[Finding]:
    """Source: train/tuner.py export_model and transformers' push_to_hub: a 401, of an export when it is merged."""
    env, machine = setting.machine.env, setting.machine
    key = "push_to_hub" if setting.trains else "export_hub_model_id"
    # A trainer makes the repository when it is made itself, whatever it then does.
    uploads = setting.trains or setting["export_dir"] is not None
    if not setting[key] or not machine.is_here or not uploads:
        return
    home = local_path(env.get("HF_HOME") or "~/.cache/huggingface")
    kept = local_path(env["HF_TOKEN_PATH"]) if env.get("HF_TOKEN_PATH") else home / "token"
    tokens = (setting["hf_hub_token"], setting["hub_token"], *(env.get(name) for name in _TOKENS))
    if not any(tokens) and not kept.is_file():
        yield at_key(
            key,
            "uploads the model, and there is no token of the hub",
            f"set the environment variable HF_TOKEN, or {drop(key)}",
        )


@infer_rule
def export_dir_is_free(setting: Setting) -> Iterator[Finding]:
    """Source: train/tuner.py export_model: save_pretrained writes over whatever stands in export_dir."""
    if setting["export_dir"] is None:
        return
    target = local_path(setting["export_dir"])
    sources = [("the model itself", local_path(setting["model_name_or_path"] or ""))]
    inner = str(setting["adapter_folder"] or "")
    for name in setting.names("adapter_name_or_path"):
        sources += [("its adapter", local_path(name)), ("its adapter", local_path(name) / inner)]
    fix = "export_dir: a folder that does not exist yet"
    for what, source in sources:
        if _is_same(target, source):
            yield at_key("export_dir", f"{target} is the folder of {what}, which would be written over", fix)
            return
    if target.is_dir():
        names = {path.name for path in target.iterdir()}
        if names & _TRAINED:
            yield at_key("export_dir", f"{target} holds what a training made", fix)
        elif names >= _EXPORTED:
            yield at_key(
                "export_dir",
                f"{target} holds an earlier export, which is written over",
                fix,
                severity=Severity.WARNING,
            )
        elif names:
            yield at_key("export_dir", f"{target} is not empty, and no export made what is in it", fix)
    elif target.exists() or target.is_symlink():
        yield at_key("export_dir", f"{target} is a file", fix)


def _is_same(target: Path, source: Path) -> bool:
    """Tell whether one folder is the other, whatever spellings and links lead there."""
    if os.path.realpath(target) == os.path.realpath(source):
        return True
    return target.exists() and source.exists() and target.samefile(source)


@any_rule
def vllm_takes_plain_models(setting: Setting) -> Iterator[Finding]:
    """Parser (get_infer_args)."""
    if setting.trains or setting["infer_backend"] != "vllm":
        return
    if setting["stage"] != "sft":
        yield at_key("stage", "vLLM runs language models alone", "stage: sft")
    if setting["quantization_bit"] is not None:
        yield at_key("quantization_bit", "vLLM does not quantise on the fly", drop("quantization_bit"))
    if setting["rope_scaling"] is not None:
        yield at_key("rope_scaling", "vLLM does not support it", drop("rope_scaling"))
    if len(setting.names("adapter_name_or_path")) > 1:
        yield at_key("adapter_name_or_path", "vLLM takes a single adapter", "merge them first")
