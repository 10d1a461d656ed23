"""What is trained against what the model's own chat template serves: the first rows, by their texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from launch.configs.document import format_value
from launch.configs.rules.base import Setting, local_path, train_rule
from launch.configs.rules.data.rows import is_file_dataset
from prep.errors import UserError
from prep.quality.findings import Finding, Severity, at_key
from prep.wording import in_shell

if TYPE_CHECKING:
    from launch.prove.cases import Case
    from launch.prove.proof import Verdict
    from prep.tokens.turns import TemplateOptions

# Enough to see each kind of row that a file has; a check may take 0.4 s.
_MOST_ROWS = 40


@train_rule
def rows_are_served_as_they_are_trained(setting: Setting) -> Iterator[Finding]:
    """Run: what a template writes otherwise than the model's own is no prompt that will be served."""
    folder = local_path(setting["model_name_or_path"])
    if setting["stage"] != "sft" or not setting["template"] or not (folder / "tokenizer_config.json").is_file():
        return
    from prep.tokens.turns import TemplateOptions

    try:
        options = TemplateOptions(
            str(setting["template"]),
            setting["enable_thinking"],
            bool(setting["mask_history"]),
            setting.values.get("preserve_thinking"),
        )
        verdicts = prove_rows(setting, folder, options)
    except UserError:
        # Another rule tells of a dataset that is missing; a model without a chat template has none to differ from.
        return
    differing = [verdict for verdict in verdicts if verdict.difference]
    # Of turns before the last another rule tells, by the manifest.
    differing = [verdict for verdict in differing if verdict.settings != {"mask_history": True}]
    if differing:
        yield describe_rows(setting, differing, len(verdicts))


def prove_rows(setting: Setting, folder: Path, options: "TemplateOptions") -> "list[Verdict]":
    """Return the verdicts of the first rows of every dataset of a config."""
    from launch.prove.chat_template import read_chat_template
    from launch.prove.proof import prove

    chat = read_chat_template(folder)
    rows = [row for name in setting.names("dataset") for row in read_rows(name, setting.dataset_dir, options)]
    return prove(chat, options, [], rows).rows if rows else []


def read_rows(name: str, dataset_dir: Path, options: "TemplateOptions") -> "list[Case]":
    """Return a dataset's first rows, those with images and the like left out."""
    from launch.prove.cases import read_cases
    from prep.registry.dataset import find_dataset

    if not is_file_dataset(name, dataset_dir):
        return []
    dataset = find_dataset(name, dataset_dir)
    return list(read_cases(dataset, options.rules, _MOST_ROWS))


def describe_rows(setting: Setting, differing: "list[Verdict]", rows: int) -> Finding:
    """Return the finding of rows that differ, told of the first."""
    first = differing[0]
    what = first.difference.describe() if first.difference else ""
    if first.settings:
        fix = ", ".join(f"{key}: {format_value(value)}" for key, value in first.settings.items())
    else:
        model = setting["model_name_or_path"]
        fix = f"no setting makes it equal; lfc launch prove {in_shell(model)} --config FILE shows all"
    return at_key(
        "template",
        f"writes {len(differing)} of the first {rows} rows otherwise than the model's own chat template does: "
        f"{first.case.name} {what}",
        fix,
        severity=Severity.WARNING,
    )
