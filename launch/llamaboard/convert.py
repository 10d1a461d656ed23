"""Import and export: a saved page as a training YAML, and back, with what the user should know of the way."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.configs.config import refuse_wrong_types
from launch.llamaboard.fields import MODEL_NAME, MODEL_PATH, OUTPUT_DIR, RUN_SETTINGS
from launch.llamaboard.files import find_model_path, format_settings, hide_secrets, read_settings, write_settings
from launch.llamaboard.filling import Filled, fill_page
from launch.llamaboard.page import find_unused, import_page
from prep.errors import ConfigError
from prep.storage.atomic import refuse_existing

# What these secrets are called in the environment, where the trainer finds them without their being saved.
SECRET_VARIABLES = {
    "swanlab_api_key": "SWANLAB_API_KEY",
    "hf_hub_token": "HF_TOKEN",
    "hub_token": "HF_TOKEN",
    "ms_hub_token": "MODELSCOPE_API_TOKEN",
}


@dataclass(frozen=True)
class Carried:
    """Settings after their way to the page or back, and what the user should know of it."""

    values: dict[str, Any]
    notes: list[str]


def export_settings(path: Path, source: Path, values: Mapping[str, Any], *, force: bool) -> Carried:
    """Write a training YAML's values as settings that the page's "Load arguments" takes.

    Raises: ConfigError when a value is of the wrong type, or they name no model, dataset or output folder;
    OutputError when `path` stands there.
    """
    refuse_existing(path, force=force)
    refuse_wrong_types(source, values, "train")
    notes: list[str] = []
    filled = fill_page(drop_secrets(values, notes))
    write_settings(path, format_settings(filled.page, source.as_posix()), force=True)
    return Carried(filled.page, notes + describe_filled(filled))


def import_settings(
    path: Path, overrides: Mapping[str, Any] | None = None, *, keep_secrets: bool = False
) -> Carried:
    """Return the training YAML's values that run what a saved page runs.

    Raises: ConfigError when LlamaBoard could not load the page, or nothing tells its model's path.
    """
    page = read_settings(path)
    model = (overrides or {}).get("model_name_or_path") or find_model_path(path, page)
    if not model:
        raise ConfigError(
            f"{path} names the model {page.get(MODEL_NAME)} without its path, and LlamaBoard remembers none",
            hint="add model_name_or_path=PATH",
        )
    if OUTPUT_DIR not in page:
        page[OUTPUT_DIR] = path.parent.name if path.name == RUN_SETTINGS else path.stem
    values = {**import_page({**page, MODEL_PATH: model}), **(overrides or {})}
    notes = [f"{name} has no effect on that page and is left out" for name in find_unused(page)]
    if not keep_secrets:
        shown = hide_secrets(values)
        hidden = [key for key in values if key not in shown]
        notes += [f"{key} is a secret and is left out: {_explain_secret(key)}" for key in hidden]
        values = shown
    return Carried(values, notes)


def describe_filled(filled: Filled) -> list[str]:
    """Return what the user should know of a page: what it cannot say, and which fields do not count."""
    notes = [f"not on the page: {loss.describe()}" for loss in filled.lost]
    if filled.shadowed:
        notes.append(
            f"on the page, extra_args says {', '.join(filled.shadowed)}: change it there, not in its field"
        )
    return notes


def drop_secrets(values: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return values without secrets, and add to `notes` where each one goes."""
    shown = hide_secrets(values)
    hidden = [key for key in values if key not in shown]
    notes += [f"`{key}` is a secret and is not saved on the page: {_explain_secret(key)}" for key in hidden]
    return shown


def _explain_secret(key: str) -> str:
    variable = SECRET_VARIABLES.get(key)
    return f"it goes by {variable}" if variable else "give it on the page"
