"""Rules of the data: datasets, validation, mixing, streaming, thinking, template and lengths."""

import math
from collections.abc import Iterator
from pathlib import Path

from launch.configs.document import show_value, suggest_names
from launch.configs.models import find_model_template
from launch.configs.rules.base import SMALLEST_SHARE, Setting, any_rule, train_rule
from launch.configs.rules.data.rows import (
    count_all_rows,
    count_rows,
    reads_datasets,
)
from prep.llamafactory import find_version_facts
from prep.quality.findings import Finding, Severity, at_key

# Source: LLaMA-Factory 0.9.5, hparams/parser.py, get_train_args.
SFT_ONLY = ("predict_with_generate", "neat_packing", "train_on_prompt", "mask_history")
# Source: numpy's Generator.choice: the square root of what a 64-bit number resolves.
_SUM_SLACK = 1.5e-8


@train_rule
def dataset_is_named(setting: Setting) -> Iterator[Finding]:
    """Parser: `Please specify dataset for training`."""
    if setting["do_train"] and setting["dataset"] is None:
        yield at_key(
            "dataset", "is missing, and do_train is true", "dataset: NAME, as registered by lfc prep register"
        )


@train_rule
def evaluation_has_data(setting: Setting) -> Iterator[Finding]:
    """Parser: `Please make sure eval_dataset be provided or val_size >1e-6`; eval_strategy turns do_eval on.

    Run: `Trainer: evaluation requires an eval_dataset`, where training begins with one.
    """
    if setting["eval_dataset"] is not None or setting["val_size"] >= SMALLEST_SHARE:
        return
    evaluates = setting["eval_strategy"] != "no" and setting["do_eval"] is False
    asked = [key for key in ("do_eval", "do_predict", "predict_with_generate") if setting[key]]
    asked += ["eval_strategy"] if evaluates else []
    asked += ["eval_on_start"] if setting["eval_on_start"] and setting["do_train"] else []
    if asked:
        yield at_key(
            asked[0], "needs rows to evaluate on, and there are none", "eval_dataset: NAME, or val_size: 0.05"
        )


@any_rule
def validation_has_one_source(setting: Setting) -> Iterator[Finding]:
    """Parser: `Cannot specify val_size` with eval_dataset, or without dataset."""
    if setting["val_size"] <= SMALLEST_SHARE:
        return
    if setting["dataset"] is None:
        yield at_key("val_size", "holds rows out of `dataset`, which is missing", "remove `val_size`")
    if setting["eval_dataset"] is not None:
        yield at_key(
            "val_size", "stands beside eval_dataset", "remove `val_size`: eval_dataset is the validation set"
        )


@any_rule
def interleaving_fits_the_datasets(setting: Setting) -> Iterator[Finding]:
    """Parser: interleave_probs only with an interleaved mix, one number a dataset.

    Source: datasets' interleave_datasets: numpy's `probabilities do not sum to 1`.
    """
    if setting["interleave_probs"] is None:
        return
    if setting["mix_strategy"] == "concat":
        yield at_key(
            "interleave_probs",
            "is only for interleaved mixing, and mix_strategy is concat",
            "remove `interleave_probs`, and mix once and for all with lfc prep mix --ratio",
        )
    shares = setting.names("interleave_probs")
    if not all(_is_number(share) for share in shares):
        yield at_key("interleave_probs", "must be numbers with commas between", "interleave_probs: 0.7,0.3")
    elif len(shares) > 1 and (
        abs(sum(map(float, shares)) - 1) > _SUM_SLACK or any(float(share) < 0 for share in shares)
    ):
        total = sum(map(float, shares))
        yield at_key("interleave_probs", f"add up to {total:g}, and must to 1", "interleave_probs: 0.7,0.3")
    for key in ("dataset", "eval_dataset"):
        if setting[key] is not None and len(setting.names(key)) != len(shares):
            counts = f"{len(shares)} shares for {len(setting.names(key))} names in {key}"
            yield at_key("interleave_probs", f"has {counts}", "give one share a dataset")


@any_rule
def streaming_knows_its_length(setting: Setting) -> Iterator[Finding]:
    """Parser: a stream has no length, so max_steps must end it, and shares of it cannot be taken.

    data/loader.py: `Turn off streaming when saving dataset to disk`.
    Run: data/loader.py cuts a file into dataloader_num_workers shards, and 0 shards are an empty StopIteration.
    """
    if not setting["streaming"]:
        return
    if setting.trains and setting["max_steps"] == -1:
        yield at_key("streaming", "has no end, and max_steps is not set", "max_steps: 1000, or streaming: false")
    if SMALLEST_SHARE < setting["val_size"] < 1:
        yield at_key("val_size", "is a share, and a stream has no length", "val_size: 200, a number of rows")
    if setting["max_samples"] is not None:
        yield at_key("max_samples", "cannot be counted in a stream", "remove `max_samples`")
    if setting.trains and setting["dataloader_num_workers"] == 0:
        yield at_key(
            "streaming", "streams nothing from a file with dataloader_num_workers 0", "dataloader_num_workers: 1"
        )
    if setting["tokenized_path"] is not None and reads_datasets(setting):
        yield at_key("tokenized_path", "cannot be written from a stream", "streaming: false")


@any_rule
def history_is_masked_or_trained(setting: Setting) -> Iterator[Finding]:
    """Parser: `mask_history` is incompatible with `train_on_prompt`."""
    if setting["mask_history"] and setting["train_on_prompt"]:
        yield at_key("mask_history", "leaves out what train_on_prompt trains on", "train_on_prompt: false")


@train_rule
def stage_allows_the_keys(setting: Setting) -> Iterator[Finding]:
    """Parser: these keys only work in the sft stage."""
    if setting["stage"] == "sft":
        return
    for key in SFT_ONLY:
        if setting[key]:
            yield at_key(key, f"only works in stage sft, not {setting['stage']}", f"{key}: false")


@train_rule
def held_out_rows_leave_some(setting: Setting) -> Iterator[Finding]:
    """Run: datasets' train_test_split: `test_size=… should be … smaller than the number of samples`."""
    held_out, rows = setting["val_size"], count_all_rows(setting)
    if held_out <= SMALLEST_SHARE:
        return
    if held_out == 1 and isinstance(held_out, float):
        yield at_key("val_size", "is 1.0, neither a share below 1 nor a number of rows", "val_size: 0.1")
    elif rows is not None:
        taken = int(held_out) if held_out >= 1 else math.ceil(held_out * rows)
        if taken >= rows:
            yield at_key(
                "val_size", f"holds out {taken:,} of {rows:,} rows, which leaves none to train", "val_size: 0.1"
            )


@any_rule
def template_takes_its_keys(setting: Setting) -> Iterator[Finding]:
    """Source: data/template.py, get_template_and_fix_tokenizer: `Current template does not support …`.

    Source: LLaMA-Factory 0.9.6, the same function: `Template qwen3_8 uses its built-in tool format`.
    """
    name = str(setting["template"])
    told = find_version_facts().templates.get(name, {})
    if setting["train_on_prompt"] and told.get("efficient_eos"):
        yield at_key("train_on_prompt", f"cannot go with template {name}", "train_on_prompt: false")
    own, asked = told.get("tool_format"), setting["tool_format"]
    if told.get("kind") == "Qwen38ReasoningTemplate" and asked not in (None, own):
        yield at_key(
            "tool_format", f"is {show_value(asked)}, and template {name} has its own", "remove `tool_format`"
        )


@train_rule
def tool_format_is_known(setting: Setting) -> Iterator[Finding]:
    """Source: data/tool_utils.py: `Tool utils … not found`."""
    name, templates = setting["tool_format"], find_version_facts().templates.values()
    known = sorted({told["tool_format"] for told in templates if told.get("tool_format")} | {"default"})
    if name is not None and name not in known:
        near = suggest_names(name, known)
        yield at_key(
            "tool_format",
            f"is {show_value(name)}, known are {', '.join(known)}",
            f"tool_format: {near[0]}" if near else "remove `tool_format`: the template has its own",
        )


@any_rule
def template_is_the_models(setting: Setting) -> Iterator[Finding]:
    """Source: LLaMA-Factory's table of models and templates; without one it guesses from the tokenizer."""
    model = str(setting["model_name_or_path"] or "")
    seen = setting["template"]
    if seen is None and setting["stage"] == "pt":
        # Stage pt writes no turns.
        return
    for renders in (False, True):
        found = find_model_template(model, renders=renders)
        allowed = (found.template,) if found.template else found.candidates
        # A look that takes longer is only taken before something is told.
        if not allowed or seen in allowed:
            return
    message = "is missing" if seen is None else f"is {seen}"
    yield at_key(
        "template",
        f"{message}, and {Path(model).name} uses {' or '.join(allowed)}",
        f"template: {allowed[0]}",
        severity=Severity.WARNING,
    )


@train_rule
def max_samples_keeps_all_rows(setting: Setting) -> Iterator[Finding]:
    """Source: data/loader.py takes the first max_samples rows of each dataset, without a word."""
    if setting["max_samples"] is None or setting["max_samples"] < 1:
        return
    for name in setting.names("dataset"):
        rows = count_rows(name, setting.dataset_dir)
        if rows is not None and rows > setting["max_samples"]:
            yield at_key(
                "max_samples",
                f"keeps {setting['max_samples']:,} of the {rows:,} rows of '{name}'",
                "remove `max_samples`, if it was not meant for a trial",
                severity=Severity.WARNING,
            )


@train_rule
def rows_are_cut_by_cutoff_len(setting: Setting) -> Iterator[Finding]:
    """Source: GeneratingArguments: max_length bounds generated answers, and no row that is trained."""
    if "max_length" in setting.values and not setting["predict_with_generate"]:
        yield at_key(
            "max_length",
            f"is for generated answers; rows are cut at cutoff_len {setting['cutoff_len']}",
            f"cutoff_len: {setting['max_length']}",
            severity=Severity.WARNING,
        )


@train_rule
def cutoff_keeps_the_answers(setting: Setting) -> Iterator[Finding]:
    """Run: a row longer than cutoff_len loses the end of its answer and its end-of-turn token, in silence."""
    for name, advice in setting.cutoffs.items():
        if advice.lossless > setting["cutoff_len"]:
            yield at_key(
                "cutoff_len",
                f"is {setting['cutoff_len']}, and the longest row of '{name}' has {advice.lossless:,} tokens",
                f"cutoff_len: {advice.lossless} cuts no row, {advice.one_percent} at most one in a hundred",
                severity=Severity.WARNING,
            )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
