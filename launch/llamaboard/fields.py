"""LlamaBoard's page as a table: its 87 saved fields, what each shows at first and the key that it sets.

Source: LLaMA-Factory 0.9.5, webui/components/; a test compares the table with real pages.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

CONFIG_DIR = Path("llamaboard_config")
CACHE_DIR = Path("llamaboard_cache")
SAVES = Path("saves")
RUN_SETTINGS = "llamaboard_config.yaml"
# The entry of LlamaBoard's list whose path the user gives.
PLAIN_MODEL = "Custom"
MODEL_NAME, MODEL_PATH, TEMPLATE = "top.model_name", "top.model_path", "top.template"
LANGUAGE, OUTPUT_DIR, EXTRA_ARGS = "top.lang", "train.output_dir", "train.extra_args"
METHOD, BOOSTER, CHECKPOINTS = "top.finetuning_type", "top.booster", "top.checkpoint_path"
BITS, QUANTIZER = "top.quantization_bit", "top.quantization_method"
STAGE, PRECISION, VAL_SIZE = "train.training_stage", "train.compute_type", "train.val_size"
# A saved file may hold these too: the page takes them, but never writes them itself.
BY_HAND = (LANGUAGE, MODEL_PATH, OUTPUT_DIR)

Form = Literal[
    "slider", "slider_or_null", "decimal", "integer", "flag", "choice", "choice_or_null", "text", "names", "pixels"
]

STAGES = {
    "Supervised Fine-Tuning": "sft",
    "Reward Modeling": "rm",
    "PPO": "ppo",
    "DPO": "dpo",
    "KTO": "kto",
    "Pre-Training": "pt",
}
BOOSTERS: dict[str, dict[str, Any]] = {
    "auto": {"flash_attn": "auto", "use_unsloth": False, "enable_liger_kernel": False},
    "flashattn2": {"flash_attn": "fa2", "use_unsloth": False, "enable_liger_kernel": False},
    "unsloth": {"flash_attn": "auto", "use_unsloth": True, "enable_liger_kernel": False},
    "liger_kernel": {"flash_attn": "auto", "use_unsloth": False, "enable_liger_kernel": True},
}
_PRECISIONS = ("bf16", "fp16", "fp32", "pure_bf16")
PEFT = ("lora", "oft")
QUANTIZERS = ("bnb", "hqq", "eetq")
PAGE_BITS = ("none", "8", "6", "5", "4", "3", "2", "1")
_SCHEDULERS = (
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"),
    *("inverse_sqrt", "reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr"),
    *("warmup_stable_decay", "greedy"),
)


@dataclass(frozen=True)
class Field:
    """One input of the page: its id, the LLaMA-Factory key that it sets, what it shows at first, its form.

    Shape: a slider takes `low` to `high` with `digits` decimals; gradio rounds what has more.
    """

    id: str
    key: str
    default: Any
    form: Form
    low: float = 0
    high: float = 0
    digits: int = 0
    choices: tuple[str, ...] = ()


def _slider(name: str, default: float, low: float, high: float, *, digits: int = 0, key: str = "") -> Field:
    return Field(f"train.{name}", key or name, default, "slider", low, high, digits)


def _slider_or_null(name: str, high: float, digits: int, key: str = "") -> Field:
    return Field(f"train.{name}", key or name, 0, "slider_or_null", 0, high, digits)


def _flag(name: str, *, default: bool = False, key: str = "") -> Field:
    return Field(f"train.{name}", key or name, default, "flag")


def _text(name: str, default: str = "", form: Form = "text", key: str = "") -> Field:
    return Field(f"train.{name}", key or name, default, form)


def _choice(name: str, choices: tuple[str, ...], default: str) -> Field:
    return Field(f"train.{name}", name, default, "choice", choices=choices)


def _optimizer(name: str, scale: float) -> tuple[Field, ...]:
    return (
        _slider(f"{name}_rank", 16, 1, 1024),
        _slider(f"{name}_update_interval", 200, 1, 2048),
        _slider(f"{name}_scale", scale, 0, 100, digits=1),
        _text(f"{name}_target", "all"),
    )


# Set before `extra_args`, which therefore wins over them.
FIRST = (
    Field(METHOD, "finetuning_type", "lora", "choice", choices=("full", "freeze", "lora", "oft")),
    Field(TEMPLATE, "template", "default", "text"),
    Field(
        "top.rope_scaling",
        "rope_scaling",
        "none",
        "choice_or_null",
        choices=("none", "linear", "dynamic", "yarn", "llama3"),
    ),
    _text("dataset_dir", "data"),
    Field("train.dataset", "dataset", [], "names"),
    _text("learning_rate", "5e-5", "decimal"),
    _text("num_train_epochs", "3.0", "decimal"),
    _text("max_grad_norm", "1.0", "decimal"),
    _text("max_samples", "100000", "integer"),
    _slider("cutoff_len", 2048, 4, 131_072),
    _slider("batch_size", 2, 1, 1024, key="per_device_train_batch_size"),
    _slider("gradient_accumulation_steps", 8, 1, 1024),
    _choice("lr_scheduler_type", _SCHEDULERS, "cosine"),
    _slider("logging_steps", 5, 1, 1000),
    _slider("save_steps", 100, 10, 5000),
    _slider("warmup_steps", 0, 0, 5000),
    _slider_or_null("neftune_alpha", 10, 1, "neftune_noise_alpha"),
    _flag("packing"),
    _flag("neat_packing"),
    _flag("train_on_prompt"),
    _flag("mask_history"),
    _flag("resize_vocab"),
    _flag("use_llama_pro"),
    _flag("enable_thinking", default=True),
    _text("report_to", "none"),
    _flag("use_galore"),
    _flag("use_apollo"),
    _flag("use_badam"),
    _flag("use_swanlab"),
)
FREEZE = (
    _slider("freeze_trainable_layers", 2, -128, 128),
    _text("freeze_trainable_modules", "all"),
    _text("freeze_extra_modules"),
)
LORA = (
    _slider("lora_rank", 8, 1, 1024),
    _slider("lora_alpha", 16, 1, 2048),
    _slider("lora_dropout", 0, 0, 1, digits=2),
    _slider_or_null("loraplus_lr_ratio", 64, 2),
    _flag("create_new_adapter"),
    _flag("use_rslora"),
    _flag("use_dora"),
    _flag("use_pissa", key="pissa_init"),
    _text("lora_target"),
    _text("additional_target"),
)
PREFERENCE = (
    _slider("pref_beta", 0.1, 0, 1, digits=2),
    _slider("pref_ftx", 0, 0, 10, digits=2),
    _choice("pref_loss", ("sigmoid", "hinge", "ipo", "kto_pair", "orpo", "simpo"), "sigmoid"),
)
PPO = (_flag("ppo_score_norm"), _flag("ppo_whiten_rewards"))
GALORE, APOLLO = _optimizer("galore", 2.0), _optimizer("apollo", 32.0)
BADAM = (
    _choice("badam_mode", ("layer", "ratio"), "layer"),
    _choice("badam_switch_mode", ("ascending", "descending", "random", "fixed"), "ascending"),
    _slider("badam_switch_interval", 50, 1, 1024),
    _slider("badam_update_ratio", 0.05, 0, 1, digits=2),
)
SWANLAB = (
    _text("swanlab_project", "llamafactory"),
    _text("swanlab_run_name"),
    _text("swanlab_workspace"),
    _text("swanlab_api_key"),
    _choice("swanlab_mode", ("cloud", "local"), "cloud"),
)
# Used for the multimodal models of LlamaBoard's own list alone; what the page shows is LLaMA-Factory's default.
_MULTIMODAL = (
    _flag("freeze_vision_tower", default=True),
    _flag("freeze_multi_modal_projector", default=True),
    _flag("freeze_language_model"),
    _text("image_max_pixels", "768*768", "pixels"),
    _text("image_min_pixels", "32*32", "pixels"),
    _text("video_max_pixels", "256*256", "pixels"),
    _text("video_min_pixels", "16*16", "pixels"),
)
# On the page, and passed on to nothing.
_UNUSED = (_text("project", "huggingface"), _text("trackio_space_id", "trackio"), _flag("hub_private_repo"))
PLAIN_FIELDS = (
    *FIRST,
    *FREEZE,
    *LORA,
    *PREFERENCE,
    *PPO,
    *GALORE,
    *APOLLO,
    *BADAM,
    *SWANLAB,
    *_MULTIMODAL,
    *_UNUSED,
)
# Fields whose arguments are not one key and one value: `read_page` and `fill_page` know them by name.
_SPECIAL = (
    Field(MODEL_NAME, "", "", "text"),
    Field(CHECKPOINTS, "", [], "names"),
    Field(BITS, "", "none", "choice", choices=PAGE_BITS),
    Field(QUANTIZER, "", "bnb", "choice", choices=QUANTIZERS),
    Field(BOOSTER, "", "auto", "choice", choices=tuple(BOOSTERS)),
    Field(STAGE, "", "Supervised Fine-Tuning", "choice", choices=tuple(STAGES)),
    Field(PRECISION, "", "bf16", "choice", choices=_PRECISIONS),
    Field(VAL_SIZE, "", 0, "slider", 0, 1, 3),
    Field(EXTRA_ARGS, "", '{"optim": "adamw_torch"}', "text"),
    Field("train.reward_model", "", [], "names"),
    Field("train.swanlab_link", "", None, "text"),
    Field("train.ds_stage", "", "none", "choice", choices=("none", "2", "3")),
    Field("train.ds_offload", "", False, "flag"),
)
FIELDS = {field.id: field for field in (*_SPECIAL, *PLAIN_FIELDS)}
