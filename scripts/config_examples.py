"""Are LLaMA-Factory's own example YAMLs judged as it judges them itself?

`python -m scripts.config_examples CHECKOUT` in the environment that has LLaMA-Factory: every YAML under
CHECKOUT/examples/train_lora, train_full and train_qlora goes through `get_train_args` and through `check`, from
CHECKOUT as working folder. The files are read, never copied. With `--pretend-gpu` both are told that there is one
GPU with bf16, so that on a CPU more is compared than that one refusal.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks.mutations.fork_server import load_llamafactory, start
from launch.configs.config import check_config, read_config
from launch.configs.rules import read_machine
from launch.machine.gpus import Gpu, GpuReport

FOLDERS = ("train_lora", "train_full", "train_qlora")


def pretend_gpu() -> GpuReport:
    """Tell the parser that the device has bf16; return the same for our side."""
    import transformers.training_args
    from llamafactory.hparams import parser

    transformers.training_args.is_torch_bf16_gpu_available = lambda: True
    parser.is_torch_bf16_gpu_available = lambda: True
    return GpuReport((Gpu("pretended", 80 << 30, (9, 0)),))


def main(checkout: Path, pretend: bool) -> int:
    """Print one line of JSON a file; exit code 1 when the two differ somewhere."""
    load_llamafactory()
    os.chdir(checkout)
    machine = read_machine(pretend_gpu() if pretend else None)
    differing = 0
    for path in sorted(path for folder in FOLDERS for path in Path("examples", folder).glob("*.yaml")):
        complaint = start(read_config(path), Path(), trains=False).error
        faults = [fault for fault in check_config(path, machine).findings if fault.is_error]
        differs = bool(complaint) != bool(faults)
        differing += differs
        told = [f"{fault.rule}: {fault.key} {fault.message}" for fault in faults]
        result = {"file": path.as_posix(), "differs": differs, "parser": complaint, "check": told}
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    return int(differing > 0)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("checkout", type=Path)
    arguments.add_argument("--pretend-gpu", action="store_true")
    given = arguments.parse_args()
    sys.exit(main(given.checkout, given.pretend_gpu))
