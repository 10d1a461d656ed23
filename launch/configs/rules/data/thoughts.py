"""Rules of thinking: the rows, the template and `enable_thinking` say the same of it."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from launch.configs.rules.base import Setting, train_rule
from launch.configs.rules.data.rows import read_manifests
from prep.choices import ThinkPolicy
from prep.errors import UserError
from prep.llamafactory import find_version_facts
from prep.quality.findings import Finding, Severity, at_key
from prep.registry.dataset import align_row, find_dataset, read_dataset_rows
from prep.tokens.models import always_thinks

# What convert writes around a thought.
_OPEN = "<think>"
_LOOKED_AT_ROWS = 20


@train_rule
def thinking_follows_the_policy(setting: Setting) -> Iterator[Finding]:
    """Run: enable_thinking false removes every thought from the rows; true trains empty thoughts of masked rows."""
    for name, manifest in read_manifests(setting, "dataset").items():
        policy = ThinkPolicy(manifest.think_policy) if manifest.think_policy else None
        if policy is None or setting["enable_thinking"] is policy.enable_thinking:
            continue
        wanted = {True: "true", False: "false", None: "null"}[policy.enable_thinking]
        seen = {True: "true", False: "false", None: "null"}[setting["enable_thinking"]]
        thoughts = manifest.counts.get("reasoning", 0)
        loss = f": it would remove {thoughts:,} thoughts" if seen == "false" and thoughts else ""
        yield at_key(
            "enable_thinking",
            f"is {seen}, and '{name}' was written under think policy {policy}, which needs {wanted}{loss}",
            f"enable_thinking: {wanted}",
        )


@train_rule
def history_loses_its_thoughts(setting: Setting) -> Iterator[Finding]:
    """Run: without mask_history the training context of multi-turn rows differs from Qwen3's own at inference."""
    if setting["stage"] != "sft" or setting["mask_history"] or setting["train_on_prompt"]:
        return
    for name, manifest in read_manifests(setting, "dataset").items():
        rows = manifest.counts.get("with_history", 0)
        if rows and manifest.think_policy != ThinkPolicy.STRIP:
            yield at_key(
                "mask_history",
                f"is false, and {rows:,} rows of '{name}' have earlier turns, which would get empty thoughts",
                "mask_history: true",
                severity=Severity.WARNING,
            )


@train_rule
def template_keeps_the_thoughts(setting: Setting) -> Iterator[Finding]:
    """Source: data/template.py: only a reasoning template adds, masks and removes thoughts, by its words."""
    told = find_version_facts().templates.get(str(setting["template"]))
    if told is None or setting["stage"] != "sft":
        return
    thinks = "Reasoning" in str(told["kind"])
    opening = str(told["thought_words"][0]).strip()
    if thinks and opening == _OPEN:
        return
    what = f"begins a thought with {opening}" if thinks else "knows no thinking"
    for name in setting.names("dataset"):
        if count := _count_tagged(setting, name):
            yield at_key(
                "template",
                f"{setting['template']} {what}, and {count} of '{name}' begin with {_OPEN}",
                "the template of a model that thinks so, or lfc prep convert --think-policy strip",
            )


@train_rule
def a_model_that_always_thinks_has_thoughts(setting: Setting) -> Iterator[Finding]:
    """Source: the chat templates of such models: every prompt ends with the beginning of a thought."""
    model = str(setting["model_name_or_path"] or "")
    told = find_version_facts().templates.get(str(setting["template"]))
    if setting["stage"] != "sft" or told is None or "Reasoning" not in told["kind"] or not always_thinks(model):
        return
    for name, manifest in read_manifests(setting, "dataset").items():
        rows = manifest.counts.get("records", 0)
        if rows and (manifest.think_policy == ThinkPolicy.STRIP or not manifest.counts.get("reasoning", 0)):
            yield at_key(
                "model_name_or_path",
                f"{Path(model).name} begins every answer with a thought, and no row of '{name}' has one",
                "a model that can answer without, or rows with thoughts",
            )


def _count_tagged(setting: Setting, name: str) -> str:
    """Say how many of a dataset's answers carry tags of thinking, by its manifest or first rows; "" for none."""
    manifest = read_manifests(setting, "dataset").get(name)
    if manifest is not None and manifest.think_policy:
        thoughts, rows = manifest.counts.get("reasoning", 0), manifest.counts.get("records", 0)
        tagged = {ThinkPolicy.TAGGED: rows, ThinkPolicy.MASKED: thoughts}.get(ThinkPolicy(manifest.think_policy), 0)
        return f"{tagged:,} answers" if tagged else ""
    try:
        dataset = find_dataset(name, setting.dataset_dir)
        first = [row for _, _, row in islice(read_dataset_rows(dataset), _LOOKED_AT_ROWS)]
        answers = [align_row(row, dataset).messages[-1][1] for row in first]
    except (UserError, OSError, IndexError):
        return ""
    tagged = sum(answer.lstrip().startswith(_OPEN) for answer in answers)
    return f"{tagged} of the first {len(answers)} answers" if tagged else ""
