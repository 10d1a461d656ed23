"""Does `check` refuse what really fails, and nothing else? Random mutations of valid configs, really started.

Run it in the environment that has LLaMA-Factory: `python -m benchmarks.config_mutations --count 1000`.

Each mutated config is parsed and trained for two steps on a tiny model, in a fork of a process that has imported
LLaMA-Factory once:
- it fails and `check` accepts it: MISSED.
- it ends well and `check` refuses it: a FALSE ALARM, unless the value is refused by the same parser on the command
  line (it is strict about types there), or the rule is one of those that keep data from being lost.
- what needs a hub, which is not asked here, is counted apart.
"""

import argparse
import contextlib
import io
import json
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.mutations.changes import Material, mutate
from benchmarks.mutations.fork_server import Ending, load_llamafactory, quiet, start
from benchmarks.mutations.workplace import find_bases, make_workplace
from launch.configs.config import check_config, write_config
from launch.configs.rules import read_machine
from launch.configs.schema import read_schema
from prep.quality.findings import Finding

# What is refused though it ends well, by rule and a word of the message: it trains something else than is meant.
MEANT = (
    # A YAML's values are not converted: "no" is true, and 0 is not false where a template asks.
    ("schema", "allowed is true or false"),
    ("thinking_follows_the_policy", ""),
    ("model_folder_is_complete", "there is no tokenizer"),
)
_TOLD_EVERY = 50
_HUB = ("offline mode", "Failed to load tokenizer", "couldn't connect", "Can't load the configuration", "HfApi")


def is_refused_as_argument(key: str, value: Any) -> bool:
    """Whether the parser refuses the value on the command line, where it is strict about types."""
    from llamafactory.hparams.parser import _TRAIN_ARGS
    from transformers import HfArgumentParser

    group = next((kind for kind in _TRAIN_ARGS if key in kind.__dataclass_fields__), None)
    if group is None:
        return True
    words = [str(item) for item in value] if isinstance(value, list) else [str(value)]
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        parser = HfArgumentParser(group)
        try:
            parser.parse_known_args([f"--{key}", *words])
        except (SystemExit, ValueError, TypeError):
            return True
    # None, {} and [] have no spelling on the command line.
    return value is None or isinstance(value, dict | list)


def compare_endings(ending: Ending, faults: list[Finding], values: dict[str, Any]) -> str:
    """Say how the real ending and the check agree: the name under which the mutation is counted."""
    if ending.stage in ("parser", "run"):
        if faults:
            return f"both refuse, {ending.stage}"
        return "needs a hub" if asks_hub(ending, values) else "MISSED"
    if not faults:
        return "both accept" if not ending.stage else "goes on for long"
    for fault in faults:
        if any(fault.rule == rule and word in fault.message for rule, word in MEANT):
            return f"meant, rule {fault.rule}"
        if fault.rule == "schema" and fault.key in values and is_refused_as_argument(fault.key, values[fault.key]):
            return "type, which the same parser refuses on the command line"
    return "goes on for long" if ending.stage else "FALSE ALARM"


def asks_hub(ending: Ending, values: dict[str, Any]) -> bool:
    """Whether the start failed because a hub could not be asked, of a name that could be one of a hub."""
    names = [str(values.get(key) or "") for key in ("model_name_or_path", "adapter_name_or_path", "ref_model")]
    is_hub_name = any(name and not name.startswith("/") and not Path(name).is_dir() for name in names)
    return is_hub_name and any(text in ending.error for text in _HUB)


def compare(count: int, seed: int) -> dict[str, Any]:
    """Judge `count` mutations by both and return the table."""
    load_llamafactory()
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    places: Counter[str] = Counter()
    missed, alarms = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # As the starts do it: what is relative in a config means the same for both.
        os.chdir(folder)
        with quiet():
            make_workplace(folder)
        material = Material(read_schema("train")["properties"], folder)
        bases = find_bases(folder)
        path = folder / "mutated.yaml"
        for base in bases:
            write_config(path, base, header="base")
            ending, faults = start(base, folder), list_errors(path)
            if ending.stage or faults:
                raise SystemExit(f"a base is not valid: {ending} {faults}")
        for number in range(count):
            if number % _TOLD_EVERY == 0:
                sys.stderr.write(f"{number}: {dict(counts)}\n")
            values, told = mutate(rng.choice(bases), rng, material)
            write_config(path, values, header=told.replace("\n", " "))
            faults, ending = list_errors(path), start(values, folder)
            verdict = compare_endings(ending, faults, values)
            counts[verdict] += 1
            places[ending.place.rpartition(":")[0]] += ending.stage == "run"
            if verdict in ("MISSED", "FALSE ALARM"):
                shown = [f"{fault.rule}: {fault.message}" for fault in faults] or ending
                sys.stderr.write(f"{verdict}: {told}: {shown}\n")
            if verdict == "MISSED":
                missed.append({"mutation": told.replace(name, ""), **ending.__dict__})
            elif verdict == "FALSE ALARM":
                told_of = [f"{fault.rule}: {fault.key} {fault.message}" for fault in faults]
                alarms.append({"mutation": told.replace(name, ""), "check": told_of})
    return {
        "count": count,
        "seed": seed,
        "counts": dict(counts.most_common()),
        "missed": missed,
        "false_alarms": alarms,
        "failed_at": dict(places.most_common()),
    }


def list_errors(path: Path) -> list[Finding]:
    """Return what `check` refuses of a file, for this machine."""
    return [fault for fault in check_config(path, read_machine(), "train").findings if fault.is_error]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    report = compare(arguments.count, arguments.seed)
    sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    sys.exit(bool(report["missed"]))
