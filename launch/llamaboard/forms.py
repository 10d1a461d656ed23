"""What a field of LlamaBoard's page shows of a value, the value that it makes of it, and what it does not allow."""

import json
from collections.abc import Mapping
from typing import Any

from launch.configs.document import format_value
from launch.llamaboard.fields import BY_HAND, EXTRA_ARGS, FIELDS, Field
from prep.errors import ConfigError
from prep.quality.findings import Finding, at_key
from prep.secrets import mask_text, mask_values


def find_page_faults(page: Mapping[str, Any]) -> list[Finding]:
    """Return what would keep LlamaBoard from loading saved settings, or make it load something else."""
    faults = []
    for key, value in page.items():
        if key in BY_HAND:
            if not isinstance(value, str):
                faults.append(at_key(key, f"is {format_value(value)}, allowed is text", f"{key}: '…'"))
        elif key not in FIELDS:
            faults.append(at_key(key, "the page has no such field: nothing of the file loads", "remove the line"))
        else:
            allowed = _describe_misfit(FIELDS[key], value)
            if allowed:
                fix = f"{key}: {format_value(FIELDS[key].default)}, as on a fresh page, or what you meant"
                faults.append(at_key(key, f"is {format_value(mask_values(value, key))}, allowed is {allowed}", fix))
    return faults


def read_extra_args(page: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `train.extra_args` says; raises ConfigError when it is not a JSON object in a string."""
    text = page.get(EXTRA_ARGS) or "{}"
    try:
        extra = json.loads(text)
    except (TypeError, ValueError):
        extra = None
    if not isinstance(extra, dict):
        raise ConfigError(
            f"{EXTRA_ARGS} is not a JSON object in a string: {mask_text(str(text))}",
            hint=f"{EXTRA_ARGS}: '{{\"key\": 1}}'",
        )
    return extra


def read_fields(fields: tuple[Field, ...], page: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that some fields of a page set, by key."""
    return {field.key: take_value(field, page[field.id]) for field in fields}


def take_value(field: Field, shown: Any) -> Any:
    """Return the value that the page makes of what a field shows."""
    if field.form == "decimal":
        return float(shown)
    if field.form == "integer":
        return int(shown)
    if field.form == "slider_or_null":
        return shown or None
    if field.form == "choice_or_null":
        return None if shown == "none" else shown
    if field.form == "names":
        return ",".join(shown)
    if field.form == "pixels":
        first, _, second = shown.partition("*")
        return int(first) * int(second or 1)
    return shown if shown != "" else None


def show_value(field: Field, value: Any) -> Any:
    """Return what a field shows of a value; what it cannot show leaves it as at first, for `extra_args` to say."""
    shown = value
    if field.form == "names":
        shown = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    elif field.form in ("decimal", "integer", "pixels") and isinstance(value, int | float):
        shown = str(value)
    elif field.form in ("slider_or_null", "choice_or_null") and value is None:
        shown = field.default
    elif field.form == "text":
        shown = ",".join(map(str, value)) if isinstance(value, list) else value
        if shown is None:
            shown = field.default if field.default in ("all", "default") else ""
    return field.default if _describe_misfit(field, shown) else shown


def _describe_misfit(field: Field, shown: Any) -> str:
    """Return what a field allows when it does not allow `shown`, else nothing."""
    is_number = isinstance(shown, int | float) and not isinstance(shown, bool)
    if field.form in ("slider", "slider_or_null"):
        kind = "a whole number" if not field.digits else f"a number with {field.digits} decimals at most"
        fits = is_number and field.low <= shown <= field.high and round(shown, field.digits) == shown
        return "" if fits else f"{kind} from {field.low:g} to {field.high:g}"
    if field.form == "flag":
        return "" if isinstance(shown, bool) else "true or false, without quotes"
    if field.form == "names":
        fits = isinstance(shown, list | str) and all(isinstance(name, str) for name in shown)
        return "" if fits or (shown is None and field.id != "train.dataset") else "a list of names"
    if field.form in ("decimal", "integer", "pixels"):
        return "" if _is_number_text(field, shown) else "a number in quotes"
    if field.form in ("choice", "choice_or_null"):
        return "" if shown in field.choices and isinstance(shown, str) else f"one of {', '.join(field.choices)}"
    if field.id == EXTRA_ARGS:
        try:
            read_extra_args({EXTRA_ARGS: shown})
        except ConfigError:
            return "a JSON object in a string"
        return "" if isinstance(shown, str) else "a JSON object in a string"
    return "" if isinstance(shown, str) or shown is None else "text in quotes"


def _is_number_text(field: Field, shown: Any) -> bool:
    if not isinstance(shown, str):
        return False
    try:
        take_value(field, shown)
    except ValueError:
        return False
    return True
