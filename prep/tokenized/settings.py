"""The keys of a training config that decide which tokens LLaMA-Factory makes of its rows."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from prep.errors import ConfigError, UserError
from prep.llamafactory import find_version_facts
from prep.tokens.templates import look_up_template
from prep.tokens.tokenizer import read_tokenizer_config
from prep.tokens.turns import TemplateOptions

# Whose own rows, ids and labels the tests hold equal to ours.
PROVED_VERSIONS = ("0.9.5",)
STAGES = ("sft", "pt")
# LLaMA-Factory takes a val_size at or below it for none.
SMALLEST_SHARE = 1e-6
# Keys that change the tokens in a way that is not known here, and the only values with which they do not.
_UNKNOWN_WAYS: Mapping[str, tuple[tuple[object, ...], str]] = {
    "streaming": ((False, None), "reads its rows from a stream"),
    "predict_with_generate": ((False, None), "evaluates on prompts alone"),
    "tool_format": ((None,), "writes tools in another format than the template's"),
    "add_tokens": ((None,), "adds tokens to the tokenizer"),
    "add_special_tokens": ((None,), "adds tokens to the tokenizer"),
    "new_special_tokens_config": ((None,), "adds tokens to the tokenizer"),
    "split_special_tokens": ((False, None), "splits special tokens"),
    "use_fast_tokenizer": ((True,), "takes a slow tokenizer"),
}


# Classes of transformers that add nothing to a text unless their settings say so.
_PLAIN_TOKENIZERS = ("Qwen2Tokenizer", "Qwen2TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")


class UnsupportedError(UserError):
    """A config whose tokens are not made here: LLaMA-Factory makes them itself, when it trains."""


@dataclass(frozen=True)
class TokenSettings:
    """What decides the tokens besides rows and tokenizer, as LLaMA-Factory's keys mean it.

    Shape: `cutoff_len` is what rows are cut to, one less than the key's with `packing: true`; `batch_rows` rows
    are packed at a time, in each of `workers` equal parts of the rows. `val_size` is rows, or a share below 1.
    """

    model: Path
    dataset_dir: Path
    datasets: tuple[str, ...]
    eval_datasets: tuple[str, ...]
    stage: str
    template: TemplateOptions | None
    cutoff_len: int
    packing: bool
    neat_packing: bool
    train_on_prompt: bool
    val_size: float
    eval_on_each_dataset: bool
    max_samples: int | None
    seed: int
    batch_rows: int
    workers: int
    version: str

    @property
    def mask_history(self) -> bool:
        """Whether the last answer of a row alone is trained on."""
        return self.template is not None and self.template.mask_history

    def describe(self) -> dict[str, Any]:
        """Return what decides the tokens as plain JSON values, under LLaMA-Factory's names where it has one.

        What is read from where, and what changes nothing, is left out.
        """
        told: dict[str, Any] = {
            "llamafactory": self.version,
            "stage": self.stage,
            "cutoff_len": self.cutoff_len,
            "packing": self.packing,
            "val_size": self.val_size,
            "max_samples": self.max_samples,
        }
        if self.template is not None:
            told |= {"template": self.template.template, "default_system": self.template.default_system}
        if self.template is not None and self.stage == "sft":
            told |= {
                "enable_thinking": self.template.enable_thinking,
                "mask_history": self.template.mask_history,
                "preserve_thinking": self.template.preserve_thinking,
                "train_on_prompt": self.train_on_prompt,
                "neat_packing": self.neat_packing,
            }
        if self.eval_datasets:
            told["eval_on_each_dataset"] = list(self.eval_datasets) if self.eval_on_each_dataset else False
        if self.val_size:
            told["seed"] = self.seed
        if self.packing:
            told |= {"preprocessing_batch_size": self.batch_rows, "preprocessing_num_workers": self.workers}
        return told


def read_settings(values: Mapping[str, Any], dataset: str | None = None) -> TokenSettings:
    """Return what a training config says about its tokens; `dataset` stands in place of the config's own.

    Raises: UnsupportedError for what is not made here, ConfigError for a value of a wrong type.
    """
    version = find_version_facts().version
    given = {**_read_defaults(version), **values, **({"dataset": dataset} if dataset else {})}
    if version not in PROVED_VERSIONS:
        raise UnsupportedError(f"the tokens of LLaMA-Factory {version} are not proved here")
    _refuse_unknown_ways(given)
    model = find_model(given)
    packing, cutoff_len = given["packing"], _read_number(given, "cutoff_len")
    if given["neat_packing"] or packing:
        packing, cutoff_len = True, cutoff_len - 1
    stage = str(given["stage"])
    if cutoff_len < 1:
        raise ConfigError(f"cutoff_len {given['cutoff_len']} leaves no token", hint="cutoff_len: 2048")
    return TokenSettings(
        model=model,
        dataset_dir=Path(str(given["dataset_dir"])),
        datasets=split_names(given["dataset"]),
        eval_datasets=split_names(given["eval_dataset"]),
        stage=stage,
        template=_read_template(given, version),
        cutoff_len=cutoff_len,
        packing=bool(packing) if packing is not None else stage == "pt",
        neat_packing=bool(given["neat_packing"]),
        train_on_prompt=bool(given["train_on_prompt"]),
        val_size=_read_val_size(given),
        eval_on_each_dataset=bool(given["eval_on_each_dataset"]),
        max_samples=None if given["max_samples"] is None else _read_number(given, "max_samples"),
        seed=_read_number(given, "seed", least=0),
        batch_rows=_read_number(given, "preprocessing_batch_size"),
        workers=_read_number(given, "preprocessing_num_workers") if given["preprocessing_num_workers"] else 1,
        version=version,
    )


def split_names(value: object) -> tuple[str, ...]:
    """Return the names in `dataset: a,b`, or in a list."""
    names = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(str(name).strip() for name in names)


def find_model(values: Mapping[str, Any]) -> Path:
    """Return the model's folder; raises UnsupportedError when it is not on this disk with its tokenizer."""
    name = str(values.get("model_name_or_path") or "")
    folder = Path(os.path.expanduser(name))  # noqa: PTH111 - expanduser of a Path may raise
    if not name or not (folder / "tokenizer.json").is_file():
        raise UnsupportedError(
            f"the tokenizer of {name or 'no model'} is not on this disk: there is no tokenizer.json",
            hint=f"lfc prep download {name or 'MODEL'} --type model, then model_name_or_path: FOLDER",
        )
    return folder


@cache
def _read_defaults(version: str) -> dict[str, Any]:
    schema = json.loads(find_version_facts(version).read_schema_text("train"))
    return {name: item.get("default") for name, item in schema["properties"].items()}


def _refuse_unknown_ways(given: Mapping[str, Any]) -> None:
    for key, (harmless, what) in _UNKNOWN_WAYS.items():
        if given.get(key) not in harmless:
            raise UnsupportedError(f"{key}: {_show(given[key])} {what}")
    if given["stage"] not in STAGES:
        raise UnsupportedError(f"tokens are made once for stage {' and '.join(STAGES)}, not {given['stage']}")
    if not given["do_train"] or not split_names(given["dataset"]):
        raise UnsupportedError("the config trains on no dataset")
    if given["stage"] == "pt" and given["neat_packing"]:
        raise ConfigError("neat_packing is for stage sft alone", hint="neat_packing: false")
    folder = given["dataset_dir"]
    if not isinstance(folder, str) or folder == "ONLINE" or folder.startswith("REMOTE:"):
        raise UnsupportedError("its datasets are not on this disk")
    several = max(len(split_names(given["dataset"])), len(split_names(given["eval_dataset"]))) > 1
    if several and given["mix_strategy"] != "concat":
        raise UnsupportedError(
            f"mix_strategy: {given['mix_strategy']} draws rows in an order of LLaMA-Factory's own",
            hint="mix once and for all with lfc prep mix --ratio",
        )
    if given["mask_history"] and given["train_on_prompt"]:
        raise ConfigError("mask_history leaves out what train_on_prompt trains on", hint="train_on_prompt: false")


def _read_template(given: Mapping[str, Any], version: str) -> TemplateOptions | None:
    """Return the template's options; None for texts that are trained without one."""
    name = given["template"]
    if name is None and given["stage"] == "pt":
        return None
    if look_up_template(name, version) is None:
        raise UnsupportedError(f"the tokens of template {_show(name)} are not known here")
    options = TemplateOptions(
        str(name),
        given["enable_thinking"],
        bool(given["mask_history"]),
        given["preserve_thinking"],
        version=version,
        default_system=given["default_system"],
    )
    if given["train_on_prompt"] and options.rules.efficient_eos:
        raise ConfigError(f"template {name} does not train on prompts", hint="train_on_prompt: false")
    return options


def refuse_unknown_tokenizer(settings: TokenSettings) -> None:
    """Raise UnsupportedError when a text for pre-training gets tokens that only transformers knows of."""
    config = read_tokenizer_config(settings.model)
    if settings.stage != "pt":
        return
    inputs = config.get("model_input_names")
    is_plain = config.get("tokenizer_class") in _PLAIN_TOKENIZERS
    if config.get("add_bos_token") or not (is_plain or inputs == ["input_ids", "attention_mask"]):
        raise UnsupportedError("its tokenizer may add tokens, or columns, to a text for pre-training")
    if config.get("truncation_side", "right") != "right":
        raise UnsupportedError("its tokenizer cuts texts on the left")


def _read_number(given: Mapping[str, Any], key: str, least: int = 1) -> int:
    value = given[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{key} is {_show(value)}, not a whole number from {least} on", hint=f"remove `{key}`")
    return value


def _read_val_size(given: Mapping[str, Any]) -> float:
    try:
        size = float(given["val_size"] or 0)
    except (TypeError, ValueError):
        raise ConfigError(f"val_size is {_show(given['val_size'])}, not a number", hint="val_size: 0.1") from None
    if size > SMALLEST_SHARE and given["eval_dataset"] is not None:
        raise ConfigError("val_size stands beside eval_dataset", hint="remove `val_size`")
    return size if size > SMALLEST_SHARE else 0.0


def _show(value: object) -> str:
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
