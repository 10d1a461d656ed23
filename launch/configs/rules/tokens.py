"""Rules of tokens that were made before: LLaMA-Factory trains on them whatever else the config says."""

import os
from collections.abc import Iterator
from pathlib import Path

from launch.configs.rules.base import Setting, drop, train_rule
from prep.errors import UserError
from prep.quality.findings import Finding, Severity, at_key
from prep.tokenized.note import compare_origins, describe_origin, read_note
from prep.tokenized.settings import UnsupportedError, read_settings

_SHOWN = 3


@train_rule
def tokens_fit_the_config(setting: Setting) -> Iterator[Finding]:
    """Source: data/loader.py, get_dataset: `Loading dataset from disk will ignore other data arguments`."""
    given = setting["tokenized_path"]
    if given is None or not setting["do_train"] or not _holds_tokens(Path(str(given))):
        return
    folder = Path(str(given))
    config = str(setting.path) if setting.path else "CONFIG"
    anew = f"lfc prep tokenize --config {config} -o {folder} --force, or remove `tokenized_path`"
    try:
        note = read_note(folder)
        wanted, _, _ = describe_origin(read_settings(setting.values))
    except UnsupportedError as error:
        message = f"is trained as it is, and whether it fits is not known: {error}"
        yield at_key("tokenized_path", message, drop("tokenized_path"), severity=Severity.WARNING)
        return
    except UserError as error:
        yield at_key("tokenized_path", f"cannot be compared with the config: {error}", error.hint or anew)
        return
    if note is None:
        message = "holds tokens that nothing tells the origin of, and `dataset` and all that cuts it are ignored"
        yield at_key("tokenized_path", message, f"lfc prep tokenize --config {config} -o ANOTHER_FOLDER")
    elif differing := compare_origins(note.made_from, wanted):
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        told = "; ".join(differing[:_SHOWN]) + more
        yield at_key("tokenized_path", f"holds the tokens of another config: {told}", anew)


def _holds_tokens(folder: Path) -> bool:
    """Whether LLaMA-Factory takes a folder for tokens: as extras/misc.py, has_tokenized_data."""
    return folder.is_dir() and bool(os.listdir(folder))  # noqa: PTH208 - as there
