"""Rules of tokens that were made before: LLaMA-Factory trains on them whatever else the config says."""

from collections.abc import Iterator
from pathlib import Path

from launch.configs.rules.base import Setting, drop, train_rule
from launch.configs.tokens import UnknownTokensError, find_misfit, holds_tokens
from prep.quality.findings import Finding, Severity, at_key
from prep.wording import in_shell


@train_rule
def tokens_fit_the_config(setting: Setting) -> Iterator[Finding]:
    """Source: data/loader.py, get_dataset: `Loading dataset from disk will ignore other data arguments`."""
    folder = Path(str(setting["tokenized_path"]))
    if setting["tokenized_path"] is None or not setting["do_train"] or not holds_tokens(folder):
        return
    try:
        misfit = find_misfit(folder, setting.values)
    except UnknownTokensError as error:
        message = f"is trained as it is, and whether it fits is not known: {error}"
        yield at_key("tokenized_path", message, drop("tokenized_path"), severity=Severity.WARNING)
        return
    if misfit:
        anew = f"lfc prep tokenize --config {in_shell(setting.path or 'CONFIG')} -o ANOTHER_FOLDER"
        yield at_key("tokenized_path", misfit, f"{anew}, or remove `tokenized_path`")
