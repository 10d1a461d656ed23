"""Combinations that cannot work or lose data in silence: one small function each, with its evidence.

A rule reads a `Setting` and yields `Fault`s. "Parser" in an evidence line is LLaMA-Factory 0.9.5's
`hparams/`, which raises the same; "run" was seen in a run; the other lines name the source.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.document import Fault
from launch.gpu import Gpu, GpuReport, read_gpus
from launch.presets import find_template
from prep.errors import UserError
from prep.files import Manifest, read_manifest
from prep.registry import find_dataset_file, read_registry
from prep.thinking import ThinkPolicy

if TYPE_CHECKING:
    from prep.cutoff import CutoffAdvice

_SMALLEST_SHARE = 1e-6
_FEWEST_STEPS = 10
# LLaMA-Factory 0.9.5, train/trainer_utils.py, get_placement_group.
_RAY_CPUS = 10
# Counting the rows of a larger file would take longer than the rest of a check.
_MAX_COUNTED_BYTES = 200 << 20
_WEIGHTS_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
# LLaMA-Factory 0.9.5, extras/constants.py, CHECKPOINT_NAMES.
_FINISHED_RUN = (
    *("adapter_model.bin", "adapter_model.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    *("model.safetensors", "model.safetensors.index.json"),
)


@dataclass(frozen=True)
class Machine:
    """Where the config is to run: its GPUs and processors (None: not known), and which packages can be asked for.

    `has_stack` is true when LLaMA-Factory is installed beside us, so that a missing package is really missing.
    """

    gpus: tuple[Gpu, ...] | None = None
    has_stack: bool = False
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    cpus: int | None = None

    @property
    def uses_ray(self) -> bool:
        """Whether `llamafactory-cli train` would hand the training to Ray."""
        return self._has_set("USE_RAY")

    @property
    def starts_torchrun(self) -> bool:
        """Whether `llamafactory-cli train` would start torchrun."""
        return self._has_set("FORCE_TORCHRUN") or (len(self.gpus or ()) > 1 and not self.uses_ray)

    def _has_set(self, name: str) -> bool:
        return self.env.get(name, "0").lower() in ("1", "true", "y")


def read_machine(report: GpuReport | None = None, env: Mapping[str, str] | None = None) -> Machine:
    """Return the machine that this process runs on, as a run with these variables sees it; None: with its own."""
    try:
        metadata.version("llamafactory")
        has_stack = True
    except metadata.PackageNotFoundError:
        has_stack = False
    return Machine((report or read_gpus(env)).gpus, has_stack, os.environ if env is None else env, os.cpu_count())


def choose_machine(target: str) -> Machine:
    """Return the machine to judge for: `here`, `gpu` (one with bf16), `cpu`, or `any` (devices left out)."""
    if target == "here":
        return read_machine()
    gpus = {"gpu": (Gpu("GPU", 0, (9, 0)),), "cpu": (), "any": None}
    return Machine(gpus[target])


class UnreadableError(Exception):
    """A rule asked for a key whose value is of the wrong type: it waits until that is mended."""


@dataclass(frozen=True)
class Setting:
    """A config with LLaMA-Factory's defaults behind it, as a rule sees it.

    Shape: `setting["key"]` is the YAML's value, or the default; keys in `unreadable` raise UnreadableError;
    `cutoffs` holds what was measured of the datasets, by name: empty when nothing was.
    """

    values: Mapping[str, Any]
    defaults: Mapping[str, Any]
    machine: Machine
    path: Path | None = None
    unreadable: frozenset[str] = frozenset()
    cutoffs: "Mapping[str, CutoffAdvice]" = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        if key in self.unreadable:
            raise UnreadableError(key)
        return self.values.get(key, self.defaults.get(key))

    @property
    def trains(self) -> bool:
        """Whether it is a training YAML: an inference one has no TrainingArguments."""
        return "output_dir" in self.defaults

    def names(self, key: str) -> list[str]:
        """The names in a comma-separated value or list."""
        return split_names(self[key])

    @property
    def dataset_dir(self) -> Path:
        """The folder of dataset_info.json."""
        return Path(str(self["dataset_dir"] or "data"))

    @property
    def packs(self) -> bool:
        """Whether rows are packed; neat_packing turns packing on."""
        return bool(self["packing"] or self["neat_packing"])

    @property
    def zero_stage(self) -> int:
        """The DeepSpeed ZeRO stage, 0 without DeepSpeed or with a config that cannot be read."""
        content = read_json_value(self["deepspeed"])
        stage = content.get("zero_optimization", {}).get("stage", 0) if isinstance(content, dict) else 0
        return stage if isinstance(stage, int) else 0


Rule = Callable[[Setting], Iterator[Fault]]
RULES: list[Rule] = []


def find_rule_faults(setting: Setting) -> list[Fault]:
    """Run every rule; a rule that needs a value of the wrong type is left out."""
    found = []
    for rule in RULES:
        try:
            found += [replace(fault, rule=rule.__name__) for fault in rule(setting)]
        except UnreadableError:
            continue
    return found


def _train_rule(rule: Rule) -> Rule:
    def only_for_training(setting: Setting) -> Iterator[Fault]:
        if setting.trains:
            yield from rule(setting)

    only_for_training.__name__ = rule.__name__
    only_for_training.__doc__ = rule.__doc__
    RULES.append(only_for_training)
    return rule


def _any_rule(rule: Rule) -> Rule:
    RULES.append(rule)
    return rule


def split_names(value: Any) -> list[str]:
    """Return the names in `dataset: a,b`; a list is taken as it is, null is none."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",")]
    return [str(name) for name in value] if isinstance(value, list) else []


def read_json_value(value: Any) -> Any:
    """Return a value that may be a mapping, a JSON string or the path of a JSON file; None when unreadable."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value if value.startswith("{") else Path(value).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


# Data


@_train_rule
def dataset_is_named(setting: Setting) -> Iterator[Fault]:
    """Parser: `Please specify dataset for training`."""
    if setting["do_train"] and setting["dataset"] is None:
        yield Fault(
            "dataset", "is missing, and do_train is true", "dataset: NAME, as registered by lfc prep register"
        )


@_train_rule
def evaluation_has_data(setting: Setting) -> Iterator[Fault]:
    """Parser: `Please make sure eval_dataset be provided or val_size >1e-6`; eval_strategy turns do_eval on."""
    if setting["eval_dataset"] is not None or setting["val_size"] >= _SMALLEST_SHARE:
        return
    evaluates = setting["eval_strategy"] != "no" and setting["do_eval"] is False
    asked = [key for key in ("do_eval", "do_predict", "predict_with_generate") if setting[key]]
    asked += ["eval_strategy"] if evaluates else []
    if asked:
        yield Fault(
            asked[0], "needs rows to evaluate on, and there are none", "eval_dataset: NAME, or val_size: 0.05"
        )


@_any_rule
def validation_has_one_source(setting: Setting) -> Iterator[Fault]:
    """Parser: `Cannot specify val_size` with eval_dataset, or without dataset."""
    if setting["val_size"] <= _SMALLEST_SHARE:
        return
    if setting["dataset"] is None:
        yield Fault("val_size", "holds rows out of `dataset`, which is missing", "remove `val_size`")
    if setting["eval_dataset"] is not None:
        yield Fault(
            "val_size", "stands beside eval_dataset", "remove `val_size`: eval_dataset is the validation set"
        )


@_any_rule
def interleaving_fits_the_datasets(setting: Setting) -> Iterator[Fault]:
    """Parser: interleave_probs only with an interleaved mix, one number a dataset."""
    if setting["interleave_probs"] is None:
        return
    if setting["mix_strategy"] == "concat":
        yield Fault(
            "interleave_probs",
            "is only for interleaved mixing, and mix_strategy is concat",
            "remove `interleave_probs`, and mix once and for all with lfc prep mix --ratio",
        )
    shares = setting.names("interleave_probs")
    if not all(_is_number(share) for share in shares):
        yield Fault("interleave_probs", "must be numbers with commas between", "interleave_probs: 0.7,0.3")
    for key in ("dataset", "eval_dataset"):
        if setting[key] is not None and len(setting.names(key)) != len(shares):
            counts = f"{len(shares)} shares for {len(setting.names(key))} names in {key}"
            yield Fault("interleave_probs", f"has {counts}", "give one share a dataset")


@_any_rule
def streaming_knows_its_length(setting: Setting) -> Iterator[Fault]:
    """Parser: a stream has no length, so max_steps must end it, and shares of it cannot be taken.

    Run: data/loader.py cuts a file into dataloader_num_workers shards, and 0 shards are an empty StopIteration.
    """
    if not setting["streaming"]:
        return
    if setting.trains and setting["max_steps"] == -1:
        yield Fault("streaming", "has no end, and max_steps is not set", "max_steps: 1000, or streaming: false")
    if _SMALLEST_SHARE < setting["val_size"] < 1:
        yield Fault("val_size", "is a share, and a stream has no length", "val_size: 200, a number of rows")
    if setting["max_samples"] is not None:
        yield Fault("max_samples", "cannot be counted in a stream", "remove `max_samples`")
    if setting.trains and setting["dataloader_num_workers"] == 0:
        yield Fault(
            "streaming", "streams nothing from a file with dataloader_num_workers 0", "dataloader_num_workers: 1"
        )


@_any_rule
def history_is_masked_or_trained(setting: Setting) -> Iterator[Fault]:
    """Parser: `mask_history` is incompatible with `train_on_prompt`."""
    if setting["mask_history"] and setting["train_on_prompt"]:
        yield Fault("mask_history", "leaves out what train_on_prompt trains on", "train_on_prompt: false")


@_train_rule
def stage_allows_the_keys(setting: Setting) -> Iterator[Fault]:
    """Parser: these keys only work in the sft stage."""
    if setting["stage"] == "sft":
        return
    for key in ("predict_with_generate", "neat_packing", "train_on_prompt", "mask_history"):
        if setting[key]:
            yield Fault(key, f"only works in stage sft, not {setting['stage']}", f"{key}: false")


@_any_rule
def datasets_are_readable(setting: Setting) -> Iterator[Fault]:
    """Run: `Undefined dataset … in dataset_info.json`, `File … not found`, minutes after launch."""
    for key in ("dataset", "eval_dataset"):
        for name in setting.names(key):
            try:
                if _is_file_dataset(name, setting.dataset_dir):
                    path = find_dataset_file(name, setting.dataset_dir)
                    with path.open("rb") as stream:
                        stream.read(1)
            except UserError as error:
                yield Fault(key, str(error), error.hint or "lfc prep register FILE --name NAME --dataset-dir DIR")
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                yield Fault(key, f"'{name}' cannot be read: {reason}", "give yourself the right to read it")


@_train_rule
def thinking_follows_the_policy(setting: Setting) -> Iterator[Fault]:
    """Run: enable_thinking false removes every thought from the rows; true trains empty thoughts of masked rows."""
    for name, manifest in _read_manifests(setting, "dataset").items():
        policy = ThinkPolicy(manifest.think_policy) if manifest.think_policy else None
        if policy is None or setting["enable_thinking"] is policy.enable_thinking:
            continue
        wanted = {True: "true", False: "false", None: "null"}[policy.enable_thinking]
        seen = {True: "true", False: "false", None: "null"}[setting["enable_thinking"]]
        thoughts = manifest.counts.get("reasoning", 0)
        loss = f": it would remove {thoughts:,} thoughts" if seen == "false" and thoughts else ""
        yield Fault(
            "enable_thinking",
            f"is {seen}, and '{name}' was written under think policy {policy}, which needs {wanted}{loss}",
            f"enable_thinking: {wanted}",
        )


@_train_rule
def history_loses_its_thoughts(setting: Setting) -> Iterator[Fault]:
    """Run: without mask_history the training context of multi-turn rows differs from Qwen3's own at inference."""
    if setting["stage"] != "sft" or setting["mask_history"] or setting["train_on_prompt"]:
        return
    for name, manifest in _read_manifests(setting, "dataset").items():
        rows = manifest.counts.get("with_history", 0)
        if rows and manifest.think_policy != ThinkPolicy.STRIP:
            yield Fault(
                "mask_history",
                f"is false, and {rows:,} rows of '{name}' have earlier turns, which would get empty thoughts",
                "mask_history: true",
                fatal=False,
            )


@_any_rule
def template_is_the_models(setting: Setting) -> Iterator[Fault]:
    """Source: LLaMA-Factory's table of models and templates; without one it guesses from the tokenizer."""
    expected = find_template(str(setting["model_name_or_path"] or ""))
    seen = setting["template"]
    if expected and seen != expected:
        message = "is missing" if seen is None else f"is {seen}"
        yield Fault(
            "template",
            f"{message}, and {Path(setting['model_name_or_path']).name} uses {expected}",
            f"template: {expected}",
            fatal=False,
        )


@_train_rule
def max_samples_keeps_all_rows(setting: Setting) -> Iterator[Fault]:
    """Source: data/loader.py takes the first max_samples rows of each dataset, without a word."""
    if setting["max_samples"] is None:
        return
    for name in setting.names("dataset"):
        rows = count_rows(name, setting.dataset_dir)
        if rows is not None and rows > setting["max_samples"]:
            yield Fault(
                "max_samples",
                f"keeps {setting['max_samples']:,} of the {rows:,} rows of '{name}'",
                "remove `max_samples`, if it was not meant for a trial",
                fatal=False,
            )


@_train_rule
def cutoff_keeps_the_answers(setting: Setting) -> Iterator[Fault]:
    """Run: a row longer than cutoff_len loses the end of its answer and its end-of-turn token, in silence."""
    for name, advice in setting.cutoffs.items():
        if advice.lossless > setting["cutoff_len"]:
            yield Fault(
                "cutoff_len",
                f"is {setting['cutoff_len']}, and the longest row of '{name}' has {advice.lossless:,} tokens",
                f"cutoff_len: {advice.lossless} cuts no row, {advice.one_percent} at most one in a hundred",
                fatal=False,
            )


# The run


@_train_rule
def prediction_generates(setting: Setting) -> Iterator[Fault]:
    """Parser: `Please enable predict_with_generate to save model predictions`."""
    if setting["stage"] == "sft" and setting["do_predict"] and not setting["predict_with_generate"]:
        yield Fault("do_predict", "writes nothing without predict_with_generate", "predict_with_generate: true")
    if setting["predict_with_generate"] and setting["compute_accuracy"]:
        yield Fault("compute_accuracy", "cannot stand beside predict_with_generate", "compute_accuracy: false")


@_train_rule
def best_model_is_found_when_saved(setting: Setting) -> Iterator[Fault]:
    """Parser, transformers 5.6 training_args.py: the best model needs an evaluation at each save."""
    if not setting["load_best_model_at_end"]:
        return
    if setting["stage"] in ("rm", "ppo"):
        yield Fault(
            "load_best_model_at_end", f"does not work in stage {setting['stage']}", _off("load_best_model_at_end")
        )
    evaluates, saves = setting["eval_strategy"], setting["save_strategy"]
    if saves == "best":
        return
    if evaluates != saves:
        yield Fault(
            "load_best_model_at_end",
            f"needs one strategy, and eval_strategy is {evaluates}, save_strategy {saves}",
            f"eval_strategy: {saves}",
        )
    elif evaluates == "steps":
        yield from _compare_steps(setting)


def _compare_steps(setting: Setting) -> Iterator[Fault]:
    save, evaluate = setting["save_steps"], setting["eval_steps"] or setting["logging_steps"]
    shares = (save < 1) + (evaluate < 1)
    scale = 1_000_000 if shares else 1
    if shares == 1 or (evaluate and (save * scale) % (evaluate * scale) != 0):
        yield Fault(
            "save_steps",
            f"is {save}, no multiple of eval_steps {evaluate}, as load_best_model_at_end needs",
            f"save_steps: {evaluate}",
        )


@_train_rule
def steps_are_countable(setting: Setting) -> Iterator[Fault]:
    """Parser, transformers 5.6 training_args.py: intervals are whole numbers, or shares below 1, and not 0."""
    if setting["logging_strategy"] == "steps" and setting["logging_steps"] == 0:
        yield Fault("logging_steps", "is 0, and logging_strategy is steps", "logging_steps: 10")
    if setting["eval_strategy"] == "steps" and not setting["eval_steps"] and setting["logging_steps"] <= 0:
        yield Fault("eval_steps", "is not set, and logging_steps cannot stand in", "eval_steps: 100")
    for what in ("logging", "eval", "save"):
        steps = setting[f"{what}_steps"]
        if setting[f"{what}_strategy"] == "steps" and steps and steps > 1 and steps != int(steps):
            yield Fault(f"{what}_steps", f"is {steps}: above 1 it must be whole", f"{what}_steps: {int(steps)}")
    emptied = setting["torch_empty_cache_steps"]
    if emptied is not None and emptied <= 0:
        yield Fault(
            "torch_empty_cache_steps", f"is {emptied}, and must be above 0", _drop("torch_empty_cache_steps")
        )
    if setting["dataloader_num_workers"] == 0 and setting["dataloader_prefetch_factor"] is not None:
        yield Fault(
            "dataloader_prefetch_factor",
            "needs dataloader_num_workers above 0",
            _drop("dataloader_prefetch_factor"),
        )


@_train_rule
def seed_is_in_range(setting: Setting) -> Iterator[Fault]:
    """Parser: transformers.set_seed, and numpy behind it: `Seed must be between 0 and 2**32 - 1`."""
    if not 0 <= setting["seed"] < 1 << 32:
        yield Fault("seed", f"is {setting['seed']}, allowed is 0 to {(1 << 32) - 1}", "seed: 42")


@_train_rule
def schedule_has_what_it_needs(setting: Setting) -> Iterator[Fault]:
    """Parser, transformers 5.6 training_args.py: warm-up is not below 0, plateaus need an evaluation."""
    for key in ("warmup_ratio", "warmup_steps"):
        if (setting[key] or 0) < 0:
            yield Fault(key, f"is {setting[key]}, below 0", f"{key}: 0")
            break
    if setting["lr_scheduler_type"] in ("reduce_lr_on_plateau", "greedy") and setting["eval_strategy"] == "no":
        yield Fault(
            "lr_scheduler_type",
            f"{setting['lr_scheduler_type']} needs evaluations, and eval_strategy is no",
            "lr_scheduler_type: cosine",
        )


@_train_rule
def warmup_is_shorter_than_training(setting: Setting) -> Iterator[Fault]:
    """Source: get_scheduler of transformers 5.6: the learning rate would never reach its peak."""
    steps = count_steps(setting)
    warmup = setting["warmup_steps"] if setting["warmup_ratio"] is None else setting["warmup_ratio"]
    if steps is not None and setting["do_train"] and warmup >= 1 and warmup >= steps:
        key = "warmup_steps" if setting["warmup_ratio"] is None else "warmup_ratio"
        yield Fault(key, f"is {warmup:g}, and the whole training has {steps} steps", f"{key}: 0.1")


@_train_rule
def training_has_steps(setting: Setting) -> Iterator[Fault]:
    """Run: a run of one or two steps ends well and has learned nothing."""
    steps = count_steps(setting)
    if steps is not None and setting["do_train"] and setting["max_steps"] <= 0 and steps < _FEWEST_STEPS:
        yield Fault(
            "num_train_epochs",
            f"makes {steps} steps of {_count_batch(setting)} rows: nearly nothing is learned",
            "a smaller gradient_accumulation_steps, or more rows or epochs",
            fatal=False,
        )


@_train_rule
def output_dir_is_free(setting: Setting) -> Iterator[Fault]:
    """Parser: `Output directory already exists and is not empty`; with checkpoints in it, it resumes unasked."""
    folder = Path(str(setting["output_dir"] or "trainer_output")).expanduser()
    resumable = not (setting["stage"] in ("rm", "ppo") and setting["finetuning_type"] in ("full", "freeze"))
    if (
        setting["resume_from_checkpoint"] is not None
        or not (setting["do_train"] and resumable and folder.is_dir())
        or setting["overwrite_output_dir"]
    ):
        return
    checkpoints = sorted(
        path.name for path in folder.glob("checkpoint-*") if path.is_dir() and path.name[11:].isdigit()
    )
    if checkpoints:
        yield Fault(
            "output_dir",
            f"{folder} holds {checkpoints[-1]} of another run, which would be resumed",
            "another output_dir, or resume_from_checkpoint to say that it is meant",
            fatal=False,
        )
    elif any((folder / name).is_file() for name in _FINISHED_RUN):
        yield Fault(
            "output_dir", f"{folder} holds a finished run", "another output_dir, or overwrite_output_dir: true"
        )


# Methods


@_any_rule
def adapter_goes_with_lora(setting: Setting) -> Iterator[Fault]:
    """Parser: `Adapter is only valid for the LoRA method`."""
    if setting["adapter_name_or_path"] is not None and setting["finetuning_type"] != "lora":
        yield Fault(
            "adapter_name_or_path",
            f"needs finetuning_type lora, not {setting['finetuning_type']}",
            "finetuning_type: lora",
        )


@_any_rule
def quantization_goes_with_adapters(setting: Setting) -> Iterator[Fault]:
    """Parser (`_verify_model_args`), and model_utils/quantization.py for the number of bits."""
    bits = setting["quantization_bit"]
    if bits is None:
        return
    if setting["finetuning_type"] not in ("lora", "oft"):
        yield Fault(
            "quantization_bit",
            f"cannot go with finetuning_type {setting['finetuning_type']}",
            "finetuning_type: lora",
        )
    for key in ("pissa_init", "resize_vocab"):
        if setting[key]:
            yield Fault(key, "cannot go with a quantised model", f"{key}: false, or remove quantization_bit")
    adapters = setting.names("adapter_name_or_path")
    if adapters and setting["create_new_adapter"]:
        yield Fault("create_new_adapter", "cannot go upon a quantised model", _off("create_new_adapter"))
    if len(adapters) > 1:
        yield Fault("adapter_name_or_path", "names several adapters for a quantised model", "merge them first")
    if setting["quantization_method"] == "bnb" and bits not in (4, 8):
        yield Fault("quantization_bit", f"is {bits}, and bitsandbytes has 4 and 8", "quantization_bit: 4")
    if setting.trains and setting["fp8"]:
        yield Fault("fp8", "cannot go with quantization_bit", "fp8: false")


@_train_rule
def trained_weights_stay_on_one_device(setting: Setting) -> Iterator[Fault]:
    """Parser: `Cannot use device map for quantized models in training`."""
    if setting["do_train"] and setting["quantization_device_map"] == "auto":
        yield Fault("quantization_device_map", "auto is for inference", _drop("quantization_device_map"))


@_any_rule
def lora_keys_go_with_lora(setting: Setting) -> Iterator[Fault]:
    """Parser (FinetuningArguments): keys of one method are refused with another."""
    method = setting["finetuning_type"]
    if method != "lora":
        if setting["loraplus_lr_ratio"] is not None:
            yield Fault(
                "loraplus_lr_ratio", f"is for LoRA, and finetuning_type is {method}", _drop("loraplus_lr_ratio")
            )
        for key in ("use_rslora", "use_dora", "pissa_init"):
            if setting[key]:
                yield Fault(key, f"is for LoRA, and finetuning_type is {method}", _off(key))
    if setting["use_llama_pro"] and method == "full":
        yield Fault("use_llama_pro", "is for freeze and LoRA, not full", _off("use_llama_pro"))
    optimizers = [key for key in ("use_galore", "use_apollo", "use_badam") if setting[key]]
    if optimizers and method == "lora":
        yield Fault(optimizers[0], "cannot go with LoRA", "finetuning_type: full")
    if len(optimizers) > 1:
        yield Fault(optimizers[1], f"cannot stand beside {optimizers[0]}", _off(optimizers[1]))


@_any_rule
def preference_keys_fit_the_stage(setting: Setting) -> Iterator[Fault]:
    """Parser (FinetuningArguments): what the dpo, kto and ppo stages take."""
    stage, loss = setting["stage"], setting["pref_loss"]
    if stage == "dpo" and loss != "sigmoid" and setting["dpo_label_smoothing"] > _SMALLEST_SHARE:
        yield Fault("dpo_label_smoothing", f"is for pref_loss sigmoid, not {loss}", "dpo_label_smoothing: 0.0")
    has_reference = stage == "dpo" and loss not in ("orpo", "simpo")
    if setting["pissa_init"] and (stage in ("ppo", "kto") or has_reference):
        yield Fault("pissa_init", f"cannot go with stage {stage}", _off("pissa_init"))
    for key in ("ref_model_quantization_bit", "reward_model_quantization_bit"):
        if setting[key] not in (None, 4, 8):
            yield Fault(key, f"is {setting[key]}, allowed are 4 and 8", f"{key}: 4")


@_any_rule
def ppo_has_a_reward_model(setting: Setting) -> Iterator[Fault]:
    """Parser (FinetuningArguments): `reward_model` is necessary for PPO training."""
    if setting["stage"] != "ppo":
        return
    if setting["reward_model"] is None:
        yield Fault("reward_model", "is missing, and stage ppo needs it", "reward_model: PATH")
    kind = setting["reward_model_type"]
    if kind in ("lora", "oft") and setting["finetuning_type"] != kind:
        yield Fault("reward_model_type", f"{kind} needs finetuning_type {kind}", "reward_model_type: full")


@_train_rule
def ppo_trains(setting: Setting) -> Iterator[Fault]:
    """Parser (get_train_args): what the ppo stage cannot do."""
    if setting["stage"] != "ppo":
        return
    if not setting["do_train"]:
        yield Fault("do_train", "is false, and stage ppo cannot evaluate", "stage: sft, to evaluate")
    if setting["shift_attn"]:
        yield Fault("shift_attn", "cannot go with stage ppo", _off("shift_attn"))
    for key in ("use_kt", "use_unsloth"):
        if setting[key] and setting["reward_model_type"] == "lora":
            yield Fault(key, "cannot go with a LoRA reward model", _off(key))
    others = set(_list_reporters(setting)) - {"wandb", "tensorboard", "trackio"}
    if others:
        yield Fault("report_to", f"{', '.join(sorted(others))} cannot go with stage ppo", "report_to: none")


@_train_rule
def precision_is_one(setting: Setting) -> Iterator[Fault]:
    """Parser, transformers 5.6: at most one of fp16 and bf16."""
    if setting["fp16"] and setting["bf16"]:
        yield Fault("fp16", "and bf16 are both true", "fp16: false")
    if setting["fp16_full_eval"] and setting["bf16_full_eval"]:
        yield Fault("fp16_full_eval", "and bf16_full_eval are both true", "fp16_full_eval: false")


@_train_rule
def inference_engine_is_for_inference(setting: Setting) -> Iterator[Fault]:
    """Parser: `vLLM/SGLang backend is only available for API, CLI and Web`."""
    if setting["infer_backend"] != "huggingface":
        yield Fault("infer_backend", "is for chat and API, not for train", "infer_backend: huggingface")


@_any_rule
def image_sizes_are_ordered(setting: Setting) -> Iterator[Fault]:
    """Parser (ProcessorArguments)."""
    for what in ("image", "video"):
        low, high = setting[f"{what}_min_pixels"], setting[f"{what}_max_pixels"]
        if high < low:
            yield Fault(
                f"{what}_max_pixels", f"is {high}, below {what}_min_pixels {low}", f"{what}_max_pixels: {low}"
            )


# Export and inference


@_any_rule
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
                "quantization_bit", "cannot merge an adapter into a quantised model", _drop("quantization_bit")
            )


@_any_rule
def vllm_takes_plain_models(setting: Setting) -> Iterator[Fault]:
    """Parser (get_infer_args)."""
    if setting.trains or setting["infer_backend"] != "vllm":
        return
    if setting["stage"] != "sft":
        yield Fault("stage", "vLLM runs language models alone", "stage: sft")
    if setting["quantization_bit"] is not None:
        yield Fault("quantization_bit", "vLLM does not quantise on the fly", _drop("quantization_bit"))
    if setting["rope_scaling"] is not None:
        yield Fault("rope_scaling", "vLLM does not support it", _drop("rope_scaling"))
    if len(setting.names("adapter_name_or_path")) > 1:
        yield Fault("adapter_name_or_path", "vLLM takes a single adapter", "merge them first")


# The machine


@_train_rule
def unsloth_does_not_pack(setting: Setting) -> Iterator[Fault]:
    """Run on one H200: `Expected input batch_size (1023) to match target batch_size (1024)` in the first step."""
    if setting["use_unsloth"] and setting.packs:
        key = "neat_packing" if setting["neat_packing"] else "packing"
        yield Fault(key, "crashes in the first step with use_unsloth", f"{key}: false, or use_unsloth: false")


@_train_rule
def unsloth_has_one_gpu(setting: Setting) -> Iterator[Fault]:
    """Run: `Unsloth cannot find any torch accelerator`; source: several visible GPUs start torchrun."""
    gpus = setting.machine.gpus
    if not setting["use_unsloth"] or gpus is None:
        return
    if not gpus:
        yield Fault("use_unsloth", "needs a GPU, and there is none here", "use_unsloth: false")
    elif len(gpus) > 1:
        # `lfc launch train` shows Unsloth the first GPU alone, unless the user has chosen.
        yield Fault(
            "use_unsloth",
            f"trains on one GPU, and {len(gpus)} are visible",
            "CUDA_VISIBLE_DEVICES=0 before the command, or use_unsloth: false",
            fatal="CUDA_VISIBLE_DEVICES" in setting.machine.env,
        )


@_any_rule
def unsloth_goes_without_oft(setting: Setting) -> Iterator[Fault]:
    """Source: model/adapter.py, `Unsloth is currently not supported for OFT`."""
    if setting["use_unsloth"] and setting["finetuning_type"] == "oft":
        yield Fault("use_unsloth", "cannot go with finetuning_type oft", "use_unsloth: false")


@_train_rule
def bf16_is_supported(setting: Setting) -> Iterator[Fault]:
    """Parser: `Your setup doesn't support bf16/gpu`, `This device does not support pure_bf16`."""
    gpus = setting.machine.gpus
    keys = [key for key in ("bf16", "bf16_full_eval") if setting[key] and not setting["use_cpu"]]
    keys += ["pure_bf16"] if setting["pure_bf16"] else []
    if gpus is None or not keys:
        return
    if not gpus:
        yield Fault(keys[0], "needs a GPU, and there is none here", f"{keys[0]}: false")
    elif not all(gpu.has_bf16 for gpu in gpus):
        yield Fault(
            keys[0], f"is emulated, and slow, on {gpus[0].name}", f"{keys[0]}: false and fp16: true", fatal=False
        )


@_train_rule
def tf32_is_supported(setting: Setting) -> Iterator[Fault]:
    """Parser, transformers 5.6: `--tf32 requires Ampere or a newer GPU arch`."""
    gpus = setting.machine.gpus
    if setting["tf32"] and gpus is not None and not (gpus and gpus[0].has_bf16):
        yield Fault("tf32", "needs an Ampere or newer GPU", _drop("tf32"))


@_train_rule
def ray_has_what_its_workers_ask_for(setting: Setting) -> Iterator[Fault]:
    """Source: train/trainer_utils.py asks Ray for 10 processors beside each device, and waits for ever for them.

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
        yield Fault("", "Ray would wait for ever: there is no GPU", "run it without --ray and USE_RAY")
    needed, there = _RAY_CPUS * len(machine.gpus or ()), options.get("num_cpus", machine.cpus)
    if isinstance(there, int) and there < needed:
        yield Fault(
            "ray_init_kwargs",
            f"Ray would wait for ever: it is asked for {needed} processors, and has {there}",
            f"ray_init_kwargs: {{num_cpus: {needed}}}, which Ray only counts",
        )


@_train_rule
def deepspeed_is_started_by_torchrun(setting: Setting) -> Iterator[Fault]:
    """Parser: `Please use FORCE_TORCHRUN=1 to launch DeepSpeed training`."""
    if setting["deepspeed"] and setting.machine.gpus is not None and not setting.machine.starts_torchrun:
        yield Fault(
            "deepspeed", "needs torchrun, which one GPU alone does not start", "FORCE_TORCHRUN=1 before the command"
        )


@_train_rule
def deepspeed_config_is_readable(setting: Setting) -> Iterator[Fault]:
    """Source: HfTrainerDeepSpeedConfig opens the file at once."""
    content = setting["deepspeed"]
    if content and not isinstance(read_json_value(content), dict):
        yield Fault(
            "deepspeed", f"{str(content)[:60]} is not a readable JSON file", "the path of a DeepSpeed JSON file"
        )


@_train_rule
def zero3_goes_with_the_keys(setting: Setting) -> Iterator[Fault]:
    """Parser: what ZeRO-3 cannot do, because no process holds the whole model."""
    if setting.zero_stage != 3:
        return
    for key in ("predict_with_generate", "pissa_init", "pure_bf16", "use_unsloth", "use_kt"):
        if setting[key]:
            yield Fault(key, "cannot go with DeepSpeed ZeRO-3", f"{key}: false, or a ZeRO-2 config")


@_train_rule
def memory_savers_go_alone(setting: Setting) -> Iterator[Fault]:
    """Parser: GaLore, APOLLO and BAdam with DeepSpeed and on several GPUs."""
    for key in ("use_galore", "use_apollo"):
        if setting[key] and setting["deepspeed"] is not None:
            yield Fault(key, "cannot go with DeepSpeed", _off(key))
        if setting[key] and setting.machine.starts_torchrun and setting[f"{key.removeprefix('use_')}_layerwise"]:
            yield Fault(f"{key.removeprefix('use_')}_layerwise", "needs a single GPU", "CUDA_VISIBLE_DEVICES=0")
    if setting["use_badam"] and setting.machine.starts_torchrun:
        if setting["badam_mode"] == "ratio":
            yield Fault("badam_mode", "ratio needs a single GPU", "badam_mode: layer")
        elif setting.zero_stage != 3:
            yield Fault("use_badam", "on several GPUs needs DeepSpeed ZeRO-3", "CUDA_VISIBLE_DEVICES=0")


@_train_rule
def fsdp_options_exist(setting: Setting) -> Iterator[Fault]:
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
        yield Fault("fsdp", f"{unknown[0]} is none of {', '.join(sorted(known))}", "fsdp: full_shard auto_wrap")
    if chosen == ["offload"]:
        yield Fault("fsdp", "offload cannot stand alone", "fsdp: full_shard offload")
    if {"full_shard", "shard_grad_op"} <= set(chosen):
        yield Fault("fsdp", "full_shard and shard_grad_op cannot both be set", "fsdp: full_shard auto_wrap")


@_train_rule
def debug_options_exist(setting: Setting) -> Iterator[Fault]:
    """Parser, transformers 5.6, DebugOption."""
    options = setting["debug"]
    for option in options.split() if isinstance(options, str) else []:
        if option not in ("underflow_overflow", "tpu_metrics_debug"):
            yield Fault("debug", f"{option} is none of underflow_overflow, tpu_metrics_debug", _drop("debug"))


@_any_rule
def nested_configs_are_readable(setting: Setting) -> Iterator[Fault]:
    """Parser: a string that opens with `{` is read as JSON; other strings of two keys are opened as files."""
    keys = ["vllm_config", "sglang_config"]
    if setting.trains:
        keys += ["accelerator_config", "fsdp_config", "gradient_checkpointing_kwargs", "lr_scheduler_kwargs"]
        keys += ["ray_init_kwargs"]
    for key in keys:
        value = setting[key]
        is_file = key in ("accelerator_config", "fsdp_config")
        if isinstance(value, str) and (value.startswith("{") or is_file) and read_json_value(value) is None:
            yield Fault(key, f"{value[:60]} is not readable JSON", "write the mapping as YAML")
    special = setting["new_special_tokens_config"]
    if special is not None and not Path(special).is_file():
        yield Fault("new_special_tokens_config", f"{special} does not exist", "the path of a YAML file")


@_train_rule
def accelerator_keys_exist(setting: Setting) -> Iterator[Fault]:
    """Parser, transformers 5.6, AcceleratorConfig."""
    known = {
        *("split_batches", "dispatch_batches", "even_batches", "use_seedable_sampler", "non_blocking"),
        *("gradient_accumulation_kwargs", "use_configured_state"),
    }
    content = read_json_value(setting["accelerator_config"])
    for key in sorted(set(content) - known) if isinstance(content, dict) else []:
        yield Fault("accelerator_config", f"has no key {key}", f"one of {', '.join(sorted(known))}")


@_train_rule
def trackio_has_a_project(setting: Setting) -> Iterator[Fault]:
    """Parser: `--project must be specified when using Trackio`."""
    if "trackio" in _list_reporters(setting) and not setting["project"]:
        yield Fault("project", "is empty, and report_to holds trackio", "project: NAME")


_PACKAGES = {
    "use_kt": ("kt-kernel", "transformers-kt", "accelerate-kt"),
    "use_unsloth": ("unsloth",),
    "enable_liger_kernel": ("liger-kernel",),
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
_REPORTERS = {"wandb", "tensorboard", "trackio", "mlflow", "swanlab", "comet_ml", "clearml", "neptune"}


@_any_rule
def packages_are_installed(setting: Setting) -> Iterator[Fault]:
    """Parser (`_check_extra_dependencies`), and transformers' reporters when the trainer is built."""
    if not setting.machine.has_stack:
        return
    for key, packages in _PACKAGES.items():
        if key in setting.defaults and setting[key]:
            missing = [package for package in packages if not is_installed(package)]
            if missing and (key != "quantization_bit" or setting["quantization_method"] == "bnb"):
                yield Fault(
                    key, f"needs {', '.join(missing)}, not installed here", f"pip install {' '.join(missing)}"
                )
    if setting.trains:
        for name in _list_reporters(setting):
            if name in _REPORTERS and not is_installed(name):
                yield Fault("report_to", f"{name} is not installed here", f"pip install {name}, or report_to: none")


@_any_rule
def model_folder_is_complete(setting: Setting) -> Iterator[Fault]:
    """Run: a half-downloaded model fails after minutes, in the tokenizer or in the last shard."""
    name = setting["model_name_or_path"]
    if not name:
        return
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.startswith((".", "/", "~")) or folder.is_absolute() or len(folder.parts) > 2:
            yield Fault("model_name_or_path", f"{name} does not exist", "lfc prep download, or a hub's name")
        elif Path(folder.parts[0]).is_dir():
            yield Fault(
                "model_name_or_path",
                f"{name} does not exist, though {folder.parts[0]} does: it would be looked for on a hub",
                "the model's folder, or a hub's name",
                fatal=False,
            )
        return
    missing = _find_missing_files(folder)
    if missing:
        yield Fault(
            "model_name_or_path",
            f"{name} is not complete: {missing}",
            "download it again, with the same command: what is there is kept",
        )


@_train_rule
def torchrun_paths_have_no_spaces(setting: Setting) -> Iterator[Fault]:
    """Source: launcher.py builds torchrun's command as a string and splits it at spaces."""
    if setting.machine.starts_torchrun and setting.path is not None and " " in str(setting.path):
        yield Fault(
            "", f"its path has a space, where torchrun would be split: {setting.path}", "a path without spaces"
        )


# What the rules share


def count_rows(name: str, dataset_dir: Path) -> int | None:
    """Return a registered dataset's rows: from its manifest, else by its lines; None when not cheap to know."""
    try:
        if not _is_file_dataset(name, dataset_dir):
            return None
        path = find_dataset_file(name, dataset_dir)
        manifest = read_manifest(path)
        if manifest and isinstance(manifest.counts.get("records"), int):
            return int(manifest.counts["records"])
        if path.suffix != ".jsonl" or path.stat().st_size > _MAX_COUNTED_BYTES:
            return None
        with path.open("rb") as stream:
            return sum(1 for line in stream if line.strip())
    except (UserError, OSError):
        return None


def count_steps(setting: Setting) -> int | None:
    """Return the optimizer steps of a training, None when its rows cannot be counted."""
    if setting["max_steps"] > 0:
        return int(setting["max_steps"])
    if setting["streaming"] or setting.packs or setting["stage"] == "pt":
        return None
    counts = [count_rows(name, setting.dataset_dir) for name in setting.names("dataset")]
    if not counts or None in counts or setting["mix_strategy"] != "concat":
        return None
    limit = setting["max_samples"]
    rows = float(sum(min(count or 0, limit or count or 0) for count in counts))
    held_out = setting["val_size"]
    rows -= held_out * rows if held_out < 1 else held_out
    return int(max(rows, 0) * setting["num_train_epochs"] / max(_count_batch(setting), 1))


def is_installed(package: str) -> bool:
    """Whether a package's metadata stands in this environment."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _count_batch(setting: Setting) -> int:
    processes = max(len(setting.machine.gpus or ()), 1)
    return int(setting["per_device_train_batch_size"] * setting["gradient_accumulation_steps"] * processes)


def _read_manifests(setting: Setting, key: str) -> dict[str, Manifest]:
    manifests = {}
    for name in setting.names(key):
        try:
            found = read_dataset_manifest(name, setting.dataset_dir)
        except UserError:
            continue
        if found is not None:
            manifests[name] = found
    return manifests


def read_dataset_manifest(name: str, dataset_dir: Path) -> Manifest | None:
    """Return the manifest of a registered dataset's file, None when it has none or is not a file here.

    Raises: RegistryError when the dataset is unknown or its file is missing.
    """
    return read_manifest(find_dataset_file(name, dataset_dir)) if _is_file_dataset(name, dataset_dir) else None


def _is_file_dataset(name: str, dataset_dir: Path) -> bool:
    """Whether a name's entry is one data file: hubs, scripts and folders are LLaMA-Factory's own matter."""
    if str(dataset_dir) == "ONLINE" or str(dataset_dir).startswith("REMOTE:"):
        return False
    entry = read_registry(dataset_dir).get(name)
    if entry is None:
        return True
    return "file_name" in entry and not (dataset_dir / str(entry["file_name"])).is_dir()


def _find_missing_files(folder: Path) -> str:
    """Say what a model folder lacks, "" when nothing."""
    partial = next((path for pattern in ("*.incomplete", "*.partial") for path in folder.glob(pattern)), None)
    if partial is not None:
        return f"{partial.name} is a download under way"
    if not (folder / "config.json").is_file():
        return "config.json is missing"
    for name in _WEIGHTS_INDEX:
        index = read_json_value(str(folder / name)) if (folder / name).is_file() else None
        shards = sorted(set(index.get("weight_map", {}).values())) if isinstance(index, dict) else []
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            return f"{len(missing)} of {len(shards)} weight files are missing, {missing[0]} first"
    if not any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        return "there are no weight files"
    return ""


def _list_reporters(setting: Setting) -> list[str]:
    value = setting["report_to"]
    names = value if isinstance(value, list) else [value]
    return [name for name in names if isinstance(name, str) and name != "none"]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _off(key: str) -> str:
    return f"{key}: false"


def _drop(key: str) -> str:
    return f"remove `{key}`"
