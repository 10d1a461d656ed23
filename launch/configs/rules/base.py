"""What a rule is, what it sees of a config, and how all of them are run."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.configs.rules.machine import Machine
from prep.quality.findings import Finding, at_key
from prep.storage.os_errors import describe_os_error

if TYPE_CHECKING:
    from prep.tokens.cutoff import CutoffAdvice

# LLaMA-Factory 0.9.5 takes a val_size at or below it for none.
SMALLEST_SHARE = 1e-6
_MAX_JSON_BYTES = 64 << 20
_SHOWN_PATH = 80


class UnreadableError(Exception):
    """A rule asked for a key whose value is of the wrong type: it waits until that is fixed."""


@dataclass(frozen=True)
class Setting:
    """A config with LLaMA-Factory's defaults behind it, as a rule sees it.

    Shape: `setting["key"]` is the YAML's value, or the default; keys in `unreadable` raise UnreadableError;
    `cutoffs` holds what was measured of the datasets, by name: empty when nothing was.
    """

    values: Mapping[str, Any]
    defaults: Mapping[str, Any]
    machine: Machine
    path: Path | None = None
    unreadable: frozenset[str] = frozenset()
    cutoffs: "Mapping[str, CutoffAdvice]" = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        if key in self.unreadable:
            raise UnreadableError(key)
        return self.values.get(key, self.defaults.get(key))

    @property
    def trains(self) -> bool:
        """Whether it is a training YAML: an inference one has no TrainingArguments."""
        return "output_dir" in self.defaults

    def names(self, key: str) -> list[str]:
        """The names in a comma-separated value or list."""
        return split_names(self[key])

    @property
    def dataset_dir(self) -> Path:
        """The folder of dataset_info.json."""
        return Path(str(self["dataset_dir"] or "data"))

    @property
    def packs(self) -> bool:
        """Whether rows are packed; neat_packing turns packing on."""
        return bool(self["packing"] or self["neat_packing"])

    @property
    def zero_stage(self) -> int:
        """The DeepSpeed ZeRO stage, 0 without DeepSpeed or with a config that cannot be read."""
        content = read_json_value(self["deepspeed"])
        zero = content.get("zero_optimization") if isinstance(content, dict) else None
        stage = zero.get("stage") if isinstance(zero, dict) else 0
        return stage if isinstance(stage, int) else 0


Rule = Callable[[Setting], Iterator[Finding]]
RULES: list[Rule] = []


def find_rule_faults(setting: Setting) -> list[Finding]:
    """Run every rule; a rule that needs a value of the wrong type is left out."""
    found = []
    for rule in RULES:
        try:
            found += [replace(fault, rule=rule.__name__) for fault in rule(setting)]
        except UnreadableError:
            continue
        except OSError as error:
            # A folder without the right to look into it, a name longer than the file system takes.
            place = f" {error.filename}" if error.filename else ""
            reason = describe_os_error(error)
            message = f"a path{str(place)[:_SHOWN_PATH]} cannot be looked at: {reason}"
            found.append(at_key("", message, "a path that this user can read", rule=rule.__name__))
    return found


def train_rule(rule: Rule) -> Rule:
    """Register a rule that is asked of training YAMLs alone."""

    def only_for_training(setting: Setting) -> Iterator[Finding]:
        if setting.trains:
            yield from rule(setting)

    only_for_training.__name__ = rule.__name__
    only_for_training.__doc__ = rule.__doc__
    RULES.append(only_for_training)
    return rule


def infer_rule(rule: Rule) -> Rule:
    """Register a rule that is asked of export, chat and API YAMLs alone."""

    def only_for_inference(setting: Setting) -> Iterator[Finding]:
        if not setting.trains:
            yield from rule(setting)

    only_for_inference.__name__ = rule.__name__
    only_for_inference.__doc__ = rule.__doc__
    RULES.append(only_for_inference)
    return rule


def any_rule(rule: Rule) -> Rule:
    """Register a rule that is asked of every YAML."""
    RULES.append(rule)
    return rule


def local_path(value: Any) -> Path:
    """Return a value as a path, its `~` written out where there is such a user."""
    # Path.expanduser raises RuntimeError for a user whom nobody knows.
    return Path(os.path.expanduser(str(value)))  # noqa: PTH111


def split_names(value: Any) -> list[str]:
    """Return the names in `dataset: a,b`; a list is taken as it is, null is none."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",")]
    return [str(name) for name in value] if isinstance(value, list) else []


def read_json_value(value: Any) -> Any:
    """Return a value that may be a mapping, a JSON string or the path of a JSON file; None when unreadable."""
    if not isinstance(value, str):
        return value
    try:
        if value.startswith("{"):
            return json.loads(value)
        path = Path(value)
        # Opening a pipe would wait for who writes into it.
        if not path.is_file() or path.stat().st_size > _MAX_JSON_BYTES:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def list_reporters(setting: Setting) -> list[str]:
    """Return the names in report_to, without `none`."""
    value = setting["report_to"]
    names = value if isinstance(value, list) else [value]
    return [name for name in names if isinstance(name, str) and name != "none"]


def off(key: str) -> str:
    """Return the fix that turns a key off."""
    return f"{key}: false"


def drop(key: str) -> str:
    """Return the fix that takes a key out."""
    return f"remove `{key}`"
