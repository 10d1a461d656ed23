"""Combinations that cannot work or lose data in silence: one small function each, with its evidence.

A rule reads a `Setting` and yields `Finding`s. "Parser" in an evidence line is LLaMA-Factory 0.9.5's
`hparams/`, which raises the same; "run" was seen in a run; the other lines name the source.
Importing the package registers the rules of every topic, in the order in which they are run.
"""

# isort: off
from launch.configs.rules.data import mixing, thoughts, entries, contents, blocks, tokens  # noqa: F401
from launch.configs.rules import numbers, names  # noqa: F401
from launch.configs.rules.training import run, measures, optimizers, schedules  # noqa: F401
from launch.configs.rules import methods, adapters, models  # noqa: F401
from launch.configs.rules import inference, hardware, environment, disk, served  # noqa: F401

# isort: on
from launch.configs.rules.base import RULES, Setting, find_rule_faults, split_names
from launch.configs.rules.data.rows import count_rows, read_dataset_manifest
from launch.configs.rules.machine import Machine, choose_machine, read_machine

__all__ = [
    "RULES",
    "Machine",
    "Setting",
    "choose_machine",
    "count_rows",
    "find_rule_faults",
    "read_dataset_manifest",
    "read_machine",
    "split_names",
]
