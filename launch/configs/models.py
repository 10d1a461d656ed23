"""Which template a model needs, where a folder's chat template may be rendered once to make sure."""

from functools import cache
from pathlib import Path

from prep.tokens.models import ModelTemplate
from prep.tokens.models import find_model_template as find_by_marks


def find_template(model_name_or_path: str, version: str = "") -> str | None:
    """Return the template that LLaMA-Factory gives a model, None where that is not known.

    >>> find_template("Qwen/Qwen3-4B-Instruct-2507")
    'qwen3_nothink'
    """
    return find_model_template(model_name_or_path, version).template


def find_model_template(model_name_or_path: str, version: str = "", *, renders: bool = True) -> ModelTemplate:
    """Return what is known of a model's template; without `renders` a folder is judged by its marks alone."""
    return find_by_marks(model_name_or_path, version, _look if renders else None)


def _look(folder: Path, template: str, version: str) -> bool | None:
    files = [folder / "chat_template.jinja", folder / "tokenizer_config.json"]
    stamp = tuple(file.stat().st_mtime_ns for file in files if file.is_file())
    return _look_once(folder.absolute(), template, version, stamp)


@cache
def _look_once(folder: Path, template: str, version: str, _stamp: tuple[int, ...]) -> bool | None:
    from launch.prove.turns import asks_alike

    return asks_alike(folder, template, version)
