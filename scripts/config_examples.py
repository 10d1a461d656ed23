"""Are LLaMA-Factory's own example YAMLs judged as it judges them itself?

`python -m scripts.config_examples CHECKOUT` in the environment that has LLaMA-Factory: every YAML under
CHECKOUT/examples goes through the parser that reads it, and through `check`, from CHECKOUT as working folder. The
files are read, never copied. With `--pretend-gpu` both are told that there is one GPU with bf16, so that on a CPU
more is compared than that one refusal. Each disagreement is explained by a line of EXPLAINED, or makes the exit
code 1; docs/llamafactory-examples.md is the list that a run makes.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.mutations.fork_server import load_llamafactory, start
from launch.configs.config import check_config, read_config
from launch.configs.rules import read_machine
from launch.configs.schema import guess_kind
from launch.machine.gpus import Gpu, GpuReport
from prep.errors import ConfigError

# Under these stand other programs' YAMLs: what none of the two parsers reads.
OTHERS = ("accelerate", "ktransformers/accelerate", "v1", "megatron", "megatron_bridge", "extras/multi_tokens")
# rule → why `check` is right to refuse what the parser takes; the parser alone is asked, and no model is loaded.
EXPLAINED = {
    "packages_are_installed": "the package that the example is about is not installed here",
    "unsloth_has_one_gpu": "Unsloth is asked for, and there is no GPU",
    "adapters_are_there": "the example begins with what another example has trained",
    "model_folder_is_complete": "the example begins with what another example has trained",
    "datasets_are_readable": "the data of the example is not in the checkout",
    "quantised_models_are_kept_as_they_are": "the package that reads the quantised model is not installed here",
    "optimizer_is_installed": "the optimizer's package is not installed here",
    "ppo_trains": "stage ppo asks for a trl that LLaMA-Factory's own pins exclude",
    "results_have_room": "the disk of this machine is too small for it",
    "attention_works_with_transformers": "fa2 and the installed transformers do not go together",
    "output_dir_is_free": "the folder holds an earlier run",
    "deepspeed_is_started_by_torchrun": "the example is for several GPUs",
}


def pretend_gpu() -> GpuReport:
    """Tell the parser that the device has bf16; return the same for our side."""
    import transformers.training_args
    from llamafactory.hparams import parser

    transformers.training_args.is_torch_bf16_gpu_available = lambda: True
    parser.is_torch_bf16_gpu_available = lambda: True
    return GpuReport((Gpu("pretended", 80 << 30, (9, 0)),))


def judge_examples(examples: Path, report: GpuReport | None) -> Iterator[dict[str, Any]]:
    """Yield each example's verdicts: the parser's, `check`'s, whether they differ, and why if that is known."""
    machine = read_machine(report)
    for path in sorted(examples.rglob("*.yaml")):
        name = path.relative_to(examples).as_posix()
        try:
            values = read_config(path)
            faults = [fault for fault in check_config(path, machine).findings if fault.is_error]
        except ConfigError as error:
            yield {"file": name, "parser": "", "check": [str(error)], "differs": True, "why": ""}
            continue
        told = [f"{fault.rule}: {fault.key} {fault.message}" for fault in faults]
        if name.startswith(OTHERS):
            yield {"file": name, "parser": "is not for it", "check": told, "differs": not faults, "why": ""}
            continue
        complaint = start(values, Path(), "parse" if guess_kind(values) == "train" else "infer").error
        reasons = {EXPLAINED.get(fault.rule, "") for fault in faults}
        why = "; ".join(sorted(reasons)) if faults and not complaint and all(reasons) else ""
        yield {
            "file": name,
            "parser": complaint,
            "check": told,
            "differs": bool(complaint) != bool(faults),
            "why": why,
        }


def main(checkout: Path, *, pretends: bool) -> int:
    """Print one line of JSON a file; exit code 1 when the two differ somewhere and nothing explains it."""
    load_llamafactory()
    os.chdir(checkout)
    unexplained = 0
    for result in judge_examples(Path("examples"), pretend_gpu() if pretends else None):
        unexplained += result["differs"] and not result["why"]
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    return int(unexplained > 0)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("checkout", type=Path)
    arguments.add_argument("--pretend-gpu", action="store_true")
    given = arguments.parse_args()
    sys.exit(main(given.checkout, pretends=given.pretend_gpu))
