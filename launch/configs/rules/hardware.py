"""Rules of the machine: GPUs, number formats, and what spreads a training over several of them."""

from collections.abc import Iterator

from launch.configs.rules.base import Setting, any_rule, drop, off, read_json_value, train_rule
from prep.quality.findings import Finding, Severity, at_key

# LLaMA-Factory 0.9.5, train/trainer_utils.py, get_placement_group.
_RAY_CPUS = 10


@train_rule
def unsloth_does_not_pack(setting: Setting) -> Iterator[Finding]:
    """Run on one H200: `Expected input batch_size (1023) to match target batch_size (1024)` in the first step."""
    if setting["use_unsloth"] and setting.packs:
        key = "neat_packing" if setting["neat_packing"] else "packing"
        yield at_key(key, "crashes in the first step with use_unsloth", f"{key}: false, or use_unsloth: false")


@train_rule
def unsloth_has_one_gpu(setting: Setting) -> Iterator[Finding]:
    """Run: `Unsloth cannot find any torch accelerator`; source: several visible GPUs start torchrun."""
    gpus = setting.machine.gpus
    if not setting["use_unsloth"] or gpus is None:
        return
    if not gpus:
        yield at_key("use_unsloth", "needs a GPU, and there is none here", "use_unsloth: false")
    elif len(gpus) > 1:
        # `lfc launch train` shows Unsloth the first GPU alone, unless the user has chosen.
        yield at_key(
            "use_unsloth",
            f"trains on one GPU, and {len(gpus)} are visible",
            "CUDA_VISIBLE_DEVICES=0 before the command, or use_unsloth: false",
            severity=Severity.ERROR if "CUDA_VISIBLE_DEVICES" in setting.machine.env else Severity.WARNING,
        )


@train_rule
def unsloth_offloads_from_a_gpu(setting: Setting) -> Iterator[Finding]:
    """Run: model/model_utils/checkpointing.py asks for a CUDA stream: `No CUDA GPUs are available`."""
    if setting["use_unsloth_gc"] and setting.machine.gpus == () and not setting["disable_gradient_checkpointing"]:
        yield at_key("use_unsloth_gc", "needs a GPU, and there is none here", "use_unsloth_gc: false")


@train_rule
def unsloth_checkpoints_by_itself(setting: Setting) -> Iterator[Finding]:
    """Source: model/model_utils/unsloth.py asks for its own gradient checkpointing, whatever the config says."""
    if setting["use_unsloth"] and setting["disable_gradient_checkpointing"]:
        yield at_key(
            "disable_gradient_checkpointing",
            "does nothing with use_unsloth, which always saves that memory",
            drop("disable_gradient_checkpointing"),
            severity=Severity.WARNING,
        )


@train_rule
def a_backend_has_processes(setting: Setting) -> Iterator[Finding]:
    """Parser: accelerate asks a group for its size that torchrun alone makes: `Default process group has not …`."""
    machine = setting.machine
    is_alone = machine.gpus is not None and not machine.starts_torchrun and not machine.uses_ray
    if setting["ddp_backend"] is not None and is_alone and "LOCAL_RANK" not in machine.env:
        message = f"is {setting['ddp_backend']}, and one process has no others to speak with"
        yield at_key("ddp_backend", message, drop("ddp_backend"))


@any_rule
def unsloth_goes_without_oft(setting: Setting) -> Iterator[Finding]:
    """Source: model/adapter.py, `Unsloth is currently not supported for OFT`."""
    if setting["use_unsloth"] and setting["finetuning_type"] == "oft":
        yield at_key("use_unsloth", "cannot go with finetuning_type oft", "use_unsloth: false")


@train_rule
def bf16_is_supported(setting: Setting) -> Iterator[Finding]:
    """Parser: `Your setup doesn't support bf16/gpu`, `This device does not support pure_bf16`."""
    gpus = setting.machine.gpus
    keys = [key for key in ("bf16", "bf16_full_eval") if setting[key] and not setting["use_cpu"]]
    keys += ["pure_bf16"] if setting["pure_bf16"] else []
    if gpus is None or not keys:
        return
    if not gpus:
        yield at_key(keys[0], "needs a GPU, and there is none here", f"{keys[0]}: false")
    elif not all(gpu.has_bf16 for gpu in gpus):
        yield at_key(
            keys[0],
            f"is emulated, and slow, on {gpus[0].name}",
            f"{keys[0]}: false and fp16: true",
            severity=Severity.WARNING,
        )


@train_rule
def tf32_is_supported(setting: Setting) -> Iterator[Finding]:
    """Parser, transformers 5.6: `--tf32 requires Ampere or a newer GPU arch`."""
    gpus = setting.machine.gpus
    if setting["tf32"] and gpus is not None and not (gpus and gpus[0].has_bf16):
        yield at_key("tf32", "needs an Ampere or newer GPU", drop("tf32"))


@train_rule
def ray_has_what_its_workers_ask_for(setting: Setting) -> Iterator[Finding]:
    """Source: train/trainer_utils.py asks Ray for 10 CPU cores beside each device, and waits forever for them.

    Without a GPU the processors are the devices. A cluster that runs already is not judged.
    """
    machine = setting.machine
    options = read_json_value(setting["ray_init_kwargs"] or {})
    if (
        not machine.uses_ray
        or "RAY_ADDRESS" in machine.env
        or not isinstance(options, dict)
        or "address" in options
    ):
        return
    if machine.gpus == ():
        yield at_key("", "Ray would wait forever: there is no GPU", "run it without --ray and USE_RAY")
    needed, there = _RAY_CPUS * len(machine.gpus or ()), options.get("num_cpus", machine.cpus)
    if isinstance(there, int) and there < needed:
        yield at_key(
            "ray_init_kwargs",
            f"Ray would wait forever: it is asked for {needed} CPU cores, and has {there}",
            f"ray_init_kwargs: {{num_cpus: {needed}}}, which Ray only counts",
        )


@train_rule
def deepspeed_is_started_by_torchrun(setting: Setting) -> Iterator[Finding]:
    """Parser: `Please use FORCE_TORCHRUN=1 to launch DeepSpeed training`."""
    if setting["deepspeed"] and setting.machine.gpus is not None and not setting.machine.starts_torchrun:
        yield at_key(
            "deepspeed", "needs torchrun, which one GPU alone does not start", "FORCE_TORCHRUN=1 before the command"
        )


@train_rule
def deepspeed_config_is_readable(setting: Setting) -> Iterator[Finding]:
    """Source: HfTrainerDeepSpeedConfig opens the file at once."""
    content = setting["deepspeed"]
    if content and not isinstance(read_json_value(content), dict):
        yield at_key(
            "deepspeed", f"{str(content)[:60]} is not a readable JSON file", "the path of a DeepSpeed JSON file"
        )


@train_rule
def zero3_goes_with_the_keys(setting: Setting) -> Iterator[Finding]:
    """Parser: what ZeRO-3 cannot do, because no process holds the whole model."""
    if setting.zero_stage != 3:
        return
    for key in ("predict_with_generate", "pissa_init", "pure_bf16", "use_unsloth", "use_kt"):
        if setting[key]:
            yield at_key(key, "cannot go with DeepSpeed ZeRO-3", f"{key}: false, or a ZeRO-2 config")


@train_rule
def memory_savers_go_alone(setting: Setting) -> Iterator[Finding]:
    """Parser: GaLore, APOLLO and BAdam with DeepSpeed and on several GPUs."""
    for key in ("use_galore", "use_apollo"):
        if setting[key] and setting["deepspeed"] is not None:
            yield at_key(key, "cannot go with DeepSpeed", off(key))
        if setting[key] and setting.machine.starts_torchrun and setting[f"{key.removeprefix('use_')}_layerwise"]:
            yield at_key(f"{key.removeprefix('use_')}_layerwise", "needs a single GPU", "CUDA_VISIBLE_DEVICES=0")
    if setting["use_badam"] and setting.machine.starts_torchrun:
        if setting["badam_mode"] == "ratio":
            yield at_key("badam_mode", "ratio needs a single GPU", "badam_mode: layer")
        elif setting.zero_stage != 3:
            yield at_key("use_badam", "on several GPUs needs DeepSpeed ZeRO-3", "CUDA_VISIBLE_DEVICES=0")


@train_rule
def fsdp_options_exist(setting: Setting) -> Iterator[Finding]:
    """Parser, transformers 5.6, FSDPOption."""
    known = {
        "full_shard",
        "shard_grad_op",
        "no_shard",
        "hybrid_shard",
        "hybrid_shard_zero2",
        "offload",
        "auto_wrap",
    }
    options = setting["fsdp"]
    chosen = options.split() if isinstance(options, str) else options if isinstance(options, list) else []
    unknown = [option for option in chosen if option not in known]
    if unknown:
        yield at_key("fsdp", f"{unknown[0]} is none of {', '.join(sorted(known))}", "fsdp: full_shard auto_wrap")
    if chosen == ["offload"]:
        yield at_key("fsdp", "offload cannot stand alone", "fsdp: full_shard offload")
    if {"full_shard", "shard_grad_op"} <= set(chosen):
        yield at_key("fsdp", "full_shard and shard_grad_op cannot both be set", "fsdp: full_shard auto_wrap")
