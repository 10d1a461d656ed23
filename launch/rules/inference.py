"""Rules of export, chat and API."""

from collections.abc import Iterator

from launch.document import Fault
from launch.rules.base import Setting, any_rule, drop


@any_rule
def export_has_what_it_needs(setting: Setting) -> Iterator[Fault]:
    """Parser (ExportArguments), and train/tuner.py export_model."""
    bits = setting["export_quantization_bit"]
    if bits is not None and setting["export_quantization_dataset"] is None:
        yield Fault("export_quantization_bit", "needs rows to calibrate on", "export_quantization_dataset: FILE")
    if setting["export_dir"] is None or setting.trains:
        return
    if setting["adapter_name_or_path"] is not None:
        if bits is not None:
            yield Fault(
                "export_quantization_bit", "cannot quantise before the adapter is merged", "export in two runs"
            )
        if setting["quantization_bit"] is not None:
            yield Fault(
                "quantization_bit", "cannot merge an adapter into a quantised model", drop("quantization_bit")
            )


@any_rule
def vllm_takes_plain_models(setting: Setting) -> Iterator[Fault]:
    """Parser (get_infer_args)."""
    if setting.trains or setting["infer_backend"] != "vllm":
        return
    if setting["stage"] != "sft":
        yield Fault("stage", "vLLM runs language models alone", "stage: sft")
    if setting["quantization_bit"] is not None:
        yield Fault("quantization_bit", "vLLM does not quantise on the fly", drop("quantization_bit"))
    if setting["rope_scaling"] is not None:
        yield Fault("rope_scaling", "vLLM does not support it", drop("rope_scaling"))
    if len(setting.names("adapter_name_or_path")) > 1:
        yield Fault("adapter_name_or_path", "vLLM takes a single adapter", "merge them first")
