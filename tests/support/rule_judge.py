"""Run by the Python with the training stack, in a workplace of tests/support/rule_cases.py: LLaMA-Factory judges cases.

Reads one JSON object a line, {"broken", "fixed", "run"}; writes one list a line: what the parser says to the
broken config, and what it (or, with `run`, a whole training) says to the fixed one; "" is no complaint.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def judge(values: dict[str, Any], *, run: bool) -> str:
    """Return LLaMA-Factory's complaint about a config, "" when there is none."""
    from llamafactory.hparams import get_train_args
    from llamafactory.train.tuner import run_exp
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    kept = dict(os.environ)
    try:
        run_exp(values) if run else get_train_args(values)
    except Exception as error:  # noqa: BLE001 - whatever it raises is its verdict
        return f"{type(error).__name__}: {error}"
    finally:
        os.environ.clear()
        os.environ.update(kept)
        unset_hf_deepspeed_config()
    return ""


if __name__ == "__main__":
    # What the packages print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from launch.recipes.tiny_model import write_tiny_model

    write_tiny_model(Path("data/mini.jsonl"), Path("tiny-qwen3"))
    for line in sys.stdin:
        case = json.loads(line)
        verdicts = [judge(case["broken"], run=False), judge(case["fixed"], run=case["run"])]
        answers.write(json.dumps(verdicts) + "\n")
        answers.flush()
