"""Rules of the model: what its config.json and the names of its weights say of layers, modules and quantisation."""

from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from launch.configs.document import show_value
from launch.configs.rules.base import Setting, any_rule, drop, local_path, off, train_rule
from launch.configs.rules.machine import find_version, is_installed
from launch.configs.weights import Shapes, read_json_file, read_model_shapes
from prep.errors import InputError
from prep.llamafactory import find_version_facts
from prep.quality.findings import Finding, at_key

# Source: transformers 5.6, quantizers/auto.py: of another it tells, and loads the weights as they are. Without
# mxfp4 and fp8, which LLaMA-Factory (model/model_utils/quantization.py) has written out.
_PACKED = frozenset(
    {
        "gptq",
        "awq",
        "aqlm",
        "bitsandbytes",
        "bitsandbytes_4bit",
        "bitsandbytes_8bit",
        "eetq",
        "hqq",
        "quanto",
        "quark",
    }
    | {"fouroversix", "fp_quant", "compressed-tensors", "fbgemm_fp8", "higgs", "torchao", "bitnet", "vptq", "spqr"}
    | {"auto-round", "metal", "sinq"}
)
_READERS = {"gptq": "gptqmodel", "awq": "autoawq", "aqlm": "aqlm", "bitsandbytes": "bitsandbytes"}
# Of transformers' models/auto: the first of 5.x, the second of both.
_TYPE_FILES = ("auto_mappings.py", "configuration_auto.py")
_EMBEDDING = ".embed_tokens.weight"
_OTHER_FORMATS = {"InternVLChatModel": "OpenGVLab/…-hf", "LlavaLlamaForCausalLM": "llava-hf/…"}
_LINEAR = ("qwen3_5", "qwen3_5_moe")
_ONE_ROW = "per_device_train_batch_size: 1, and more gradient_accumulation_steps"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
# A tied head stands in no file.
_TIED = {"lm_head"}


@train_rule
def layers_can_be_divided(setting: Setting) -> Iterator[Finding]:
    """Source: model/adapter.py and model_utils/misc.py: `num_layers … should be divisible by …`."""
    layers, trained = _count_layers(_read_config(setting)), setting["freeze_trainable_layers"]
    if not layers or not setting["use_llama_pro"] or setting["finetuning_type"] not in ("freeze", "lora"):
        return
    if trained == 0 or layers % trained:
        fitting = [number for number in range(1, layers + 1) if layers % number == 0]
        nearest = min(fitting, key=lambda number: abs(number - trained))
        yield at_key(
            "freeze_trainable_layers",
            f"is {trained}, and use_llama_pro divides the model's {layers} layers by it",
            f"freeze_trainable_layers: {nearest}",
        )


@any_rule
def longer_models_can_be_loaded(setting: Setting) -> Iterator[Finding]:
    """Run: model_utils/rope.py sets a length of 81920.0, which transformers 5 refuses: it is not whole."""
    config = _read_config(setting)
    told = config.get("rope_scaling")
    longest = (told.get("original_max_position_embeddings") if isinstance(told, dict) else None) or config.get(
        "max_position_embeddings"
    )
    is_strict = setting.machine.has_stack and find_version("transformers").startswith("5.")
    if setting["rope_scaling"] is None or not is_strict or not isinstance(longest, int):
        return
    if not setting.trains or setting["cutoff_len"] > longest:
        fix = "remove `rope_scaling`, and write it into the model's config.json"
        fix += f", or cutoff_len: {longest}" if setting.trains else ""
        yield at_key("rope_scaling", "cannot make a model longer with transformers 5, which fails", fix)


@train_rule
def trained_modules_exist(setting: Setting) -> Iterator[Finding]:
    """Source: peft: `Target modules … not found`; model/adapter.py: `Module … is not found`."""
    names = _read_names(setting)
    if not names or not setting["do_train"]:
        return
    modules = {name.rpartition(".")[0] for name in names} | _TIED
    if setting["finetuning_type"] in ("lora", "oft"):
        wanted = setting.names("lora_target")
        is_new = setting["adapter_name_or_path"] is None or setting["create_new_adapter"]
        if is_new and wanted != ["all"] and not any(_is_part(module, wanted) for module in modules):
            linear = sorted({name.split(".")[-2] for name in names if ".layers.0." in name and "proj" in name})
            fix = f"lora_target: all{', or some of ' + ', '.join(linear) if linear else ''}"
            yield at_key("lora_target", f"{', '.join(wanted)}: the model has no such module", fix)
    elif setting["finetuning_type"] == "freeze":
        hidden = {
            name.split(f".{number}.")[-1].split(".")[0]
            for name in names
            for number in (0, 1)
            if f".{number}." in name
        }
        others = {
            name.split(".")[-2] for name in names if not any(part.isdigit() for part in name.split("."))
        } | _TIED
        for key, known in (("freeze_trainable_modules", hidden), ("freeze_extra_modules", others)):
            missing = [name for name in setting.names(key) if name != "all" and name not in known]
            if missing and known:
                yield at_key(
                    key, f"{missing[0]}: the model has no such module", f"{key}: {', '.join(sorted(known))}"
                )


@any_rule
def quantised_models_are_kept_as_they_are(setting: Setting) -> Iterator[Finding]:
    """Source: model/adapter.py, model_utils/quantization.py and train/tuner.py refuse these for packed weights."""
    quantised = _read_config(setting).get("quantization_config")
    method = str(quantised.get("quant_method", "")).lower() if isinstance(quantised, dict) else ""
    if method not in _PACKED:
        return
    what = f"cannot go with a model that is quantised already ({method})"
    whole = "model_name_or_path: the model that is not quantised"
    if setting.trains and setting["do_train"]:
        if setting["finetuning_type"] not in ("lora", "oft"):
            yield at_key(
                "finetuning_type", f"{setting['finetuning_type']} {what}", f"finetuning_type: lora, or {whole}"
            )
        if setting["pissa_init"]:
            yield at_key("pissa_init", what, off("pissa_init"))
        if setting["use_dora"] and method != "bitsandbytes":
            yield at_key("use_dora", what, off("use_dora"))
    if setting["resize_vocab"]:
        yield at_key("resize_vocab", what, off("resize_vocab"))
    if setting.trains and setting.zero_stage == 3:
        yield at_key("deepspeed", f"ZeRO-3 {what}", "a ZeRO-2 config")
    if setting.trains and setting["fsdp"]:
        yield at_key("fsdp", what, drop("fsdp"))
    adapters = setting.names("adapter_name_or_path")
    if len(adapters) > 1:
        yield at_key("adapter_name_or_path", f"several adapters: {what}", f"one adapter, or {whole}")
    if adapters and not setting.trains and setting["export_dir"] is not None:
        yield at_key("adapter_name_or_path", f"merging {what}", whole)
    reader = _READERS.get(method, "")
    if reader and setting.machine.has_stack and not is_installed(reader):
        yield at_key(
            "model_name_or_path", f"is quantised, and needs {reader}, not installed here", f"pip install {reader}"
        )


@any_rule
def weights_are_of_the_config(setting: Setting) -> Iterator[Finding]:
    """Run: transformers 5.6: `You set ignore_mismatched_sizes to False, thus raising an error`."""
    config = _read_config(setting)
    inner = config.get("text_config")
    told = inner if isinstance(inner, dict) else config
    wanted = (told.get("vocab_size"), told.get("hidden_size"))
    if config.get("quantization_config") or not all(isinstance(size, int) for size in wanted):
        return
    for name, shape in read_shapes_of(setting).items():
        if name.endswith(_EMBEDDING) and len(shape) == 2 and shape != wanted:
            message = f"its config.json says {wanted[0]} x {wanted[1]}, and its weights are {shape[0]} x {shape[1]}"
            yield at_key("model_name_or_path", message, "the config.json of these weights")


@any_rule
def model_type_is_known(setting: Setting) -> Iterator[Finding]:
    """Source: transformers 5.6, configuration_auto.py: `Unrecognized model`, `does not recognize this …`.

    Source: dynamic_module_utils.py: a folder's own code is run only with trust_remote_code.
    """
    config = _read_config(setting)
    known = read_model_types() if setting.machine.has_stack else ""
    if not config or not known:
        return
    kind, own = config.get("model_type"), config.get("auto_map")
    if isinstance(kind, str) and f'"{kind}"' in known:
        return
    if isinstance(own, dict) and "AutoConfig" in own:
        if not setting["trust_remote_code"]:
            message = f"is false, and the model's own code knows its type {show_value(str(kind))} alone"
            yield at_key("trust_remote_code", message, "trust_remote_code: true, if you trust that code")
        return
    told = f"is of type {show_value(str(kind))}" if kind else "says no model_type in its config.json"
    version = find_version("transformers")
    yield at_key(
        "model_name_or_path", f"{told}, which transformers {version} does not know", "another transformers or model"
    )


@any_rule
def architecture_can_be_loaded(setting: Setting) -> Iterator[Finding]:
    """Source: model/patcher.py, patch_config: `Please download … in a Hugging Face-compatible format`."""
    named = _read_config(setting).get("architectures")
    for name in named if isinstance(named, list) else []:
        if other := _OTHER_FORMATS.get(str(name)):
            message = f"is a {name}, which is not in the format that transformers reads"
            yield at_key("model_name_or_path", message, f"the same model as {other} publishes it")


@train_rule
def template_has_its_processor(setting: Setting) -> Iterator[Finding]:
    """Source: data/mm_plugin.py: `Processor was not found`, at the first row, whether it has a picture or not."""
    told = find_version_facts().templates.get(str(setting["template"]), {})
    folder = local_path(setting["model_name_or_path"] or "")
    if setting["stage"] == "pt" or not told.get("multimodal") or not (folder / "config.json").is_file():
        return
    if not any((folder / name).is_file() for name in _PROCESSORS):
        yield at_key(
            "template",
            f"{setting['template']} is for models that see or hear, and {folder.name} has none of "
            f"{', '.join(_PROCESSORS)}",
            "the template of a text model, or the whole folder of the model",
        )


@train_rule
def packing_goes_with_the_attention(setting: Setting) -> Iterator[Finding]:
    """Source: data/collator.py: `bsz should be 1 for neat packing`; model/patcher.py: flash-linear-attention.

    Both are asked for with fa2 alone, and where it is installed.
    """
    if setting["flash_attn"] != "fa2" or not setting["do_train"]:
        return
    kind = _read_config(setting).get("model_type")
    has_fa2 = not setting.machine.has_stack or is_installed("flash_attn")
    if setting["neat_packing"] and has_fa2:
        if setting["per_device_train_batch_size"] != 1:
            yield at_key("per_device_train_batch_size", "must be 1 with neat_packing and fa2", _ONE_ROW)
        if kind in ("gemma4", "gpt_oss"):
            yield at_key("neat_packing", f"cannot go with fa2 and {kind}", "flash_attn: sdpa")
    if kind in _LINEAR and setting.machine.has_stack and not is_installed("flash-linear-attention"):
        message = f"fa2 of {kind} needs flash-linear-attention, not installed here"
        yield at_key("flash_attn", message, "flash_attn: auto, or pip install flash-linear-attention")


@cache
def read_model_types() -> str:
    """Return the text in which the installed transformers names all types of models, "" without it."""
    try:
        place = metadata.distribution("transformers")
        folder = Path(str(place.locate_file("transformers"))) / "models" / "auto"
        return "".join(
            path.read_text(encoding="utf-8") for path in map(folder.joinpath, _TYPE_FILES) if path.is_file()
        )
    except (metadata.PackageNotFoundError, OSError):
        return ""


def read_shapes_of(setting: Setting) -> Shapes:
    """Return the shapes of the weights of a config's model folder, {} of a hub's model or one that is not whole."""
    folder = local_path(setting["model_name_or_path"] or "")
    if not setting["model_name_or_path"] or not folder.is_dir():
        return {}
    files = sorted(folder.glob("*.safetensors"))
    return _read_shapes(folder.absolute(), tuple(file.stat().st_mtime_ns for file in files))


@cache
def _read_shapes(folder: Path, _stamp: tuple[int, ...]) -> Shapes:
    try:
        return read_model_shapes(folder)
    except InputError:
        return {}


def _is_part(module: str, wanted: list[str]) -> bool:
    return any(module == name or module.endswith(f".{name}") for name in wanted)


def _read_config(setting: Setting) -> dict[str, Any]:
    folder = local_path(setting["model_name_or_path"] or "")
    content = read_json_file(folder / "config.json") if setting["model_name_or_path"] else None
    return content if isinstance(content, dict) else {}


def _count_layers(config: dict[str, Any]) -> int:
    inner = config.get("text_config")
    told = inner if isinstance(inner, dict) else config
    counts = [told.get(key) for key in ("num_hidden_layers", "num_layers", "n_layer")]
    return next((count for count in counts if isinstance(count, int) and count > 0), 0)


def _read_names(setting: Setting) -> frozenset[str]:
    """Return the names of a plain model's weights; none of one whose modules are named otherwise when loaded."""
    config = _read_config(setting)
    if not config or config.get("quantization_config") or config.get("text_config"):
        return frozenset()
    folder = local_path(setting["model_name_or_path"])
    index = folder / "model.safetensors.index.json"
    stamp = [file.stat().st_mtime_ns for file in (folder / "model.safetensors", index) if file.is_file()]
    names = _read_weight_names(folder.absolute(), tuple(stamp))
    # transformers 5 joins the experts of a layer into one module.
    return frozenset() if any("experts" in name for name in names) else names


@cache
def _read_weight_names(folder: Path, stamp: tuple[int, ...]) -> frozenset[str]:
    index = read_json_file(folder / "model.safetensors.index.json")
    told = index.get("weight_map") if isinstance(index, dict) else None
    if isinstance(told, dict):
        return frozenset(map(str, told))
    return frozenset(_read_shapes(folder, stamp))
